#include "converter/read/lora.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <regex>
#include <set>

#include "base/half.h"
#include "converter/read/facts.h"
#include "converter/read/read.h"
#include "converter/weights/encode.h"

namespace runnel::convert {
namespace {

namespace fs = std::filesystem;

const char* const kPrefix = "base_model.model.";
const char* const kHead = "lm_head.weight";
constexpr size_t kLongestName = 1000;  // patterns are matched by recursion

// "model.layers.0.q_proj" of "base_model.model.model.layers.0.q_proj.lora_A.weight" or "...lora_A.default.weight";
// empty: no such name.
std::string adapted_module(const std::string& name, const char* part) {
  const size_t begin = name.rfind(kPrefix, 0) == 0 ? std::strlen(kPrefix) : 0, at = name.find(std::string(".") + part);
  return at == name.npos || at < begin ? "" : name.substr(begin, at - begin);
}

// Names under which the base may have what the adapter calls `name`.
std::vector<std::string> base_names(const std::string& name) {
  std::vector<std::string> out = {name, "model." + name};
  if (name.rfind("model.", 0) == 0) out.push_back(name.substr(6));
  return out;
}

std::vector<std::string> modules_to_save(const Facts& f) {
  const Json* list = f.find("modules_to_save");
  std::vector<std::string> out;
  if (!list) return out;
  if (list->is_string()) out.push_back(list->get<std::string>());
  else if (!list->is_array()) f.refuse("modules_to_save", "is no list of names");
  else
    for (const Json& name : *list) out.push_back(name.is_string() ? name.get<std::string>() : std::string());
  for (const std::string& name : out)
    if (name.empty()) f.refuse("modules_to_save", "holds something else than names");
  return out;
}

// The tensor's name in the base if it belongs to one of these modules; else empty. saved: which of them have been
// found.
std::string whole_name(const std::string& name, const std::vector<std::string>& modules, std::set<std::string>* saved) {
  std::string plain = name.rfind(kPrefix, 0) == 0 ? name.substr(std::strlen(kPrefix)) : name;
  // Older versions leave the wrapper's own name in, with or without that of the adapter.
  constexpr std::string_view kMark = ".modules_to_save";
  if (const size_t at = plain.find(kMark), last = plain.rfind('.'); at != plain.npos)
    plain.erase(at, std::max(last, at + kMark.size()) - at);
  bool is_whole = false;
  for (const std::string& module : modules)
    if (("." + plain).find("." + module + ".") != std::string::npos) is_whole = true, saved->insert(module);
  return is_whole ? plain : "";
}

void read_pairs(Lora& lora, const Facts& f, const Checkpoint& base, std::map<std::string, LoraPair>& pairs) {
  const std::string where = lora.file.string();
  const std::vector<std::string> modules = modules_to_save(f);
  std::set<std::string> saved;
  for (const SourceTensor& t : lora.adapter.tensors()) {
    if (t.name.size() > kLongestName) fail("%s: the name \"%s\" is too long", where.c_str(), printable(t.name).c_str());
    bool is_known = false;
    for (const char* part : {"lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B"}) {
      const std::string module = adapted_module(t.name, part);
      if (module.empty()) continue;
      LoraPair& p = pairs[module];
      (part[std::strlen(part) - 1] == 'A' ? p.a : p.b) = &t;
      p.is_embedding |= std::strstr(part, "embedding") != nullptr;
      is_known = true;
    }
    if (const std::string module = adapted_module(t.name, "base_layer.weight"); !module.empty()) {
      pairs[module].base = &t;
      is_known = true;
    }
    if (is_known) continue;
    WholeTensor whole{whole_name(t.name, modules, &saved), &t};
    if (whole.name.empty())
      fail(
          "%s: tensor \"%s\" is no half of a low-rank pair and of no module that modules_to_save names; such adapters "
          "are not supported",
          where.c_str(), printable(t.name).c_str());
    if (!is_float(t.type)) fail("%s: %s holds no real numbers", where.c_str(), t.describe().c_str());
    bool is_there = false;
    for (const std::string& name : base_names(whole.name))
      if (!is_there && base.peek(name)) whole.name = name, is_there = true;
    // Of a tied model the output matrix is the embedding's.
    if (!is_there && whole.name != kHead)
      fail("%s: the model has no tensor \"%s\" to replace", where.c_str(), printable(whole.name).c_str());
    lora.wholes.push_back(whole);
  }
  for (const std::string& module : modules)
    if (!saved.count(module))
      f.refuse("modules_to_save", "names \"" + printable(module) + "\", of which " + where + " holds nothing");
}

// The entry of a pattern (a regular expression for the module's path or its end) that fits the module.
double by_pattern(const Facts& f, const std::string& key, const std::string& module, double otherwise) {
  const Json* patterns = f.find(key);
  if (!patterns || !patterns->is_object()) return otherwise;
  for (const auto& [pattern, value] : patterns->items()) {
    bool fits = false;
    if (pattern.size() > kLongestName) f.refuse(key, "holds \"" + printable(pattern) + "\", which is too long");
    try {
      fits = std::regex_match(module, std::regex("(.*\\.)?(" + pattern + ")"));
    } catch (const std::regex_error&) {
      f.refuse(key, "holds \"" + printable(pattern) + "\", which is no pattern");
    }
    if (fits && value.is_number()) return value.get<double>();
  }
  return otherwise;
}

void refuse_more_than_pairs(const Facts& f) {
  if (f.text("peft_type", "LORA") != "LORA")
    f.refuse("peft_type", "is \"" + printable(f.text("peft_type", "")) + "\", not \"LORA\"");
  if (f.text("bias", "none") != "none") f.refuse("bias", "is not \"none\"");
  for (const char* key : {"use_dora", "fan_in_fan_out", "lora_bias", "use_qalora", "ensure_weight_tying"})
    if (f.boolean(key, false)) f.refuse(key, "is set, which is not supported");
  for (const char* key : {"target_parameters", "layer_replication", "alora_invocation_tokens", "arrow_config"})
    if (const Json* saved = f.find(key); saved && !saved->empty()) f.refuse(key, "is set, which is not supported");
}

}  // namespace

Lora read_lora(const fs::path& folder, const Checkpoint& checkpoint, double scale) {
  if (checkpoint.kind != Checkpoint::Kind::kDirectory)
    fail("%s: an adapter needs a directory with config.json and *.safetensors as its base", checkpoint.path.c_str());
  Lora lora;
  lora.file = folder / "adapter_model.safetensors";
  const fs::path config = folder / "adapter_config.json";
  const Json tree = read_json(config);
  const Facts f(tree, config.string());
  refuse_more_than_pairs(f);
  if (const fs::path pickle = folder / "adapter_model.bin"; !fs::exists(lora.file) && fs::exists(pickle))
    refuse_pickle(pickle);
  lora.adapter.path = lora.file;
  read_safetensors(lora.adapter.map(lora.file), lora.file.string(), lora.adapter);
  std::map<std::string, LoraPair> pairs;
  read_pairs(lora, f, checkpoint, pairs);
  for (auto& [module, pair] : pairs) {
    if (!pair.a || !pair.b)
      fail("%s: only one half of the pair for \"%s\" is there", lora.file.c_str(), printable(module).c_str());
    pair.module = module;
    for (const std::string& name : base_names(module))
      if (!pair.target) pair.target = checkpoint.peek(name + ".weight");
    const auto shape = [](const SourceTensor& t, size_t i) { return t.shape.size() == 2 ? t.shape[i] : 0; };
    pair.rank = shape(*pair.a, 0);
    pair.in = shape(*pair.a, 1), pair.out = shape(*pair.b, 0);
    if (pair.is_embedding) std::swap(pair.in, pair.out);
    if (pair.rank == 0 || pair.in == 0 || pair.out == 0 || shape(*pair.b, 1) != pair.rank)
      fail("%s: %s and %s are no pair", lora.file.c_str(), pair.a->describe().c_str(), pair.b->describe().c_str());
    const double asked_rank = by_pattern(f, "rank_pattern", module, double(f.integer("r", 1, 65536)));
    if (asked_rank != double(pair.rank))
      f.refuse("r", "says " + std::to_string(int64_t(asked_rank)) + " where \"" + printable(module) + "\" has " +
                        std::to_string(pair.rank));
    const double alpha = by_pattern(f, "alpha_pattern", module, f.number("lora_alpha", 8));
    pair.scale =
        float(scale * alpha / (f.boolean("use_rslora", false) ? std::sqrt(double(pair.rank)) : double(pair.rank)));
    if (pair.target) lora.check(pair, *pair.target);
    lora.pairs.push_back(pair);
  }
  if (lora.pairs.empty() && lora.wholes.empty()) fail("%s: neither a pair nor a whole module in it", lora.file.c_str());
  return lora;
}

void Lora::check(const LoraPair& pair, const SourceTensor& target) const {
  const std::vector<uint64_t> shape = {pair.out, pair.in};
  if (target.shape != shape)
    fail("%s: %s and %s do not fit %s", file.c_str(), pair.a->describe().c_str(), pair.b->describe().c_str(),
         target.describe().c_str());
  if (pair.base && pair.base->shape != target.shape)
    fail("%s: %s does not have the shape of %s", file.c_str(), pair.base->describe().c_str(),
         target.describe().c_str());
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

}  // namespace runnel::convert
