// Picks the next token from logits. The filters are applied in this order, each to what the one before left:
//   1. bias           logit += bias[id]
//   2. repetition     logit = logit > 0 ? logit / r : logit * r, for each id among the last `penalty_window` tokens
//   3. frequency and presence   logit -= frequency * count + presence, for the same ids
//   4. temperature    0: the highest logit, the lowest id of equal ones, and nothing below applies. Else p =
//   softmax(logit / temperature)
//   5. top-k          the k most probable (0: all)
//   6. top-p          of these, the shortest run of most probable whose share of the mass is at least top_p
//   7. min-p          of these, p >= min_p * the highest p
// then one is drawn in proportion to p. "More probable" means a higher logit, then a lower id, so the choice is never
// open.
//
// With a filter, such as a grammar, the logits of the tokens that it refuses count as minus infinity from the start.
// Working out which these are costs more than asking for one, so the greedy choice and a plain draw are first made
// without it, and again among what it lets through when they were refused: each token that is let through then has the
// share of the mass that it would have had at once. Where few are let through, these alone are looked at.
//
// The random number is Philox4x32-10 of (seed, number of tokens so far): it needs no state of its own, and a stream
// that was rolled back or restored draws what it would have drawn.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/status.h"
#include "base/vec.h"

namespace runnel {

struct LogitBias {
  int32_t id;
  float bias;  // finite, or -infinity to ban the token
};

inline constexpr int32_t kMaxPenaltyWindow = 1024;

struct SamplerOptions {
  float temperature = 0;
  int32_t top_k = 0;
  float top_p = 1;
  float min_p = 0;
  float repetition = 1, frequency = 0, presence = 0;
  int32_t penalty_window = 64;      // tokens, at most kMaxPenaltyWindow
  const LogitBias* bias = nullptr;  // copied
  size_t bias_count = 0;
};

// What a stream remembers for its sampler: plain data of fixed size, kept in the session's state block. A zeroed one is
// a stream without tokens and seed 0.
struct SamplerState {
  static constexpr uint64_t kHistory = 2048;  // tokens, more than a penalty window so that a stream can be rolled back
  uint64_t seed;
  uint64_t count;             // tokens of the stream so far, prompt included
  uint64_t peak;              // the highest count there was: history holds tokens from peak - kHistory on
  int32_t history[kHistory];  // token i of the stream at i mod kHistory

  void accept(int32_t id) {
    history[count++ % kHistory] = id;
    if (count > peak) peak = count;
  }
  // Forgets the last n tokens. kRollbackRange when more are wanted than the history can give back.
  Status unwind(uint64_t n);
};

// What else decides which tokens there may be. allows() for one; list() writes all, ascending, when there are few, and
// gives their number, else -1; mask() sets the logits of all others to minus infinity.
struct TokenFilter {
  void* context;
  Result<bool> (*allows)(void* context, int32_t id);
  Result<int32_t> (*list)(void* context, int32_t* ids);
  Status (*mask)(void* context, float* logits, int32_t vocab);
  int32_t most_listed;  // by list()
  int32_t least;        // how many finite logits must be let through for a choice
};
// What Sampler::sample gives when the filter lets too few of the finite logits through.
inline constexpr int32_t kNoToken = -1;

// How many of the highest logits decide every choice with these options, so that others may be -infinity; 0: all of
// them.
int32_t deciding_logits(const SamplerOptions& options);

class Sampler {
 public:
  // vocab: logits of each call that are chosen from. filter: what sample() will be given, if any. width: ids below it
  // may be biased; those from vocab on, which are never chosen, without effect. All memory of later calls is taken
  // here.
  static Result<Sampler> create(const SamplerOptions& options, int32_t vocab, const TokenFilter* filter = nullptr,
                                int32_t width = 0);
  // The chosen id; `state` is not changed, accept() it when it is fed. kNonFinite when a logit is NaN or +infinity, or
  // when all are -infinity. Nothing is allocated.
  Result<int32_t> sample(const float* logits, const SamplerState& state, const TokenFilter* filter = nullptr);
  size_t scratch_bytes() const {
    return work_.bytes() + candidates_.bytes() + recent_.bytes() + bias_.bytes() + listed_.bytes();
  }

 private:
  struct Candidate {
    float logit;
    int32_t id;
    float p;  // relative to the highest, which has 1
  };
  static bool before(const Candidate& a, const Candidate& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
  }
  Result<int32_t> choose(const float* logits, int32_t count, const SamplerState& state, int draw);
  Result<int32_t> choose_filtered(const float* logits, const SamplerState& state, const TokenFilter& filter);
  void adjust(const SamplerState& state);
  float weight(float logit, float highest) const;
  size_t take_top_k(const float* logits, float highest);
  double block_mass(const float* logits, int32_t begin, float highest, float* weights) const;
  size_t take_above(const float* logits, float highest, double* total);
  size_t cut_top_p(size_t count, double total);
  int32_t draw_any(const float* logits, float highest, double random) const;
  int32_t draw_candidate(size_t count, double random);

  SamplerOptions o_;
  int32_t vocab_ = 0;
  int32_t count_ = 0;  // logits that are chosen from
  float inverse_temperature_ = 0;
  bool greedy_ = true, adjusts_ = false, penalises_ = false;
  Vec<LogitBias> bias_;
  Vec<float> work_;            // [vocab] adjusted logits
  Vec<int32_t> listed_;        // [most_listed]
  Vec<Candidate> candidates_;  // [vocab]
  Vec<int32_t> recent_;        // [penalty_window]
};

// Where the highest of n > 0 logits is, the lowest index of equal ones, in one pass; and what it is. kNonFinite as in
// sample().
Result<int32_t> argmax(const float* logits, int32_t n);
Result<float> highest_of(const float* logits, int32_t n);

struct PhiloxBlock {
  uint32_t words[4];
};
// Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
PhiloxBlock philox(uint64_t key, uint64_t counter_low, uint64_t counter_high);

}  // namespace runnel
