// Fewer tokens in the layers of an encoder: those that are alike go on as one.
#pragma once

#include "converter/program/builder.h"

namespace runnel::convert {

// What a recipe has pruned while it built (recipes/vision_pruning.h), or else a pass: behind each attention of a
// program whose tokens all see each other, tokens that are alike are merged; attention weighs a merged token by the
// tokens that it stands for, and behind the last layer every token gets back what its group has become. What was
// changed, in words for a person. Throws Error for an unknown method or option, and where it does not apply.
std::string prune_tokens(ModelBuilder& builder);

}  // namespace runnel::convert
