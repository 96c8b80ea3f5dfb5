#include "ops/matrix_recurrence/matrix_recurrence.h"

#include <cmath>

#include "ops/sequence.h"

namespace runnel {
namespace {

enum Input { kQ, kK, kV, kDecay, kBeta, kA, kB, kBonus, kGate, kState, kNorm, kMax, kSegments };
constexpr const char* kOp = "matrix_recurrence";

static_assert(int(format::RecurrenceRule::MAX) == int(RecurrenceRule::kDplr) &&
              int(format::RecurrenceRead::MAX) == int(RecurrenceRead::kBefore) &&
              int(format::RecurrenceNorm::MAX) == int(RecurrenceNorm::kBounded));

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::MatrixRecurrenceAttrs*>(attrs);
  const MatrixRecurrenceParams p{RecurrenceRule(a.rule()),
                                 RecurrenceRead(a.read()),
                                 RecurrenceNorm(a.normalise()),
                                 a.reverse(),
                                 int32_t(a.steps()),
                                 a.scale(),
                                 a.eps()};
  RNL_CHECK_ARG(int(p.rule) <= 2 && int(p.read) <= 1 && int(p.normalise) <= 2,
                "%s: rule %d, read %d or normalise %d is not known", kOp, int(p.rule), int(p.read), int(p.normalise));
  RNL_CHECK_ARG(p.steps >= 1 && p.steps <= 1024, "%s: %d steps a token, want 1 to 1024", kOp, p.steps);
  RNL_CHECK_ARG(std::isfinite(p.scale) && std::isfinite(p.eps) && p.eps >= 0, "%s: scale %g or eps %g", kOp,
                double(p.scale), double(p.eps));
  RNL_CHECK_ARG(p.steps == 1 || (p.read == RecurrenceRead::kAfter && p.normalise == RecurrenceNorm::kNone),
                "%s: several steps a token with read before or normalise", kOp);
  RNL_CHECK_ARG(p.read == RecurrenceRead::kAfter || p.normalise == RecurrenceNorm::kNone,
                "%s: read before with normalise", kOp);
  *params_of<MatrixRecurrenceParams>(out) = p;
  return Status::ok();
}

Status check_heads(const OpCall& c, int input, const char* what, int64_t rows, int64_t heads, int64_t width) {
  RNL_TRY(check_shape(kOp, what, c.in[input], DType::kF32, {rows, -1, width}));
  const int64_t own = c.in[input].dims[1];
  RNL_CHECK_ARG(own >= 1 && heads % own == 0, "%s: %" PRId64 " heads of %s do not divide %" PRId64 " heads", kOp, own,
                what, heads);
  return Status::ok();
}

Status check(const OpCall& c) {
  const MatrixRecurrenceParams& p = params_of<MatrixRecurrenceParams>(c);
  RNL_TRY(check_shape(kOp, "y", c.out[0], DType::kF32, {-1, -1, -1}));
  const int64_t tokens = c.out[0].dims[0], heads = c.out[0].dims[1], value = c.out[0].dims[2], rows = tokens * p.steps;
  RNL_TRY(check_shape(kOp, "q", c.in[kQ], DType::kF32, {tokens, -1, -1}));
  const int64_t key = c.in[kQ].dims[2];
  RNL_CHECK_ARG(heads >= 1 && heads <= 65536 && key >= 1 && key <= 65536 && value >= 1 && value <= 65536,
                "%s: %" PRId64 " heads of [%" PRId64 ", %" PRId64 "], want 1 to 65536 each", kOp, heads, key, value);
  RNL_TRY(check_heads(c, kQ, "q", tokens, heads, key));
  RNL_TRY(check_heads(c, kK, "k", rows, heads, key));
  RNL_TRY(check_heads(c, kV, "v", rows, heads, value));
  if (has_input(c, kDecay)) {
    const TensorView& d = c.in[kDecay];
    if (d.rank == 1) RNL_TRY(check_shape(kOp, "decay", d, DType::kF32, {heads}));
    else if (d.rank == 2) RNL_TRY(check_shape(kOp, "decay", d, DType::kF32, {tokens, heads}));
    else RNL_TRY(check_shape(kOp, "decay", d, DType::kF32, {d.dims[0] == 1 ? 1 : tokens, heads, key}));
  }
  RNL_CHECK_ARG(!has_input(c, kBeta) || p.rule == RecurrenceRule::kDelta, "%s: beta belongs to the rule delta", kOp);
  if (has_input(c, kBeta)) RNL_TRY(check_shape(kOp, "beta", c.in[kBeta], DType::kF32, {rows, heads}));
  const bool has_ab = has_input(c, kA) || has_input(c, kB);
  RNL_CHECK_ARG(has_ab == (p.rule == RecurrenceRule::kDplr) && has_input(c, kA) == has_input(c, kB),
                "%s: a and b belong to the rule dplr", kOp);
  if (has_ab) {
    RNL_TRY(check_heads(c, kA, "a", rows, heads, key));
    RNL_TRY(check_heads(c, kB, "b", rows, heads, key));
    RNL_CHECK_ARG(c.in[kA].dims[1] == c.in[kB].dims[1], "%s: a has %" PRId64 " heads and b %" PRId64, kOp,
                  c.in[kA].dims[1], c.in[kB].dims[1]);
  }
  RNL_CHECK_ARG(!has_input(c, kBonus) || p.read == RecurrenceRead::kBefore, "%s: bonus needs read before", kOp);
  if (has_input(c, kBonus)) RNL_TRY(check_shape(kOp, "bonus", c.in[kBonus], DType::kF32, {heads, key}));
  const bool has_gate = has_input(c, kGate);
  if (has_gate) {
    RNL_CHECK_ARG(p.rule == RecurrenceRule::kAdd && p.steps == 1 && p.read == RecurrenceRead::kAfter &&
                      !(has_input(c, kDecay) && c.in[kDecay].rank == 3),
                  "%s: gate needs the rule add, one step, read after and a decay for each head", kOp);
    RNL_TRY(check_shape(kOp, "gate", c.in[kGate], DType::kF32, {tokens, heads}));
  }
  if (p.normalise != RecurrenceNorm::kNone)
    RNL_CHECK_ARG(p.rule == RecurrenceRule::kAdd, "%s: normalise needs the rule add", kOp);
  else RNL_CHECK_ARG(!has_input(c, kNorm) && !has_output(c, 2), "%s: a norm state without normalise", kOp);
  RNL_CHECK_ARG(has_gate || (!has_input(c, kMax) && !has_output(c, 3)), "%s: a max state without gate", kOp);
  RNL_TRY(check_state(kOp, "state", c, kState, 1, {heads, key, value}));
  RNL_TRY(check_state(kOp, "norm", c, kNorm, 2, {heads, key}));
  if (has_input(c, kMax)) RNL_TRY(check_shape(kOp, "max", c.in[kMax], DType::kF32, {heads}));
  if (has_output(c, 3)) RNL_TRY(check_shape(kOp, "max", c.out[3], DType::kF32, {heads}));
  const bool states = has_input(c, kState) || has_input(c, kNorm) || has_input(c, kMax) || has_output(c, 1) ||
                      has_output(c, 2) || has_output(c, 3);
  return check_segments(kOp, c, kSegments, states);
}

Status check_data(const OpCall& c) { return check_segment_bounds(kOp, c, kSegments, c.out[0].dims[0]); }

// Head h of a call, element by element in double.
struct Head {
  const OpCall& c;
  const MatrixRecurrenceParams& p;
  int64_t h, heads, key, value;

  double at(int i, int64_t row, int64_t d) const {
    const TensorView& t = c.in[i];
    return double(static_cast<const float*>(t.data)[(row * t.dims[1] + h / (heads / t.dims[1])) * t.dims[2] + d]);
  }
  double decay(int64_t t, int64_t k) const {
    if (!has_input(c, kDecay)) return 0;
    const TensorView& d = c.in[kDecay];
    const int64_t i = d.rank == 1 ? h : d.rank == 2 ? t * heads + h : ((d.dims[0] == 1 ? 0 : t) * heads + h) * key + k;
    return double(static_cast<const float*>(d.data)[i]);
  }
  double each(int i, int64_t row) const { return double(static_cast<const float*>(c.in[i].data)[row * heads + h]); }
};

// One column of S through the tokens of a segment.
void column(const Head& u, int64_t col, int64_t first, int64_t count, double* s) {
  const OpCall& c = u.c;
  const MatrixRecurrenceParams& p = u.p;
  for (int64_t k = 0; k < u.key; ++k)
    s[k] = has_input(c, kState) ? state_value(c.in[kState], (u.h * u.key + k) * u.value + col) : 0;
  double m = has_input(c, kMax) ? double(static_cast<const float*>(c.in[kMax].data)[u.h]) : 0;
  float* y = static_cast<float*>(c.out[0].data);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t t = p.reverse ? first + count - 1 - i : first + i;
    double out = 0, input_gate = 1, forget = 0;
    if (has_input(c, kGate)) {
      const double kept = u.decay(t, 0) + m, next = kept > u.each(kGate, t) ? kept : u.each(kGate, t);
      forget = kept - next, input_gate = std::exp(u.each(kGate, t) - next), m = next;
    }
    if (p.read == RecurrenceRead::kBefore) {
      double bonus = 0;
      for (int64_t k = 0; k < u.key; ++k) {
        out += u.at(kQ, t, k) * s[k];
        if (has_input(c, kBonus))
          bonus +=
              u.at(kQ, t, k) * double(static_cast<const float*>(c.in[kBonus].data)[u.h * u.key + k]) * u.at(kK, t, k);
      }
      out += bonus * u.at(kV, t, col);
    }
    for (int64_t step = 0; step < p.steps; ++step) {
      const int64_t row = t * p.steps + step;
      const double v = u.at(kV, row, col);
      double low = 0;
      if (p.rule == RecurrenceRule::kDplr)
        for (int64_t k = 0; k < u.key; ++k) low += u.at(kA, row, k) * s[k];
      if (step == 0 && has_input(c, kDecay))
        for (int64_t k = 0; k < u.key; ++k) s[k] *= std::exp(has_input(c, kGate) ? forget : u.decay(t, k));
      else if (step == 0 && has_input(c, kGate))
        for (int64_t k = 0; k < u.key; ++k) s[k] *= std::exp(forget);
      double d = v;
      if (p.rule == RecurrenceRule::kDelta) {
        double seen = 0;
        for (int64_t k = 0; k < u.key; ++k) seen += u.at(kK, row, k) * s[k];
        d = (has_input(c, kBeta) ? u.each(kBeta, row) : 1) * (v - seen);
      }
      for (int64_t k = 0; k < u.key; ++k)
        s[k] += input_gate * u.at(kK, row, k) * d + (p.rule == RecurrenceRule::kDplr ? u.at(kB, row, k) * low : 0);
    }
    if (p.read == RecurrenceRead::kAfter)
      for (int64_t k = 0; k < u.key; ++k) out += u.at(kQ, t, k) * s[k];
    y[(t * u.heads + u.h) * u.value + col] = float(out * p.scale);
  }
  if (has_output(c, 1))
    for (int64_t k = 0; k < u.key; ++k) set_state_value(c.out[1], (u.h * u.key + k) * u.value + col, s[k]);
}

// Divides y of the segment by its denominators.
void normalise(const Head& u, int64_t first, int64_t count, double* n) {
  const OpCall& c = u.c;
  const MatrixRecurrenceParams& p = u.p;
  for (int64_t k = 0; k < u.key; ++k) n[k] = has_input(c, kNorm) ? state_value(c.in[kNorm], u.h * u.key + k) : 0;
  double m = has_input(c, kMax) ? double(static_cast<const float*>(c.in[kMax].data)[u.h]) : 0;
  float* y = static_cast<float*>(c.out[0].data);
  for (int64_t i = 0; i < count; ++i) {
    const int64_t t = p.reverse ? first + count - 1 - i : first + i;
    double gate = 1, dot = 0, kept_max = m;
    if (has_input(c, kGate)) {
      const double kept = u.decay(t, 0) + m;
      m = kept > u.each(kGate, t) ? kept : u.each(kGate, t);
      gate = std::exp(u.each(kGate, t) - m);
    }
    for (int64_t k = 0; k < u.key; ++k) {
      n[k] =
          std::exp(has_input(c, kGate) ? u.decay(t, 0) + kept_max - m : u.decay(t, k)) * n[k] + gate * u.at(kK, t, k);
      dot += u.at(kQ, t, k) * n[k];
    }
    dot *= p.scale;
    if (p.normalise == RecurrenceNorm::kNone) continue;
    const double floor = std::exp(-m), size = std::fabs(dot);
    const double by = (p.normalise == RecurrenceNorm::kSum ? dot : size > floor ? size : floor) + p.eps;
    for (int64_t d = 0; d < u.value; ++d)
      y[(t * u.heads + u.h) * u.value + d] = float(double(y[(t * u.heads + u.h) * u.value + d]) / by);
  }
  if (has_output(c, 2))
    for (int64_t k = 0; k < u.key; ++k) set_state_value(c.out[2], u.h * u.key + k, n[k]);
  if (has_output(c, 3)) static_cast<float*>(c.out[3].data)[u.h] = float(m);
}

void reference(const OpCall& c) {
  const MatrixRecurrenceParams& p = params_of<MatrixRecurrenceParams>(c);
  const int64_t tokens = c.out[0].dims[0], heads = c.out[0].dims[1], value = c.out[0].dims[2], key = c.in[kQ].dims[2];
  double* wide = new (std::nothrow) double[size_t(key)];
  if (!wide) return;
  for (int64_t h = 0; h < heads; ++h) {
    const Head u{c, p, h, heads, key, value};
    for_each_segment(c, kSegments, tokens, [&](int64_t first, int64_t count) {
      for (int64_t col = 0; col < value; ++col) column(u, col, first, count, wide);
      if (p.normalise != RecurrenceNorm::kNone || has_input(c, kGate)) normalise(u, first, count, wide);
    });
  }
  delete[] wide;
}

}  // namespace

extern constexpr OpDef matrix_recurrence_def =
    define_op(registry_row::matrix_recurrence, parse, check, reference, check_data);

}  // namespace runnel
