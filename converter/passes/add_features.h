// A program that takes rows of features in the place of ids: pictures and sounds in a prompt.
#pragma once

#include "converter/program/builder.h"

namespace runnel::convert {

// Adds the program "features": the first one with `inputs_embeds`, rows as wide as those of the embedding, in the place
// of its ids. Fails where more than an embedding reads the ids.
void add_features(format::ModelT& model);

}  // namespace runnel::convert
