// A model's packed weights on a device, shared by all sessions that use both.
#pragma once

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
  // An operator that gave other results than the CPU's, by this driver.
  struct Operator {
    uint32_t program, op;
  };
  // What the self-check of sessions of this kind found, in this process or an earlier one; false: there was none. Any
  // thread.
  bool find_verdict(uint64_t kind, Vec<Operator>* failed);
  Status keep_verdict(uint64_t kind, const Vec<Operator>& failed);
  // Some operator failed while optional features were in use: the device goes on without them, and the check has to be
  // made again.
  void drop_features(uint64_t kind);

 private:
  struct Verdict {
    uint64_t kind;
    uint32_t features;  // that were in use
    Vec<Operator> failed;
  };
  const Vec<Operator>* known(uint64_t kind) const;
  void read_verdict(uint64_t kind);
  uint64_t fingerprint_ = 0;
  Vec<Verdict> verdicts_;
  std::shared_ptr<Device> device_;
  std::unique_ptr<WeightBuffers> weights_;
};

// The device that this process uses, opened when it is first asked for.
Result<std::shared_ptr<Device>> shared_device();

}  // namespace runnel::vulkan
