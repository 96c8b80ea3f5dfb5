#include "converter/recipes/recipe.h"

#include "converter/recipes/facts.h"

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
  if (c.kind == Checkpoint::Kind::kFile) return find_recipe(c).name;
  const bool is_gguf = c.kind == Checkpoint::Kind::kGguf;
  const Facts facts(is_gguf ? c.meta : c.meta["config"], c.path.string() + (is_gguf ? "" : "/config.json"));
  const char* key = is_gguf ? "general.architecture" : "model_type";
  const std::string name = facts.text(key, "");
  if (name.empty()) facts.refuse(key, "is missing");
  return name;
}

const Recipe& find_recipe(const Checkpoint& c) {
  if (c.kind == Checkpoint::Kind::kFile) {
    for (const Recipe* r : all_recipes())
      if (r->tensor && c.has(r->tensor)) return *r;
    fail("%s: the tensors of this file belong to no architecture that is known by its tensors alone; a directory with config.json says more", c.path.c_str());
  }
  const std::string architecture = architecture_of(c);
  std::string known;
  for (const Recipe* r : all_recipes()) {
    for (const char* name : c.kind == Checkpoint::Kind::kGguf ? r->gguf : r->config) {
      if (architecture == name) return *r;
      known += (known.empty() ? "" : ", ") + std::string(name);
    }
  }
  fail("%s: the architecture \"%s\" is not known; known are %s. A graph in JSON can describe any model (see FORMAT.md)", c.path.c_str(), printable(architecture).c_str(), known.c_str());
}

}  // namespace runnel::convert
