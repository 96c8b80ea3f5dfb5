#include "converter/recipes/recipe.h"

#include <algorithm>

#include "converter/read/facts.h"

namespace runnel::convert {

#define RNL_RECIPE(name) extern const Recipe name##_recipe;
#include "converter/recipes/recipes.inc"
#include "more_recipes.inc"
#undef RNL_RECIPE

const std::vector<const Recipe*>& all_recipes() {
  static const std::vector<const Recipe*> kRecipes = {
#define RNL_RECIPE(name) &name##_recipe,
#include "converter/recipes/recipes.inc"
#include "more_recipes.inc"
#undef RNL_RECIPE
  };
  return kRecipes;
}

std::string architecture_of(const Checkpoint& c) {
  return c.kind == Checkpoint::Kind::kFile ? find_recipe(c).name : stated_architecture(c);
}

namespace {

// Single letters to insert, remove or replace.
size_t distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t k = 0; k <= b.size(); ++k) row[k] = k;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t k = 1; k <= b.size(); ++k) {
      const size_t replaced = diagonal + (a[i - 1] != b[k - 1]);
      diagonal = row[k];
      row[k] = std::min({row[k] + 1, row[k - 1] + 1, replaced});
    }
  }
  return row.back();
}

// Weights that a library packed in a form of its own.
void refuse_packed_weights(const Checkpoint& c) {
  const auto config = c.meta.find("config");
  if (config == c.meta.end()) return;
  const auto how = config->find("quantization_config");
  if (how == config->end() || !how->is_object()) return;
  const std::string method =
      Facts(*how, c.path.string() + "/config.json: quantization_config").text("quant_method", "");
  if (method != "mxfp4")
    fail(
        "%s/config.json: quantization_config.quant_method is \"%s\", which is not supported (mxfp4 is); convert the "
        "checkpoint before it was quantised",
        c.path.c_str(), printable(method).c_str());
}

}  // namespace

const Recipe& find_recipe(const Checkpoint& c) {
  if (c.kind == Checkpoint::Kind::kFile) {
    for (const Recipe* r : all_recipes())
      if (r->tensor && c.has(r->tensor)) return *r;
    fail(
        "%s: the tensors of this file belong to no architecture that is known by its tensors alone; a directory with "
        "config.json says more",
        c.path.c_str());
  }
  const std::string architecture = architecture_of(c);
  refuse_packed_weights(c);
  std::string known, near;
  for (const Recipe* r : all_recipes()) {
    for (const char* name : c.is_gguf() ? r->gguf : r->config) {
      if (architecture == name) return *r;
      known += (known.empty() ? "" : ", ") + std::string(name);
      if (architecture.size() < 100 && architecture[0] == name[0] &&
          5 * distance(architecture, name) <= 2 * architecture.size())
        near += (near.empty() ? " (did you mean " : ", ") + std::string(name);
    }
  }
  if (!near.empty()) near += "?)";
  fail(
      "%s: the architecture \"%s\" is not known%s; known are %s. A graph in JSON can describe any model (see "
      "FORMAT.md)",
      c.path.c_str(), printable(architecture).c_str(), near.c_str(), known.c_str());
}

}  // namespace runnel::convert
