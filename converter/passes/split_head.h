// Which matrices are stored split, so that the best few logits can be had without reading all of them
// (runtime/ops/matmul/screen.h).
#pragma once

#include "converter/program/builder.h"

namespace runnel::convert {

// kAuto: where it pays. kSplit: wherever it is possible, and an error where it is not.
enum class Head : uint8_t { kAuto, kWhole, kSplit };

// Looks at the products whose result is an output of a program and nothing else. To be called when the graph and the
// tensors are complete.
void split_heads(Head head, ModelBuilder& builder);

}  // namespace runnel::convert
