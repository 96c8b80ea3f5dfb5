// route: chooses the experts of each token and weighs them.
//   score = softmax(logits), sigmoid(logits) or the logits themselves (select_first: taken over the chosen ones only,
//   after the choice)
//   choice: the k largest of score + bias; with groups only inside the top_groups groups whose score is largest (the
//   group's largest choice
//   score, or the sum of its two largest)
//   weight = score / (sum of the chosen scores + eps) when renormalise, else score; times scale
//
// inputs   logits   [tokens, experts] f32
//          bias     [experts] f32, optional: for the choice only
// outputs  weights  [tokens, k] f32
//          ids      [tokens, k] i32, best first; equal scores: the lower id first
// attrs    scoring (softmax, sigmoid, none), select_first, renormalise, eps, scale, groups, top_groups, group_score
//          (max, top2)
//
// tolerance 1e-6; NaN scores count as -infinity for the choice and stay NaN as weights
// source   transformers' routers: Mixtral (softmax), GraniteMoE (select_first), DeepSeek-V3 and Kimi (sigmoid, groups),
//          LFM2-MoE
#pragma once

#include "contract/op.h"

namespace runnel {

// Numbers of RouteScoring in model.fbs.
enum class RouteScoring : uint8_t { kSoftmax = 0, kSigmoid = 1, kNone = 2 };
inline constexpr int64_t kMaxExperts = 4096;

struct RouteParams {
  RouteScoring scoring;
  bool select_first, renormalise, group_top2;
  float eps, scale;
  int32_t groups, top_groups;
};

}  // namespace runnel
