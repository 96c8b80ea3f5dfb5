// select_tokens: which tokens score highest, and how many of them.
//
// Of n scores the highest `capacity` of those not below the threshold are taken, and of the others as many of the
// highest as are missing to `least`. Of equal scores the earlier tokens come first. A score that is NaN is not taken.
//
// inputs   scores  [n] f32
// outputs  ids     [capacity] i32, the taken tokens in rising order, behind them -1
//          count   [1] i32, optional: how many are taken; it may bind a size that is a result
// attrs    threshold, least
// states   none
// tolerance exact
// source   numpy.partition; keeping tokens by score: EViT (Liang et al. 2022), SpAtten (Wang et al. 2021)
#pragma once

#include "contract/op.h"

namespace runnel {

struct SelectTokensParams {
  float threshold;
  uint32_t least;
};

// Numbers that rise with the scores; 0 for NaN. shaders/select_tokens has the same.
uint32_t rank_of_score(float score);

}  // namespace runnel
