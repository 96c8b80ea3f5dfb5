// match_tokens: which tokens are so alike that one can stand for both.
//
// The tokens at even places, but for the first `keep` tokens, look for the one among those at odd places, from `keep`
// on, that they score highest with:
//   score[a, b] = (1 + cos(features[a], features[b])) / 2 * factor[a] * factor[b]
// The R with the highest scores join their match, R = min(merge, floordiv(max(tokens - keep, 0), 2)). Of equal scores
// the earlier match, and the earlier token, comes first; a score that is NaN comes last. Groups are numbered so: tokens
// at even places that stay alone, in their order, then those at odd places.
//
// inputs   features [tokens, width] f32
//          factor   [tokens] f32, optional: 1 without it; importance and sizes of earlier merges join the score so
// outputs  groups   [tokens] i32, each in [0, tokens - R): the group that a token belongs to. merge_tokens takes it,
//                   and gather_rows brings every token what its group has become
// attrs    merge, keep
// states   none
// tolerance the choice is by scores in f32: tokens whose scores differ by less than 1e-6 may change places
// source   ToMe (Bolya et al. 2023; keep = 1 is its class_token); factor: MCTF (Lee et al. 2024)
#pragma once

#include "contract/op.h"

namespace runnel {

struct MatchTokensParams {
  uint32_t merge, keep;
};

// Of these tokens: how many are merged.
constexpr int64_t merged_tokens(const MatchTokensParams& p, int64_t tokens) {
  const int64_t most = tokens > int64_t(p.keep) ? (tokens - int64_t(p.keep)) / 2 : 0;
  return int64_t(p.merge) < most ? int64_t(p.merge) : most;
}

}  // namespace runnel
