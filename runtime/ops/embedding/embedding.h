// embedding: y[t, c] = table[ids[t], c] * scale
//
// inputs   ids    [...] i32, each in [0, vocab) unless `outside` is given; checked before each run
//          table  [vocab, channels] packed or f32
// outputs  y      [..., channels] f32
// attrs    scale  finite (Gemma: sqrt(channels))
//          outside  version 2: the row that ids outside of the table stand for; -1: there may be none
// states   none
// tolerance 1 epsilon of f32: one rounding of the product
// source   transformers Gemma3TextScaledWordEmbedding; scale 1 is an ordinary look-up
#pragma once

#include "contract/op.h"

namespace runnel {

struct EmbeddingParams {
  float scale;
  int32_t outside;
};

}  // namespace runnel
