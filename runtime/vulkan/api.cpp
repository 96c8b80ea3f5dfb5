#include "vulkan/api.h"

#if defined(_WIN32)
#error "Vulkan on Windows is not built yet"
#endif
#include <dlfcn.h>

namespace runnel::vulkan {

Result<PFN_vkGetInstanceProcAddr> open_loader() {
#if defined(__APPLE__)
  const char* const names[] = {"libvulkan.1.dylib", "libMoltenVK.dylib"};
#else
  const char* const names[] = {"libvulkan.so.1", "libvulkan.so"};
#endif
  for (const char* name : names) {
    void* library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!library) continue;
    auto get = reinterpret_cast<PFN_vkGetInstanceProcAddr>(dlsym(library, "vkGetInstanceProcAddr"));
    if (get) return get;
    dlclose(library);
  }
  return Status::make(Code::kNotFound, "Vulkan: this machine has no Vulkan loader (%s)", names[0]);
}

Status load_instance_functions(PFN_vkGetInstanceProcAddr get, VkInstance instance, Api* api) {
#define RNL_VK_INSTANCE(name)                                     \
  api->name = reinterpret_cast<PFN_##name>(get(instance, #name)); \
  if (!api->name) return Status::make(Code::kUnsupported, "Vulkan: the loader has no " #name);
#define RNL_VK_DEVICE(name)
#include "vulkan/functions.inc"
#undef RNL_VK_INSTANCE
#undef RNL_VK_DEVICE
  return Status::ok();
}

Status load_device_functions(VkDevice device, Api* api) {
#define RNL_VK_INSTANCE(name)
#define RNL_VK_DEVICE(name)                                                          \
  api->name = reinterpret_cast<PFN_##name>(api->vkGetDeviceProcAddr(device, #name)); \
  if (!api->name) return Status::make(Code::kUnsupported, "Vulkan: the driver has no " #name);
#include "vulkan/functions.inc"
#undef RNL_VK_INSTANCE
#undef RNL_VK_DEVICE
  return Status::ok();
}

const char* result_name(VkResult result) {
  switch (result) {
    case VK_SUCCESS: return "success";
    case VK_NOT_READY: return "not ready";
    case VK_TIMEOUT: return "timeout";
    case VK_ERROR_OUT_OF_HOST_MEMORY: return "out of host memory";
    case VK_ERROR_OUT_OF_DEVICE_MEMORY: return "out of device memory";
    case VK_ERROR_INITIALIZATION_FAILED: return "initialization failed";
    case VK_ERROR_DEVICE_LOST: return "device lost";
    case VK_ERROR_LAYER_NOT_PRESENT: return "layer not present";
    case VK_ERROR_EXTENSION_NOT_PRESENT: return "extension not present";
    case VK_ERROR_FEATURE_NOT_PRESENT: return "feature not present";
    case VK_ERROR_INCOMPATIBLE_DRIVER: return "incompatible driver";
    case VK_ERROR_TOO_MANY_OBJECTS: return "too many objects";
    case VK_ERROR_OUT_OF_POOL_MEMORY: return "out of pool memory";
    case VK_ERROR_FRAGMENTED_POOL: return "fragmented pool";
    default: return "an error";
  }
}

Status fail(VkResult result, const char* what) {
  Code code = Code::kUnsupported;
  switch (result) {
    case VK_ERROR_OUT_OF_HOST_MEMORY:
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
    case VK_ERROR_OUT_OF_POOL_MEMORY:
    case VK_ERROR_FRAGMENTED_POOL:
    case VK_ERROR_TOO_MANY_OBJECTS: code = Code::kOutOfMemory; break;
    case VK_ERROR_DEVICE_LOST: code = Code::kDeviceLost; break;
    case VK_ERROR_INCOMPATIBLE_DRIVER: code = Code::kNotFound; break;
    default: break;
  }
  return Status::make(code, "Vulkan: %s failed: %s (%d)", what, result_name(result), int(result));
}

}  // namespace runnel::vulkan
