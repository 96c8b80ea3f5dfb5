// A model's packed weights on a device, shared by all sessions that use both.
#pragma once

#include <atomic>

#include "format/model_file.h"
#include "vulkan/pipelines.h"
#include "vulkan/shadow.h"

namespace runnel::vulkan {

class ModelOnDevice {
 public:
  // The one that is open already, or a new one. Any thread.
  static Result<std::shared_ptr<ModelOnDevice>> open(const Model& model);
  Device& device() { return *device_; }
  const WeightBuffers& weights() const { return *weights_; }
  // Operators that gave other results than the CPU's, by this driver, and whether that has been tried: now or in an earlier process.
  struct Operator {
    uint32_t program, op;
  };
  bool is_checked() const { return is_checked_; }
  const Vec<Operator>& failed() const { return failed_; }
  // Any thread; the first one counts.
  Status set_checked(Vec<Operator> failed);
  // Some operator failed while optional features were in use: the device goes on without them, and the check has to be made again.
  void drop_features();

 private:
  void read_verdict();
  uint64_t fingerprint_ = 0;
  std::atomic<bool> is_checked_{false};
  Vec<Operator> failed_;
  std::shared_ptr<Device> device_;
  std::unique_ptr<WeightBuffers> weights_;
};

// The device that this process uses, opened when it is first asked for.
Result<std::shared_ptr<Device>> shared_device();

}  // namespace runnel::vulkan
