// Vulkan devices of this machine and one that is opened: queue, limits, buffers, submission. Nothing here is touched
// before the first call that asks for it; no loader or driver is a status, never a crash.
//
// Threads: a Device may be shared by sessions of several threads; submit() locks the queue. Buffers belong to whoever
// made them.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

#include "base/vec.h"
#include "vulkan/api.h"

namespace runnel::vulkan {

// What every driver must promise for our shaders; all of the base variants stay within it.
inline constexpr uint32_t kBaseInvocations = 128, kBaseSharedBytes = 16384, kBaseBuffers = 4, kPushBytes = 128;

// Work-arounds that a driver needs, from quirks.inc.
struct Quirks {
  bool has_short_submissions = false;  // few operators a submission
  bool has_resettable_pools = false;
  bool has_short_loops = false;  // kMostRounds
};

// With has_short_loops: rounds of all loops of an invocation together, some left for what Kernel::rounds does not
// count.
inline constexpr uint64_t kMostRounds = 60000;

// Optional features of devices that some variants of shaders need (shaders/variants.txt), as bits. kShuffle: the
// invocations of a subgroup read each other's values.
enum Feature : uint32_t { kIntDot = 1, kSubgroups = 2, kShuffle = 4 };

struct DeviceInfo {
  char name[256];
  char driver[256];  // name and version as the driver says
  VkPhysicalDeviceType type;
  uint32_t vendor, api_version, driver_version;
  uint8_t cache_uuid[VK_UUID_SIZE];
  uint64_t memory_bytes;      // of the largest device-local heap
  uint64_t storage_range;     // bytes of one binding
  uint64_t max_allocation;    // bytes
  uint32_t offset_alignment;  // of bindings
  uint32_t shared_bytes, invocations, subgroup_size;
  uint32_t least_subgroup;  // size that one has at least, whatever its shader is told
  uint32_t groups[3];
  uint64_t weight_window;      // bytes of weights that one binding reaches
  uint64_t weight_allocation;  // bytes of one allocation of weights
  Quirks quirks;
  bool has_cache_feedback, has_host_import;
  uint64_t import_alignment;   // bytes
  uint32_t features;           // Feature bits that it has
  uint32_t features_that_pay;  // and of which the driver says, or the kind of device, that they are faster
  bool has_f16, has_16bit_storage, has_cooperative_matrix;
  const char* refused;  // why it cannot be used; null: it can
};

// What tests pretend of the devices that are opened from now on: less than they have, and that they are no CPU. 0: as
// it is.
struct Pretence {
  uint64_t storage_range = 0, weight_window = 0, weight_allocation = 0;
  uint32_t groups = 0;
  bool is_gpu = false, has_no_import = false;
  Quirks quirks;
  const char* dropped_shader = nullptr;  // dispatches of it do nothing, as if the driver were wrong
  int dropped_constant = -1;             // of them only those where this constant has this value
  uint32_t dropped_value = 0;
};
extern Pretence g_pretence;

// A buffer with memory of its own.
struct Buffer {
  VkBuffer handle = VK_NULL_HANDLE;
  VkDeviceMemory memory = VK_NULL_HANDLE;
  uint64_t bytes = 0;
  void* mapped = nullptr;  // host-visible kinds
};
// Host bytes and their offset in a buffer.
struct CopyPiece {
  unsigned char* host;
  uint64_t bytes, offset;
};
// kUnified: the device's own, and mapped; for devices that share the host's memory.
enum class MemoryKind { kDevice, kUnified, kUpload, kReadback };

class Instance {
 public:
  static Result<std::unique_ptr<Instance>> create();
  ~Instance();
  // Every physical device, in the driver's order.
  Status list(Vec<DeviceInfo>* devices, Vec<VkPhysicalDevice>* handles) const;
  const Api& api() const { return api_; }
  // Messages of the validation layers so far. They are loaded when the environment has RUNNEL_VULKAN_VALIDATION=1.
  static uint64_t validation_messages();
  static bool wants_validation();

 private:
  Api api_;
  VkInstance instance_ = VK_NULL_HANDLE;
  VkDebugUtilsMessengerEXT messenger_ = VK_NULL_HANDLE;
  PFN_vkDestroyDebugUtilsMessengerEXT destroy_messenger_ = nullptr;
};

class Pipelines;

class Device {
 public:
  // wanted: a number in the list or a part of a name; null: what RUNNEL_VULKAN_DEVICE says, else the most capable one.
  static Result<std::unique_ptr<Device>> open(const char* wanted);
  ~Device();

  Result<Buffer> create_buffer(uint64_t bytes, MemoryKind kind, const char* what);
  // Memory of the host as a buffer, without a copy; it stays where it is until the buffer is destroyed. data and bytes
  // are multiples of info().import_alignment. Fails where the driver cannot.
  Result<Buffer> import(void* data, uint64_t bytes);
  // The host's memory is as near as the device's own.
  bool is_unified() const { return info_.type != VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU; }
  bool can_import() const { return import_ && is_unified(); }
  void destroy(Buffer* buffer);
  // Runs the command buffers and waits for them. After kDeviceLost every later call fails the same way.
  Status submit(const VkCommandBuffer* commands, uint32_t count);
  // Copies pieces of host memory to and from a device buffer, by way of staging buffers. A download that fails has
  // changed no host memory.
  Status upload(const Buffer& to, const CopyPiece* pieces, size_t count);
  Status download(const Buffer& from, const CopyPiece* pieces, size_t count);

  bool is_lost() const { return lost_; }
  uint64_t submissions() const { return submissions_; }
  // Of the buffers that copies go through.
  uint64_t staging_bytes() const {
    std::lock_guard<std::mutex> lock(transfer_mutex_);
    return staging_up_.bytes + staging_down_.bytes;
  }
  // Nanoseconds that the driver took to make instance and device.
  uint64_t driver_ns() const { return driver_ns_; }
  const DeviceInfo& info() const { return info_; }
  const Api& api() const { return api_; }
  Api& api_for_tests() { return api_; }
  VkDevice handle() const { return device_; }
  uint32_t queue_family() const { return family_; }
  Pipelines& pipelines() { return *pipelines_; }
  bool is_validated() const { return is_validated_; }
  // Feature bits that shaders use: those that pay or, as RUNNEL_VULKAN_FEATURES says, `all` or `none`.
  uint32_t features() const { return features_; }
  // From now on none is used: a variant that needs one gave wrong results.
  void drop_features() { features_ = 0; }
  void use_features_for_tests(uint32_t features) { features_ = features; }
  // For tests: the n-th submission from now on fails as if the device were lost; 0: none does.
  void lose_after(int64_t submissions) { lose_after_ = submissions; }

 private:
  Device() = default;
  Status transfer(VkBuffer from, VkBuffer to, const VkBufferCopy* regions, uint32_t count);
  Status ensure_staging();
  int memory_type(uint32_t among, VkMemoryPropertyFlags needed) const;  // -1: none

  std::unique_ptr<Instance> instance_;
  Api api_;
  DeviceInfo info_{};
  VkPhysicalDeviceMemoryProperties memory_{};
  VkDevice device_ = VK_NULL_HANDLE;
  VkQueue queue_ = VK_NULL_HANDLE;
  uint32_t family_ = 0;
  VkFence fence_ = VK_NULL_HANDLE;
  PFN_vkGetMemoryHostPointerPropertiesEXT import_ = nullptr;
  VkCommandPool pool_ = VK_NULL_HANDLE;
  VkCommandBuffer transfer_ = VK_NULL_HANDLE;
  Buffer staging_up_, staging_down_;
  std::mutex queue_mutex_;
  mutable std::mutex transfer_mutex_;
  std::unique_ptr<Pipelines> pipelines_;
  std::atomic<int64_t> lose_after_{0};
  std::atomic<uint64_t> submissions_{0};
  uint64_t driver_ns_ = 0;
  std::atomic<bool> lost_{false};
  bool is_signalled_ = false;  // the fence, by the submission before
  bool is_validated_ = false;
  std::atomic<uint32_t> features_{0};
};

}  // namespace runnel::vulkan
