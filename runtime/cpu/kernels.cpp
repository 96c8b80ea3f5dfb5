#include "cpu/kernels.h"

#include "cpu/features.h"

namespace runnel {

#define RNL_TARGET(target)                    \
  namespace target {                          \
  KernelList kernels_for(uint16_t op_number); \
  }
#include "cpu/targets.inc"
#undef RNL_TARGET

const CpuTarget* cpu_targets(int* count) {
  static const CpuTarget targets[] = {
#define RNL_TARGET(target) {#target, target::kernels_for, cpu_has_##target()},
#include "cpu/targets.inc"
#undef RNL_TARGET
  };
  *count = int(sizeof(targets) / sizeof(targets[0]));
  return targets;
}

const Kernel* find_kernel(uint16_t op_number, const OpCall& call, const CpuTarget* from) {
  int count = 0;
  const CpuTarget* targets = cpu_targets(&count);
  for (const CpuTarget* t = from ? from : targets; t < targets + count; ++t) {
    if (!t->available) continue;
    const KernelList list = t->kernels(op_number);
    for (int i = 0; i < list.count; ++i)
      if (!list.rows[i].supports || list.rows[i].supports(call)) return &list.rows[i];
  }
  return nullptr;
}

}  // namespace runnel
