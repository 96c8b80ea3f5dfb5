#include "vulkan/recorder.h"

#include <cstring>

#include "contract/view.h"
#include "format/packed.h"
#include "format/states.h"

namespace runnel::vulkan {
namespace {

bool is_dropped(const ShaderCode& shader, const Constants& constants) {
  const Pretence& p = g_pretence;
  return p.dropped_shader && std::strcmp(p.dropped_shader, shader.name) == 0 &&
         (p.dropped_constant < 0 || constants.v[p.dropped_constant] == p.dropped_value);
}

}  // namespace

uint64_t heap_bytes(const TensorView& v) {
  // Blocks of q8 states are padded along one axis; the last or (keys) the one before, of which this takes the larger.
  if (v.dtype == DType::kQ8) return state_bytes(v.dtype, v.dims, v.rank, v.rank == 4 ? 2 : v.rank - 1);
  return state_bytes(v.dtype, v.dims, v.rank, 0);
}

Recorder::Recorder(Device& device, const Shadow& shadow, const WeightBuffers& weights, const Buffer& call_words,
                   VkDescriptorPool pool)
    : device_(device),
      shadow_(shadow),
      weights_(weights),
      call_words_(call_words),
      pool_(pool),
      is_strict_(device.is_validated()) {}

Status Recorder::begin(VkCommandBuffer commands) {
  commands_ = commands;
  VkCommandBufferBeginInfo info{VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
  RNL_VK_TRY(device_.api().vkBeginCommandBuffer(commands, &info), "beginning to record");
  return Status::ok();
}

Status Recorder::end() {
  if (!is_recording()) return std::move(status_);
  // The host reads what was copied out; the next submission reads and writes everything.
  VkMemoryBarrier after{VK_STRUCTURE_TYPE_MEMORY_BARRIER};
  after.srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT;
  after.dstAccessMask = VK_ACCESS_HOST_READ_BIT | VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT |
                        VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT;
  device_.api().vkCmdPipelineBarrier(commands_, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT,
                                     VK_PIPELINE_STAGE_HOST_BIT | VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT |
                                         VK_PIPELINE_STAGE_TRANSFER_BIT,
                                     0, 1, &after, 0, nullptr, 0, nullptr);
  const VkResult r = device_.api().vkEndCommandBuffer(commands_);
  if (!status_.is_ok()) return std::move(status_);
  return r == VK_SUCCESS ? Status::ok() : fail(r, "recording");
}

void Recorder::exceed(const char* limit) {
  if (!limit_) limit_ = limit;
  refuse(Status::make(Code::kUnsupported, "Vulkan: %s: %s", device_.info().name, limit));
}

void Recorder::barrier() {
  VkMemoryBarrier b{VK_STRUCTURE_TYPE_MEMORY_BARRIER};
  b.srcAccessMask = VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT;
  b.dstAccessMask = VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_READ_BIT |
                    VK_ACCESS_TRANSFER_WRITE_BIT;
  const VkPipelineStageFlags stages = VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT;
  if (is_recording()) device_.api().vkCmdPipelineBarrier(commands_, stages, stages, 0, 1, &b, 0, nullptr, 0, nullptr);
  accesses_.clear();
  has_run_ = false;
  ++barriers_;
}

bool Recorder::find(const void* host, uint64_t* offset) {
  if (shadow_.find(host, offset)) return true;
  refuse(Status::make(Code::kInternal, "Vulkan: an operand has no place on the device"));
  return false;
}

// Two uses of the same bytes, one of them a write, need a barrier between them.
void Recorder::touch(uint64_t begin, uint64_t bytes, bool is_write) {
  if (bytes == 0) return;
  refuse(accesses_.push({begin, begin + bytes, is_write}));
}

void Recorder::start_op(const OpCall& c, uint32_t written_inputs, uint64_t scratch_bytes) {
  Access own[kMaxOpInputs + kMaxOpOutputs + 1];
  int count = 0;
  const auto add = [&](const TensorView& v, bool is_write) {
    if (v.dtype == DType::kNone || v.dtype == DType::kPacked) return;
    const uint64_t bytes = heap_bytes(v);
    uint64_t offset = 0;
    if (bytes && find(v.data, &offset)) own[count++] = {offset, offset + bytes, is_write};
  };
  for (int i = 0; i < c.in_count; ++i) add(c.in[i], written_inputs >> i & 1);
  for (int i = 0; i < c.out_count; ++i) add(c.out[i], true);
  if (scratch_bytes) own[count++] = {scratch_offset_, scratch_offset_ + scratch_bytes, true};
  if (scratch_bytes > scratch_bytes_)
    refuse(Status::make(Code::kInternal, "Vulkan: %llu bytes of scratch, planned %llu",
                        static_cast<unsigned long long>(scratch_bytes),
                        static_cast<unsigned long long>(scratch_bytes_)));
  // What lies in scratch is read through the binding that begins with the heap.
  if (scratch_bytes && scratch_offset_ + scratch_bytes > device_.info().storage_range)
    exceed("activations and scratch are more than it binds; a smaller chunk needs less");
  bool conflict = false;
  for (const Access& a : accesses_)
    for (int i = 0; i < count && !conflict; ++i)
      conflict = (a.is_write || own[i].is_write) && a.begin < own[i].end && own[i].begin < a.end;
  if (conflict) barrier();
  for (int i = 0; i < count; ++i) touch(own[i].begin, own[i].end - own[i].begin, own[i].is_write);
  state_offset_ = 0;
  ++most_sets_;
}

void Recorder::order(uint64_t begin, uint64_t bytes, bool is_write) {
  bool conflict = false;
  for (const Access& a : accesses_)
    conflict = conflict || ((a.is_write || is_write) && a.begin < begin + bytes && begin < a.end);
  if (conflict || (is_strict_ && has_run_)) barrier();
  has_run_ = true;
  touch(begin, bytes, is_write);
}

void Recorder::copy_in(const Buffer& host, uint64_t offset, const void* to, uint64_t bytes) {
  uint64_t at = 0;
  if (bytes == 0 || !find(to, &at)) return;
  order(at, bytes, true);
  const VkBufferCopy region{offset, at, bytes};
  device_.api().vkCmdCopyBuffer(commands_, host.handle, shadow_.heap().handle, 1, &region);
}

void Recorder::copy_out(const void* from, const Buffer& host, uint64_t offset, uint64_t bytes) {
  uint64_t at = 0;
  if (bytes == 0 || !find(from, &at)) return;
  order(at, bytes, false);
  const VkBufferCopy region{at, offset, bytes};
  device_.api().vkCmdCopyBuffer(commands_, shadow_.heap().handle, host.handle, 1, &region);
}

void Recorder::copy(const void* from, const void* to, uint64_t bytes) {
  uint64_t a = 0, b = 0;
  if (bytes == 0 || !find(from, &a) || !find(to, &b)) return;
  order(a, bytes, false);
  order(b, bytes, true);
  const VkBufferCopy region{a, b, bytes};
  device_.api().vkCmdCopyBuffer(commands_, shadow_.heap().handle, shadow_.heap().handle, 1, &region);
}

uint32_t Recorder::at(const TensorView& v) {
  uint64_t offset = 0;
  const uint64_t bytes = heap_bytes(v);
  if (bytes == 0) return 0;  // nothing of it is read
  if (!find(v.data, &offset)) return 0;
  if (offset % 4 != 0) refuse(Status::make(Code::kInternal, "Vulkan: an operand that is not aligned"));
  if (offset + bytes > device_.info().storage_range)
    exceed("activations and constants are more than it binds; a smaller chunk needs less");
  return uint32_t(offset / 4);
}

bool Recorder::find_state(const TensorView& v, uint64_t* offset, uint64_t* bytes) {
  *bytes = heap_bytes(v);
  if (*bytes == 0) return false;  // nothing of it is read
  for (const Wide& w : wide_)
    if (w.view == &v) {
      *offset = w.offset, *bytes = uint64_t(element_count(v)) * 4;
      return true;
    }
  return find(v.data, offset);
}

void Recorder::window(std::initializer_list<const TensorView*> states) {
  uint64_t first = UINT64_MAX, end = 0;
  for (const TensorView* v : states) {
    uint64_t at = 0, bytes = 0;
    if (!v || !find_state(*v, &at, &bytes)) continue;
    first = at < first ? at : first;
    end = at + bytes > end ? at + bytes : end;
  }
  const uint64_t range = device_.info().storage_range;
  state_offset_ = end <= range || end == 0 ? 0 : first / 256 * 256;
  ++most_sets_;
  if (end > state_offset_ + range) exceed("its states are more than it binds; a smaller context needs less");
}

uint32_t Recorder::state(const TensorView& v) {
  uint64_t offset = 0, bytes = 0;
  if (!find_state(v, &offset, &bytes)) return 0;
  if (offset < state_offset_ || offset + bytes > state_offset_ + device_.info().storage_range)
    exceed("a state is outside the window that it binds");
  return uint32_t((offset - state_offset_) / 4);
}

uint32_t Recorder::weights(const TensorView& v, uint64_t begin, uint64_t bytes) {
  WeightBuffers::Place place{};
  if (!weights_.find(v.data, &place)) {
    refuse(Status::make(Code::kInternal, "Vulkan: weights that are not on the device"));
    return 0;
  }
  ++most_sets_;
  const uint64_t offset = place.offset + begin, range = device_.info().storage_range;
  // The window stays where it is while it reaches: few sets serve all matrices.
  const bool reaches =
      weight_buffer_ == place.buffer && offset >= weight_offset_ && offset + bytes <= weight_offset_ + range;
  const uint64_t base = reaches ? weight_offset_ : offset / 256 * 256;
  if (offset - base + bytes > range) exceed("weights that are needed at once are more than it binds");
  weight_buffer_ = place.buffer;
  weight_offset_ = base;
  return uint32_t((offset - base) / 4);
}

VkDescriptorSet Recorder::descriptor_set() {
  for (const Set& s : sets_)
    if (s.state_offset == state_offset_ && s.weight_offset == weight_offset_ && s.weights == weight_buffer_)
      return s.set;
  const Api& api = device_.api();
  const VkDescriptorSetLayout layout = device_.pipelines().set_layout();
  VkDescriptorSetAllocateInfo info{VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO};
  info.descriptorPool = pool_;
  info.descriptorSetCount = 1;
  info.pSetLayouts = &layout;
  VkDescriptorSet set = VK_NULL_HANDLE;
  const VkResult r = api.vkAllocateDescriptorSets(device_.handle(), &info, &set);
  if (r != VK_SUCCESS) {
    refuse(fail(r, "allocating a descriptor set"));
    return VK_NULL_HANDLE;
  }
  const uint64_t range = device_.info().storage_range, heap = shadow_.heap().bytes;
  const auto rest = [&](uint64_t bytes, uint64_t offset) { return bytes - offset > range ? range : bytes - offset; };
  const VkBuffer w = weight_buffer_ ? weight_buffer_ : shadow_.heap().handle;
  const VkDescriptorBufferInfo buffers[kBaseBuffers] = {
      {shadow_.heap().handle, 0, rest(heap, 0)},
      {shadow_.heap().handle, state_offset_, rest(heap, state_offset_)},
      {w, weight_buffer_ ? weight_offset_ : 0,
       weight_buffer_ ? rest(weights_.buffer_bytes(w), weight_offset_) : rest(heap, 0)},
      {call_words_.handle, 0, VK_WHOLE_SIZE},
  };
  VkWriteDescriptorSet writes[kBaseBuffers];
  for (uint32_t i = 0; i < kBaseBuffers; ++i) {
    writes[i] = {VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET};
    writes[i].dstSet = set;
    writes[i].dstBinding = i;
    writes[i].descriptorCount = 1;
    writes[i].descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER;
    writes[i].pBufferInfo = &buffers[i];
  }
  api.vkUpdateDescriptorSets(device_.handle(), kBaseBuffers, writes, 0, nullptr);
  refuse(sets_.push({state_offset_, weight_offset_, weight_buffer_, set}));
  return set;
}

void Recorder::dispatch(const ShaderCode& base, const Constants& constants, const void* push, size_t push_bytes,
                        uint64_t x, uint64_t y, uint64_t z) {
  if (!status_.is_ok() || x == 0 || y == 0 || z == 0) return;
  const ShaderCode& shader = base.faster && (base.faster->needs & ~device_.features()) == 0 ? *base.faster : base;
  const uint32_t* most = device_.info().groups;
  if (x > most[0] || y > most[1] || z > most[2])
    return exceed("more workgroups than it counts; a smaller chunk needs fewer");
  if (!is_recording() || is_dropped(shader, constants)) return;
  auto pipeline = device_.pipelines().get(shader, constants.v, constants.count);
  if (!pipeline.is_ok()) return refuse(pipeline.take_status());
  const VkDescriptorSet set = descriptor_set();
  if (!status_.is_ok()) return;
  const Api& api = device_.api();
  const VkPipelineLayout layout = device_.pipelines().layout();
  if (set != bound_set_)
    api.vkCmdBindDescriptorSets(commands_, VK_PIPELINE_BIND_POINT_COMPUTE, layout, 0, 1, &set, 0, nullptr);
  if (pipeline.value() != bound_) api.vkCmdBindPipeline(commands_, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline.value());
  bound_set_ = set;
  bound_ = pipeline.value();
  api.vkCmdPushConstants(commands_, layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, uint32_t(push_bytes), push);
  if (is_strict_ && has_run_) barrier();
  has_run_ = true;
  api.vkCmdDispatch(commands_, uint32_t(x), uint32_t(y), uint32_t(z));
  ++dispatches_;
}

}  // namespace runnel::vulkan
