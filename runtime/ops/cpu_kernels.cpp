// Compiled once per target: the target's table from registry number to kernels.
#include "cpu/kernels.h"

#define RNL_IF_CPU_0(...)
#define RNL_IF_CPU_1(...) __VA_ARGS__

namespace runnel::RNL_ISA {

#define RNL_OP(number, version, name, attrs, a, b, c, d, cpu, vulkan) \
  RNL_IF_CPU_##cpu(extern const KernelList name##_kernels;)
#include "ops/registry.inc"
#undef RNL_OP

KernelList kernels_for(uint16_t op_number) {
  switch (op_number) {
#define RNL_OP(number, version, name, attrs, a, b, c, d, cpu, vulkan) \
  RNL_IF_CPU_##cpu(case number : return name##_kernels;)
#include "ops/registry.inc"
#undef RNL_OP
    default: return KernelList{nullptr, 0};
  }
}

}  // namespace runnel::RNL_ISA
