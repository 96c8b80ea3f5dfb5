#include "ops/conv/conv.h"

#include <cmath>

#include "format/packed.h"
#include "ops/define.h"
#include "ops/unary/unary.h"

namespace runnel {
namespace {

Status parse(const void* attrs, OpParams* out) { return parse_window("conv", attrs, params_of<WindowParams>(out)); }

Status check(const OpCall& c) {
  char a[96], b[96];
  const WindowParams& p = params_of<WindowParams>(c);
  const TensorView &x = c.in[0], &w = c.in[1], &y = c.out[0];
  RNL_TRY(check_window("conv", p, x, y));
  const int64_t channels = x.dims[3], out = y.dims[3], places = int64_t(p.kernel[0]) * p.kernel[1];
  RNL_CHECK_ARG(channels % p.groups == 0 && out % p.groups == 0, "conv: %s to %s in %d groups",
                describe(x, a, sizeof a), describe(y, b, sizeof b), int(p.groups));
  describe(w, a, sizeof a);
  if (is_channelwise(w)) {
    RNL_TRY(check_dense("conv", "weight", w));
    RNL_CHECK_ARG(p.groups == channels && out == channels && w.rank == 2 && w.dims[0] == places &&
                      w.dims[1] == channels,
                  "conv: weight is %s, want [%" PRId64 ", %" PRId64 "] and as many groups", a, places, channels);
  } else {
    RNL_CHECK_ARG(w.dtype == DType::kPacked && w.packed->is_float() && w.rank == 2 && w.dims[0] == out &&
                      w.dims[1] == places * (channels / p.groups),
                  "conv: weight is %s, want [%" PRId64 ", %" PRId64 "] of packed floats", a, out,
                  places * (channels / p.groups));
  }
  if (has_input(c, 2))
    RNL_CHECK_ARG(c.in[2].dtype == DType::kF32 && c.in[2].rank == 1 && c.in[2].dims[0] == out,
                  "conv: bias is %s, want f32 [%" PRId64 "]", describe(c.in[2], a, sizeof a), out);
  return Status::ok();
}

// Weight (o, column) as the packed layout or the dense rows have it.
double weight_at(const TensorView& w, int64_t o, int64_t column) {
  if (is_channelwise(w)) return static_cast<const float*>(w.data)[column * w.dims[1] + o];
  float block[32];
  const int64_t begin = column & ~int64_t(31), end = begin + 32 < w.dims[1] ? begin + 32 : w.dims[1];
  unpack_columns(*w.packed, w.data, w.dims[1], o, begin, end, block);
  return block[column - begin];
}

void reference(const OpCall& c) {
  const WindowParams& p = params_of<WindowParams>(c);
  const TensorView &x = c.in[0], &y = c.out[0];
  const int64_t height = x.dims[1], width = x.dims[2], channels = x.dims[3], out = y.dims[3], in = channels / p.groups;
  const float* bias = has_input(c, 2) ? static_cast<const float*>(c.in[2].data) : nullptr;
  const int64_t pixels = y.dims[0] * y.dims[1] * y.dims[2];
  for (int64_t o = 0; o < out; ++o)
    for (int64_t at = 0; at < pixels; ++at) {
      const int64_t b = at / (y.dims[1] * y.dims[2]), i = at / y.dims[2] % y.dims[1], j = at % y.dims[2];
      double sum = bias ? double(bias[o]) : 0;
      for (int64_t k = 0; k < int64_t(p.kernel[0]) * p.kernel[1] * in; ++k) {
        const int64_t row = i * p.stride[0] - p.before[0] + k / in / p.kernel[1] * p.dilation[0],
                      column = j * p.stride[1] - p.before[1] + k / in % p.kernel[1] * p.dilation[1];
        if (row < 0 || row >= height || column < 0 || column >= width) continue;
        const int64_t from = ((b * height + row) * width + column) * channels + o / (out / p.groups) * in + k % in;
        sum += weight_at(c.in[1], o, k) * double(static_cast<const float*>(x.data)[from]);
      }
      sum = unary_reference(UnaryKind(p.activation), sum, 1);
      sum = sum < double(p.least) ? double(p.least) : sum > double(p.most) ? double(p.most) : sum;
      static_cast<float*>(y.data)[at * out + o] = float(sum);
    }
}

}  // namespace

extern constexpr OpDef conv_def = define_op(registry_row::conv, parse, check, reference);

}  // namespace runnel
