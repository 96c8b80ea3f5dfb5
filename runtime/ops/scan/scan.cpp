#include "ops/scan/scan.h"

#include <cmath>

#include "ops/sequence.h"

namespace runnel {
namespace {

enum Input { kA, kB, kLinearState, kLinearSegments };
enum LogInput { kW, kK, kV, kU, kLogState, kLogSegments };

static_assert(int(format::ScanKind::complex) == int(ScanKind::kComplex) &&
              int(format::ScanKind::MAX) == int(ScanKind::kLogSum));

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::ScanAttrs*>(attrs);
  const ScanParams p{ScanKind(a.kind()), a.log_decay(), a.reverse()};
  RNL_CHECK_ARG(int(p.kind) <= int(ScanKind::kLogSum), "scan: kind %d is not known", int(p.kind));
  *params_of<ScanParams>(out) = p;
  return Status::ok();
}

Status check_linear(const OpCall& c, bool is_complex) {
  RNL_CHECK_ARG(c.in_count >= 2, "scan: b is missing");
  const TensorView& b = c.in[kB];
  RNL_TRY(is_complex ? check_shape("scan", "b", b, DType::kF32, {-1, -1, 2})
                     : check_shape("scan", "b", b, DType::kF32, {-1, -1}));
  RNL_CHECK_ARG(c.in_count <= kLinearSegments + 1, "scan: %d inputs, this kind takes at most 4", c.in_count);
  const int64_t tokens = b.dims[0], channels = b.dims[1];
  if (has_input(c, kA)) {
    const int64_t rows = c.in[kA].rank > 0 && c.in[kA].dims[0] == 1 ? 1 : tokens;
    RNL_TRY(is_complex ? check_shape("scan", "a", c.in[kA], DType::kF32, {rows, channels, 2})
                       : check_shape("scan", "a", c.in[kA], DType::kF32, {rows, channels}));
  }
  RNL_TRY(is_complex ? check_shape("scan", "y", c.out[0], DType::kF32, {tokens, channels, 2})
                     : check_shape("scan", "y", c.out[0], DType::kF32, {tokens, channels}));
  RNL_TRY(is_complex ? check_state("scan", "state", c, kLinearState, 1, {channels, 2})
                     : check_state("scan", "state", c, kLinearState, 1, {channels}));
  return check_segments("scan", c, kLinearSegments, has_input(c, kLinearState) || has_output(c, 1));
}

Status check_log(const OpCall& c) {
  RNL_CHECK_ARG(c.in_count >= 3, "scan: log_sum needs k and v");
  RNL_TRY(check_shape("scan", "v", c.in[kV], DType::kF32, {-1, -1, -1}));
  const int64_t tokens = c.in[kV].dims[0], heads = c.in[kV].dims[1], value = c.in[kV].dims[2];
  const int64_t width = c.in[kK].rank == 3 && c.in[kK].dims[2] == 1 ? 1 : value;
  RNL_TRY(check_shape("scan", "k", c.in[kK], DType::kF32, {tokens, heads, width}));
  if (has_input(c, kW)) RNL_TRY(check_shape("scan", "w", c.in[kW], DType::kF32, {heads, width}));
  if (has_input(c, kU)) RNL_TRY(check_shape("scan", "u", c.in[kU], DType::kF32, {heads, width}));
  RNL_TRY(check_shape("scan", "y", c.out[0], DType::kF32, {tokens, heads, value}));
  RNL_TRY(check_state("scan", "state", c, kLogState, 1, {3, heads, value}));
  RNL_CHECK_ARG(!has_input(c, kLogState) || c.in[kLogState].dtype == DType::kF32,
                "scan: the state of log_sum must be f32");
  RNL_CHECK_ARG(!has_output(c, 1) || c.out[1].dtype == DType::kF32, "scan: the state of log_sum must be f32");
  return check_segments("scan", c, kLogSegments, has_input(c, kLogState) || has_output(c, 1));
}

Status check(const OpCall& c) {
  const ScanKind kind = params_of<ScanParams>(c).kind;
  return kind == ScanKind::kLogSum ? check_log(c) : check_linear(c, kind == ScanKind::kComplex);
}

Status check_data(const OpCall& c) {
  const bool is_log = params_of<ScanParams>(c).kind == ScanKind::kLogSum;
  return check_segment_bounds("scan", c, is_log ? int(kLogSegments) : int(kLinearSegments),
                              c.in[is_log ? int(kV) : int(kB)].dims[0]);
}

void linear(const OpCall& c, int parts) {
  const ScanParams& p = params_of<ScanParams>(c);
  const int64_t channels = c.in[kB].dims[1];
  const float* a = has_input(c, kA) ? static_cast<const float*>(c.in[kA].data) : nullptr;
  const float* b = static_cast<const float*>(c.in[kB].data);
  const bool one_row = a && c.in[kA].dims[0] == 1;
  float* y = static_cast<float*>(c.out[0].data);
  for_each_segment(c, kLinearSegments, c.in[kB].dims[0], [&](int64_t first, int64_t count) {
    for (int64_t ch = 0; ch < channels; ++ch) {
      double h[2] = {};
      for (int k = 0; k < parts; ++k)
        h[k] = has_input(c, kLinearState) ? state_value(c.in[kLinearState], ch * parts + k) : 0;
      for (int64_t i = 0; i < count; ++i) {
        const int64_t t = p.reverse ? first + count - 1 - i : first + i;
        double f[2] = {p.log_decay ? 0.0 : 1.0, 0};
        for (int k = 0; a && k < parts; ++k) f[k] = a[((one_row ? 0 : t) * channels + ch) * parts + k];
        if (p.log_decay) {
          const double size = std::exp(f[0]), angle = f[1];
          f[0] = size * std::cos(angle), f[1] = size * std::sin(angle);
        }
        const int64_t at = (t * channels + ch) * parts;
        const double re = f[0] * h[0] - f[1] * h[1] + double(b[at]);
        if (parts == 2) h[1] = f[0] * h[1] + f[1] * h[0] + double(b[at + 1]);
        h[0] = re;
        for (int k = 0; k < parts; ++k) y[at + k] = float(h[k]);
      }
      if (has_output(c, 1))
        for (int k = 0; k < parts; ++k) set_state_value(c.out[1], ch * parts + k, h[k]);
    }
  });
}

void log_sum(const OpCall& c) {
  const ScanParams& p = params_of<ScanParams>(c);
  const int64_t heads = c.in[kV].dims[1], value = c.in[kV].dims[2], width = c.in[kK].dims[2], channels = heads * value;
  const auto f = [&](int i, int64_t at) { return double(static_cast<const float*>(c.in[i].data)[at]); };
  float* y = static_cast<float*>(c.out[0].data);
  for_each_segment(c, kLogSegments, c.in[kV].dims[0], [&](int64_t first, int64_t count) {
    for (int64_t ch = 0; ch < channels; ++ch) {
      const int64_t kc = width == 1 ? ch / value : ch;
      double num = 0, den = 0, largest = -INFINITY;
      if (has_input(c, kLogState))
        num = f(kLogState, ch), den = f(kLogState, channels + ch),
        largest = den == 0 ? -INFINITY : f(kLogState, 2 * channels + ch);
      const double w = has_input(c, kW) ? f(kW, kc) : 0;
      for (int64_t i = 0; i < count; ++i) {
        const int64_t t = p.reverse ? first + count - 1 - i : first + i;
        const double k = f(kK, t * heads * width + kc), v = f(kV, t * channels + ch);
        if (has_input(c, kU)) {
          const double own = f(kU, kc) + k, m = largest > own ? largest : own;
          const double past = largest == -INFINITY ? 0 : std::exp(largest - m), now = std::exp(own - m);
          y[t * channels + ch] = float((past * num + now * v) / (past * den + now));
        }
        const double decayed = largest + w, m = decayed > k ? decayed : k;
        const double past = largest == -INFINITY || m == -INFINITY ? 0 : std::exp(decayed - m),
                     now = m == -INFINITY ? 0 : std::exp(k - m);
        num = past * num + now * v;
        den = past * den + now;
        largest = m;
        if (!has_input(c, kU)) y[t * channels + ch] = den == 0 ? 0.0f : float(num / den);
      }
      if (has_output(c, 1)) {
        float* s = static_cast<float*>(c.out[1].data);
        s[ch] = float(num), s[channels + ch] = float(den), s[2 * channels + ch] = den == 0 ? 0.0f : float(largest);
      }
    }
  });
}

void reference(const OpCall& c) {
  const ScanKind kind = params_of<ScanParams>(c).kind;
  if (kind == ScanKind::kLogSum) log_sum(c);
  else linear(c, kind == ScanKind::kComplex ? 2 : 1);
}

}  // namespace

extern constexpr OpDef scan_def = define_op(registry_row::scan, parse, check, reference, check_data);

}  // namespace runnel
