// How the model's hidden states become the embedding of a text, from what its source says about that.
#pragma once

#include "converter/program/builder.h"
#include "converter/read/checkpoint.h"

namespace runnel::convert {

// sentence-transformers' modules.json with the configurations and weights of its modules (pooling, dense layers,
// normalisation), or a GGUF's pooling_type and dense layers. Dense layers become a program of their own. Without such
// facts the file says nothing. Returns notices.
std::vector<std::string> add_embedding(Checkpoint& checkpoint, ModelBuilder& builder);

}  // namespace runnel::convert
