// One call of a program that is watched: after every operator its values are there to be read, pass by pass.
#pragma once

#include <functional>

#include "api/handles.h"
#include "cli/call.h"

namespace runnel::cli {

// A part of a value: what one pass (or block of rows) computed of it. A value of the whole call is its parts one after
// the other along `axis`.
struct ValuePart {
  uint32_t value;
  uint32_t op;
  const char* kernel;
  TensorView view;  // of the part
  int axis;         // along which the parts are joined; -1: every pass computes the same
  int64_t whole_dims[kMaxRank];
  int64_t offset;  // of the part, along the axis

  // Calls fn(index, elements, first) for each run of elements that lie together in the whole: its index there, their
  // number and the first one's index in the part.
  template <class Fn>
  void for_each_run(Fn fn) const {
    int64_t outer = 1, inner = 1;
    for (int d = 0; d < axis; ++d) outer *= view.dims[d];
    for (int d = axis < 0 ? 0 : axis; d < view.rank; ++d) inner *= view.dims[d];
    const int64_t row = axis < 0 || view.dims[axis] == 0 ? 0 : inner / view.dims[axis];
    for (int64_t o = 0; o < outer && inner; ++o)
      fn(axis < 0 ? 0 : (o * whole_dims[axis] + offset) * row, inner, o * inner);
  }
};

class ObservedCall {
 public:
  // inputs: tensors that are inputs of the program; others are left out. Throws Failure.
  ObservedCall(const Options& o, const std::vector<NamedTensor>& tensors);
  // Shape of a value in the whole call.
  TensorView whole(uint32_t value) const;
  const Model& model() const { return *opened_.model.get()->model; }
  const ProgramInfo& program() const { return *program_; }
  const PlannedProgram& planned() const { return *planned_; }
  const std::vector<NamedTensor>& inputs() const { return given_; }
  int64_t chunk() const { return plan().options.chunk; }
  // Runs the call. see() may throw Failure, which ends it.
  rnl::Status run(const std::function<void(const ValuePart&)>& see);
  // Whether all of a value was seen.
  bool is_complete(uint32_t value) const;

 private:
  const Plan& plan() const { return session_.get()->session->plan(); }
  int joined_axis(uint32_t value) const;

  Opened opened_;
  rnl::Session session_;
  const ProgramInfo* program_ = nullptr;
  const PlannedProgram* planned_ = nullptr;
  std::vector<NamedTensor> given_;
  std::vector<rnl_tensor> tensors_;
  std::string name_;
  CallBinding symbols_{};
  std::vector<int64_t> seen_;  // of each value: elements along its axis, or parts where there is none
};

}  // namespace runnel::cli
