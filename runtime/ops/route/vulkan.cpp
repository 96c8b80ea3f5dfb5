#include "ops/route/route.h"
#include "ops/define.h"
#include "vulkan/kernel.h"

namespace runnel::vulkan {
RNL_SHADER(route)
namespace {

struct Push {
  uint32_t tokens, k, logits, bias, weights, ids, top_groups;
  float eps, scale;
};

const char* refuses(const OpCall& c) { return last_axis(c.in[0]) <= 1024 ? nullptr : "more than 1024 experts"; }

uint64_t rounds(const OpCall& c) {
  const auto& p = params_of<RouteParams>(c);
  const uint64_t experts = last_axis(c.in[0]), groups = uint64_t(p.groups > 1 ? p.groups : 0);
  return experts * (5 + uint64_t(last_axis(c.out[0]))) + groups * (uint64_t(p.top_groups) + 2) +
         2 * uint64_t(last_axis(c.out[0]));
}

void record(Recorder& r, const OpCall& c) {
  const auto& p = params_of<RouteParams>(c);
  const uint32_t experts = last_axis(c.in[0]), k = last_axis(c.out[0]), n = elements(c.in[0]);
  if (n == 0) return;
  const Push push{
      n / experts, k,      r.input(c, 0), r.input(c, 1), r.output(c, 0), r.output(c, 1), uint32_t(p.top_groups),
      p.eps,       p.scale};
  r.groups(shader_route,
           {experts, uint32_t(p.scoring), p.select_first, p.renormalise, p.group_top2,
            uint32_t(p.groups > 1 ? p.groups : 1)},
           push, push.tokens);
}

}  // namespace

extern const Kernel route_vulkan_kernel = {refuses, nullptr, record, 0, false, rounds};

}  // namespace runnel::vulkan
