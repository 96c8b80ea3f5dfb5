#include "ops/scan/scan.h"
#include "ops/define.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(scan__linear)
RNL_SHADER(scan__log_sum)
namespace {

struct Linear {
  uint32_t tokens, channels, a, a_step, b, state, bounds, segments, y, out_state;
};
struct LogSum {
  uint32_t tokens, heads, value, width, w, k, v, u, state, bounds, segments, y, out_state;
};

int state_of(const OpCall& c) { return params_of<ScanParams>(c).kind == ScanKind::kLogSum ? 4 : 2; }

uint64_t rounds(const OpCall& c) { return 2 * uint64_t(c.out[0].dims[0]); }

void record(Recorder& r, const OpCall& c) {
  const auto& p = params_of<ScanParams>(c);
  const int s = state_of(c);
  r.window({r.has(c.in, c.in_count, s), r.has(c.out, c.out_count, 1)});
  const uint32_t state = r.state_input(c, s), out_state = r.state_output(c, 1), tokens = uint32_t(c.out[0].dims[0]);
  if (p.kind == ScanKind::kLogSum) {
    const uint32_t heads = uint32_t(c.out[0].dims[1]), value = uint32_t(c.out[0].dims[2]);
    const LogSum push{tokens,        heads,         value, last_axis(c.in[1]), r.input(c, 0),     r.input(c, 1),
                      r.input(c, 2), r.input(c, 3), state, r.input(c, 5),      segments_of(c, 5), r.output(c, 0),
                      out_state};
    return r.items(shader_scan__log_sum, {p.reverse}, push, uint64_t(heads) * value);
  }
  const uint32_t channels = uint32_t(c.out[0].dims[1]);
  const uint32_t a_step = has_input(c, 0) && c.in[0].dims[0] > 1 ? channels : 0;
  const Linear push{tokens, channels,      r.input(c, 0),     a_step,         r.input(c, 1),
                    state,  r.input(c, 3), segments_of(c, 3), r.output(c, 0), out_state};
  r.items(shader_scan__linear, {p.kind == ScanKind::kComplex ? 2u : 1u, p.log_decay, p.reverse}, push, channels);
}

}  // namespace

extern const Kernel scan_vulkan_kernel = {refuse_nothing, nullptr, record, 0, true, rounds};

}  // namespace runnel::vulkan
