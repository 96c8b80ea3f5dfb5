#include "vulkan_kernel.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "vulkan/kernel.h"
#include "vulkan_session/model_on_device.h"

namespace runnel::test {
namespace {

uint16_t g_op = 0;

Status run_on_device(vulkan::Device& device, const OpCall& c) {
  const vulkan::Kernel& kernel = *vulkan::find_vulkan_kernel(g_op);
  vulkan::Shadow shadow(device);
  vulkan::WeightBuffers weights(device);
  const auto each = [&](auto fn) -> Status {
    for (int i = 0; i < c.in_count + c.out_count; ++i) {
      const bool is_input = i < c.in_count;
      const TensorView& v = is_input ? c.in[i] : c.out[i - c.in_count];
      if (v.dtype != DType::kNone) RNL_TRY(fn(v, !is_input || (kernel.written_inputs >> i & 1)));
    }
    return Status::ok();
  };
  RNL_TRY(each([&](const TensorView& v, bool) {
    uint64_t offset = 0;
    if (v.dtype == DType::kPacked) return weights.add(v);
    return shadow.find(v.data, &offset) ? Status::ok() : shadow.add(v.data, vulkan::heap_bytes(v));
  }));
  const uint64_t scratch = vulkan::op_scratch_bytes(kernel, c), scratch_at = shadow.bytes();
  std::vector<unsigned char> poison(scratch + 4, 0xff);
  RNL_TRY(shadow.add(poison.data(), poison.size()));
  RNL_TRY(shadow.allocate());
  RNL_TRY(weights.upload());
  RNL_TRY(shadow.push(poison.data(), poison.size()));
  RNL_TRY(each([&](const TensorView& v, bool) {
    return v.dtype == DType::kPacked ? Status::ok() : shadow.push(v.data, vulkan::heap_bytes(v));
  }));

  const vulkan::Api& api = device.api();
  RNL_ASSIGN(words, device.create_buffer(vulkan::kCallWords * 4, vulkan::MemoryKind::kReadback, "words"));
  std::memset(words.mapped, 0, vulkan::kCallWords * 4);
  static_cast<uint32_t*>(words.mapped)[vulkan::kPosition] = uint32_t(c.position);
  VkCommandPoolCreateInfo commands{VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO, nullptr, 0, device.queue_family()};
  VkCommandPool command_pool;
  RNL_VK_TRY(api.vkCreateCommandPool(device.handle(), &commands, nullptr, &command_pool), "pool");
  VkCommandBufferAllocateInfo allocate{VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO, nullptr, command_pool,
                                       VK_COMMAND_BUFFER_LEVEL_PRIMARY, 1};
  VkCommandBuffer buffer;
  RNL_VK_TRY(api.vkAllocateCommandBuffers(device.handle(), &allocate, &buffer), "buffer");
  const VkDescriptorPoolSize size{VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 64 * vulkan::kBaseBuffers};
  VkDescriptorPoolCreateInfo sets{VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO, nullptr, 0, 64, 1, &size};
  VkDescriptorPool pool;
  RNL_VK_TRY(api.vkCreateDescriptorPool(device.handle(), &sets, nullptr, &pool), "sets");
  vulkan::Recorder recorder(device, shadow, weights, words, pool);
  recorder.set_scratch(scratch_at, scratch);
  Status s = recorder.begin(buffer);
  if (s.is_ok()) {
    vulkan::record_op(recorder, kernel, c);
    s = recorder.end();
  }
  if (s.is_ok()) s = device.submit(&buffer, 1);
  EXPECT_EQ(static_cast<uint32_t*>(words.mapped)[vulkan::kFault], 0u);
  if (s.is_ok())
    s = each([&](const TensorView& v, bool is_written) {
      return is_written ? shadow.pull(v.data, vulkan::heap_bytes(v)) : Status::ok();
    });
  api.vkDestroyDescriptorPool(device.handle(), pool, nullptr);
  api.vkDestroyCommandPool(device.handle(), command_pool, nullptr);
  device.destroy(&words);
  return s;
}

void run(const OpCall& c) {
  auto device = vulkan::shared_device();
  ASSERT_TRUE(device.is_ok()) << device.take_status().message();
  const Status s = run_on_device(*device.value(), c);
  EXPECT_TRUE(s.is_ok()) << s.message();
}

size_t scratch_bytes(const OpCall& c, int) { return vulkan::op_scratch_bytes(*vulkan::find_vulkan_kernel(g_op), c); }

bool supports(const OpCall& c) {
  return vulkan::refusal(*vulkan::shared_device().value(), *vulkan::find_vulkan_kernel(g_op), c) == nullptr;
}

}  // namespace

const Kernel* vulkan_kernel(const OpDef& op) {
  static const std::string name = std::string(op.name) + "__vulkan";
  static const Kernel kernel{name.c_str(), supports, scratch_bytes, run};
  g_op = op.number;
  return vulkan::find_vulkan_kernel(op.number) ? &kernel : nullptr;
}

bool is_compared_by_reference(const OpDef& op) {
  static const char* const with_kernels_by_themselves[] = {
#define RNL_OP(number, version, name, attrs, a, b, c, d, cpu, vulkan) cpu ? nullptr : #name,
#include "ops/registry.inc"
#undef RNL_OP
      "embedding"};
  for (const char* name : with_kernels_by_themselves)
    if (name && std::strcmp(name, op.name) == 0) return true;
  return false;
}

}  // namespace runnel::test
