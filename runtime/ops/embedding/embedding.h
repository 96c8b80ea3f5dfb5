// embedding: y[t, c] = table[ids[t], c] * scale
//
// inputs   ids    [...] i32, each in [0, vocab); checked before each run
//          table  [vocab, channels] packed or f32
// outputs  y      [..., channels] f32
// attrs    scale  finite (Gemma: sqrt(channels))
// states   none
// tolerance 1 epsilon of f32: one rounding of the product
// source   transformers Gemma3TextScaledWordEmbedding; scale 1 is an ordinary look-up
#pragma once

#include "ops/op.h"

namespace runnel {

struct EmbeddingParams {
  float scale;
};

}  // namespace runnel
