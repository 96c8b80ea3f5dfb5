#include "ops/causal_conv/causal_conv.h"

#include "ops/sequence.h"

namespace runnel {
namespace {

enum Input { kX, kWeight, kBias, kState, kSegments };

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::ConvAttrs*>(attrs);
  const CausalConvParams p{UnaryKind(a.activation()), a.reverse(), int64_t(a.dilation())};
  RNL_CHECK_ARG(int(p.activation) < int(UnaryKind::kScale),
                "causal_conv: activation %d is not one of unary's without parameters", int(p.activation));
  RNL_CHECK_ARG(p.dilation >= 1 && p.dilation < (int64_t(1) << 24),
                "causal_conv: dilation %" PRId64 " is not in 1 .. 2^24", p.dilation);
  *params_of<CausalConvParams>(out) = p;
  return Status::ok();
}

Status check(const OpCall& c) {
  RNL_TRY(check_shape("causal_conv", "x", c.in[kX], DType::kF32, {-1, -1}));
  const int64_t tokens = c.in[kX].dims[0], channels = c.in[kX].dims[1];
  RNL_TRY(check_shape("causal_conv", "weight", c.in[kWeight], DType::kF32, {channels, -1}));
  const int64_t taps = c.in[kWeight].dims[1];
  RNL_CHECK_ARG(taps >= 1 && taps <= 65536, "causal_conv: %" PRId64 " taps, want 1 to 65536", taps);
  RNL_TRY(check_shape("causal_conv", "y", c.out[0], DType::kF32, {tokens, channels}));
  if (has_input(c, kBias)) RNL_TRY(check_shape("causal_conv", "bias", c.in[kBias], DType::kF32, {channels}));
  RNL_TRY(check_state("causal_conv", "state", c, kState, 1,
                      {(taps - 1) * params_of<CausalConvParams>(c).dilation, channels}));
  return check_segments("causal_conv", c, kSegments, has_input(c, kState) || has_output(c, 1));
}

Status check_data(const OpCall& c) { return check_segment_bounds("causal_conv", c, kSegments, c.in[kX].dims[0]); }

void reference(const OpCall& c) {
  const CausalConvParams& p = params_of<CausalConvParams>(c);
  const int64_t channels = c.in[kX].dims[1], taps = c.in[kWeight].dims[1], past = (taps - 1) * p.dilation;
  const float *x = static_cast<const float*>(c.in[kX].data), *w = static_cast<const float*>(c.in[kWeight].data);
  const float* bias = has_input(c, kBias) ? static_cast<const float*>(c.in[kBias].data) : nullptr;
  float* y = static_cast<float*>(c.out[0].data);
  for_each_segment(c, kSegments, c.in[kX].dims[0], [&](int64_t first, int64_t count) {
    const auto row = [&](int64_t i) { return p.reverse ? first + count - 1 - i : first + i; };
    // Step i of the sequence; negative ones are in the state.
    const auto value = [&](int64_t i, int64_t ch) -> double {
      if (i >= 0) return x[row(i) * channels + ch];
      return has_input(c, kState) ? state_value(c.in[kState], (past + i) * channels + ch) : 0.0;
    };
    for (int64_t i = 0; i < count; ++i)
      for (int64_t ch = 0; ch < channels; ++ch) {
        double sum = bias ? bias[ch] : 0;
        for (int64_t j = 0; j < taps; ++j) sum += double(w[ch * taps + j]) * value(i - (taps - 1 - j) * p.dilation, ch);
        y[row(i) * channels + ch] = float(unary_reference(p.activation, sum, 1));
      }
    // Rising order: a row is read before it is written, also when both states are the same memory.
    if (has_output(c, 1))
      for (int64_t i = 0; i < past; ++i)
        for (int64_t ch = 0; ch < channels; ++ch)
          set_state_value(c.out[1], i * channels + ch, value(count - past + i, ch));
  });
}

}  // namespace

extern constexpr OpDef causal_conv_def = define_op(registry_row::causal_conv, parse, check, reference, check_data);

}  // namespace runnel
