// With RUNNEL_TEST_BACKEND=vulkan tests run on a Vulkan device (RUNNEL_VULKAN_DEVICE) instead of the CPU. The device
// stays open until they end; then it must have been used, and the validation layers must have said nothing. With
// RUNNEL_TEST_SMALL=1 it is taken for a GPU with small bindings and allocations, whose driver needs every work-around.
#pragma once

#include "plan/plan.h"

namespace runnel::test {

// The root of the source tree, where the goldens lie.
extern const char* const kSourceDir;

bool is_vulkan_mode();
// Under a sanitizer tests of numbers take less of them.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kIsSlow = true;
#elif defined(__has_feature)
inline constexpr bool kIsSlow = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
inline constexpr bool kIsSlow = false;
#endif
// The device multiplies bytes, so that products round activations as the CPU's do.
bool device_rounds_activations();
// Failures of the self-check that the tests of this program make.
extern int g_expected_lies;
// Options of a session on the backend under test.
inline PlanOptions plan_options() {
  PlanOptions o;
  o.backend = is_vulkan_mode() ? BackendKind::kVulkan : BackendKind::kCpu;
  return o;
}

}  // namespace runnel::test
