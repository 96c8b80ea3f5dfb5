// Compiled once per selection of operators: the table from registry number to Vulkan kernels, and the way in.
#include "session/backend.h"
#include "vulkan/kernel.h"
#include "vulkan_session/runner.h"

#define RNL_IF_VULKAN_0(...)
#define RNL_IF_VULKAN_1(...) __VA_ARGS__

namespace runnel {
namespace vulkan {

#define RNL_OP(number, version, name, attrs, a, b, c, d, cpu, vulkan) \
  RNL_IF_VULKAN_##vulkan(extern const Kernel name##_vulkan_kernel;)
#include "ops/registry.inc"
#undef RNL_OP

const Kernel* find_vulkan_kernel(uint16_t op_number) {
  switch (op_number) {
#define RNL_OP(number, version, name, attrs, a, b, c, d, cpu, vulkan) \
  RNL_IF_VULKAN_##vulkan(case number : return &name##_vulkan_kernel;)
#include "ops/registry.inc"
#undef RNL_OP
    default: return nullptr;
  }
}

}  // namespace vulkan

const BackendEntry* vulkan_backend() {
  static constexpr BackendEntry entry{vulkan::create_runner, vulkan::describe_devices};
  return &entry;
}

}  // namespace runnel
