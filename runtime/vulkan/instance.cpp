// The instance, the list of devices, and the validation layers for those who ask for them.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "base/log.h"
#include "vulkan/device.h"

namespace runnel::vulkan {
namespace {

std::atomic<uint64_t> g_messages{0};

VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT, VkDebugUtilsMessageTypeFlagsEXT,
                                          const VkDebugUtilsMessengerCallbackDataEXT* data, void*) {
  g_messages.fetch_add(1, std::memory_order_relaxed);
  log(LogLevel::kWarning, "Vulkan validation: %s", data->pMessage ? data->pMessage : "");
  return VK_FALSE;
}

bool has_extension(const VkExtensionProperties* list, uint32_t count, const char* name) {
  for (uint32_t i = 0; i < count; ++i)
    if (std::strcmp(list[i].extensionName, name) == 0) return true;
  return false;
}

DeviceInfo describe(const Api& api, VkPhysicalDevice physical) {
  DeviceInfo d{};
  VkPhysicalDeviceDriverProperties driver{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES};
  VkPhysicalDeviceExternalMemoryHostPropertiesEXT host{
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_MEMORY_HOST_PROPERTIES_EXT, &driver};
  VkPhysicalDeviceMaintenance3Properties maintenance{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES, &host};
  VkPhysicalDeviceSubgroupProperties subgroup{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES, &maintenance};
  VkPhysicalDeviceProperties2 properties{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, &subgroup};
  api.vkGetPhysicalDeviceProperties2(physical, &properties);
  const VkPhysicalDeviceProperties& p = properties.properties;
  std::snprintf(d.name, sizeof d.name, "%s", p.deviceName);
  std::snprintf(d.driver, sizeof d.driver, "%s %s", driver.driverName, driver.driverInfo);
  d.type = p.deviceType;
  d.vendor = p.vendorID;
  d.api_version = p.apiVersion;
  d.driver_version = p.driverVersion;
  std::memcpy(d.cache_uuid, p.pipelineCacheUUID, VK_UUID_SIZE);
  d.storage_range = p.limits.maxStorageBufferRange;
  d.max_allocation = maintenance.maxMemoryAllocationSize ? maintenance.maxMemoryAllocationSize : uint64_t(1) << 30;
  d.offset_alignment = uint32_t(p.limits.minStorageBufferOffsetAlignment);
  d.weight_window = d.storage_range - 256;
  d.weight_allocation = d.max_allocation / 2;
#define RNL_QUIRK(vendor_id, part, member, symptom, source) \
  if (d.vendor == (vendor_id) && std::strstr(d.driver, part)) d.quirks.member = true;
#include "vulkan/quirks.inc"
#undef RNL_QUIRK
  d.shared_bytes = p.limits.maxComputeSharedMemorySize;
  d.invocations = p.limits.maxComputeWorkGroupInvocations;
  d.subgroup_size = subgroup.subgroupSize;
  for (int i = 0; i < 3; ++i) d.groups[i] = p.limits.maxComputeWorkGroupCount[i];
  VkPhysicalDeviceMemoryProperties memory{};
  api.vkGetPhysicalDeviceMemoryProperties(physical, &memory);
  for (uint32_t i = 0; i < memory.memoryHeapCount; ++i)
    if (memory.memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT)
      d.memory_bytes = memory.memoryHeaps[i].size > d.memory_bytes ? memory.memoryHeaps[i].size : d.memory_bytes;

  uint32_t count = 0;
  Vec<VkExtensionProperties> list;
  if (api.vkEnumerateDeviceExtensionProperties(physical, nullptr, &count, nullptr) == VK_SUCCESS &&
      list.assign(count).is_ok() && count > 0)
    if (api.vkEnumerateDeviceExtensionProperties(physical, nullptr, &count, list.data()) != VK_SUCCESS) count = 0;
  d.has_cooperative_matrix = has_extension(list.data(), count, "VK_KHR_cooperative_matrix");
  d.has_cache_feedback = has_extension(list.data(), count, VK_EXT_PIPELINE_CREATION_FEEDBACK_EXTENSION_NAME);
  d.has_host_import = has_extension(list.data(), count, VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME);
  d.import_alignment = host.minImportedHostPointerAlignment;
  if (has_extension(list.data(), count, VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME)) {
    VkPhysicalDeviceShaderIntegerDotProductFeaturesKHR dots{
        VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES_KHR};
    VkPhysicalDeviceFeatures2 features{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, &dots};
    api.vkGetPhysicalDeviceFeatures2(physical, &features);
    VkPhysicalDeviceShaderIntegerDotProductPropertiesKHR how{
        VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_PROPERTIES_KHR};
    VkPhysicalDeviceProperties2 again{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, &how};
    api.vkGetPhysicalDeviceProperties2(physical, &again);
    if (dots.shaderIntegerDotProduct) d.features |= kIntDot;
    if (dots.shaderIntegerDotProduct && how.integerDotProduct4x8BitPackedSignedAccelerated)
      d.features_that_pay |= kIntDot;
  }
  if ((subgroup.supportedStages & VK_SHADER_STAGE_COMPUTE_BIT) &&
      (subgroup.supportedOperations & VK_SUBGROUP_FEATURE_ARITHMETIC_BIT)) {
    d.features |= kSubgroups;
    if (d.type != VK_PHYSICAL_DEVICE_TYPE_CPU) d.features_that_pay |= kSubgroups;
  }
  if ((subgroup.supportedStages & VK_SHADER_STAGE_COMPUTE_BIT) &&
      (subgroup.supportedOperations & VK_SUBGROUP_FEATURE_SHUFFLE_BIT)) {
    d.features |= kShuffle;
    if (d.type != VK_PHYSICAL_DEVICE_TYPE_CPU) d.features_that_pay |= kShuffle;
  }
  d.least_subgroup = subgroup.subgroupSize;
  if (has_extension(list.data(), count, VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME)) {
    VkPhysicalDeviceSubgroupSizeControlPropertiesEXT sizes{
        VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES_EXT};
    VkPhysicalDeviceProperties2 again{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, &sizes};
    api.vkGetPhysicalDeviceProperties2(physical, &again);
    d.least_subgroup = sizes.minSubgroupSize;
  }
  if (d.api_version >= VK_API_VERSION_1_2) {
    VkPhysicalDeviceVulkan12Features features12{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES};
    VkPhysicalDevice16BitStorageFeatures storage{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES, &features12};
    VkPhysicalDeviceFeatures2 features{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, &storage};
    api.vkGetPhysicalDeviceFeatures2(physical, &features);
    d.has_f16 = features12.shaderFloat16;
    d.has_16bit_storage = storage.storageBuffer16BitAccess;
  }
  if (d.api_version < VK_API_VERSION_1_1) d.refused = "it offers Vulkan 1.0; 1.1 is needed";
  else if (p.limits.maxPerStageDescriptorStorageBuffers < kBaseBuffers)
    d.refused = "it binds fewer than 4 storage buffers";
  else if (d.invocations < kBaseInvocations || d.shared_bytes < kBaseSharedBytes ||
           p.limits.maxPushConstantsSize < kPushBytes)
    d.refused = "its limits are below Vulkan's own minimum";
  return d;
}

}  // namespace

bool Instance::wants_validation() {
  const char* v = std::getenv("RUNNEL_VULKAN_VALIDATION");
  return v && std::strcmp(v, "1") == 0;
}

uint64_t Instance::validation_messages() { return g_messages.load(std::memory_order_relaxed); }

Result<std::unique_ptr<Instance>> Instance::create() {
  RNL_ASSIGN(get, open_loader());
  std::unique_ptr<Instance> i(new (std::nothrow) Instance);
  if (!i) return Status::make(Code::kOutOfMemory, "no memory for Vulkan");
  const auto create = reinterpret_cast<PFN_vkCreateInstance>(get(nullptr, "vkCreateInstance"));
  const auto version = reinterpret_cast<PFN_vkEnumerateInstanceVersion>(get(nullptr, "vkEnumerateInstanceVersion"));
  uint32_t loader = VK_API_VERSION_1_0;
  if (version) (void)version(&loader);
  if (!create || loader < VK_API_VERSION_1_1)
    return Status::make(Code::kUnsupported, "Vulkan: the loader offers version 1.0; 1.1 is needed");
  const bool validate = wants_validation();
  const char* const layers[] = {"VK_LAYER_KHRONOS_validation"};
  const char* extensions[4];
  uint32_t extension_count = 0;
  if (validate) extensions[extension_count++] = VK_EXT_DEBUG_UTILS_EXTENSION_NAME;
  VkInstanceCreateFlags flags = 0;
#if defined(__APPLE__)
  extensions[extension_count++] = "VK_KHR_portability_enumeration";
  flags = 1;  // VK_INSTANCE_CREATE_ENUMERATE_PORTABILITY_BIT_KHR
#endif
  const VkValidationFeatureEnableEXT enabled[] = {VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT};
  VkValidationFeaturesEXT features{VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT};
  features.enabledValidationFeatureCount = 1;
  features.pEnabledValidationFeatures = enabled;
  VkApplicationInfo app{VK_STRUCTURE_TYPE_APPLICATION_INFO};
  app.pEngineName = "runnel";
  app.apiVersion = loader >= VK_API_VERSION_1_2 ? VK_API_VERSION_1_2 : VK_API_VERSION_1_1;
  VkInstanceCreateInfo info{VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO};
  info.pNext = validate ? &features : nullptr;
  info.flags = flags;
  info.pApplicationInfo = &app;
  info.enabledLayerCount = validate ? 1 : 0;
  info.ppEnabledLayerNames = layers;
  info.enabledExtensionCount = extension_count;
  info.ppEnabledExtensionNames = extensions;
  RNL_VK_TRY(create(&info, nullptr, &i->instance_), "creating an instance");
  RNL_TRY(load_instance_functions(get, i->instance_, &i->api_));
  if (validate) {
    const auto make =
        reinterpret_cast<PFN_vkCreateDebugUtilsMessengerEXT>(get(i->instance_, "vkCreateDebugUtilsMessengerEXT"));
    i->destroy_messenger_ =
        reinterpret_cast<PFN_vkDestroyDebugUtilsMessengerEXT>(get(i->instance_, "vkDestroyDebugUtilsMessengerEXT"));
    VkDebugUtilsMessengerCreateInfoEXT m{VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT};
    m.messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT;
    m.messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_TYPE_PERFORMANCE_BIT_EXT;
    m.pfnUserCallback = on_message;
    if (!make || !i->destroy_messenger_)
      return Status::make(Code::kUnsupported, "Vulkan: the validation layers have no messenger");
    RNL_VK_TRY(make(i->instance_, &m, nullptr, &i->messenger_), "creating a messenger");
  }
  return i;
}

Instance::~Instance() {
  if (messenger_) destroy_messenger_(instance_, messenger_, nullptr);
  if (instance_ && api_.vkDestroyInstance) api_.vkDestroyInstance(instance_, nullptr);
}

Status Instance::list(Vec<DeviceInfo>* devices, Vec<VkPhysicalDevice>* handles) const {
  uint32_t count = 0;
  RNL_VK_TRY(api_.vkEnumeratePhysicalDevices(instance_, &count, nullptr), "counting devices");
  RNL_TRY(handles->assign(count));
  if (count == 0) return Status::ok();
  RNL_VK_TRY(api_.vkEnumeratePhysicalDevices(instance_, &count, handles->data()), "listing devices");
  while (handles->size() > count) handles->pop();
  for (VkPhysicalDevice h : *handles) RNL_TRY(devices->push(vulkan::describe(api_, h)));
  return Status::ok();
}

}  // namespace runnel::vulkan
