#include "ops/route/route.h"

#include <cmath>

#include "ops/sequence.h"

namespace runnel {
namespace {

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::RouteAttrs*>(attrs);
  RNL_CHECK_ARG(a.scoring() <= format::RouteScoring::MAX && a.group_score() <= format::GroupScore::MAX,
                "route: scoring %d or group_score %d is not known", int(a.scoring()), int(a.group_score()));
  RNL_CHECK_ARG(a.groups() >= 1 && a.groups() <= kMaxExperts && a.top_groups() >= 1 && a.top_groups() <= a.groups(),
                "route: %u of %u groups", a.top_groups(), a.groups());
  const RouteParams p{RouteScoring(a.scoring()),
                      a.select_first(),
                      a.renormalise(),
                      a.group_score() == format::GroupScore::top2,
                      a.eps(),
                      a.scale(),
                      int32_t(a.groups()),
                      int32_t(a.top_groups())};
  RNL_CHECK_ARG(std::isfinite(p.eps) && p.eps >= 0 && std::isfinite(p.scale), "route: eps %g or scale %g",
                double(p.eps), double(p.scale));
  *params_of<RouteParams>(out) = p;
  return Status::ok();
}

Status check(const OpCall& c) {
  RNL_TRY(check_shape("route", "logits", c.in[0], DType::kF32, {-1, -1}));
  const int64_t tokens = c.in[0].dims[0], experts = c.in[0].dims[1];
  const RouteParams& p = params_of<RouteParams>(c);
  RNL_CHECK_ARG(experts >= 1 && experts <= kMaxExperts, "route: %" PRId64 " experts, want 1 to %" PRId64, experts,
                kMaxExperts);
  if (has_input(c, 1)) RNL_TRY(check_shape("route", "bias", c.in[1], DType::kF32, {experts}));
  RNL_TRY(check_shape("route", "weights", c.out[0], DType::kF32, {tokens, -1}));
  const int64_t k = c.out[0].dims[1];
  RNL_TRY(check_shape("route", "ids", c.out[1], DType::kI32, {tokens, k}));
  RNL_CHECK_ARG(experts % p.groups == 0, "route: %d groups do not divide %" PRId64 " experts", p.groups, experts);
  RNL_CHECK_ARG(k >= 1 && k <= experts / p.groups * p.top_groups, "route: %" PRId64 " experts chosen among %" PRId64, k,
                experts / p.groups * p.top_groups);
  RNL_CHECK_ARG(!p.group_top2 || p.groups == 1 || experts / p.groups >= 2,
                "route: groups of one expert have no two best");
  return Status::ok();
}

// The largest of n values that is not taken; ties: the first. NaN never wins against a number.
int64_t best_of(const double* v, const bool* taken, int64_t n) {
  int64_t best = -1;
  for (int64_t i = 0; i < n; ++i)
    if (!taken[i] && (best < 0 || v[i] > v[best])) best = i;
  return best;
}

double order_of(double v) { return std::isnan(v) ? -INFINITY : v; }

void row(const RouteParams& p, const float* logits, const float* bias, int64_t experts, int64_t k, float* weights,
         int32_t* ids) {
  double score[kMaxExperts], choice[kMaxExperts];
  bool taken[kMaxExperts] = {};
  if (p.scoring == RouteScoring::kSoftmax && !p.select_first) {
    double largest = -INFINITY, sum = 0;
    // Not fmax: GCC 12 for aarch64 crashes on it.
    for (int64_t i = 0; i < experts; ++i) largest = double(logits[i]) > largest ? double(logits[i]) : largest;
    for (int64_t i = 0; i < experts; ++i) sum += score[i] = std::exp(double(logits[i]) - largest);
    for (int64_t i = 0; i < experts; ++i) score[i] /= sum;
  } else {
    const bool sigmoid = p.scoring == RouteScoring::kSigmoid && !p.select_first;
    for (int64_t i = 0; i < experts; ++i)
      score[i] = sigmoid ? 1 / (1 + std::exp(-double(logits[i]))) : double(logits[i]);
  }
  for (int64_t i = 0; i < experts; ++i) choice[i] = order_of(score[i] + (bias ? double(bias[i]) : 0));
  if (p.groups > 1) {
    double group[kMaxExperts];
    bool kept[kMaxExperts] = {};
    const int64_t size = experts / p.groups;
    for (int64_t g = 0; g < p.groups; ++g) {
      bool none[kMaxExperts] = {};
      const int64_t first = best_of(choice + g * size, none, size);
      group[g] = choice[g * size + first];
      none[first] = true;
      if (p.group_top2) group[g] += choice[g * size + best_of(choice + g * size, none, size)];
    }
    for (int32_t n = 0; n < p.top_groups; ++n) kept[best_of(group, kept, p.groups)] = true;
    for (int64_t i = 0; i < experts; ++i) taken[i] = !kept[i / size];
  }
  for (int64_t n = 0; n < k; ++n) {
    const int64_t best = best_of(choice, taken, experts);
    taken[best] = true;
    ids[n] = int32_t(best);
  }
  if (p.select_first) {
    double sum = 0;
    for (int64_t n = 0; n < k; ++n) {
      double& s = score[ids[n]];
      if (p.scoring == RouteScoring::kSoftmax) sum += s = std::exp(s - double(logits[ids[0]]));
      else if (p.scoring == RouteScoring::kSigmoid) s = 1 / (1 + std::exp(-s));
    }
    for (int64_t n = 0; p.scoring == RouteScoring::kSoftmax && n < k; ++n) score[ids[n]] /= sum;
  }
  double by = 1;
  if (p.renormalise) {
    by = double(p.eps);
    for (int64_t n = 0; n < k; ++n) by += score[ids[n]];
  }
  for (int64_t n = 0; n < k; ++n) weights[n] = float(score[ids[n]] / by * double(p.scale));
}

void reference(const OpCall& c) {
  const int64_t tokens = c.in[0].dims[0], experts = c.in[0].dims[1], k = c.out[0].dims[1];
  const float* bias = has_input(c, 1) ? static_cast<const float*>(c.in[1].data) : nullptr;
  for (int64_t t = 0; t < tokens; ++t)
    row(params_of<RouteParams>(c), static_cast<const float*>(c.in[0].data) + t * experts, bias, experts, k,
        static_cast<float*>(c.out[0].data) + t * k, static_cast<int32_t*>(c.out[1].data) + t * k);
}

}  // namespace

extern constexpr OpDef route_def = define_op(registry_row::route, parse, check, reference);

}  // namespace runnel
