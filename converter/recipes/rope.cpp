#include "converter/recipes/rope.h"

#include <algorithm>
#include <cmath>

#include "converter/weights/encode.h"
#include "ops/rope/rope.h"

namespace runnel::convert {

std::vector<float> rope_frequencies(double base, int64_t dims) {
  std::vector<float> out;
  for (int64_t i = 0; i < (dims + 1) / 2; ++i) out.push_back(1.0f / std::pow(float(base), float(2 * i) / float(dims)));
  return out;
}

double yarn_magnitude(double factor, double by) { return factor <= 1 ? 1 : 0.1 * by * std::log(factor) + 1; }

namespace {

// Llama 3.1: long wavelengths are stretched by `factor`, short ones kept, those between blended.
void apply_llama3(const Facts& f, int64_t trained, std::vector<float>& frequencies) {
  const double factor = f.number("factor"), low = f.number("low_freq_factor"), high = f.number("high_freq_factor"),
               original = double(trained);
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

// YaRN (Peng et al. 2023): dimensions that turn more than `fast` times within the original context keep their
// frequency, those that turn less than `slow` times are stretched by `factor`, those between blended.
void apply_yarn(const Yarn& y, double base, std::vector<float>& frequencies) {
  const double dims = 2 * double(frequencies.size());
  const auto dimension = [&](double turns) {
    return dims * std::log(y.original / (turns * 2 * M_PI)) / (2 * std::log(base));
  };
  double low = dimension(y.fast), high = dimension(y.slow);
  if (y.is_truncated) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0), high = std::min(high, dims - 1);
  if (low == high) high += 0.001;
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const float ramp = float(std::min(std::max((double(i) - low) / (high - low), 0.0), 1.0));
    frequencies[i] = frequencies[i] / float(y.factor) * ramp + frequencies[i] * (1 - ramp);
  }
}

void stretch(const Facts& f, double factor, std::vector<float>& frequencies) {
  if (factor <= 0) f.refuse("factor", "of the rope scaling is not positive");
  for (float& v : frequencies) v = float(v / factor);
}

// Of the text that the model was trained on first.
int64_t original_context(const Facts& f, const Facts& config) {
  const char* key = "original_max_position_embeddings";
  const Facts& from = config.has(key) ? config : f.has(key) ? f : config;
  return from.integer(from.has(key) ? key : "max_position_embeddings");
}

double stretch_factor(const Facts& f, const Facts& config, int64_t original) {
  const double factor = f.has("factor") ? f.number("factor")
                                        : config.number("max_position_embeddings", double(original)) / double(original);
  if (factor <= 0) f.refuse("factor", "of the rope scaling is not positive");
  return factor;
}

void apply_config_yarn(const Facts& f, const Facts& config, double base, Rope& rope) {
  Yarn y;
  if (!f.has("factor") && !f.is_null("factor"))
    f.refuse("factor", "of the rope scaling is missing");  // null: what the lengths say
  y.original = double(original_context(f, config));
  y.factor = stretch_factor(f, config, int64_t(y.original));
  // Zero stands for what the paper suggests.
  y.fast = f.number("beta_fast", 0), y.slow = f.number("beta_slow", 0);
  if (y.fast == 0) y.fast = 32;
  if (y.slow == 0) y.slow = 1;
  if (y.fast < 0 || y.slow < 0) f.refuse("beta_fast", "and beta_slow are not positive");
  y.is_truncated = f.boolean("truncate", true);
  apply_yarn(y, base, rope.frequencies);
  const double one = f.number("mscale", 0), all = f.number("mscale_all_dim", 0);
  rope.scale = float(f.has("attention_factor") ? f.number("attention_factor")
                     : one != 0 && all != 0    ? yarn_magnitude(y.factor, one) / yarn_magnitude(y.factor, all)
                                               : yarn_magnitude(y.factor));
}

constexpr double kStill = 1e20;  // divisors from here on stand for channels that do not turn

std::vector<float> divided(const Facts& f, const char* key, const std::vector<double>& divisors,
                           const std::vector<float>& frequencies) {
  if (divisors.size() != frequencies.size())
    f.refuse(key, "has " + std::to_string(divisors.size()) + " numbers where the rotated channels need " +
                      std::to_string(frequencies.size()));
  std::vector<float> out;
  for (size_t i = 0; i < divisors.size(); ++i) {
    if (!(divisors[i] > 0)) f.refuse(key, "holds a divisor that is not positive");
    out.push_back(divisors[i] >= kStill ? 0 : frequencies[i] / float(divisors[i]));
  }
  return out;
}

std::vector<double> numbers(const Facts& f, const char* key) {
  const Json* list = f.find(key);
  std::vector<double> out;
  if (!list || !list->is_array()) f.refuse(key, list ? "is not a list" : "is missing");
  for (const Json& v : *list) {
    if (!v.is_number()) f.refuse(key, "holds something that is not a number");
    out.push_back(v.get<double>());
  }
  return out;
}

// LongRoPE (Ding et al. 2024): a divisor for each frequency, others for long texts.
void apply_longrope(const Facts& f, const Facts& config, Rope& rope) {
  rope.original = original_context(f, config);
  const double factor = stretch_factor(f, config, rope.original);
  rope.scale = float(f.has("attention_factor") ? f.number("attention_factor")
                     : factor <= 1             ? 1
                                               : std::sqrt(1 + std::log(factor) / std::log(double(rope.original))));
  const std::vector<float> plain = rope.frequencies;
  rope.frequencies = divided(f, "short_factor", numbers(f, "short_factor"), plain);
  rope.long_frequencies = divided(f, "long_factor", numbers(f, "long_factor"), plain);
}

void apply_dynamic(const Facts& f, const Facts& config, double base, Rope& rope) {
  const double dims = 2 * double(rope.frequencies.size());
  if (dims <= 2) f.refuse("rope_type", "is \"dynamic\", which two channels cannot have");
  if (f.has("alpha")) {  // the growth is fixed; such files carry keys of yarn along
    f.pass_over({"factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim"});
    const double alpha = f.number("alpha");
    if (alpha <= 0) f.refuse("alpha", "is not positive");
    rope.frequencies = rope_frequencies(base * std::pow(alpha, dims / (dims - 2)), int64_t(dims));
    return;
  }
  rope.original = config.integer("max_position_embeddings");
  rope.ntk_factor = f.number("factor");
  if (rope.ntk_factor <= 0) f.refuse("factor", "of the rope scaling is not positive");
}

}  // namespace

constexpr size_t kAxes = 3;  // time, height and width

std::vector<uint8_t> rope_sections(const Facts& f, const char* key, bool are_in_turn, size_t count) {
  std::vector<uint8_t> out;
  if (!f.has(key)) return out;
  std::vector<double> each = numbers(f, key);
  while (!each.empty() && each.back() == 0) each.pop_back();
  if (each.empty()) return out;
  if (count > RopeSections::kPairs || (are_in_turn && each.size() != kAxes))
    f.refuse(key, "has more axes or channels than the operator rope turns");
  if (are_in_turn) {
    for (size_t i = 0; i < count; ++i) {
      const size_t axis = i % each.size();
      out.push_back(uint8_t(double(i) < double(each.size()) * each[axis] ? axis : 0));
    }
    return out;
  }
  for (size_t k = 0; k < each.size(); ++k)
    for (double i = 0; i < each[k] && out.size() <= count; ++i) out.push_back(uint8_t(k % kAxes));
  if (out.size() != count) f.refuse(key, "does not share out the " + std::to_string(count) + " frequencies of a head");
  return out;
}

void apply_rope_scaling(const Facts& f, const Facts& config, double base, Rope& rope) {
  std::string type = f.text("rope_type", f.text("type", "default"));
  if (type == "su" || f.has("long_factor")) type = "longrope";         // names of Phi-3's first releases
  if (type == "default" || type == "none" || type == "mrope") return;  // mrope: its sections are no scaling
  if (type == "linear") stretch(f, f.number("factor"), rope.frequencies);
  else if (type == "llama3") apply_llama3(f, original_context(f, config), rope.frequencies);
  else if (type == "yarn") apply_config_yarn(f, config, base, rope);
  else if (type == "longrope") apply_longrope(f, config, rope);
  else if (type == "dynamic") apply_dynamic(f, config, base, rope);
  else
    f.refuse("rope_type",
             "is \"" + printable(type) + "\"; default, linear, dynamic, llama3, yarn and longrope are supported");
}

namespace {

void apply_gguf_yarn(const Facts& f, double base, double factor, Rope& rope) {
  Yarn y;
  y.factor = factor;
  y.original = double(f.integer("rope.scaling.original_context_length"));
  y.fast = f.number("rope.scaling.yarn_beta_fast", 32), y.slow = f.number("rope.scaling.yarn_beta_slow", 1);
  y.is_truncated = f.boolean("gguf.yarn_truncate", true);
  apply_yarn(y, base, rope.frequencies);
  const double all = f.number("rope.scaling.yarn_log_multiplier", 0);
  rope.scale = float(f.number("rope.scaling.attn_factor", 1) * yarn_magnitude(factor) / yarn_magnitude(factor, all));
}

// Whether there are factors for long texts.
bool apply_gguf_factors(Checkpoint& c, const Facts& f, Rope& rope) {
  const auto divide = [&](const char* name) {
    const SourceTensor& t = c.take(name, {uint64_t(rope.frequencies.size())});
    std::vector<float> divisors(rope.frequencies.size());
    decode_values(t, 0, divisors.size(), divisors.data());
    return divided(f, name, {divisors.begin(), divisors.end()}, rope.frequencies);
  };
  if (c.has("rope_freqs.weight")) rope.frequencies = divide("rope_freqs.weight");
  if (!c.has("rope_factors_long.weight")) return false;
  rope.original = f.integer("rope.scaling.original_context_length");
  rope.scale = float(f.number("rope.scaling.attn_factor", 1));
  rope.long_frequencies = divide("rope_factors_long.weight");
  rope.frequencies = divide("rope_factors_short.weight");
  return true;
}

}  // namespace

Rope gguf_rope(Checkpoint& c, const Facts& f, int64_t head_dim) {
  const double base = f.number("rope_theta");
  if (base <= 0) f.refuse("rope_theta", "is not positive");
  const int64_t usual = int64_t(double(head_dim) * f.number("partial_rotary_factor", 1));
  Rope rope = {rope_frequencies(base, f.integer("rope.dimension_count", 2, head_dim, usual))};
  const char* factor_key = f.has("rope.scaling.factor") ? "rope.scaling.factor" : "rope.scale_linear";
  const std::string type = f.text("rope.scaling.type", f.has(factor_key) ? "linear" : "none");
  if (type == "linear" || type == "yarn") {
    const double factor = f.number(factor_key);
    if (factor <= 0) f.refuse(factor_key, "is not positive");
    if (type == "linear") stretch(f, factor, rope.frequencies);
    else apply_gguf_yarn(f, base, factor, rope);
  } else if (type != "none" && type != "longrope") {
    f.refuse("rope.scaling.type", "is \"" + printable(type) + "\"; none, linear, yarn and longrope are supported");
  }
  const bool are_in_turn = f.text("model_type", "").rfind("qwen3", 0) == 0;
  rope.sections = rope_sections(f, "rope.dimension_sections", are_in_turn, rope.frequencies.size());
  const bool is_long = apply_gguf_factors(c, f, rope);
  if (type == "longrope" && !is_long)
    f.refuse("rope.scaling.type", "is \"longrope\", but there is no tensor \"rope_factors_long.weight\"");
  return rope;
}

}  // namespace runnel::convert
