// What every operator has around its own dispatches.
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(wide_state)
namespace {

struct Push {
  uint32_t n, state, wide;
};

// Calls fn(view, is_output) for the states of f16 that the kernel has as floats.
template <class Fn>
void for_each_half_state(const Kernel& kernel, const OpCall& c, Fn fn) {
  if (!kernel.wants_wide_states) return;
  for (int i = 0; i < c.in_count; ++i)
    if (c.in[i].dtype == DType::kF16) fn(c.in[i], false);
  for (int i = 0; i < c.out_count; ++i)
    if (c.out[i].dtype == DType::kF16) fn(c.out[i], true);
}

uint64_t own_bytes(const Kernel& kernel, const OpCall& c) { return kernel.scratch_bytes ? kernel.scratch_bytes(c) : 0; }

void copy(Recorder& r, const TensorView& state, uint32_t wide, bool is_back) {
  r.window({&state});
  const Push push{elements(state), r.state(state), wide};
  r.items(shader_wide_state, {is_back}, push, (push.n + 1) / 2);
}

}  // namespace

const char* refusal(const Device& device, const Kernel& kernel, const OpCall& call) {
  if (const char* why = kernel.refuses(call)) return why;
  return device.info().quirks.has_short_loops && kernel.rounds && kernel.rounds(call) > kMostRounds
             ? "its driver ends loops that are so long; a smaller chunk or context needs fewer rounds"
             : nullptr;
}

uint64_t op_scratch_bytes(const Kernel& kernel, const OpCall& call) {
  uint64_t bytes = own_bytes(kernel, call);
  for_each_half_state(kernel, call,
                      [&](const TensorView& v, bool) { bytes = align_up(bytes) + uint64_t(elements(v)) * 4; });
  return bytes;
}

void record_op(Recorder& r, const Kernel& kernel, const OpCall& call) {
  r.start_op(call, kernel.written_inputs, op_scratch_bytes(kernel, call));
  uint64_t at = own_bytes(kernel, call);
  bool has_any = false;
  const auto place = [&](const TensorView& v) {
    at = align_up(at);
    const uint64_t own = at;
    at += uint64_t(elements(v)) * 4;
    return r.scratch() + uint32_t(own / 4);
  };
  for_each_half_state(kernel, call, [&](const TensorView& v, bool is_output) {
    const uint32_t wide = place(v);
    if (!is_output) copy(r, v, wide, false);
    has_any = true;
  });
  if (!has_any) return kernel.record(r, call);
  r.barrier();
  at = own_bytes(kernel, call);
  for_each_half_state(kernel, call, [&](const TensorView& v, bool) { r.set_wide(v, place(v)); });
  kernel.record(r, call);
  r.forget_wide();
  r.barrier();
  at = own_bytes(kernel, call);
  for_each_half_state(kernel, call, [&](const TensorView& v, bool is_output) {
    const uint32_t wide = place(v);
    if (is_output) copy(r, v, wide, true);
  });
}

}  // namespace runnel::vulkan
