#include "ops/matrix_recurrence/matrix_recurrence.h"
#include "ops/define.h"
#include "vulkan/kernel.h"
#include "vulkan/lanes.h"

namespace runnel::vulkan {
RNL_SHADER(matrix_recurrence)
RNL_SHADER(copy)
namespace {

struct Push {
  uint32_t tokens, heads, value, heads_q, heads_k, heads_v, heads_ab;
  uint32_t q, k, v, decay, decay_step, beta, a, b, bonus, gate, state, norm, largest, bounds, segments;
  uint32_t y, out_state, out_norm, out_largest;
  float scale, eps;
};
struct CopyPush {
  uint32_t n, from, to, inner, from_stride, to_stride;
};

enum Input { kQ, kK, kV, kDecay, kBeta, kA, kB, kBonus, kGate, kState, kNorm, kMax, kSegments };

const char* refuses(const OpCall& c) { return last_axis(c.in[kQ]) > 256 ? "keys of more than 256 dims" : nullptr; }

// Norms and maxima after the call, until all columns have read those before it.
uint64_t scratch_bytes(const OpCall& c) { return uint64_t(c.out[0].dims[1] * (c.in[kQ].dims[2] + 1)) * 4; }

// Elements of a column that an invocation has: so few that they stay in registers on every GPU, a normaliser's too.
uint32_t elements_of(const OpCall& c) {
  return params_of<MatrixRecurrenceParams>(c).normalise == RecurrenceNorm::kNone ? 8 : 4;
}

uint64_t rounds(const OpCall& c) {
  const auto& p = params_of<MatrixRecurrenceParams>(c);
  const uint64_t each = 1 + (p.rule == RecurrenceRule::kDelta  ? 1
                             : p.rule == RecurrenceRule::kDplr ? 2
                                                               : 0),
                 once = 2 + (p.normalise != RecurrenceNorm::kNone ? 1 : 0);
  const uint64_t key = last_axis(c.in[kQ]), quads = rounds_of(int64_t(key), 4), tokens = uint64_t(c.out[0].dims[0]);
  return tokens * (quads * (uint64_t(p.steps) * each + once) +
                   (lanes_of(uint32_t(key), elements_of(c)) + 1) * (uint64_t(p.steps) + 2)) +
         segments_of(c, kSegments) * (7 * quads + 1);
}

void record(Recorder& r, const OpCall& c) {
  const auto& p = params_of<MatrixRecurrenceParams>(c);
  const TensorView& y = c.out[0];
  const uint32_t tokens = uint32_t(y.dims[0]), heads = uint32_t(y.dims[1]), value = uint32_t(y.dims[2]),
                 key = last_axis(c.in[kQ]);
  const auto heads_of = [&](int i) { return has_input(c, i) ? uint32_t(c.in[i].dims[1]) : 1u; };
  const uint32_t decay_rank = has_input(c, kDecay) ? uint32_t(c.in[kDecay].rank) : 0;
  r.window({r.has(c.in, c.in_count, kState), r.has(c.in, c.in_count, kNorm), r.has(c.in, c.in_count, kMax),
            r.has(c.out, c.out_count, 1), r.has(c.out, c.out_count, 2), r.has(c.out, c.out_count, 3)});
  Push push{tokens,       heads,          value,          heads_of(kQ),   heads_of(kK),      heads_of(kV),
            heads_of(kA), r.input(c, kQ), r.input(c, kK), r.input(c, kV), r.input(c, kDecay)};
  push.decay_step = decay_rank == 3 && c.in[kDecay].dims[0] > 1 ? heads : 0;
  push.beta = r.input(c, kBeta), push.a = r.input(c, kA), push.b = r.input(c, kB), push.bonus = r.input(c, kBonus),
  push.gate = r.input(c, kGate);
  push.state = r.state_input(c, kState), push.norm = r.state_input(c, kNorm), push.largest = r.state_input(c, kMax);
  push.bounds = r.input(c, kSegments), push.segments = segments_of(c, kSegments);
  const uint32_t out_norm = r.state_output(c, 2), out_largest = r.state_output(c, 3);
  push.y = r.output(c, 0), push.out_state = r.state_output(c, 1);
  push.out_norm = out_norm == kAbsent ? kAbsent : r.scratch(),
  push.out_largest = out_largest == kAbsent ? kAbsent : r.scratch() + heads * key;
  push.scale = p.scale, push.eps = p.eps;
  const Lanes l(r, key, elements_of(c));
  const bool is_aligned =
      l.are_aligned({push.q, push.k, push.a, push.b, push.bonus, decay_rank == 3 ? push.decay : kAbsent});
  r.groups(shader_matrix_recurrence,
           {key, l.lanes, l.quads, is_aligned, l.near, uint32_t(p.rule), p.read == RecurrenceRead::kBefore,
            uint32_t(p.normalise), decay_rank, push.gate != kAbsent, p.reverse, uint32_t(p.steps)},
           push, l.groups(uint64_t(heads) * value));
  if (out_norm == kAbsent && out_largest == kAbsent) return;
  r.barrier();
  if (out_norm != kAbsent)
    r.items(shader_copy, {1}, CopyPush{heads * key, push.out_norm, out_norm, heads * key, 0, 0}, heads * key);
  if (out_largest != kAbsent)
    r.items(shader_copy, {1}, CopyPush{heads, push.out_largest, out_largest, heads, 0, 0}, heads);
}

}  // namespace

extern const Kernel matrix_recurrence_vulkan_kernel = {refuses, scratch_bytes, record, 0, true, rounds};

}  // namespace runnel::vulkan
