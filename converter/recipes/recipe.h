// A recipe knows one model family: where its sizes stand, how its tensors are called, what its graph is.
#pragma once

#include "converter/program/builder.h"
#include "converter/read/checkpoint.h"

namespace runnel::convert {

struct Recipe {
  const char* name;
  std::vector<const char*> gguf;    // values of general.architecture
  std::vector<const char*> config;  // values of model_type in config.json
  void (*build)(Checkpoint& checkpoint, ModelBuilder& builder);
  const char* tensor = nullptr;  // a tensor by which a lone safetensors file in the authors' names is recognised
};

// All recipes, in the order of recipes.inc.
const std::vector<const Recipe*>& all_recipes();
// The architecture that a checkpoint names.
std::string architecture_of(const Checkpoint& checkpoint);
// Fails with the architecture's name and the known ones.
const Recipe& find_recipe(const Checkpoint& checkpoint);

}  // namespace runnel::convert
