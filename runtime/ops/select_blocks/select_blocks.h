// select_blocks: which blocks of keys matter to each block of queries, as ranges for sparse_attention.
//
// Positions are cut into blocks of B = block. For the block of queries m and head h the importance of the block of keys
// b is estimated from every S-th diagonal, S = stride: with rows r and columns c of S positions each,
//   score[r, c] = scale / S * sum_{s < S} q[r S + S - 1 - s, h] . k[c S + s, g],   c <= r,  g = h / (heads / kv_heads)
//   importance[b] = sum over the rows r of block m of sum over the columns c of block b of softmax_c(score[r, .])
// where queries that are not of this call and keys behind its end count as 0. Chosen are block m itself, the first
// `first` ones, and of the others those of the highest importance until all chosen ones hold `threshold` of the whole.
// Of equal importance the earlier block comes first; an importance that is not a number comes before all others.
//
// inputs   q        [tokens, heads, key] f32, heads a multiple of kv_heads
//          k        [tokens, kv_heads, key] f32
//          k_state  [kv_heads, slots / 16, key, 16] f32, f16 or q8 (format/states.h), optional: the stream's keys
//          before
//                   the call, of kind append; it is not written
// outputs  ranges   [heads, lists, n, 3] i32: begin, end, step 1; list l is for the block of the call's first token +
// l.
//                   Ranges ascend and do not touch; unused ones are empty. Where there are more than n, the last one
//                   reaches to the end of block m.
// attrs    scale finite; block >= 1, a multiple of stride >= 1; threshold; first; least: a call of fewer tokens gets
//          all keys, one range for each list
//
// tolerance the choice is by estimates in f32: blocks whose importance differs by less than 1e-5 of the whole may
// change
//           places
// source   XAttention (Xu et al. 2025): antidiagonal scores
#pragma once

#include "contract/op.h"

namespace runnel {

struct SelectBlocksParams {
  float scale, threshold;
  uint32_t block, stride, first, least;
};

// Of a call: where it begins, its tokens, the block of its first one, and how many blocks it reaches into.
struct SelectBlocksSizes {
  int64_t position, tokens, first_block, blocks;
};
SelectBlocksSizes select_blocks_sizes(const OpCall& call);

// The ranges of one list, from the importance of blocks 0 .. own; `order` is memory of own + 1 integers.
void choose_blocks(const SelectBlocksParams& params, const float* importance, int64_t own, int32_t* order,
                   int32_t* ranges, int64_t n);

}  // namespace runnel
