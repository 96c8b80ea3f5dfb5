// merge_tokens: the weighted mean of the rows of each group.
//   total[g] = sum over the tokens t with groups[t] = g of weight[t]
//   y[g, ...] = sum over the same of weight[t] * x[t, ...] / total[g]
// A group whose total is 0, or to which no token belongs, gives 0. Sizes of merged tokens are weights of the next
// merge: total says what they have become.
//
// inputs   x       [tokens, ...] f32
//          groups  [tokens] i32, each in [0, rows), checked before each run
//          weight  [tokens] f32, optional: 1 without it
// outputs  y       [rows, ...] f32; shares no memory with an input
//          total   [rows] f32, optional
// attrs, states    none
// tolerance 1e-6 of the largest |x| where weights are positive; sums go by rising tokens
// source   ToMe's merge_wavg (Bolya et al. 2023); numpy.add.at
#pragma once

#include "contract/op.h"
