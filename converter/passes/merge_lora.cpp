#include "converter/passes/merge_lora.h"

#include <cmath>
#include <cstring>
#include <regex>

#include "base/half.h"
#include "converter/passes/encode.h"
#include "converter/read/read.h"
#include "converter/recipes/facts.h"

namespace runnel::convert {
namespace {

namespace fs = std::filesystem;

const char* const kPrefix = "base_model.model.";

struct Pair {
  const SourceTensor *a = nullptr, *b = nullptr, *base = nullptr;  // base: the matrix itself, which peft saves beside an embedding's pair
  bool is_embedding = false;
};

// "model.layers.0.q_proj" of "base_model.model.model.layers.0.q_proj.lora_A.weight" or "...lora_A.default.weight"; empty: no such name.
std::string adapted_module(const std::string& name, const char* part) {
  const size_t begin = name.rfind(kPrefix, 0) == 0 ? std::strlen(kPrefix) : 0, at = name.find(std::string(".") + part);
  return at == name.npos || at < begin ? "" : name.substr(begin, at - begin);
}

std::map<std::string, Pair> pairs_of(Checkpoint& adapter, const std::string& where) {
  std::map<std::string, Pair> pairs;
  for (const SourceTensor& t : adapter.tensors()) {
    bool is_known = false;
    for (const char* part : {"lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B"}) {
      const std::string module = adapted_module(t.name, part);
      if (module.empty()) continue;
      Pair& p = pairs[module];
      (part[std::strlen(part) - 1] == 'A' ? p.a : p.b) = adapter.find(t.name);
      p.is_embedding |= std::strstr(part, "embedding") != nullptr;
      is_known = true;
    }
    if (const std::string module = adapted_module(t.name, "base_layer.weight"); !module.empty()) {
      pairs[module].base = adapter.find(t.name);
      is_known = true;
    }
    if (!is_known) fail("%s: tensor \"%s\" is no half of a low-rank pair; such adapters cannot be merged", where.c_str(), printable(t.name).c_str());
  }
  return pairs;
}

// The entry of a pattern (a regular expression for the module's path or its end) that fits the module.
double by_pattern(const Facts& f, const std::string& key, const std::string& module, double otherwise) {
  const Json* patterns = f.find(key);
  if (!patterns || !patterns->is_object()) return otherwise;
  for (const auto& [pattern, value] : patterns->items()) {
    bool fits = false;
    try {
      fits = std::regex_match(module, std::regex("(.*\\.)?(" + pattern + ")"));
    } catch (const std::regex_error&) {
      f.refuse(key, "holds \"" + printable(pattern) + "\", which is no pattern");
    }
    if (fits && value.is_number()) return value.get<double>();
  }
  return otherwise;
}

std::vector<float> values_of(const SourceTensor& t) {
  std::vector<float> out(size_t(t.count()));
  decode_values(t, 0, t.count(), out.data());
  return out;
}

std::vector<uint8_t> encoded(const std::vector<float>& values, SourceType type) {
  std::vector<uint8_t> out(values.size() * info(type).bytes);
  for (size_t i = 0; i < values.size(); ++i) {
    const uint16_t narrow = type == SourceType::kBF16 ? float_to_bf16(values[i]) : float_to_half(values[i]);
    if (type == SourceType::kF32) std::memcpy(&out[4 * i], &values[i], 4);
    else std::memcpy(&out[2 * i], &narrow, 2);
  }
  return out;
}

}  // namespace

void merge_lora(const fs::path& folder, Checkpoint& checkpoint) {
  if (checkpoint.kind != Checkpoint::Kind::kDirectory) fail("%s: an adapter is merged into a directory with config.json and *.safetensors alone", checkpoint.path.c_str());
  const fs::path file = folder / "adapter_model.safetensors", config = folder / "adapter_config.json";
  const Json tree = read_json(config);
  const Facts f(tree, config.string());
  if (f.text("peft_type", "LORA") != "LORA") f.refuse("peft_type", "is \"" + printable(f.text("peft_type", "")) + "\", not \"LORA\"");
  if (f.text("bias", "none") != "none") f.refuse("bias", "is not \"none\"");
  for (const char* key : {"use_dora", "fan_in_fan_out", "lora_bias"})
    if (f.boolean(key, false)) f.refuse(key, "is set, which is not supported");
  if (const Json* saved = f.find("modules_to_save"); saved && !saved->empty()) f.refuse("modules_to_save", "names modules, which is not supported");
  Checkpoint adapter;
  adapter.path = file;
  read_safetensors(adapter.map(file), file.string(), adapter);
  for (const auto& [module, pair] : pairs_of(adapter, file.string())) {
    if (!pair.a || !pair.b) fail("%s: only one half of the pair for \"%s\" is there", file.c_str(), printable(module).c_str());
    const SourceTensor* target = nullptr;
    for (const std::string& name : {module + ".weight", "model." + module + ".weight", module.rfind("model.", 0) == 0 ? module.substr(6) + ".weight" : std::string()})
      if (!target && !name.empty()) target = checkpoint.peek(name);
    if (!target) fail("%s: the model has no matrix \"%s.weight\" to adapt", file.c_str(), printable(module).c_str());
    if (target->type != SourceType::kF32 && target->type != SourceType::kF16 && target->type != SourceType::kBF16)
      fail("%s: tensor \"%s\" is neither f32, f16 nor bf16, so nothing can be merged into it", checkpoint.path.c_str(), target->describe().c_str());
    if (pair.is_embedding && !checkpoint.peek("lm_head.weight"))
      fail("%s: the pair for \"%s\" would change the output matrix too, which is the same tensor", file.c_str(), printable(module).c_str());
    // W [out, in], A [r, in], B [out, r]; of an embedding W [vocabulary, width], A [r, vocabulary], B [width, r].
    const auto shape = [](const SourceTensor& t, size_t i) { return t.shape.size() == 2 ? t.shape[i] : 0; };
    const uint64_t rows = shape(*target, 0), columns = shape(*target, 1), rank = shape(*pair.a, 0);
    const bool fits = pair.is_embedding ? shape(*pair.a, 1) == rows && shape(*pair.b, 0) == columns : shape(*pair.a, 1) == columns && shape(*pair.b, 0) == rows;
    if (rank == 0 || rows == 0 || columns == 0 || shape(*pair.b, 1) != rank || !fits)
      fail("%s: %s and %s do not fit %s", file.c_str(), pair.a->describe().c_str(), pair.b->describe().c_str(), target->describe().c_str());
    const double asked_rank = by_pattern(f, "rank_pattern", module, double(f.integer("r", 1, 65536)));
    if (asked_rank != double(rank)) f.refuse("r", "says " + std::to_string(int64_t(asked_rank)) + " where \"" + printable(module) + "\" has " + std::to_string(rank));
    const double alpha = by_pattern(f, "alpha_pattern", module, f.number("lora_alpha", 8));
    const float scale = float(alpha / (f.boolean("use_rslora", false) ? std::sqrt(double(rank)) : double(rank)));
    if (pair.base && pair.base->shape != target->shape) fail("%s: %s does not have the shape of %s", file.c_str(), pair.base->describe().c_str(), target->describe().c_str());
    std::vector<float> w = values_of(pair.base ? *pair.base : *target);
    const std::vector<float> a = values_of(*pair.a), b = values_of(*pair.b);
    for (uint64_t r = 0; r < rows; ++r)
      for (uint64_t k = 0; k < rank; ++k) {
        const float left = scale * (pair.is_embedding ? a[size_t(k * rows + r)] : b[size_t(r * rank + k)]);
        float* out = &w[size_t(r * columns)];
        for (uint64_t i = 0; i < columns; ++i) out[i] += left * (pair.is_embedding ? b[size_t(i * rank + k)] : a[size_t(k * columns + i)]);
      }
    checkpoint.replace(*target, encoded(w, target->type));
  }
  checkpoint.weight_files.push_back(file);
}

}  // namespace runnel::convert
