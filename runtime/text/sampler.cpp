#include "text/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "text/exp.h"

namespace runnel {
namespace {

constexpr int32_t kBlock = 2048;  // logits looked at together: they stay in the first cache for a second look
constexpr float kLeastTemperature = 1e-30f;  // below, its inverse is not a float; far above, only equal highest logits are left
constexpr float kInfinity = std::numeric_limits<float>::infinity();

Status non_finite(const char* what) { return Status::make(Code::kNonFinite, "cannot choose a token: %s", what); }

// Whether x[0 .. n) holds a NaN, and its maximum otherwise. Sixteen lanes that do not depend on each other.
bool scan(const float* x, int32_t n, float* highest) {
  float lanes[16];
  uint32_t bad[16];
  for (int l = 0; l < 16; ++l) lanes[l] = -kInfinity, bad[l] = 0;
  int32_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (int l = 0; l < 16; ++l) {
      const float v = x[i + l];
      lanes[l] = v > lanes[l] ? v : lanes[l];
      bad[l] |= uint32_t(v != v);
    }
  for (; i < n; ++i) {
    lanes[0] = x[i] > lanes[0] ? x[i] : lanes[0];
    bad[0] |= uint32_t(x[i] != x[i]);
  }
  uint32_t any = 0;
  float m = lanes[0];
  for (int l = 0; l < 16; ++l) any |= bad[l], m = lanes[l] > m ? lanes[l] : m;
  *highest = m;
  return any != 0;
}

Status check_highest(bool nan, float highest) {
  if (nan) return non_finite("a logit is NaN");
  if (highest == kInfinity) return non_finite("a logit is infinite");
  if (highest == -kInfinity) return non_finite("every logit is minus infinity");
  return Status::ok();
}

}  // namespace

PhiloxBlock philox(uint64_t key, uint64_t counter_low, uint64_t counter_high) {
  uint32_t c[4] = {uint32_t(counter_low), uint32_t(counter_low >> 32), uint32_t(counter_high), uint32_t(counter_high >> 32)};
  uint32_t k0 = uint32_t(key), k1 = uint32_t(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t(0xD2511F53u) * c[0], b = uint64_t(0xCD9E8D57u) * c[2];
    const uint32_t n0 = uint32_t(b >> 32) ^ c[1] ^ k0, n2 = uint32_t(a >> 32) ^ c[3] ^ k1;
    c[0] = n0, c[1] = uint32_t(b), c[2] = n2, c[3] = uint32_t(a);
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  return {{c[0], c[1], c[2], c[3]}};
}

Result<int32_t> argmax(const float* logits, int32_t n) {
  float highest = -kInfinity;
  int32_t best = 0;
  bool nan = false;
  for (int32_t i = 0; i < n; i += kBlock) {
    const int32_t size = std::min(kBlock, n - i);
    float m;
    nan |= scan(logits + i, size, &m);
    if (m > highest) {
      highest = m;
      best = i;
      while (logits[best] != m) ++best;
    }
  }
  RNL_TRY(check_highest(nan, highest));
  return best;
}

int32_t deciding_logits(const SamplerOptions& o) {
  const bool penalises = o.penalty_window > 0 && (o.repetition != 1 || o.frequency != 0 || o.presence != 0);
  if (penalises || o.bias_count > 0) return 0;
  return o.temperature < kLeastTemperature ? 1 : o.top_k;
}

inline float Sampler::weight(float logit, float highest) const { return exp_negative((logit - highest) * inverse_temperature_); }

Status SamplerState::unwind(uint64_t n) {
  RNL_CHECK_ARG(n <= count, "cannot forget %llu of %llu tokens", (unsigned long long)n, (unsigned long long)count);
  const uint64_t left = count - n;
  if (peak > kHistory && left < peak - (kHistory - uint64_t(kMaxPenaltyWindow)))
    return Status::make(Code::kRollbackRange, "the sampler's history of %llu tokens does not reach back by %llu", (unsigned long long)kHistory,
                        (unsigned long long)n);
  count -= n;
  return Status::ok();
}

Result<Sampler> Sampler::create(const SamplerOptions& o, int32_t vocab, bool filtered) {
  RNL_CHECK_ARG(vocab > 0, "a sampler needs a vocabulary");
  RNL_CHECK_ARG(o.temperature >= 0 && o.temperature < kInfinity, "temperature is %g, it must be finite and at least 0", double(o.temperature));
  RNL_CHECK_ARG(o.top_k >= 0, "top_k is %d, it must be at least 0", o.top_k);
  RNL_CHECK_ARG(o.top_p >= 0 && o.top_p <= 1, "top_p is %g, it must be from 0 to 1", double(o.top_p));
  RNL_CHECK_ARG(o.min_p >= 0 && o.min_p <= 1, "min_p is %g, it must be from 0 to 1", double(o.min_p));
  RNL_CHECK_ARG(o.repetition > 0 && o.repetition < kInfinity, "the repetition penalty is %g, it must be finite and above 0", double(o.repetition));
  RNL_CHECK_ARG(std::isfinite(o.frequency) && std::isfinite(o.presence), "frequency and presence penalties must be finite");
  RNL_CHECK_ARG(o.penalty_window >= 0 && o.penalty_window <= kMaxPenaltyWindow, "the penalty window is %d, it must be from 0 to %d",
                o.penalty_window, kMaxPenaltyWindow);
  Sampler s;
  s.o_ = o;
  s.vocab_ = vocab;
  for (size_t i = 0; i < o.bias_count; ++i) {
    const LogitBias& b = o.bias[i];
    RNL_CHECK_ARG(b.id >= 0 && b.id < vocab, "the bias of id %d is out of range, the vocabulary has %d", b.id, vocab);
    RNL_CHECK_ARG(b.bias < kInfinity, "the bias of id %d must be finite or minus infinity", b.id);
    RNL_TRY(s.bias_.push(b));
  }
  s.o_.bias = nullptr;
  s.greedy_ = o.temperature < kLeastTemperature;
  s.inverse_temperature_ = s.greedy_ ? 0 : 1.0f / o.temperature;
  s.penalises_ = o.penalty_window > 0 && (o.repetition != 1 || o.frequency != 0 || o.presence != 0);
  s.adjusts_ = s.penalises_ || o.bias_count > 0;
  if (s.adjusts_ || filtered) RNL_TRY(s.work_.assign(size_t(vocab)));
  if (s.penalises_) RNL_TRY(s.recent_.assign(size_t(o.penalty_window)));
  if (!s.greedy_ && (o.top_k > 0 || o.top_p < 1 || o.min_p > 0)) RNL_TRY(s.candidates_.assign(size_t(vocab)));
  return s;
}

void Sampler::adjust(const SamplerState& state) {
  for (const LogitBias& b : bias_) work_[size_t(b.id)] += b.bias;
  if (!penalises_) return;
  const uint64_t n = std::min<uint64_t>(state.count, uint64_t(o_.penalty_window));
  for (uint64_t i = 0; i < n; ++i) recent_[i] = state.history[(state.count - n + i) % SamplerState::kHistory];
  std::sort(recent_.begin(), recent_.begin() + n);
  for (uint64_t i = 0; i < n;) {
    const int32_t id = recent_[i];
    uint64_t run = i;
    while (run < n && recent_[run] == id) ++run;
    if (id >= 0 && id < vocab_) {
      float& x = work_[size_t(id)];
      x = x > 0 ? x / o_.repetition : x * o_.repetition;
      x -= o_.frequency * float(run - i) + o_.presence;
    }
    i = run;
  }
}

// Fills candidates_ with the top_k most probable, in no order, in one pass that keeps a bounded number of them.
size_t Sampler::take_top_k(const float* x, float highest) {
  const size_t k = std::min(size_t(o_.top_k), size_t(vocab_));
  const size_t room = std::min(size_t(vocab_), std::max<size_t>(4 * k, 4096));
  Candidate* c = candidates_.data();
  size_t n = 0;
  float floor = -kInfinity;
  for (int32_t i = 0; i < vocab_; ++i) {
    if (!(x[i] > floor)) continue;  // an equal one has a higher id than those kept
    c[n++] = {x[i], i, 0};
    if (n == room && n > k) {
      std::nth_element(c, c + k - 1, c + n, before);
      floor = c[k - 1].logit;
      n = k;
    }
  }
  if (n > k) std::nth_element(c, c + k - 1, c + n, before), n = k;
  for (size_t i = 0; i < n; ++i) c[i].p = weight(c[i].logit, highest);
  return n;
}

// p of the logits from `begin` on, kBlock of them or as many as there are, and their sum in a fixed order.
double Sampler::block_mass(const float* x, int32_t begin, float highest, float* weights) const {
  const int32_t n = std::min(kBlock, vocab_ - begin);
  for (int32_t i = 0; i < n; ++i) weights[i] = weight(x[begin + i], highest);
  double lanes[8] = {};
  int32_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int l = 0; l < 8; ++l) lanes[l] += double(weights[i + l]);
  for (; i < n; ++i) lanes[0] += double(weights[i]);
  return ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]));
}

// Fills candidates_ with all that top-p and min-p can leave, ascending by id; total is the mass of everything.
size_t Sampler::take_above(const float* x, float highest, double* total) {
  // What lies below this many temperatures under the highest cannot be chosen. The margins cover rounding.
  float depth = 88.0f;
  if (o_.top_p < 1) {
    float weights[kBlock];
    *total = 0;
    for (int32_t i = 0; i < vocab_; i += kBlock) *total += block_mass(x, i, highest, weights);
    // All of them together weigh less than the share that top-p cuts off.
    depth = std::min(depth, float(std::log(double(vocab_) / ((1.0 - double(o_.top_p)) * *total))) + 0.01f);
  } else if (o_.min_p > 0) {
    depth = std::min(depth, 0.01f - std::log(o_.min_p));
  }
  const float floor = highest - std::max(depth, 0.01f) * o_.temperature;
  size_t n = 0;
  for (int32_t i = 0; i < vocab_; ++i) {
    if (!(x[i] >= floor)) continue;
    const float p = weight(x[i], highest);
    if (p > 0) candidates_[n++] = {x[i], i, p};
  }
  return n;
}

// Moves the shortest prefix with mass >= top_p * total to the front and returns its length.
size_t Sampler::cut_top_p(size_t count, double total) {
  Candidate* c = candidates_.data();
  const double want = double(o_.top_p) * total;
  double have = 0;
  size_t low = 0, high = count;
  while (high - low > 32) {
    const size_t middle = low + (high - low) / 2;
    std::nth_element(c + low, c + middle, c + high, before);
    double mass = 0;
    for (size_t i = low; i < middle; ++i) mass += double(c[i].p);
    if (have + mass >= want) high = middle;
    else have += mass, low = middle;
  }
  std::sort(c + low, c + high, before);
  while (low < high && have < want) have += double(c[low++].p);
  return std::max<size_t>(low, 1);
}

// Draws one of all logits, walking up the ids.
int32_t Sampler::draw_any(const float* x, float highest, double random) const {
  float weights[kBlock];
  double total = 0, at = 0;
  for (int32_t i = 0; i < vocab_; i += kBlock) total += block_mass(x, i, highest, weights);
  const double want = random * total;
  int32_t last = 0;
  for (int32_t begin = 0; begin < vocab_; begin += kBlock) {
    const double mass = block_mass(x, begin, highest, weights);
    if (at + mass <= want && begin + kBlock < vocab_) {
      at += mass;
      continue;
    }
    for (int32_t i = 0; i < std::min(kBlock, vocab_ - begin); ++i) {
      if (weights[i] == 0) continue;
      at += double(weights[i]), last = begin + i;
      if (at > want) return last;
    }
  }
  return last;
}

// Draws one of the first `count` candidates, walking up the ids.
int32_t Sampler::draw_candidate(size_t count, double random) {
  Candidate* c = candidates_.data();
  std::sort(c, c + count, [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
  double total = 0, at = 0;
  int32_t last = 0;
  for (size_t i = 0; i < count; ++i) total += double(c[i].p);
  for (size_t i = 0; i < count; ++i) {
    if (c[i].p == 0) continue;
    at += double(c[i].p), last = c[i].id;
    if (at > random * total) break;
  }
  return last;
}

Result<int32_t> Sampler::sample(const float* logits, const SamplerState& state, const TokenFilter* filter) {
  const float* x = logits;
  if (adjusts_) {
    std::copy(logits, logits + vocab_, work_.data());
    adjust(state);
    x = work_.data();
  }
  if (!filter) return choose(x, state, 0);
  if (candidates_.empty()) {
    RNL_ASSIGN(id, choose(x, state, 0));
    RNL_ASSIGN(fits, filter->allows(filter->context, id));
    if (fits) return id;
  }
  if (!adjusts_) std::copy(logits, logits + vocab_, work_.data());
  RNL_TRY(filter->mask(filter->context, work_.data(), vocab_));
  float highest;
  if (!scan(work_.data(), vocab_, &highest) && highest == -kInfinity) return kNoToken;
  return choose(work_.data(), state, 1);
}

// One of the logits. draw: 0 or 1, which of the random numbers that belong to the position.
Result<int32_t> Sampler::choose(const float* x, const SamplerState& state, int draw) {
  if (greedy_) return argmax(x, vocab_);
  float highest;
  const bool nan = scan(x, vocab_, &highest);
  RNL_TRY(check_highest(nan, highest));
  const PhiloxBlock block = philox(state.seed, state.count, 0);
  const double random = double((uint64_t(block.words[2 * draw]) << 32 | block.words[2 * draw + 1]) >> 11) * 0x1p-53;
  if (candidates_.empty()) return draw_any(x, highest, random);
  double total = 0;
  size_t count;
  if (o_.top_k > 0) {
    count = take_top_k(x, highest);
    for (size_t i = 0; i < count; ++i) total += double(candidates_[i].p);
  } else {
    count = take_above(x, highest, &total);
  }
  if (o_.top_p < 1) count = cut_top_p(count, total);
  if (o_.min_p > 0) {
    size_t kept = 0;
    for (size_t i = 0; i < count; ++i)
      if (candidates_[i].p >= o_.min_p) candidates_[kept++] = candidates_[i];
    count = kept;
  }
  return draw_candidate(count, random);
}

}  // namespace runnel
