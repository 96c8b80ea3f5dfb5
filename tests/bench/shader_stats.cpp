// What a Vulkan driver's compiler makes of a compute shader, as lines "name<TAB>value" and then its machine code after
// a line "code":
//   shader_stats FILE.spv [CONSTANT_ID=VALUE ...]
// The device need not exist where the driver compiles without one (shaders.py). Nothing runs on it, and it is not
// closed: stand-ins of devices cannot be.
#include <vulkan/vulkan.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <unistd.h>

namespace {

[[noreturn]] void stop(const char* what, int code) {
  std::fprintf(stderr, "shader_stats: %s (%d)\n", what, code);
  _exit(1);
}
void check(VkResult r, const char* what) {
  if (r != VK_SUCCESS) stop(what, r);
}

VkPhysicalDevice first_device() {
  VkApplicationInfo app{VK_STRUCTURE_TYPE_APPLICATION_INFO};
  app.apiVersion = VK_API_VERSION_1_2;
  VkInstanceCreateInfo info{VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO};
  info.pApplicationInfo = &app;
  VkInstance instance;
  check(vkCreateInstance(&info, nullptr, &instance), "no instance");
  uint32_t count = 1;
  VkPhysicalDevice physical = VK_NULL_HANDLE;
  const VkResult r = vkEnumeratePhysicalDevices(instance, &count, &physical);
  if (!physical) stop("no device", r);
  return physical;
}

// With every core feature that the device has: shaders of others ask for some.
VkDevice open(VkPhysicalDevice physical) {
  VkPhysicalDevicePipelineExecutablePropertiesFeaturesKHR executable{
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PIPELINE_EXECUTABLE_PROPERTIES_FEATURES_KHR};
  VkPhysicalDeviceShaderIntegerDotProductFeaturesKHR dots{
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES_KHR, &executable};
  VkPhysicalDeviceVulkan12Features features12{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES, &dots};
  VkPhysicalDeviceVulkan11Features features11{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES, &features12};
  VkPhysicalDeviceFeatures2 features{VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, &features11};
  vkGetPhysicalDeviceFeatures2(physical, &features);
  if (!executable.pipelineExecutableInfo) stop("the driver tells nothing of its code", 0);
  std::vector<const char*> extensions{"VK_KHR_pipeline_executable_properties"};
  if (dots.shaderIntegerDotProduct) extensions.push_back("VK_KHR_shader_integer_dot_product");
  const float priority = 1;
  VkDeviceQueueCreateInfo queue{VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO};
  queue.queueCount = 1;
  queue.pQueuePriorities = &priority;
  VkDeviceCreateInfo info{VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO};
  info.pNext = &features;
  info.queueCreateInfoCount = 1;
  info.pQueueCreateInfos = &queue;
  info.enabledExtensionCount = uint32_t(extensions.size());
  info.ppEnabledExtensionNames = extensions.data();
  VkDevice device;
  check(vkCreateDevice(physical, &info, nullptr, &device), "opening the device");
  return device;
}

VkPipelineLayout layout(VkDevice device) {
  constexpr uint32_t kBindings = 16;
  VkDescriptorSetLayoutBinding bindings[kBindings] = {};
  for (uint32_t i = 0; i < kBindings; ++i)
    bindings[i] = {i, VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 1, VK_SHADER_STAGE_COMPUTE_BIT, nullptr};
  VkDescriptorSetLayoutCreateInfo set{VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO};
  set.bindingCount = kBindings;
  set.pBindings = bindings;
  VkDescriptorSetLayout set_layout;
  check(vkCreateDescriptorSetLayout(device, &set, nullptr, &set_layout), "a set layout");
  const VkPushConstantRange push{VK_SHADER_STAGE_COMPUTE_BIT, 0, 128};
  VkPipelineLayoutCreateInfo info{VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO};
  info.setLayoutCount = 1;
  info.pSetLayouts = &set_layout;
  info.pushConstantRangeCount = 1;
  info.pPushConstantRanges = &push;
  VkPipelineLayout pipeline_layout;
  check(vkCreatePipelineLayout(device, &info, nullptr, &pipeline_layout), "a pipeline layout");
  return pipeline_layout;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) stop("shader_stats FILE.spv [CONSTANT_ID=VALUE ...]", argc);
  std::ifstream file(argv[1], std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), {});
  if (bytes.empty() || bytes.size() % 4 != 0) stop(argv[1], 0);
  std::vector<uint32_t> words(bytes.size() / 4), values;
  std::memcpy(words.data(), bytes.data(), bytes.size());
  std::vector<VkSpecializationMapEntry> map;
  for (int i = 2; i < argc; ++i) {
    unsigned id = 0, value = 0;
    if (std::sscanf(argv[i], "%u=%u", &id, &value) != 2) stop(argv[i], i);
    map.push_back({id, uint32_t(values.size() * 4), 4});
    values.push_back(value);
  }
  const VkPhysicalDevice physical = first_device();
  VkPhysicalDeviceProperties properties;
  vkGetPhysicalDeviceProperties(physical, &properties);
  const VkDevice device = open(physical);

  VkShaderModuleCreateInfo module{VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO};
  module.codeSize = bytes.size();
  module.pCode = words.data();
  const VkSpecializationInfo special{uint32_t(map.size()), map.data(), values.size() * 4, values.data()};
  VkComputePipelineCreateInfo info{VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO};
  info.flags =
      VK_PIPELINE_CREATE_CAPTURE_STATISTICS_BIT_KHR | VK_PIPELINE_CREATE_CAPTURE_INTERNAL_REPRESENTATIONS_BIT_KHR;
  info.stage.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO;
  info.stage.stage = VK_SHADER_STAGE_COMPUTE_BIT;
  info.stage.pName = "main";
  info.stage.pSpecializationInfo = map.empty() ? nullptr : &special;
  info.layout = layout(device);
  check(vkCreateShaderModule(device, &module, nullptr, &info.stage.module), "a shader module");
  VkPipeline pipeline;
  check(vkCreateComputePipelines(device, VK_NULL_HANDLE, 1, &info, nullptr, &pipeline), "a pipeline");

  const auto statistics_of = reinterpret_cast<PFN_vkGetPipelineExecutableStatisticsKHR>(
      vkGetDeviceProcAddr(device, "vkGetPipelineExecutableStatisticsKHR"));
  const auto code_of = reinterpret_cast<PFN_vkGetPipelineExecutableInternalRepresentationsKHR>(
      vkGetDeviceProcAddr(device, "vkGetPipelineExecutableInternalRepresentationsKHR"));
  VkPipelineExecutableInfoKHR executable{VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INFO_KHR};
  executable.pipeline = pipeline;
  uint32_t count = 0;
  check(statistics_of(device, &executable, &count, nullptr), "statistics");
  std::vector<VkPipelineExecutableStatisticKHR> statistics(count,
                                                           {VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_STATISTIC_KHR});
  check(statistics_of(device, &executable, &count, statistics.data()), "statistics");
  std::printf("device\t%s\n", properties.deviceName);
  for (const auto& s : statistics) {
    const double value = s.format == VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_FLOAT64_KHR ? s.value.f64
                         : s.format == VK_PIPELINE_EXECUTABLE_STATISTIC_FORMAT_INT64_KHR ? double(s.value.i64)
                                                                                         : double(s.value.u64);
    std::printf("%s\t%.17g\n", s.name, value);
  }
  // The last one is the machine code where there are several.
  check(code_of(device, &executable, &count, nullptr), "code");
  std::vector<VkPipelineExecutableInternalRepresentationKHR> code(
      count, {VK_STRUCTURE_TYPE_PIPELINE_EXECUTABLE_INTERNAL_REPRESENTATION_KHR});
  check(code_of(device, &executable, &count, code.data()), "code");
  std::vector<std::string> texts;
  for (auto& c : code) texts.emplace_back(c.dataSize + 1, '\0'), c.pData = nullptr;
  for (size_t i = 0; i < code.size(); ++i) code[i].pData = texts[i].data();
  if (count > 0) {
    check(code_of(device, &executable, &count, code.data()), "code");
    std::printf("code\n%s\n", texts.back().c_str());
  }
  std::fflush(stdout);
  _exit(0);
}
