// attention: softmax attention of the tokens of this call to the stream, or to each other.
//   score[h, t, j] = softcap(scale q[t, h] . k[j, g]) + bias[h, t, j],  g = h / (heads / kv_heads),  softcap(s) = cap
//   tanh(s / cap)
//   y[t, h] = sum_j e^score[h, t, j] v[j, g] / (e^sinks[h] + sum_j e^score[h, t, j])     (without sinks the first term
//   is absent)
//   lse[t, h] = log of that denominator, by which results over different keys can be joined
//
// inputs   q        [tokens, heads, key] f32, heads a multiple of kv_heads
//          k        [tokens, kv_heads, key] f32; without states, causality, window and segments also [keys, kv_heads,
//                   key]
//          v        [tokens | keys, kv_heads, value] f32
//          k_state  [kv_heads, slots / 16, key, 16] f32, f16 or q8 (format/states.h), optional together with v_state
//          v_state  [kv_heads, slots, value], the type of k_state
//          sinks    [heads] f32, optional: a learned logit that joins the denominator
//          bias     [1 | heads, 1 | tokens, keys] f32, optional; -infinity masks. One row stands for all queries.
//                   Without states keys = tokens; with states key j is the stream's position j and keys must reach
//                   position + tokens; not together with a stride
//          segments [n + 1] i32, optional, without states only: bounds of independent sequences, 0 .. tokens, not
//          decreasing
//          rows     [tokens] i32, each >= 0, optional, only where k and v are absent: which tokens of the call the
//                   queries are
// outputs  y        [tokens, heads, value] or [tokens, heads * value] f32; shares no memory with an input
//          lse      [tokens, heads] f32, optional; -infinity where a query sees nothing
// attrs    scale finite; window < 2^31, 0 = none; softcap >= 0, 0 = none; causal; stride >= 1, above 1 only with states
//          and without a window
//
// With states the call first writes k and v of its tokens into the slots of positions position .. position + tokens - 1
// (slot = position mod slots), then query t, at position p = position + t, sees the positions max(0, p - window + 1) ..
// p; causal must be true. A window needs slots for window + tokens - 1 positions; otherwise, as without a window, the
// stream must fit: position + tokens <= slots, else kContextFull. Without states position starts at 0 in each segment;
// query i sees j with j <= i and i - j < window when causal, and |i - j| < window when not. A query that sees nothing
// gives 0. With states k and v may both be absent: an operator before wrote those of the call's tokens (shared keys and
// values). Then nothing is written; query t stands at position + rows[t], without rows at position + t, and what it
// sees must fit the slots as above, where tokens counts up to the last query. With a stride only the tokens at
// positions p with (p + 1) mod stride = 0 are stored, in slot p / stride, and a query at position p sees the slots 0 ..
// (p + 1) / stride - 1: one key for each whole group of `stride` tokens.
//
// tolerance 1e-5 of the largest |v| (f32 accumulation); a query's bits depend neither on the other queries of the call,
// nor on how the
//           stream is cut into calls, nor on the number of threads
// source   Vaswani et al. 2017; GQA: Ainslie et al. 2023; online softmax: Milakov & Gimelshein 2018; window: Beltagy et
//          al. 2020;
//          softcap: Gemma 2 report 2024; sinks: transformers GptOss (learned logit); stride: SCOUT's checkpoint tokens
//          (Jafari et al. 2025)
#pragma once

#include "contract/op.h"

namespace runnel {

struct AttentionParams {
  float scale;
  float softcap;
  int64_t window;
  int64_t stride;
  bool causal;
  int64_t stored = 0;  // above 0: only tokens at positions below it are stored (sparse_attention alone)
};

}  // namespace runnel
