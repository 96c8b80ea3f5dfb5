// Models that compute for one image, for calls of several.
#pragma once

#include "converter/program/builder.h"

namespace runnel::convert {

// Where a recipe has bound "batch" by kOneImage (program/pruning.h), the program main takes as many images as the
// option `context` says and runs itself for one after the other: each has its own number of tokens or layers. Where an
// input or output is not one for each image, main goes on taking one.
void take_images_in_turn(ModelBuilder& builder);

}  // namespace runnel::convert
