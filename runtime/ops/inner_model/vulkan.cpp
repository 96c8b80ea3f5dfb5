#include "ops/inner_model/inner_model.h"
#include "ops/define.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(inner_model)
namespace {

struct Push {
  uint32_t tokens, heads, batch;
  uint32_t q, k, v, rate, keep, momentum, read, norm_weight, norm_bias, state, work, y, out_state;
  float scale, eps, loss_power, loss_delta, map_power;
};

enum Input { kQ, kK, kV, kRate, kKeep, kMomentum, kRead, kNormWeight, kNormBias, kState };

const char* refuses(const OpCall& c) {
  // Vectors of a token and the buffer of sums, as the shader declares them.
  const int64_t shared_words = 4 * c.in[kQ].dims[2] + 3 * (params_of<InnerModelParams>(c).hidden + 1) + 128;
  return shared_words * 4 > int64_t(kBaseSharedBytes) ? "vectors larger than 16 KiB of shared memory" : nullptr;
}

// W at the batch's start, A, S and W_t of each head.
uint64_t scratch_bytes(const OpCall& c) {
  return uint64_t(c.in[kQ].dims[1] * 4 * parameters_of(params_of<InnerModelParams>(c), c.in[kQ].dims[2])) * 4;
}

// Two passes forwards and one back a token, and all parameters some times.
uint64_t rounds(const OpCall& c) {
  const auto& p = params_of<InnerModelParams>(c);
  const uint64_t dim = uint64_t(c.in[kQ].dims[2]), hidden = uint64_t(p.hidden), inner = hidden ? hidden : dim;
  const uint64_t forwards =
      rounds_of(int64_t(inner), 128) * (dim + 1) + (hidden ? rounds_of(int64_t(dim), 128) * (hidden + 1) : 0);
  return uint64_t(c.in[kQ].dims[0]) *
         (3 * forwards + 8 * rounds_of(parameters_of(p, int64_t(dim)), 128) + 16 * rounds_of(int64_t(dim), 128) +
          (p.map == InnerMap::kSoftmax ? 4 * inner : 0));
}

void record(Recorder& r, const OpCall& c) {
  const auto& p = params_of<InnerModelParams>(c);
  const TensorView& q = c.in[kQ];
  r.window({r.has(c.in, c.in_count, kState), r.has(c.out, c.out_count, 1)});
  const Push push{uint32_t(q.dims[0]),
                  uint32_t(q.dims[1]),
                  uint32_t(p.batch),
                  r.input(c, kQ),
                  r.input(c, kK),
                  r.input(c, kV),
                  r.input(c, kRate),
                  r.input(c, kKeep),
                  r.input(c, kMomentum),
                  r.input(c, kRead),
                  r.input(c, kNormWeight),
                  r.input(c, kNormBias),
                  r.state_input(c, kState),
                  r.scratch(),
                  r.output(c, 0),
                  r.state_output(c, 1),
                  p.scale,
                  p.eps,
                  p.loss_power,
                  p.loss_delta,
                  p.map_power};
  r.grid(shader_inner_model,
         {uint32_t(q.dims[2]), uint32_t(p.hidden), p.activation, p.bias, p.residual, uint32_t(p.loss), uint32_t(p.map),
          has_input(c, kNormWeight), has_input(c, kMomentum)},
         push, push.heads, 1, 1);
}

}  // namespace

extern const Kernel inner_model_vulkan_kernel = {refuses, scratch_bytes, record, 0, true, rounds};

}  // namespace runnel::vulkan
