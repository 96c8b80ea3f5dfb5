// Split models as gguf-split writes them: NAME-00001-of-00003.gguf and so on, each a GGUF of its own with split.no,
// split.count and split.tensors.count; the model's keys stand in the first.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <regex>

#include "converter/read/facts.h"
#include "converter/read/read.h"

namespace runnel::convert {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kMostParts = 99999;

fs::path part_path(const fs::path& folder, const std::string& stem, int64_t number, int64_t count) {
  char ending[40];
  std::snprintf(ending, sizeof ending, "-%05d-of-%05d.gguf", int(number), int(count));
  return folder / (stem + ending);
}

// All parts in their order, whichever was given.
Checkpoint join_parts(const fs::path& given, const std::string& stem, int64_t count) {
  Checkpoint c;
  c.path = given;
  for (int64_t i = 1; i <= count; ++i) {
    const fs::path part = part_path(given.parent_path(), stem, i, count);
    if (!fs::exists(part)) fail("%s: part %d of %d is missing: %s", given.c_str(), int(i), int(count), part.c_str());
    read_gguf(c.map(part), part.string(), c);
    const Facts f(c.meta, part.string());
    if (const int64_t no = f.integer("split.no", 0, kMostParts); no != i - 1)
      f.refuse("split.no",
               "is " + std::to_string(no) + " where the name says " + std::to_string(i - 1) + " (counted from 0)");
    c.weight_files.push_back(part);
  }
  const Facts f(c.meta, given.string());
  if (const int64_t all = f.integer("split.tensors.count", 0, INT64_MAX, int64_t(c.tensors().size()));
      all != int64_t(c.tensors().size()))
    f.refuse("split.tensors.count", "is " + std::to_string(all) + " where the parts hold " +
                                        std::to_string(c.tensors().size()) + " tensors: parts of different models");
  return c;
}

// Matrices in NVFP4 may have a number beside them by which all their values are multiplied, and one for activations in
// that type, which are not stored so here.
void take_scales(Checkpoint& c) {
  constexpr std::string_view kWeight = ".weight";
  std::vector<std::string> stems;
  for (const SourceTensor& t : c.tensors())
    if (t.type == SourceType::kNVFP4 && t.name.size() > kWeight.size() && t.name.ends_with(kWeight))
      stems.push_back(t.name.substr(0, t.name.size() - kWeight.size()));
  for (const std::string& stem : stems) {
    const SourceTensor* scale = c.peek(stem + ".scale");
    // Those with one for each expert are left, and refused as unknown.
    if (!scale || scale->type != SourceType::kF32 || scale->count() != 1) continue;
    float factor;
    std::memcpy(&factor, scale->data, sizeof factor);
    if (!std::isfinite(factor))
      fail("%s: tensor \"%s\" holds NaN or infinity", c.path.c_str(), printable(scale->name).c_str());
    c.multiply(stem + std::string(kWeight), factor);
    c.find(stem + ".scale");
    c.find(stem + ".input_scale");
  }
}

}  // namespace

void read_gguf_parts(std::span<const uint8_t> bytes, const fs::path& path, Checkpoint& checkpoint) {
  read_gguf(bytes, path.string(), checkpoint);
  checkpoint.weight_files = {path};
  std::string stem = path.stem().string();
  const Facts f(checkpoint.meta, path.string());
  if (const int64_t count = f.integer("split.count", 0, kMostParts, 0); count > 1) {
    std::smatch parts;
    const std::string name = path.filename().string();
    static const std::regex pattern("(.*)-([0-9]{5})-of-([0-9]{5})\\.gguf");
    if (!std::regex_match(name, parts, pattern))
      f.refuse("split.count", "is " + std::to_string(count) +
                                  ": a part of a split model, but the file is not called NAME-00001-of-0000N.gguf, so "
                                  "the other parts cannot be found");
    if (std::stoll(parts[3].str()) != count)
      f.refuse("split.count", "is " + std::to_string(count) + " where the file's name says " + parts[3].str());
    stem = parts[1].str();
    checkpoint = join_parts(path, stem, count);
  }
  take_scales(checkpoint);
  for (const char* key : {"split.no", "split.count", "split.tensors.count"}) checkpoint.meta.erase(key);
  if (checkpoint.name.empty()) checkpoint.name = stem;
}

}  // namespace runnel::convert
