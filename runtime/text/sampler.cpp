#include "text/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace runnel {
namespace {

constexpr float kLeastTemperature = 1e-30f;  // below, its inverse is not a float; far above, only equal highest logits
                                             // are left
constexpr float kInfinity = std::numeric_limits<float>::infinity();

}  // namespace

PhiloxBlock philox(uint64_t key, uint64_t counter_low, uint64_t counter_high) {
  uint32_t c[4] = {uint32_t(counter_low), uint32_t(counter_low >> 32), uint32_t(counter_high),
                   uint32_t(counter_high >> 32)};
  uint32_t k0 = uint32_t(key), k1 = uint32_t(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t(0xD2511F53u) * c[0], b = uint64_t(0xCD9E8D57u) * c[2];
    const uint32_t n0 = uint32_t(b >> 32) ^ c[1] ^ k0, n2 = uint32_t(a >> 32) ^ c[3] ^ k1;
    c[0] = n0, c[1] = uint32_t(b), c[2] = n2, c[3] = uint32_t(a);
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  return {{c[0], c[1], c[2], c[3]}};
}

int32_t deciding_logits(const SamplerOptions& o) {
  const bool penalises = o.penalty_window > 0 && (o.repetition != 1 || o.frequency != 0 || o.presence != 0);
  if (penalises || o.bias_count > 0) return 0;
  return o.temperature < kLeastTemperature ? 1 : o.top_k;
}

Status SamplerState::unwind(uint64_t n) {
  RNL_CHECK_ARG(n <= count, "cannot forget %llu of %llu tokens", (unsigned long long)n, (unsigned long long)count);
  const uint64_t left = count - n;
  if (peak > kHistory && left < peak - (kHistory - uint64_t(kMaxPenaltyWindow)))
    return Status::make(Code::kRollbackRange, "the sampler's history of %llu tokens does not reach back by %llu",
                        (unsigned long long)kHistory, (unsigned long long)n);
  count -= n;
  return Status::ok();
}

Result<Sampler> Sampler::create(const SamplerOptions& o, int32_t vocab, const TokenFilter* filter, int32_t width) {
  RNL_CHECK_ARG(vocab > 0, "a sampler needs a vocabulary");
  RNL_CHECK_ARG(o.temperature >= 0 && o.temperature < kInfinity, "temperature is %g, it must be finite and at least 0",
                double(o.temperature));
  RNL_CHECK_ARG(o.top_k >= 0, "top_k is %d, it must be at least 0", o.top_k);
  RNL_CHECK_ARG(o.top_p >= 0 && o.top_p <= 1, "top_p is %g, it must be from 0 to 1", double(o.top_p));
  RNL_CHECK_ARG(o.min_p >= 0 && o.min_p <= 1, "min_p is %g, it must be from 0 to 1", double(o.min_p));
  RNL_CHECK_ARG(o.repetition > 0 && o.repetition < kInfinity,
                "the repetition penalty is %g, it must be finite and above 0", double(o.repetition));
  RNL_CHECK_ARG(std::isfinite(o.frequency) && std::isfinite(o.presence),
                "frequency and presence penalties must be finite");
  RNL_CHECK_ARG(o.penalty_window >= 0 && o.penalty_window <= kMaxPenaltyWindow,
                "the penalty window is %d, it must be from 0 to %d", o.penalty_window, kMaxPenaltyWindow);
  Sampler s;
  s.o_ = o;
  s.vocab_ = vocab;
  for (size_t i = 0; i < o.bias_count; ++i) {
    const LogitBias& b = o.bias[i];
    RNL_CHECK_ARG(b.id >= 0 && b.id < std::max(vocab, width),
                  "the bias of id %d is out of range, the vocabulary has %d", b.id, vocab);
    RNL_CHECK_ARG(b.bias < kInfinity, "the bias of id %d must be finite or minus infinity", b.id);
    if (b.id < vocab) RNL_TRY(s.bias_.push(b));
  }
  s.o_.bias = nullptr;
  s.greedy_ = o.temperature < kLeastTemperature;
  s.inverse_temperature_ = s.greedy_ ? 0 : 1.0f / o.temperature;
  s.penalises_ = o.penalty_window > 0 && (o.repetition != 1 || o.frequency != 0 || o.presence != 0);
  s.adjusts_ = s.penalises_ || o.bias_count > 0;
  if (s.adjusts_ || filter) RNL_TRY(s.work_.assign(size_t(vocab)));
  if (filter) RNL_TRY(s.listed_.assign(size_t(filter->most_listed)));
  if (s.penalises_) RNL_TRY(s.recent_.assign(size_t(o.penalty_window)));
  if (!s.greedy_ && (o.top_k > 0 || o.top_p < 1 || o.min_p > 0)) RNL_TRY(s.candidates_.assign(size_t(vocab)));
  return s;
}

void Sampler::adjust(const SamplerState& state) {
  for (const LogitBias& b : bias_) work_[size_t(b.id)] += b.bias;
  if (!penalises_) return;
  const uint64_t n = std::min<uint64_t>(state.count, uint64_t(o_.penalty_window));
  for (uint64_t i = 0; i < n; ++i) recent_[i] = state.history[(state.count - n + i) % SamplerState::kHistory];
  std::make_heap(recent_.begin(), recent_.begin() + n);
  std::sort_heap(recent_.begin(), recent_.begin() + n);
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
  if (filter && !candidates_.empty()) return choose_filtered(x, state, *filter);
  RNL_ASSIGN(id, choose(x, vocab_, state, 0));
  if (!filter) return id;
  RNL_ASSIGN(fits, filter->allows(filter->context, id));
  if (fits) return id;
  return choose_filtered(x, state, *filter);
}

// x may be work_.
Result<int32_t> Sampler::choose_filtered(const float* x, const SamplerState& state, const TokenFilter& filter) {
  RNL_ASSIGN(listed, filter.list(filter.context, listed_.data()));
  int32_t count = vocab_, finite = 0;
  if (listed >= 0) {
    count = 0;
    for (; count < listed && listed_[size_t(count)] < vocab_; ++count)
      work_[size_t(count)] = x[listed_[size_t(count)]];  // ids ascend
  } else {
    if (x != work_.data()) std::copy(x, x + vocab_, work_.data());
    RNL_TRY(filter.mask(filter.context, work_.data(), vocab_));
  }
  const int32_t least = std::max(1, std::min(filter.least, count));
  for (int32_t i = 0; i < count && finite < least; ++i) finite += work_[size_t(i)] != -kInfinity;
  if (finite < least) return kNoToken;
  RNL_ASSIGN(at, choose(work_.data(), count, state, 1));
  return listed < 0 ? at : listed_[size_t(at)];
}

// One of the first `count` logits. draw: 0 or 1, which of the random numbers that belong to the position.
Result<int32_t> Sampler::choose(const float* x, int32_t count, const SamplerState& state, int draw) {
  count_ = count;
  if (greedy_) return argmax(x, count);
  RNL_ASSIGN(highest, highest_of(x, count));
  const PhiloxBlock block = philox(state.seed, state.count, 0);
  const double random = double((uint64_t(block.words[2 * draw]) << 32 | block.words[2 * draw + 1]) >> 11) * 0x1p-53;
  if (candidates_.empty()) return draw_any(x, highest, random);
  double total = 0;
  size_t kept;
  if (o_.top_k > 0) {
    kept = take_top_k(x, highest);
    for (size_t i = 0; i < kept; ++i) total += double(candidates_[i].p);
  } else {
    kept = take_above(x, highest, &total);
  }
  if (o_.top_p < 1) kept = cut_top_p(kept, total);
  if (o_.min_p > 0) {
    size_t likely = 0;
    for (size_t i = 0; i < kept; ++i)
      if (candidates_[i].p >= o_.min_p) candidates_[likely++] = candidates_[i];
    kept = likely;
  }
  return draw_candidate(kept, random);
}

}  // namespace runnel
