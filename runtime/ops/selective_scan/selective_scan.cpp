#include "ops/selective_scan/selective_scan.h"

#include <cmath>

#include "ops/sequence.h"
#include "ops/unary/unary.h"

namespace runnel {
namespace {

enum Input { kX, kDt, kA, kB, kC, kD, kDtBias, kState, kSegments };

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::SelectiveScanAttrs*>(attrs);
  const SelectiveScanParams p{a.dt_min(), a.dt_max(), a.softplus(), a.reverse()};
  RNL_CHECK_ARG(p.dt_min >= 0 && p.dt_max >= p.dt_min, "selective_scan: the limits of dt are %g and %g",
                double(p.dt_min), double(p.dt_max));
  *params_of<SelectiveScanParams>(out) = p;
  return Status::ok();
}

Status check(const OpCall& c) {
  const char* op = "selective_scan";
  RNL_TRY(check_shape(op, "x", c.in[kX], DType::kF32, {-1, -1}));
  const int64_t tokens = c.in[kX].dims[0], channels = c.in[kX].dims[1];
  RNL_TRY(check_shape(op, "dt", c.in[kDt], DType::kF32, {tokens, channels}));
  RNL_TRY(check_shape(op, "A", c.in[kA], DType::kF32, {channels, -1}));
  const int64_t n = c.in[kA].dims[1];
  RNL_CHECK_ARG(n >= 1 && n <= 65536, "selective_scan: a state of %" PRId64 " a channel, want 1 to 65536", n);
  const int64_t groups = c.in[kB].rank == 3 ? c.in[kB].dims[1] : 1;
  RNL_CHECK_ARG(groups >= 1 && channels % groups == 0,
                "selective_scan: %" PRId64 " groups do not divide %" PRId64 " channels", groups, channels);
  for (int i : {int(kB), int(kC)}) {
    const char* what = i == kB ? "B" : "C";
    if (c.in[kB].rank == 3) RNL_TRY(check_shape(op, what, c.in[i], DType::kF32, {tokens, groups, n}));
    else RNL_TRY(check_shape(op, what, c.in[i], DType::kF32, {tokens, n}));
  }
  if (has_input(c, kD)) RNL_TRY(check_shape(op, "D", c.in[kD], DType::kF32, {channels}));
  if (has_input(c, kDtBias)) RNL_TRY(check_shape(op, "dt_bias", c.in[kDtBias], DType::kF32, {channels}));
  RNL_TRY(check_shape(op, "y", c.out[0], DType::kF32, {tokens, channels}));
  RNL_TRY(check_state(op, "state", c, kState, 1, {channels, n}));
  return check_segments(op, c, kSegments, has_input(c, kState) || has_output(c, 1));
}

Status check_data(const OpCall& c) { return check_segment_bounds("selective_scan", c, kSegments, c.in[kX].dims[0]); }

void reference(const OpCall& c) {
  const SelectiveScanParams& p = params_of<SelectiveScanParams>(c);
  const auto f = [&](int i) { return static_cast<const float*>(c.in[i].data); };
  const int64_t tokens = c.in[kX].dims[0], channels = c.in[kX].dims[1], n = c.in[kA].dims[1],
                groups = c.in[kB].rank == 3 ? c.in[kB].dims[1] : 1;
  float* y = static_cast<float*>(c.out[0].data);
  for_each_segment(c, kSegments, tokens, [&](int64_t first, int64_t count) {
    for (int64_t ch = 0; ch < channels; ++ch) {
      const int64_t g = ch / (channels / groups);
      // One state element at a time, so that the wide values need no memory; y gathers them in order of n.
      for (int64_t i = 0; i < count; ++i) {
        const int64_t t = p.reverse ? first + count - 1 - i : first + i;
        y[t * channels + ch] = has_input(c, kD) ? f(kD)[ch] * f(kX)[t * channels + ch] : 0.0f;
      }
      for (int64_t k = 0; k < n; ++k) {
        double h = has_input(c, kState) ? state_value(c.in[kState], ch * n + k) : 0;
        for (int64_t i = 0; i < count; ++i) {
          const int64_t t = p.reverse ? first + count - 1 - i : first + i;
          double d = double(f(kDt)[t * channels + ch]) + (has_input(c, kDtBias) ? double(f(kDtBias)[ch]) : 0);
          if (p.softplus) d = unary_reference(UnaryKind::kSoftplus, d, 1);
          if (d < p.dt_min) d = p.dt_min;
          if (d > p.dt_max) d = p.dt_max;
          const int64_t at = (t * groups + g) * n + k;
          h = std::exp(d * double(f(kA)[ch * n + k])) * h + d * double(f(kB)[at]) * double(f(kX)[t * channels + ch]);
          y[t * channels + ch] += float(double(f(kC)[at]) * h);
        }
        if (has_output(c, 1)) set_state_value(c.out[1], ch * n + k, h);
      }
    }
  });
}

}  // namespace

extern constexpr OpDef selective_scan_def =
    define_op(registry_row::selective_scan, parse, check, reference, check_data);

}  // namespace runnel
