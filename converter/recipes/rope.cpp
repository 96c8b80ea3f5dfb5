#include "converter/recipes/rope.h"

#include <algorithm>
#include <cmath>

namespace runnel::convert {

std::vector<float> rope_frequencies(double base, int64_t dims) {
  std::vector<float> out;
  for (int64_t i = 0; i < (dims + 1) / 2; ++i) out.push_back(1.0f / std::pow(float(base), float(2 * i) / float(dims)));
  return out;
}

namespace {

// Llama 3.1: long wavelengths are stretched by `factor`, short ones kept, those between blended.
void apply_llama3(const Facts& f, std::vector<float>& frequencies) {
  const double factor = f.number("factor"), low = f.number("low_freq_factor"), high = f.number("high_freq_factor");
  const double original = double(f.integer("original_max_position_embeddings"));
  if (factor <= 0 || high <= low) f.refuse("factor", "and the frequency factors do not fit together");
  for (float& v : frequencies) {
    const double wavelength = 2 * M_PI / v;
    if (wavelength < original / high) continue;
    if (wavelength > original / low) {
      v = float(v / factor);
    } else {
      const double smooth = (original / wavelength - low) / (high - low);
      v = float((1 - smooth) * v / factor + smooth * v);
    }
  }
}

struct Yarn {
  double factor = 1, original = 0, fast = 32, slow = 1;
  bool is_truncated = true;
};

// YaRN (Peng et al. 2023): dimensions that turn more than `fast` times within the original context keep their frequency, those that turn
// less than `slow` times are stretched by `factor`, those between blended.
void apply_yarn(const Yarn& y, double base, std::vector<float>& frequencies) {
  const double dims = 2 * double(frequencies.size());
  const auto dimension = [&](double turns) { return dims * std::log(y.original / (turns * 2 * M_PI)) / (2 * std::log(base)); };
  double low = dimension(y.fast), high = dimension(y.slow);
  if (y.is_truncated) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0), high = std::min(high, dims - 1);
  if (low == high) high += 0.001;
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const float ramp = float(std::min(std::max((double(i) - low) / (high - low), 0.0), 1.0));
    frequencies[i] = frequencies[i] / float(y.factor) * ramp + frequencies[i] * (1 - ramp);
  }
}

double yarn_magnitude(double factor, double by = 1) { return factor <= 1 ? 1 : 0.1 * by * std::log(factor) + 1; }

void apply_config_yarn(const Facts& f, double base, int64_t context, Rope& rope) {
  Yarn y;
  y.original = double(f.integer("original_max_position_embeddings", 1, int64_t(1) << 30, context));
  if (y.original < 1) f.refuse("original_max_position_embeddings", "is missing");
  y.factor = f.has("factor") ? f.number("factor") : double(context) / y.original;
  if (y.factor <= 0) f.refuse("factor", "of the rope scaling is not positive");
  // Zero stands for what the paper suggests.
  y.fast = f.number("beta_fast", 0), y.slow = f.number("beta_slow", 0);
  if (y.fast == 0) y.fast = 32;
  if (y.slow == 0) y.slow = 1;
  if (y.fast < 0 || y.slow < 0) f.refuse("beta_fast", "and beta_slow are not positive");
  y.is_truncated = f.boolean("truncate", true);
  apply_yarn(y, base, rope.frequencies);
  const double one = f.number("mscale", 0), all = f.number("mscale_all_dim", 0);
  rope.scale = float(f.has("attention_factor") ? f.number("attention_factor") : one != 0 && all != 0 ? yarn_magnitude(y.factor, one) / yarn_magnitude(y.factor, all) : yarn_magnitude(y.factor));
}

}  // namespace

void apply_rope_scaling(const Json* scaling, const std::string& where, double base, int64_t context, Rope& rope) {
  if (!scaling || scaling->is_null()) return;
  if (!scaling->is_object()) fail("%s: the rope scaling is not an object", where.c_str());
  const Facts f(*scaling, where, "");
  const std::string type = f.text("rope_type", f.text("type", "default"));
  if (type == "default" || type == "none") return;
  if (type == "linear") {
    const double factor = f.number("factor");
    if (factor <= 0) f.refuse("factor", "of the rope scaling is not positive");
    for (float& v : rope.frequencies) v = float(v / factor);
  } else if (type == "llama3") {
    apply_llama3(f, rope.frequencies);
  } else if (type == "yarn") {
    apply_config_yarn(f, base, context, rope);
  } else {
    fail("%s: rope scaling \"%s\" is not supported; default, linear, llama3 and yarn are", where.c_str(), printable(type).c_str());
  }
}

Rope gguf_rope(const Facts& facts, double default_base, int64_t dims) {
  const double base = facts.number("rope.freq_base", default_base);
  if (base <= 0) facts.refuse("rope.freq_base", "is not positive");
  Rope rope = {rope_frequencies(base, dims)};
  const std::string type = facts.text("rope.scaling.type", facts.has("rope.scale_linear") ? "linear" : "none");
  if (type == "none") return rope;
  if (type != "linear" && type != "yarn") facts.refuse("rope.scaling.type", "is \"" + printable(type) + "\"; none, linear and yarn are supported");
  const double factor = facts.number(facts.has("rope.scaling.factor") ? "rope.scaling.factor" : "rope.scale_linear");
  if (factor <= 0) facts.refuse("rope.scaling.factor", "is not positive");
  if (type == "linear") {
    for (float& v : rope.frequencies) v = float(v / factor);
    return rope;
  }
  Yarn y;
  y.factor = factor;
  y.original = double(facts.integer("rope.scaling.original_context_length"));
  y.fast = facts.number("rope.scaling.yarn_beta_fast", 32), y.slow = facts.number("rope.scaling.yarn_beta_slow", 1);
  apply_yarn(y, base, rope.frequencies);
  rope.scale = float(facts.number("rope.scaling.attn_factor", 1) * yarn_magnitude(factor));
  return rope;
}

}  // namespace runnel::convert
