// Runs a session's operators on a device. A range of operators is recorded once for each set of sizes and replayed: per
// call the host copies the inputs, writes two words and waits once. Operators without a kernel run on the CPU between
// two submissions, their operands copied.
//
// Threads: used by the session's thread; device and weights are shared by all sessions of a model.
#pragma once

#include "session/backend.h"
#include "vulkan/kernel.h"
#include "vulkan_session/model_on_device.h"

namespace runnel::vulkan {

class Runner final : public Backend {
 public:
  static Result<std::unique_ptr<Runner>> create(const Plan& plan, const BackendMemory& memory);
  ~Runner() override;

  const char* refuses(uint32_t program, uint32_t op) const override { return refusals_[program][op]; }
  bool is_checked() const override { return is_checked_; }
  Status check_op(const OpRange& op) override;
  Status end_check(bool is_whole) override;
  Status enqueue(const OpRange& range, int64_t position) override;
  Status finish() override;
  void drop() override;
  int32_t choice() const override { return choice_; }
  Status to_host(const HostRange* ranges, size_t count) override;
  Status to_device(const HostRange* ranges, size_t count) override;
  bool is_lost() const override;
  BackendStats stats() const override;
  uint64_t device_bytes() const override;
  uint64_t imported_bytes() const override { return model_->weights().imported_bytes(); }
  const char* device_name() const override;

 private:
  // A value of the program that is copied between the arena and a buffer that the host sees.
  struct IoCopy {
    unsigned char* host;
    uint64_t bytes, offset;
  };
  // Operators of one submission; behind each but the last the host waits, and may run an operator on the CPU.
  struct Part {
    uint32_t begin = 0, end = 0;  // recorded ones
    VkCommandBuffer commands = VK_NULL_HANDLE;
    int64_t cpu_op = -1;
  };
  struct Recording {
    uint32_t program = 0, begin = 0, end = 0;
    int from = 0, to = 0;
    int64_t choose_among = 0;
    CallBinding symbols{};
    VkDescriptorPool pool = VK_NULL_HANDLE;
    Vec<Part> parts;
    Vec<IoCopy> inputs, outputs;
    uint64_t last_used = 0;
  };
  Runner(const Plan& plan, const BackendMemory& memory) : plan_(plan), memory_(memory) {}
  Status plan_programs();
  Status add_constants();
  Status plan_limits();
  Status plan_op_limits(uint32_t program, uint32_t op, const CallBinding& binding);
  uint64_t kind_of_session() const;
  Recorder recorder_of(VkDescriptorPool pool) const;
  Result<Recording*> recording_of(const OpRange& range);
  Status record(const OpRange& range, Recording* r);
  Status record_part(const OpRange& range, Recording* r, Part* part);
  static const TensorView* find_view(const OpRange& range, uint32_t value, bool is_output);
  static void record_choice(Recorder& recorder, const TensorView& all, int64_t among);
  static void record_finite(Recorder& recorder, const OpCall& last);
  Status run_on_cpu(const OpRange& range, uint32_t op, int64_t position);
  void free_recording(Recording* r);
  Status enqueue_range(const OpRange& range, int64_t position);
  Status submit();
  void take_verdict();
  void leave_to_cpu(const Vec<ModelOnDevice::Operator>& failed);
  void keep_choice_with_its_values();
  bool has_lied(const OpRange& range, const OpInfo& op, const Vec<Vec<unsigned char>>& seen) const;

  const Plan& plan_;
  BackendMemory memory_;
  std::shared_ptr<ModelOnDevice> model_;
  std::unique_ptr<Shadow> shadow_;
  Vec<Vec<const char*>> refusals_;  // by program and operator, last that of the choice
  Vec<Vec<uint32_t>> sets_;         // descriptor sets that an operator needs at most
  uint64_t scratch_offset_ = 0, scratch_bytes_ = 0;
  Vec<Vec<uint64_t>> io_offsets_;  // by program and value: place in io_in_ or io_out_
  Buffer io_in_, io_out_, call_words_;
  VkCommandPool command_pool_ = VK_NULL_HANDLE;
  Vec<Recording> recordings_;
  Vec<VkCommandBuffer> waiting_;
  Vec<Recording*> finishing_;  // whose outputs are to be copied
  int64_t position_ = 0;       // of what waits
  int32_t choice_ = -1;
  uint64_t clock_ = 0;
  BackendStats stats_;
  uint64_t kind_ = 0;  // of this session, for the outcome of the self-check
  bool is_checked_ = false;
  Vec<ModelOnDevice::Operator> failed_;  // while the self-check runs
};

Result<std::unique_ptr<Backend>> create_runner(const Plan& plan, const BackendMemory& memory);
Status describe_devices(void (*line)(void* context, const char* text), void* context);

}  // namespace runnel::vulkan
