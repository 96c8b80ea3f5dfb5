#include "ops/rope/rope.h"

#include <cmath>

#include "ops/define.h"

namespace runnel {
namespace {

Status parse(const void* attrs, OpParams* out) {
  const auto& a = *static_cast<const format::RopeAttrs*>(attrs);
  const float scale = a.scale();
  RNL_CHECK_ARG(std::isfinite(scale), "rope: scale is not finite");
  RNL_CHECK_ARG(a.limit() < (1u << 31), "rope: limit %u is not below 2^31", a.limit());
  RopeParams p{scale, a.interleaved(), a.exact(), 0, 0, a.limit(), {}};
  const unsigned pairs = a.sections() ? a.sections()->size() : 0;
  RNL_CHECK_ARG(pairs <= RopeSections::kPairs, "rope: %u sections, at most %u", pairs, RopeSections::kPairs);
  p.pairs = uint16_t(pairs);
  for (unsigned i = 0; i < pairs; ++i) {
    const uint8_t section = a.sections()->Get(i);
    RNL_CHECK_ARG(section < RopeSections::kMost, "rope: sections[%u] is %u", i, section);
    p.sections.words[i / 16] |= uint32_t(section) << i % 16 * 2;
    if (section >= p.axes) p.axes = uint8_t(section + 1);
  }
  *params_of<RopeParams>(out) = p;
  return Status::ok();
}

Status check(const OpCall& c) {
  char a[96], b[96];
  const RopeParams& p = params_of<RopeParams>(c);
  const TensorView &x = c.in[0], &positions = c.in[1], &freq = c.in[2], &y = c.out[0];
  RNL_TRY(check_dense("rope", "x", x));
  RNL_TRY(check_dense("rope", "inv_freq", freq));
  RNL_CHECK_ARG(x.dtype == DType::kF32 && x.rank == 3, "rope: x is %s, want f32 [tokens, heads, dim]",
                describe(x, a, sizeof a));
  const bool has_axes = p.axes > 0;
  RNL_CHECK_ARG(positions.dtype == DType::kI32 && positions.rank == 1 + has_axes && positions.dims[0] == x.dims[0] &&
                    (!has_axes || positions.dims[1] >= p.axes),
                "rope: positions is %s but x is %s and sections name %d axes", describe(positions, a, sizeof a),
                describe(x, b, sizeof b), p.axes);
  RNL_CHECK_ARG(freq.dtype == DType::kF32 && freq.rank == 1 && 2 * freq.dims[0] <= x.dims[2] &&
                    (!has_axes || freq.dims[0] == p.pairs),
                "rope: inv_freq is %s but x is %s", describe(freq, a, sizeof a), describe(x, b, sizeof b));
  RNL_CHECK_ARG(y.dtype == DType::kF32 && same_shape(x, y), "rope: y is %s but x is %s", describe(y, a, sizeof a),
                describe(x, b, sizeof b));
  return Status::ok();
}

void reference(const OpCall& c) {
  const RopeParams& p = params_of<RopeParams>(c);
  const TensorView& x = c.in[0];
  const int64_t tokens = x.dims[0], heads = x.dims[1], dim = x.dims[2], pairs = c.in[2].dims[0];
  const int64_t axes = c.in[1].rank == 2 ? c.in[1].dims[1] : 1;
  const int32_t* positions = static_cast<const int32_t*>(c.in[1].data);
  const float* freq = static_cast<const float*>(c.in[2].data);
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t h = 0; h < heads; ++h) {
      const float* in = static_cast<const float*>(x.data) + (t * heads + h) * dim;
      float* out = static_cast<float*>(c.out[0].data) + (t * heads + h) * dim;
      for (int64_t i = 0; i < pairs; ++i) {
        const uint32_t section = axes == 1 ? 0 : p.sections.words[i / 16] >> i % 16 * 2 & 3;
        int32_t position = positions[t * axes + section];
        if (p.limit > 0 && position > int32_t(p.limit)) position = int32_t(p.limit);
        const double angle = p.exact ? double(position) * double(freq[i]) : double(float(position) * freq[i]);
        const double cosine = double(p.scale) * std::cos(angle), sine = double(p.scale) * std::sin(angle);
        const int64_t first = p.interleaved ? 2 * i : i, second = p.interleaved ? 2 * i + 1 : i + pairs;
        const double u = in[first], v = in[second];
        out[first] = float(u * cosine - v * sine);
        out[second] = float(v * cosine + u * sine);
      }
      for (int64_t i = 2 * pairs; i < dim; ++i) out[i] = in[i];
    }
}

}  // namespace

extern constexpr OpDef rope_def = define_op(registry_row::rope, parse, check, reference);

}  // namespace runnel
