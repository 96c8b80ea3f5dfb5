// Compute pipelines, made when they are first wanted and kept with the device; their compiled form is kept on disk.
//
// All shaders share one layout, so that any device's least limits do: four storage buffers (binding 0: the heap with
// activations and constants; 1: a window of the heap for states; 2: a window of packed weights; 3: words of the call)
// and 128 bytes of push constants.
#pragma once

#include <mutex>

#include "vulkan/device.h"

namespace runnel::vulkan {

// SPIR-V of one variant (shaders/variants.txt), embedded by the build. Its address is its identity.
struct ShaderCode {
  const char* name;
  const uint32_t* words;
  uint32_t count;
  uint32_t needs;            // Feature bits without which it cannot be used
  const ShaderCode* faster;  // takes the place of this one where the device has what it needs; null: none
};

// Of the sources of all shaders and of what records them; part of the name of cache files.
extern const char kShadersHash[];

inline constexpr int kMaxConstants = 16;

class Pipelines {
 public:
  static Result<std::unique_ptr<Pipelines>> create(Device& device);
  ~Pipelines();
  // constants: values of the specialisation constants 0 .. count - 1.
  Result<VkPipeline> get(const ShaderCode& shader, const uint32_t* constants, int count);
  VkPipelineLayout layout() const { return layout_; }
  VkDescriptorSetLayout set_layout() const { return set_layout_; }
  // Writes the cache file when pipelines were made since it was read. A folder that cannot be written is no failure.
  void save();
  // Pipelines so far, those of them that the driver found in its cache (where it tells), and the nanoseconds that it
  // took.
  struct Stats {
    uint32_t made = 0, from_cache = 0;
    uint64_t ns = 0;
  };
  Stats stats() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return stats_;
  }
  // A file of the cache folder whose contents are worth as much as these pipelines: its name says driver, features,
  // shaders and `name`. False: no folder.
  bool cache_file(const char* name, char* out, size_t size) const;

 private:
  explicit Pipelines(Device& device) : device_(device) {}
  void load();
  struct Entry {
    const ShaderCode* shader;
    int count;
    uint32_t constants[kMaxConstants];
    VkPipeline pipeline;
  };
  Device& device_;
  mutable std::mutex mutex_;
  VkDescriptorSetLayout set_layout_ = VK_NULL_HANDLE;
  VkPipelineLayout layout_ = VK_NULL_HANDLE;
  VkPipelineCache cache_ = VK_NULL_HANDLE;
  Vec<Entry> entries_;
  char path_[512] = {};
  Stats stats_;
  uint32_t saved_ = 0;
};

}  // namespace runnel::vulkan
