#include "text/logprobs.h"

#include <algorithm>
#include <cmath>

#include "text/exp.h"

namespace runnel {

Status Logprobs::prepare(int32_t best, int32_t vocab) {
  RNL_CHECK_ARG(best >= 0 && best <= kMaxLogprobs, "log-probabilities of %d tokens; 0 to %d are possible", best,
                kMaxLogprobs);
  vocab_ = vocab;
  return best_.assign(size_t(std::min(best, vocab)));
}

ChosenLogprobs Logprobs::of(const float* logits, int32_t chosen) {
  const size_t want = best_.size();
  size_t n = 0;
  float highest = logits[0];
  for (int32_t id = 0; id < vocab_; ++id) {
    const float x = logits[id];
    highest = x > highest ? x : highest;
    if (want == 0 || (n == want && !(x > best_[n - 1].logprob))) continue;
    // Behind all that are not lower. After the first few hundred this is rare.
    size_t at = n < want ? n++ : n - 1;
    for (; at > 0 && x > best_[at - 1].logprob; --at) best_[at] = best_[at - 1];
    best_[at] = {id, x};
  }
  double sums[8] = {};
  int32_t i = 0;
  for (; i + 8 <= vocab_; i += 8)
    for (int l = 0; l < 8; ++l) sums[l] += double(exp_negative(logits[i + l] - highest));
  for (; i < vocab_; ++i) sums[0] += double(exp_negative(logits[i] - highest));
  const double total = double(highest) + std::log(((sums[0] + sums[1]) + (sums[2] + sums[3])) +
                                                  ((sums[4] + sums[5]) + (sums[6] + sums[7])));
  for (TokenLogprob& b : best_) b.logprob = float(double(b.logprob) - total);
  return {{chosen, float(double(logits[chosen]) - total)}, best_.data(), int32_t(n)};
}

}  // namespace runnel
