// The Vulkan loader, opened by name at the first call that asks for it: librunnel links no driver. Only runtime/vulkan
// includes this.
#pragma once

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan_core.h>

#include "base/status.h"

namespace runnel::vulkan {

struct Api {
#define RNL_VK_INSTANCE(name) PFN_##name name = nullptr;
#define RNL_VK_DEVICE(name) PFN_##name name = nullptr;
#include "vulkan/functions.inc"
#undef RNL_VK_INSTANCE
#undef RNL_VK_DEVICE
};

// The loader's entry point; fails with kNotFound when the machine has no Vulkan loader. The loader stays open for the
// process.
Result<PFN_vkGetInstanceProcAddr> open_loader();
Status load_instance_functions(PFN_vkGetInstanceProcAddr get, VkInstance instance, Api* api);
Status load_device_functions(VkDevice device, Api* api);

const char* result_name(VkResult result);
// A failed call as a status: memory exhaustion, a lost device, anything else.
Status fail(VkResult result, const char* what);

#define RNL_VK_TRY(call, what)                                               \
  do {                                                                       \
    const VkResult rnl_vk_ = (call);                                         \
    if (rnl_vk_ != VK_SUCCESS) return ::runnel::vulkan::fail(rnl_vk_, what); \
  } while (0)

}  // namespace runnel::vulkan
