// What the planner makes of a model: weights, states and operators, of which runnel.h tells sizes alone.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runnel/runnel.h"

namespace runnel::cli {

struct PlanReport {
  struct Weight {
    std::string name, type;  // f32, f16, bf16 or the block format
    std::vector<int64_t> shape;
    uint64_t bytes;
  };
  struct State {
    std::string name, kind, dtype;
    std::vector<int64_t> shape;
    int64_t window, slots;
    int copies;
    uint64_t bytes;  // of all copies
  };
  struct Op {
    std::string name, kernel;
    std::vector<std::string> inputs, outputs;  // names of values, weights and states; "-": absent
    uint64_t scratch;
    bool is_head;
  };
  int64_t context = 0, chunk = 0;  // as chosen
  std::vector<Weight> weights;
  std::vector<State> states;
  std::vector<std::vector<Op>> programs;
};

// on_device: a session with these options on a device, which says what runs there; null: all runs on the CPU. Throws
// Failure.
PlanReport plan_report(const rnl_model* model, const rnl_session_options& options, const rnl_session* on_device);

// Encodes and decodes what the model's own vocabulary should give back. Throws Failure; of a model without a tokenizer
// there is nothing to check.
void check_tokenizer(const rnl_model* model);

}  // namespace runnel::cli
