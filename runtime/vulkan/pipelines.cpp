#include "vulkan/pipelines.h"

#include <cstdio>
#include <cstring>

#include "base/cache.h"
#include "base/clock.h"
#include "base/file.h"

namespace runnel::vulkan {

Result<std::unique_ptr<Pipelines>> Pipelines::create(Device& device) {
  std::unique_ptr<Pipelines> p(new (std::nothrow) Pipelines(device));
  if (!p) return Status::make(Code::kOutOfMemory, "no memory for Vulkan pipelines");
  const Api& api = device.api();
  VkDescriptorSetLayoutBinding bindings[kBaseBuffers] = {};
  for (uint32_t i = 0; i < kBaseBuffers; ++i)
    bindings[i] = {i, VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 1, VK_SHADER_STAGE_COMPUTE_BIT, nullptr};
  VkDescriptorSetLayoutCreateInfo set{VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO};
  set.bindingCount = kBaseBuffers;
  set.pBindings = bindings;
  RNL_VK_TRY(api.vkCreateDescriptorSetLayout(device.handle(), &set, nullptr, &p->set_layout_), "creating a set layout");
  const VkPushConstantRange push{VK_SHADER_STAGE_COMPUTE_BIT, 0, kPushBytes};
  VkPipelineLayoutCreateInfo layout{VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO};
  layout.setLayoutCount = 1;
  layout.pSetLayouts = &p->set_layout_;
  layout.pushConstantRangeCount = 1;
  layout.pPushConstantRanges = &push;
  RNL_VK_TRY(api.vkCreatePipelineLayout(device.handle(), &layout, nullptr, &p->layout_), "creating a pipeline layout");
  p->load();
  return p;
}

Pipelines::~Pipelines() {
  save();
  const Api& api = device_.api();
  for (Entry& e : entries_) api.vkDestroyPipeline(device_.handle(), e.pipeline, nullptr);
  if (cache_) api.vkDestroyPipelineCache(device_.handle(), cache_, nullptr);
  if (layout_) api.vkDestroyPipelineLayout(device_.handle(), layout_, nullptr);
  if (set_layout_) api.vkDestroyDescriptorSetLayout(device_.handle(), set_layout_, nullptr);
}

// The file's name holds the driver's version, its own cache identity and a hash of all shaders.
bool Pipelines::cache_file(const char* name, char* out, size_t size) const {
  char uuid[2 * VK_UUID_SIZE + 1], own[256];
  for (int i = 0; i < int(VK_UUID_SIZE); ++i) std::snprintf(uuid + 2 * i, 3, "%02x", device_.info().cache_uuid[i]);
  // Some drivers have the same identity in all versions.
  return size_t(std::snprintf(own, sizeof own, "vulkan-%x-%x-%s-%x-%s-%s", device_.info().vendor,
                              device_.info().driver_version, uuid, device_.features(), kShadersHash, name)) <
             sizeof own &&
         cache_path(own, out, size);
}

// The driver checks its identity again.
void Pipelines::load() {
  if (!cache_file("pipelines.bin", path_, sizeof path_)) path_[0] = 0;
  VkPipelineCacheCreateInfo info{VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO};
  FileView view;
  if (path_[0]) {
    auto opened = FileView::open(path_, true);
    if (opened.is_ok()) {
      view = std::move(opened.value());
      // Vulkan's own header, so that a damaged file never reaches the driver.
      VkPipelineCacheHeaderVersionOne header{};
      if (view.size() >= sizeof header) std::memcpy(&header, view.data(), sizeof header);
      if (header.headerSize == sizeof header && header.headerVersion == VK_PIPELINE_CACHE_HEADER_VERSION_ONE &&
          header.vendorID == device_.info().vendor &&
          std::memcmp(header.pipelineCacheUUID, device_.info().cache_uuid, VK_UUID_SIZE) == 0) {
        info.initialDataSize = view.size();
        info.pInitialData = view.data();
      }
    }
  }
  const Api& api = device_.api();
  if (api.vkCreatePipelineCache(device_.handle(), &info, nullptr, &cache_) == VK_SUCCESS) return;
  info.initialDataSize = 0;
  if (api.vkCreatePipelineCache(device_.handle(), &info, nullptr, &cache_) != VK_SUCCESS) cache_ = VK_NULL_HANDLE;
}

void Pipelines::save() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!cache_ || !path_[0] || stats_.made == saved_) return;
  const Api& api = device_.api();
  size_t size = 0;
  Vec<unsigned char> data;
  if (api.vkGetPipelineCacheData(device_.handle(), cache_, &size, nullptr) != VK_SUCCESS || !data.assign(size).is_ok())
    return;
  if (api.vkGetPipelineCacheData(device_.handle(), cache_, &size, data.data()) != VK_SUCCESS) return;
  if (write_cache_file(path_, data.data(), size)) saved_ = stats_.made;
}

Result<VkPipeline> Pipelines::get(const ShaderCode& shader, const uint32_t* constants, int count) {
  std::lock_guard<std::mutex> lock(mutex_);
  for (const Entry& e : entries_)
    if (e.shader == &shader && e.count == count &&
        (count == 0 || std::memcmp(e.constants, constants, size_t(count) * 4) == 0))
      return e.pipeline;
  if (count > kMaxConstants)
    return Status::make(Code::kInternal, "%s: %d specialisation constants, at most %d", shader.name, count,
                        kMaxConstants);
  Entry e{&shader, count, {}, VK_NULL_HANDLE};
  for (int i = 0; i < count; ++i) e.constants[i] = constants[i];
  const Api& api = device_.api();
  VkShaderModuleCreateInfo module{VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO};
  module.codeSize = size_t(shader.count) * 4;
  module.pCode = shader.words;
  VkSpecializationMapEntry map[kMaxConstants];
  for (uint32_t i = 0; i < uint32_t(count); ++i) map[i] = {i, i * 4, 4};
  const VkSpecializationInfo special{uint32_t(count), map, size_t(count) * 4, e.constants};
  VkComputePipelineCreateInfo info{VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO};
  info.stage.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO;
  info.stage.stage = VK_SHADER_STAGE_COMPUTE_BIT;
  info.stage.pName = "main";
  info.stage.pSpecializationInfo = count ? &special : nullptr;
  info.layout = layout_;
  RNL_VK_TRY(api.vkCreateShaderModule(device_.handle(), &module, nullptr, &info.stage.module), shader.name);
  VkPipelineCreationFeedbackEXT feedback{};
  VkPipelineCreationFeedbackCreateInfoEXT asked{VK_STRUCTURE_TYPE_PIPELINE_CREATION_FEEDBACK_CREATE_INFO_EXT};
  asked.pPipelineCreationFeedback = &feedback;
  if (device_.info().has_cache_feedback) info.pNext = &asked;
  const uint64_t begin = now_ns();
  const VkResult r = api.vkCreateComputePipelines(device_.handle(), cache_, 1, &info, nullptr, &e.pipeline);
  stats_.ns += now_ns() - begin;
  api.vkDestroyShaderModule(device_.handle(), info.stage.module, nullptr);
  if (r != VK_SUCCESS) return fail(r, shader.name);
  ++stats_.made;
  constexpr VkPipelineCreationFeedbackFlagsEXT hit =
      VK_PIPELINE_CREATION_FEEDBACK_VALID_BIT_EXT |
      VK_PIPELINE_CREATION_FEEDBACK_APPLICATION_PIPELINE_CACHE_HIT_BIT_EXT;
  if ((feedback.flags & hit) == hit) ++stats_.from_cache;
  const VkPipeline pipeline = e.pipeline;
  Status s = entries_.push(e);
  if (!s.is_ok()) {
    api.vkDestroyPipeline(device_.handle(), pipeline, nullptr);
    return s;
  }
  return pipeline;
}

}  // namespace runnel::vulkan
