// Log-probabilities of a model's distribution, before anything that sampling does to it.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "base/vec.h"

namespace runnel {

inline constexpr int32_t kMaxLogprobs = 256;

struct TokenLogprob {
  int32_t id;
  float logprob;
};

struct ChosenLogprobs {
  TokenLogprob chosen;
  const TokenLogprob* best;  // the most probable tokens, the best first, lower ids first of equal ones
  int32_t best_count;
};
using LogprobsFn = void (*)(void* context, const ChosenLogprobs& token);

class Logprobs {
 public:
  // best: how many of the most probable tokens, at most kMaxLogprobs and at most the vocabulary.
  Status prepare(int32_t best, int32_t vocab);
  // logit - log(sum of e^logit). Valid until the next call. Nothing is allocated.
  ChosenLogprobs of(const float* logits, int32_t chosen);

 private:
  Vec<TokenLogprob> best_;
  int32_t vocab_ = 0;
};

}  // namespace runnel
