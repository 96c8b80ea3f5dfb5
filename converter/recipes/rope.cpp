#include "converter/recipes/rope.h"

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

}  // namespace

void apply_rope_scaling(const Json* scaling, const std::string& where, std::vector<float>& frequencies) {
  if (!scaling || scaling->is_null()) return;
  if (!scaling->is_object()) fail("%s: the rope scaling is not an object", where.c_str());
  const Facts f(*scaling, where, "");
  const std::string type = f.text("rope_type", f.text("type", "default"));
  if (type == "default" || type == "none") return;
  if (type == "linear") {
    const double factor = f.number("factor");
    if (factor <= 0) f.refuse("factor", "of the rope scaling is not positive");
    for (float& v : frequencies) v = float(v / factor);
  } else if (type == "llama3") {
    apply_llama3(f, frequencies);
  } else {
    fail("%s: rope scaling \"%s\" is not supported; default, linear and llama3 are", where.c_str(), printable(type).c_str());
  }
}

void apply_gguf_rope_scaling(const Facts& facts, std::vector<float>& frequencies) {
  const std::string type = facts.text("rope.scaling.type", facts.has("rope.scale_linear") ? "linear" : "none");
  if (type == "none") return;
  if (type != "linear") facts.refuse("rope.scaling.type", "is \"" + printable(type) + "\"; none and linear are supported");
  const double factor = facts.number(facts.has("rope.scaling.factor") ? "rope.scaling.factor" : "rope.scale_linear");
  if (factor <= 0) facts.refuse("rope.scaling.factor", "is not positive");
  for (float& v : frequencies) v = float(v / factor);
}

}  // namespace runnel::convert
