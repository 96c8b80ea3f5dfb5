#include "cli/safetensors.h"

#include <cstring>

#include "cli/common.h"
#include "cli/json_text.h"
#include "cli/lines.h"

namespace runnel::cli {
namespace {

using nlohmann::json;

void check(const Status& s) {
  if (!s.is_ok()) throw Failure(s.message());
}

const struct {
  const char* name;
  int32_t dtype;
  uint64_t bytes;
} kTypes[] = {{"F32", RNL_F32, 4}, {"F16", RNL_F16, 2}, {"BF16", RNL_BF16, 2}, {"I32", RNL_I32, 4},
              {"I64", RNL_I64, 8}, {"U8", RNL_U8, 1},   {"I8", RNL_I8, 1}};

}  // namespace

std::vector<NamedTensor> read_safetensors(const std::string& path, FileView* file) {
  auto opened = FileView::open(path.c_str(), false);
  if (!opened.is_ok()) throw Failure(opened.take_status().message());
  *file = std::move(opened.value());
  uint64_t header = 0;
  if (file->size() < 8) throw Failure(path + ": too short for a safetensors file");
  std::memcpy(&header, file->data(), 8);
  if (header > file->size() - 8 || header > (uint64_t(100) << 20))
    throw Failure(path + ": the header's size is out of range");
  const char* text = reinterpret_cast<const char*>(file->data()) + 8;
  const json root = parse_json({text, size_t(header)}, path);
  if (!root.is_object()) throw Failure(path + ": the header is not a JSON object");
  const uint64_t room = file->size() - 8 - header;
  std::vector<NamedTensor> out;
  for (const auto& item : root.items()) {
    const std::string& name = item.key();
    const json& t = item.value();
    if (name == "__metadata__") continue;
    auto bad = [&](const char* why) { return Failure(path + ": tensor \"" + name + "\": " + why); };
    if (!t.is_object() || !t.contains("dtype") || !t["dtype"].is_string() || !t.contains("shape") ||
        !t["shape"].is_array() || !t.contains("data_offsets") || !t["data_offsets"].is_array() ||
        t["data_offsets"].size() != 2 || !t["data_offsets"][0].is_number_unsigned() ||
        !t["data_offsets"][1].is_number_unsigned())
      throw bad("dtype, shape or data_offsets is missing or wrong");
    NamedTensor n;
    n.name = name;
    uint64_t bytes = 0;
    for (const auto& row : kTypes)
      if (t["dtype"] == row.name) n.dtype = row.dtype, bytes = row.bytes;
    if (!n.dtype) throw bad("its dtype is not one of F32 F16 BF16 I32 I64 U8 I8");
    for (const auto& d : t["shape"]) {
      if (!d.is_number_unsigned() || __builtin_mul_overflow(bytes, d.get<uint64_t>(), &bytes))
        throw bad("its shape is wrong");
      n.dims.push_back(int64_t(d.get<uint64_t>()));
    }
    const uint64_t begin = t["data_offsets"][0], end = t["data_offsets"][1];
    if (end < begin || end > room || end - begin != bytes)
      throw bad("its data_offsets do not fit its shape or the file");
    n.data = file->data() + 8 + header + begin;
    n.bytes = size_t(bytes);
    out.push_back(std::move(n));
  }
  return out;
}

SafetensorsWriter::SafetensorsWriter(const std::string& path, const std::vector<NamedTensor>& tensors) : path_(path) {
  json root = json::object();
  uint64_t at = 0;
  for (const NamedTensor& t : tensors) {
    const char* type = "F32";
    for (const auto& row : kTypes)
      if (row.dtype == t.dtype) type = row.name;
    root[t.name] = {{"dtype", type}, {"shape", t.dims}, {"data_offsets", {at, at + t.bytes}}};
    begins_.push_back(at);
    sizes_.push_back(t.bytes);
    at += t.bytes;
  }
  std::string text = json_text(root);
  while (text.size() % 8) text += ' ';
  const uint64_t size = text.size();
  check(file_.open(path.c_str()));
  check(file_.write(&size, sizeof size));
  check(file_.write(text.data(), text.size()));
  check(file_.extend(at));
  for (uint64_t& b : begins_) b += 8 + size;
}

void SafetensorsWriter::write(size_t index, size_t offset, const void* data, size_t size) {
  if (offset > sizes_[index] || size > sizes_[index] - offset)
    throw Failure(path_ + ": more output than its shape holds");
  check(file_.write_at(begins_[index] + offset, data, size));
}

void SafetensorsWriter::commit() { check(file_.commit()); }

}  // namespace runnel::cli
