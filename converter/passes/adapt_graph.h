// A low-rank adapter as a file of its own, which the runtime opens beside the base's: the base's graph with products of
// low rank behind those whose matrices are adapted, and no other weights.
#pragma once

#include "converter/program/builder.h"
#include "converter/read/lora.h"

namespace runnel::convert {

// base: complete; its model goes to `adapter`, which writes the adapter's tensors alone and leaves the others to the
// base's file. Throws Error, with the advice to merge, for pairs whose matrix is stored in another way than row by row
// or is used by other operators than matmul (or embedding).
void adapt_graph(Lora& lora, ModelBuilder& base, ModelBuilder& adapter);

}  // namespace runnel::convert
