// Slices of 16 channels; one slice runs through all tokens, its weights turned so that a tap is one vector.
#include "ops/causal_conv/causal_conv.h"
#include "ops/sequence.inl"
#include "ops/unary/activations.inl"

namespace runnel::RNL_ISA {
namespace {

struct Job {
  const float *x, *weight, *bias;
  float* y;
  float* turned;  // taps * 16 a worker
  StatePlace state;
  Runs runs;
  int64_t channels, taps, dilation, past, slices_per_task;
  ActivationFn activation;
  bool is_silu;  // the one that mixers use: without a call
};

// The inputs of step i of a run (16 channels from ch on); negative steps are in the state.
RNL_INLINE f32x16 value_at(const Job& j, const Run& r, int64_t i, int64_t ch, int lanes) {
  if (i >= 0) return load_lanes(j.x + (r.first + i * r.step) * j.channels + ch, lanes);
  return load_state(j.state, (j.past + i) * j.channels + ch, lanes);
}

void slice(const Job& j, int64_t ch, float* turned) {
  const int lanes = j.channels - ch < 16 ? int(j.channels - ch) : 16;
  for (int64_t t = 0; t < j.taps; ++t)
    for (int k = 0; k < 16; ++k) turned[t * 16 + k] = k < lanes ? j.weight[(ch + k) * j.taps + t] : 0.0f;
  const f32x16 bias = j.bias ? load_lanes(j.bias + ch, lanes) : splat(0.0f);
  for (int64_t n = 0; n < j.runs.count; ++n) {
    const Run r = run_at(j.runs, n);
    for (int64_t i = 0; i < r.count; ++i) {
      f32x16 sum = bias;
      if (i >= j.past && lanes == 16) {
        const float* x = j.x + (r.first + (i - j.past) * r.step) * j.channels + ch;
        const int64_t stride = j.dilation * r.step * j.channels;
        for (int64_t t = 0; t < j.taps; ++t) sum = fma(load(turned + t * 16), load(x + t * stride), sum);
      } else {
        for (int64_t t = 0; t < j.taps; ++t)
          sum = fma(load(turned + t * 16), value_at(j, r, i - (j.taps - 1 - t) * j.dilation, ch, lanes), sum);
      }
      float* y = j.y + (r.first + i * r.step) * j.channels + ch;
      if (j.is_silu) {
        sum = activate<UnaryKind::kSilu>(sum, 1.0f);
      } else if (j.activation) {
        float part[16];
        store(part, sum);
        j.activation(part, nullptr, part, 16, 1.0f);
        sum = load(part);
      }
      store_lanes(y, sum, lanes);
    }
    if (j.state.out)
      for (int64_t i = 0; i < j.past; ++i)
        store_state(j.state, i * j.channels + ch, value_at(j, r, r.count - j.past + i, ch, lanes), lanes);
  }
}

size_t scratch_bytes(const OpCall& c, int workers) { return size_t(workers) * size_t(c.in[1].dims[1]) * 64; }

void run(const OpCall& c) {
  const CausalConvParams& p = params_of<CausalConvParams>(c);
  Job j{};
  j.x = input<float>(c, 0), j.weight = input<float>(c, 1), j.bias = input<float>(c, 2);
  j.y = output<float>(c, 0);
  j.turned = reinterpret_cast<float*>(c.scratch);
  j.state = state_place(c, 3, 1);
  j.runs = runs_of(c, 4, c.in[0].dims[0], p.reverse);
  j.channels = c.in[0].dims[1], j.taps = c.in[1].dims[1], j.dilation = p.dilation;
  j.past = (j.taps - 1) * p.dilation;
  j.activation = p.activation == UnaryKind::kNone ? nullptr : activation_of(p.activation);
  j.is_silu = p.activation == UnaryKind::kSilu;
  const int64_t slices = (j.channels + 15) / 16;
  j.slices_per_task = 1 + 1024 / (c.in[0].dims[0] * j.taps + j.past + 1);
  const int64_t tasks = (slices + j.slices_per_task - 1) / j.slices_per_task;
  parallel_for(
      tasks > 1 ? c.pool : nullptr, tasks,
      [](void* context, int64_t task, int worker) {
        const Job& job = *static_cast<const Job*>(context);
        for (int64_t s = task * job.slices_per_task; s < (task + 1) * job.slices_per_task && s * 16 < job.channels; ++s)
          slice(job, s * 16, job.turned + int64_t(worker) * job.taps * 16);
      },
      &j);
}

constexpr Kernel kRows[] = {{"causal_conv_f32__" RNL_ISA_NAME, nullptr, scratch_bytes, run}};

}  // namespace

extern constexpr KernelList causal_conv_kernels{kRows, 1};

}  // namespace runnel::RNL_ISA
