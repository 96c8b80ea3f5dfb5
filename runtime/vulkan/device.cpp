#include "vulkan/device.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/clock.h"
#include "vulkan/pipelines.h"

namespace runnel::vulkan {
namespace {

constexpr uint64_t kStagingBytes = 4 << 20;

int rank_of(const DeviceInfo& d) {
  if (d.refused) return -1;
  switch (d.type) {
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU: return 4;
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU: return 3;
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU: return 2;
    default: return 1;
  }
}

// Index in the list, -1: none.
int choose(const Vec<DeviceInfo>& list, const char* wanted) {
  if (wanted && *wanted) {
    char* end = nullptr;
    const long number = std::strtol(wanted, &end, 10);
    if (*end == 0) return number >= 0 && number < long(list.size()) ? int(number) : -1;
    for (size_t i = 0; i < list.size(); ++i)
      if (std::strstr(list[i].name, wanted)) return int(i);
    return -1;
  }
  int best = -1;
  for (size_t i = 0; i < list.size(); ++i)
    if (rank_of(list[i]) > 0 && (best < 0 || rank_of(list[i]) > rank_of(list[size_t(best)]))) best = int(i);
  return best;
}

void pretend(DeviceInfo* d) {
  const Pretence& p = g_pretence;
  if (p.storage_range) d->storage_range = p.storage_range;
  if (p.weight_window) d->weight_window = p.weight_window;
  if (p.weight_allocation) d->weight_allocation = p.weight_allocation;
  for (uint32_t& most : d->groups) most = p.groups ? p.groups : most;
  if (p.has_no_import) d->has_host_import = false;
  if (p.is_gpu) d->type = VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU;
  d->quirks.has_short_submissions |= p.quirks.has_short_submissions;
  d->quirks.has_resettable_pools |= p.quirks.has_resettable_pools;
  d->quirks.has_short_loops |= p.quirks.has_short_loops;
}

// Feature bits to use.
uint32_t wanted_features(const DeviceInfo& d) {
  const char* wish = std::getenv("RUNNEL_VULKAN_FEATURES");
  if (wish && std::strcmp(wish, "none") == 0) return 0;
  return wish && std::strcmp(wish, "all") == 0 ? d.features : d.features_that_pay;
}

}  // namespace

Pretence g_pretence;

Result<std::unique_ptr<Device>> Device::open(const char* wanted) {
  if (!wanted) wanted = std::getenv("RUNNEL_VULKAN_DEVICE");
  std::unique_ptr<Device> d(new (std::nothrow) Device);
  if (!d) return Status::make(Code::kOutOfMemory, "no memory for a Vulkan device");
  uint64_t begin = now_ns();
  RNL_ASSIGN(instance, Instance::create());
  d->driver_ns_ = now_ns() - begin;
  d->instance_ = std::move(instance);
  d->api_ = d->instance_->api();
  d->is_validated_ = Instance::wants_validation();
  Api& api = d->api_;
  Vec<DeviceInfo> list;
  Vec<VkPhysicalDevice> handles;
  RNL_TRY(d->instance_->list(&list, &handles));
  const int index = choose(list, wanted);
  if (index < 0) {
    if (wanted && *wanted)
      return Status::make(Code::kNotFound, "Vulkan: none of the %zu devices is \"%.80s\"; `runnel devices` lists them",
                          list.size(), wanted);
    return Status::make(Code::kNotFound, "Vulkan: no usable device among %zu", list.size());
  }
  d->info_ = list[size_t(index)];
  if (d->info_.refused)
    return Status::make(Code::kUnsupported, "Vulkan: %s cannot be used: %s", d->info_.name, d->info_.refused);
  pretend(&d->info_);
  const VkPhysicalDevice physical = handles[size_t(index)];
  api.vkGetPhysicalDeviceMemoryProperties(physical, &d->memory_);

  uint32_t families = 0;
  api.vkGetPhysicalDeviceQueueFamilyProperties(physical, &families, nullptr);
  Vec<VkQueueFamilyProperties> family;
  RNL_TRY(family.assign(families));
  api.vkGetPhysicalDeviceQueueFamilyProperties(physical, &families, family.data());
  // A family that computes and does not draw leaves the screen alone.
  int best = -1;
  for (uint32_t i = 0; i < families; ++i) {
    if (!(family[i].queueFlags & VK_QUEUE_COMPUTE_BIT) || family[i].queueCount == 0) continue;
    if (best < 0 ||
        ((family[size_t(best)].queueFlags & VK_QUEUE_GRAPHICS_BIT) && !(family[i].queueFlags & VK_QUEUE_GRAPHICS_BIT)))
      best = int(i);
  }
  if (best < 0) return Status::make(Code::kUnsupported, "Vulkan: %s has no queue that computes", d->info_.name);
  d->family_ = uint32_t(best);

  const float priority = 1.0f;
  VkDeviceQueueCreateInfo queue{VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO};
  queue.queueFamilyIndex = d->family_;
  queue.queueCount = 1;
  queue.pQueuePriorities = &priority;
  VkDeviceCreateInfo info{VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO};
  info.queueCreateInfoCount = 1;
  info.pQueueCreateInfos = &queue;
  const char* extensions[4];
  info.ppEnabledExtensionNames = extensions;
#if defined(__APPLE__)
  extensions[info.enabledExtensionCount++] = "VK_KHR_portability_subset";
#endif
  if (d->info_.has_cache_feedback)
    extensions[info.enabledExtensionCount++] = VK_EXT_PIPELINE_CREATION_FEEDBACK_EXTENSION_NAME;
  if (d->info_.has_host_import) extensions[info.enabledExtensionCount++] = VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME;
  VkPhysicalDeviceShaderIntegerDotProductFeaturesKHR dots{
      VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES_KHR};
  dots.shaderIntegerDotProduct = VK_TRUE;
  d->features_ = wanted_features(d->info_);
  if (d->features_ & kIntDot) {
    extensions[info.enabledExtensionCount++] = VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME;
    info.pNext = &dots;
  }
  begin = now_ns();
  RNL_VK_TRY(d->instance_->api().vkCreateDevice(physical, &info, nullptr, &d->device_), "opening the device");
  d->driver_ns_ += now_ns() - begin;
  RNL_TRY(load_device_functions(d->device_, &api));
  api.vkGetDeviceQueue(d->device_, d->family_, 0, &d->queue_);
  if (d->info_.has_host_import)
    d->import_ = reinterpret_cast<PFN_vkGetMemoryHostPointerPropertiesEXT>(
        d->instance_->api().vkGetDeviceProcAddr(d->device_, "vkGetMemoryHostPointerPropertiesEXT"));
  VkFenceCreateInfo fence{VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
  RNL_VK_TRY(api.vkCreateFence(d->device_, &fence, nullptr, &d->fence_), "creating a fence");
  RNL_ASSIGN(pipelines, Pipelines::create(*d));
  d->pipelines_ = std::move(pipelines);
  return d;
}

Device::~Device() {
  if (!device_) return;
  if (api_.vkDeviceWaitIdle) (void)api_.vkDeviceWaitIdle(device_);
  pipelines_.reset();
  destroy(&staging_up_);
  destroy(&staging_down_);
  if (pool_) api_.vkDestroyCommandPool(device_, pool_, nullptr);
  if (fence_) api_.vkDestroyFence(device_, fence_, nullptr);
  if (api_.vkDestroyDevice) api_.vkDestroyDevice(device_, nullptr);
}

int Device::memory_type(uint32_t among, VkMemoryPropertyFlags needed) const {
  for (uint32_t i = 0; i < memory_.memoryTypeCount; ++i)
    if ((among >> i & 1) && (memory_.memoryTypes[i].propertyFlags & needed) == needed) return int(i);
  return -1;
}

Result<Buffer> Device::import(void* data, uint64_t bytes) {
  constexpr VkExternalMemoryHandleTypeFlagBits kind = VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT;
  VkMemoryHostPointerPropertiesEXT properties{VK_STRUCTURE_TYPE_MEMORY_HOST_POINTER_PROPERTIES_EXT};
  RNL_VK_TRY(import_(device_, kind, data, &properties), "importing memory");
  Buffer b;
  b.bytes = bytes;
  VkExternalMemoryBufferCreateInfo external{VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO};
  external.handleTypes = kind;
  VkBufferCreateInfo info{VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO};
  info.pNext = &external;
  info.size = bytes;
  info.usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT;
  info.sharingMode = VK_SHARING_MODE_EXCLUSIVE;
  RNL_VK_TRY(api_.vkCreateBuffer(device_, &info, nullptr, &b.handle), "importing memory");
  VkMemoryRequirements need;
  api_.vkGetBufferMemoryRequirements(device_, b.handle, &need);
  VkImportMemoryHostPointerInfoEXT host{VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT};
  host.handleType = kind;
  host.pHostPointer = data;
  VkMemoryAllocateInfo allocate{VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO};
  allocate.pNext = &host;
  allocate.allocationSize = bytes;
  const int type = memory_type(need.memoryTypeBits & properties.memoryTypeBits, 0);
  VkResult r = type < 0 || need.size > bytes ? VK_ERROR_FEATURE_NOT_PRESENT : VK_SUCCESS;
  allocate.memoryTypeIndex = uint32_t(type);
  if (r == VK_SUCCESS) r = api_.vkAllocateMemory(device_, &allocate, nullptr, &b.memory);
  if (r == VK_SUCCESS) r = api_.vkBindBufferMemory(device_, b.handle, b.memory, 0);
  if (r == VK_SUCCESS) return b;
  destroy(&b);
  return fail(r, "importing memory");
}

Result<Buffer> Device::create_buffer(uint64_t bytes, MemoryKind kind, const char* what) {
  const auto named = [&](Status s) {
    return std::move(s).with_context("%s (%llu bytes)", what, static_cast<unsigned long long>(bytes));
  };
  Buffer b;
  b.bytes = bytes;
  VkBufferCreateInfo info{VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO};
  info.size = bytes ? bytes : 4;
  info.usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT | VK_BUFFER_USAGE_TRANSFER_DST_BIT;
  info.sharingMode = VK_SHARING_MODE_EXCLUSIVE;
  VkResult r = api_.vkCreateBuffer(device_, &info, nullptr, &b.handle);
  if (r != VK_SUCCESS) return named(fail(r, "creating a buffer"));
  VkMemoryRequirements need;
  api_.vkGetBufferMemoryRequirements(device_, b.handle, &need);
  if (need.size > info_.max_allocation) {
    destroy(&b);
    return Status::make(Code::kOutOfMemory, "Vulkan: %s needs %llu bytes, %s allocates at most %llu at once", what,
                        static_cast<unsigned long long>(need.size), info_.name,
                        static_cast<unsigned long long>(info_.max_allocation));
  }
  const VkMemoryPropertyFlags visible = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
  const VkMemoryPropertyFlags needed = kind == MemoryKind::kDevice ? 0 : visible;
  const VkMemoryPropertyFlags wished = kind == MemoryKind::kDevice || kind == MemoryKind::kUnified
                                           ? VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT
                                       : kind == MemoryKind::kReadback ? VK_MEMORY_PROPERTY_HOST_CACHED_BIT
                                                                       : 0;
  int type = memory_type(need.memoryTypeBits, needed | wished);
  if (type < 0) type = memory_type(need.memoryTypeBits, needed);
  if (type < 0) {
    destroy(&b);
    return named(Status::make(Code::kUnsupported, "Vulkan: %s has no fitting kind of memory", info_.name));
  }
  VkMemoryAllocateInfo allocate{VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO};
  allocate.allocationSize = need.size;
  allocate.memoryTypeIndex = uint32_t(type);
  r = api_.vkAllocateMemory(device_, &allocate, nullptr, &b.memory);
  if (r == VK_SUCCESS) r = api_.vkBindBufferMemory(device_, b.handle, b.memory, 0);
  if (r == VK_SUCCESS && needed) r = api_.vkMapMemory(device_, b.memory, 0, VK_WHOLE_SIZE, 0, &b.mapped);
  if (r != VK_SUCCESS) {
    destroy(&b);
    return named(fail(r, "allocating memory"));
  }
  return b;
}

void Device::destroy(Buffer* b) {
  if (b->handle) api_.vkDestroyBuffer(device_, b->handle, nullptr);
  if (b->memory) api_.vkFreeMemory(device_, b->memory, nullptr);
  *b = Buffer();
}

Status Device::submit(const VkCommandBuffer* commands, uint32_t count) {
  std::lock_guard<std::mutex> lock(queue_mutex_);
  if (lose_after_ > 0 && --lose_after_ == 0) lost_ = true;
  if (lost_) return Status::make(Code::kDeviceLost, "Vulkan: %s is lost", info_.name);
  VkSubmitInfo info{VK_STRUCTURE_TYPE_SUBMIT_INFO};
  info.commandBufferCount = count;
  info.pCommandBuffers = commands;
  if (is_signalled_) RNL_VK_TRY(api_.vkResetFences(device_, 1, &fence_), "resetting a fence");
  is_signalled_ = false;
  ++submissions_;
  VkResult r = api_.vkQueueSubmit(queue_, 1, &info, fence_);
  if (r == VK_SUCCESS) {
    r = api_.vkWaitForFences(device_, 1, &fence_, VK_TRUE, UINT64_MAX);
    // Without knowing that the commands have ended, neither they nor the fence nor their memory may be used again.
    if (r != VK_SUCCESS && r != VK_ERROR_DEVICE_LOST) r = api_.vkDeviceWaitIdle(device_);
    if (r != VK_SUCCESS) lost_ = true;
    is_signalled_ = r == VK_SUCCESS;
  }
  if (r == VK_ERROR_DEVICE_LOST) lost_ = true;
  if (r == VK_SUCCESS) return Status::ok();
  return lost_ ? fail(VK_ERROR_DEVICE_LOST, "running commands") : fail(r, "running commands");
}

Status Device::ensure_staging() {
  if (transfer_) return Status::ok();
  if (!staging_up_.handle) {
    RNL_ASSIGN(b, create_buffer(kStagingBytes, MemoryKind::kUpload, "the staging buffer"));
    staging_up_ = b;
  }
  if (!staging_down_.handle) {
    RNL_ASSIGN(b, create_buffer(kStagingBytes, MemoryKind::kReadback, "the staging buffer"));
    staging_down_ = b;
  }
  if (!pool_) {
    VkCommandPoolCreateInfo pool{VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO};
    pool.flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT | VK_COMMAND_POOL_CREATE_TRANSIENT_BIT;
    pool.queueFamilyIndex = family_;
    RNL_VK_TRY(api_.vkCreateCommandPool(device_, &pool, nullptr, &pool_), "creating a command pool");
  }
  VkCommandBufferAllocateInfo info{VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO};
  info.commandPool = pool_;
  info.level = VK_COMMAND_BUFFER_LEVEL_PRIMARY;
  info.commandBufferCount = 1;
  RNL_VK_TRY(api_.vkAllocateCommandBuffers(device_, &info, &transfer_), "allocating a command buffer");
  return Status::ok();
}

Status Device::transfer(VkBuffer from, VkBuffer to, const VkBufferCopy* regions, uint32_t count) {
  VkCommandBufferBeginInfo begin{VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
  begin.flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT;
  RNL_VK_TRY(api_.vkBeginCommandBuffer(transfer_, &begin), "beginning a copy");
  api_.vkCmdCopyBuffer(transfer_, from, to, count, regions);
  VkMemoryBarrier after{VK_STRUCTURE_TYPE_MEMORY_BARRIER};
  after.srcAccessMask = VK_ACCESS_TRANSFER_WRITE_BIT;
  after.dstAccessMask = VK_ACCESS_HOST_READ_BIT | VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT |
                        VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT;
  api_.vkCmdPipelineBarrier(transfer_, VK_PIPELINE_STAGE_TRANSFER_BIT,
                            VK_PIPELINE_STAGE_HOST_BIT | VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT |
                                VK_PIPELINE_STAGE_TRANSFER_BIT,
                            0, 1, &after, 0, nullptr, 0, nullptr);
  RNL_VK_TRY(api_.vkEndCommandBuffer(transfer_), "recording a copy");
  return submit(&transfer_, 1);
}

namespace {

// Cuts pieces into portions that fit the staging buffer: calls fn(parts, regions, count) for each, regions from the
// buffer to staging.
struct Portion {
  static constexpr uint32_t kMost = 256;
  CopyPiece parts[kMost];       // offset: in staging
  VkBufferCopy regions[kMost];  // src: the buffer, dst: staging
  uint32_t count = 0;
  uint64_t bytes = 0;
};
template <class Fn>
Status for_each_portion(const CopyPiece* pieces, size_t count, Fn fn) {
  Portion p;
  for (size_t i = 0; i < count; ++i)
    for (uint64_t at = 0; at < pieces[i].bytes;) {
      const uint64_t room = kStagingBytes - p.bytes, n = pieces[i].bytes - at < room ? pieces[i].bytes - at : room;
      p.parts[p.count] = {pieces[i].host + at, n, p.bytes};
      p.regions[p.count++] = {pieces[i].offset + at, p.bytes, n};
      p.bytes += (n + 3) / 4 * 4;
      at += n;
      if (p.count < Portion::kMost && p.bytes < kStagingBytes) continue;
      RNL_TRY(fn(p));
      p.count = 0, p.bytes = 0;
    }
  return p.count ? fn(p) : Status::ok();
}

}  // namespace

Status Device::upload(const Buffer& to, const CopyPiece* pieces, size_t count) {
  std::lock_guard<std::mutex> lock(transfer_mutex_);
  RNL_TRY(ensure_staging());
  return for_each_portion(pieces, count, [&](Portion& p) {
    for (uint32_t i = 0; i < p.count; ++i) {
      std::memcpy(static_cast<char*>(staging_up_.mapped) + p.parts[i].offset, p.parts[i].host, p.parts[i].bytes);
      std::swap(p.regions[i].srcOffset, p.regions[i].dstOffset);
    }
    return transfer(staging_up_.handle, to.handle, p.regions, p.count);
  });
}

// In one submission, so that it succeeds or fails as a whole.
Status Device::download(const Buffer& from, const CopyPiece* pieces, size_t count) {
  std::lock_guard<std::mutex> lock(transfer_mutex_);
  RNL_TRY(ensure_staging());
  Vec<VkBufferCopy> regions;
  uint64_t bytes = 0;
  for (size_t i = 0; i < count; ++i) {
    if (pieces[i].bytes == 0) continue;
    RNL_TRY(regions.push({pieces[i].offset, bytes, pieces[i].bytes}));
    bytes += (pieces[i].bytes + 3) / 4 * 4;
  }
  if (regions.empty()) return Status::ok();
  Buffer own;
  if (bytes > kStagingBytes) {
    RNL_ASSIGN(b, create_buffer(bytes, MemoryKind::kReadback, "a copy for the host"));
    own = b;
  }
  const Buffer& to = own.handle ? own : staging_down_;
  Status s = transfer(from.handle, to.handle, regions.data(), uint32_t(regions.size()));
  const auto* data = static_cast<const char*>(to.mapped);
  for (size_t i = 0; s.is_ok() && i < count; ++i) {
    std::memcpy(pieces[i].host, data, pieces[i].bytes);
    data += (pieces[i].bytes + 3) / 4 * 4;
  }
  destroy(&own);
  return s;
}

}  // namespace runnel::vulkan
