// Records operators into a command buffer. An operator's vulkan.cpp asks for the places of its operands and dispatches
// its shaders; barriers between operators come from their operands, those within an operator from barrier().
//
// Places are counted in words of 4 bytes. Errors are kept and returned by end(); after one, calls do nothing.
//
// Without commands nothing is recorded: the same calls then tell before a session begins what a device's limits do not
// allow.
#pragma once

#include <initializer_list>

#include "contract/op.h"
#include "vulkan/pipelines.h"
#include "vulkan/shadow.h"

namespace runnel::vulkan {

inline constexpr uint32_t kAbsent = 0xffffffffu;  // place of an operand that is absent

// Words at the front of the call buffer, that the host writes before a submission and reads after it.
// shaders/common/common.glsl has the same.
enum CallWord : uint32_t { kPosition = 0, kFault = 1, kChoice = 2, kCallWords = 16 };

// Bytes of an operand that lies in the heap, at most.
uint64_t heap_bytes(const TensorView& v);

// Values of a shader's specialisation constants 0, 1, ...
struct Constants {
  uint32_t v[kMaxConstants];
  int count = 0;
  Constants(std::initializer_list<uint32_t> values) {
    for (uint32_t x : values) v[count++] = x;
  }
};

class Recorder {
 public:
  // Descriptor sets come from `pool` and are freed with it. Without begin() nothing is recorded, and pool may be null.
  Recorder(Device& device, const Shadow& shadow, const WeightBuffers& weights, const Buffer& call_words,
           VkDescriptorPool pool);

  Status begin(VkCommandBuffer commands);
  Status end();
  // Copies between the heap and buffers of the host, for inputs and outputs. offset: bytes in `host`, a multiple of 4.
  void copy_in(const Buffer& host, uint64_t offset, const void* to, uint64_t bytes);
  void copy_out(const void* from, const Buffer& host, uint64_t offset, uint64_t bytes);
  // Within the heap.
  void copy(const void* from, const void* to, uint64_t bytes);

  // Before the dispatches of an operator. written_inputs: bits of inputs that it writes too.
  void start_op(const OpCall& call, uint32_t written_inputs, uint64_t scratch_bytes);

  // Place of a dense operand of 4-byte elements; kAbsent when it is absent.
  uint32_t at(const TensorView& v);
  uint32_t input(const OpCall& c, int i) {
    return i < c.in_count && c.in[i].dtype != DType::kNone ? at(c.in[i]) : kAbsent;
  }
  uint32_t output(const OpCall& c, int i) {
    return i < c.out_count && c.out[i].dtype != DType::kNone ? at(c.out[i]) : kAbsent;
  }
  // Place of a state in the window of binding 1. window(): chooses the window so that all of these are in it; null:
  // absent.
  void window(std::initializer_list<const TensorView*> states);
  static const TensorView* has(const TensorView* list, int count, int i) {
    return i < count && list[i].dtype != DType::kNone ? list + i : nullptr;
  }
  uint32_t state(const TensorView& v);
  uint32_t state_input(const OpCall& c, int i) { return has(c.in, c.in_count, i) ? state(c.in[i]) : kAbsent; }
  uint32_t state_output(const OpCall& c, int i) { return has(c.out, c.out_count, i) ? state(c.out[i]) : kAbsent; }
  // Until forget_wide() this state, which is not of floats, has floats at that place of the heap.
  void set_wide(const TensorView& v, uint32_t place) { refuse(wide_.push({&v, uint64_t(place) * 4})); }
  void forget_wide() { wide_.clear(); }
  // Bytes [begin, begin + bytes) of a packed matrix become binding 2; gives the place of `begin`.
  uint32_t weights(const TensorView& v, uint64_t begin, uint64_t bytes);
  // As many bytes as can be, if a matrix can be cut so finely.
  uint64_t weight_window() const { return device_.info().weight_window; }
  // The device is a CPU: what runs side by side there costs as much as one after the other.
  bool is_cpu() const { return device_.info().type == VK_PHYSICAL_DEVICE_TYPE_CPU; }
  uint32_t least_subgroup() const { return device_.info().least_subgroup; }
  bool has(Feature f) const { return device_.features() & f; }
  uint32_t scratch() const { return uint32_t(scratch_offset_ / 4); }

  // So many workgroups, which may be folded into two axes: shaders take their number from group() in common.glsl.
  template <class Push>
  void groups(const ShaderCode& shader, const Constants& constants, const Push& push, uint64_t n) {
    static_assert(sizeof(Push) <= kPushBytes && sizeof(Push) % 4 == 0);
    const uint64_t most = device_.info().groups[0], fold = n > most ? (n + most - 1) / most : 1;
    dispatch(shader, constants, &push, sizeof push, (n + fold - 1) / fold, fold, 1);
  }
  // One workgroup for each (x, y, z).
  template <class Push>
  void grid(const ShaderCode& shader, const Constants& constants, const Push& push, uint64_t x, uint64_t y,
            uint64_t z) {
    static_assert(sizeof(Push) <= kPushBytes && sizeof(Push) % 4 == 0);
    dispatch(shader, constants, &push, sizeof push, x, y, z);
  }
  // Workgroups of 64 for so many items.
  template <class Push>
  void items(const ShaderCode& shader, const Constants& constants, const Push& push, uint64_t n) {
    groups(shader, constants, push, (n + 63) / 64);
  }
  // What was written is visible to what follows.
  void barrier();
  void set_scratch(uint64_t offset, uint64_t bytes) { scratch_offset_ = offset, scratch_bytes_ = bytes; }
  uint32_t dispatches() const { return dispatches_; }
  uint32_t barriers() const { return barriers_; }
  void refuse(Status s) {
    if (status_.is_ok()) status_ = std::move(s);
  }
  // The first limit of the device that a call would have crossed; null: none.
  const char* limit() const { return limit_; }
  // Descriptor sets that the calls so far need at most.
  uint32_t most_sets() const { return most_sets_; }

 private:
  struct Access {
    uint64_t begin, end;
    bool is_write;
  };
  struct Set {
    uint64_t state_offset, weight_offset;
    VkBuffer weights;
    VkDescriptorSet set;
  };
  bool is_recording() const { return commands_ != VK_NULL_HANDLE; }
  void exceed(const char* limit);
  void dispatch(const ShaderCode& shader, const Constants& constants, const void* push, size_t push_bytes, uint64_t x,
                uint64_t y, uint64_t z);
  bool find(const void* host, uint64_t* offset);
  bool find_state(const TensorView& v, uint64_t* offset, uint64_t* bytes);
  void order(uint64_t begin, uint64_t bytes, bool is_write);
  void touch(uint64_t begin, uint64_t bytes, bool is_write);
  VkDescriptorSet descriptor_set();

  Device& device_;
  const Shadow& shadow_;
  const WeightBuffers& weights_;
  const Buffer& call_words_;
  VkDescriptorPool pool_;
  VkCommandBuffer commands_ = VK_NULL_HANDLE;
  Status status_;
  Vec<Access> accesses_;
  Vec<Set> sets_;
  struct Wide {
    const TensorView* view;
    uint64_t offset;
  };
  Vec<Wide> wide_;
  uint64_t state_offset_ = 0, weight_offset_ = 0, scratch_offset_ = 0, scratch_bytes_ = 0;
  VkBuffer weight_buffer_ = VK_NULL_HANDLE;
  VkDescriptorSet bound_set_ = VK_NULL_HANDLE;
  VkPipeline bound_ = VK_NULL_HANDLE;
  uint32_t dispatches_ = 0, barriers_ = 0, most_sets_ = 0;
  const char* limit_ = nullptr;
  // The validation layers take a binding for one resource, although operators use parts of the heap that do not
  // overlap: for them nothing is left to run side by side.
  bool is_strict_;
  bool has_run_ = false;  // something since the last barrier
};

}  // namespace runnel::vulkan
