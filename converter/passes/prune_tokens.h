// Fewer tokens in the layers of an encoder: those that are alike go on as one.
#pragma once

#include "converter/passes/method_options.h"
#include "converter/program/builder.h"

namespace runnel::convert {

// What --prune takes, for --help.
std::string prune_methods();

// METHOD[:name=value,...], read. Throws Error for an unknown method or option.
MethodOptions prune_options(const std::string& method);

// What --prune asks for stands in the model's provenance while recipes build. One that prunes by itself, as there it
// knows more, says in words what it did, and the pass then has nothing left to do.
void ask_to_prune(const std::string& method, ModelBuilder& builder);
std::string asked_to_prune(const ModelBuilder& builder);  // empty: nothing
void note_pruned(const std::string& words, ModelBuilder& builder);

// What a recipe has pruned while it built (recipes/vision_pruning.h), or else a pass: behind each attention of a
// program whose tokens all see each other, tokens that are alike are merged; attention weighs a merged token by the
// tokens that it stands for, and behind the last layer every token gets back what its group has become. What was
// changed, in words for a person. Throws Error for an unknown method or option, and where it does not apply.
std::string prune_tokens(const std::string& method, ModelBuilder& builder);

}  // namespace runnel::convert
