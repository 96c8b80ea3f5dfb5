// The device's side of the self-check (session/self_check.cpp).
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "base/log.h"
#include "vulkan_session/runner.h"

namespace runnel::vulkan {
namespace {

// Kernels of the CPU round activations to 8 bits; a driver that is wrong is so by far more.
constexpr float kTolerance = 0.05f;

bool floats_differ(const float* seen, const float* wanted, size_t n) {
  float largest = 0, apart = 0;
  bool is_finite = true;
  for (size_t i = 0; i < n; ++i) {
    if (!std::isfinite(wanted[i])) continue;
    is_finite = is_finite && std::isfinite(seen[i]);
    largest = std::fmax(largest, std::fabs(wanted[i]));
    apart = std::fmax(apart, std::fabs(seen[i] - wanted[i]));
  }
  return !is_finite || apart > kTolerance * largest;
}

// Choices may differ where two are nearly the same.
bool integers_differ(const int32_t* seen, const int32_t* wanted, size_t n) {
  size_t differing = 0;
  for (size_t i = 0; i < n; ++i) differing += seen[i] != wanted[i];
  return differing * 2 > n;
}

// The output of `op` that is the program's choice_value; -1: none.
int choice_of(const PlannedProgram& p, const OpInfo& op) {
  for (int k = 0; k < op.out_count; ++k) {
    const Operand& o = p.info->operands[op.first_operand + uint32_t(op.in_count + k)];
    if (o.kind == Operand::Kind::kValue && int(o.index) == p.choice_value) return k;
  }
  return -1;
}

int32_t highest(const float* x, int64_t n) {
  int64_t best = 0;
  for (int64_t i = 1; i < n; ++i)
    if (x[i] > x[best]) best = i;
  return int32_t(best);
}

}  // namespace

// What is chosen from must be on the device.
void Runner::keep_choice_with_its_values() {
  for (size_t i = 0; i < plan_.programs.size(); ++i) {
    const ProgramInfo& info = *plan_.programs[i].info;
    for (uint32_t k = 0; k < info.ops.size(); ++k)
      if (refusals_[i][k] && choice_of(plan_.programs[i], info.ops[k]) >= 0)
        refusals_[i][info.ops.size()] = refusals_[i][k];
  }
}

void Runner::take_verdict() {
  const char* wish = std::getenv("RUNNEL_VULKAN_SELF_CHECK");
  is_checked_ = wish && std::strcmp(wish, "0") == 0;
  Vec<ModelOnDevice::Operator> failed;
  if (model_->find_verdict(kind_, &failed)) {
    is_checked_ = true;
    leave_to_cpu(failed);
  }
  keep_choice_with_its_values();
}

void Runner::leave_to_cpu(const Vec<ModelOnDevice::Operator>& failed) {
  for (const ModelOnDevice::Operator& o : failed)
    if (o.program < refusals_.size() && o.op < refusals_[o.program].size())
      refusals_[o.program][o.op] = "it failed the self-check";
}

// The CPU's results are in the arena.
bool Runner::has_lied(const OpRange& range, const OpInfo& op, const Vec<Vec<unsigned char>>& seen) const {
  const OpCall& call = range.ops[range.begin].call;
  for (int k = 0; k < op.out_count; ++k) {
    const TensorView& v = call.out[k];
    const size_t n = seen[size_t(k)].size() / 4;
    if (v.dtype == DType::kF32 &&
        floats_differ(reinterpret_cast<const float*>(seen[size_t(k)].data()), static_cast<const float*>(v.data), n))
      return true;
    if (v.dtype == DType::kI32 && integers_differ(reinterpret_cast<const int32_t*>(seen[size_t(k)].data()),
                                                  static_cast<const int32_t*>(v.data), n))
      return true;
  }
  return false;
}

Status Runner::check_op(const OpRange& range) {
  const uint32_t number = range.begin;
  const OpInfo& op = range.program->info->ops[number];
  BoundOp& b = range.ops[number];
  b.call.position = 0;
  const auto state_of = [&](int k) -> const Operand* {
    const Operand& o = range.program->info->operands[op.first_operand + uint32_t(k)];
    return o.kind == Operand::Kind::kState ? &o : nullptr;
  };
  const auto run_on_host = [&] { b.kernel ? b.kernel->run(b.call) : op.def->reference(b.call); };
  const auto has_failed = [&](uint32_t n) {
    for (const ModelOnDevice::Operator& o : failed_)
      if (o.program == range.program_index && o.op == n) return true;
    return false;
  };
  if (refusals_[range.program_index][number] || has_failed(number)) {
    run_on_host();
    return Status::ok();
  }
  // Slots of rings are not read at position 0.
  Vec<HostRange> inputs;
  for (int k = 0; k < op.in_count; ++k) {
    const Operand& o = range.program->info->operands[op.first_operand + uint32_t(k)];
    const bool is_state = o.kind == Operand::Kind::kState && !plan_.model->states()[o.index].has_slots();
    if (o.kind == Operand::Kind::kValue || is_state)
      RNL_TRY(inputs.push({static_cast<unsigned char*>(b.call.in[k].data),
                           is_state ? plan_.states[o.index].bytes : view_bytes(b.call.in[k])}));
  }
  RNL_TRY(shadow_->push_all(inputs.data(), inputs.size()));
  OpRange asked = range;
  const int chosen = choice_of(*range.program, op);
  const uint32_t choice = uint32_t(range.program->info->ops.size());
  const bool chooses = chosen >= 0 && !refusals_[range.program_index][choice] && !has_failed(choice);
  asked.choose_among = chooses ? b.call.out[chosen].dims[1] : 0;
  Status s = enqueue(asked, 0);
  if (s.is_ok()) s = finish();
  if (!s.is_ok()) drop();
  if (s.code() == Code::kDeviceLost || s.code() == Code::kOutOfMemory) return s;
  if (!s.is_ok() && s.code() != Code::kNonFinite) {
    log(LogLevel::kWarning, "Vulkan: %s: operator %u (%s) of program \"%s\" does not run, the CPU keeps it: %s",
        model_->device().info().name, number, op.def->name, range.program->info->name, s.message());
    run_on_host();
    return failed_.push({range.program_index, number});
  }
  Vec<Vec<unsigned char>> seen;
  RNL_TRY(seen.assign(op.out_count));
  for (int k = 0; k < op.out_count; ++k) {
    const TensorView& v = b.call.out[k];
    const Operand* state = state_of(op.in_count + k);
    if (v.dtype == DType::kNone || (state && plan_.model->states()[state->index].has_slots())) continue;
    const size_t bytes = view_bytes(v);
    uint64_t offset = 0;
    RNL_TRY(seen[size_t(k)].assign(bytes));
    if (bytes == 0 || !shadow_->find(v.data, &offset)) continue;
    const CopyPiece piece{seen[size_t(k)].data(), bytes, offset};
    RNL_TRY(model_->device().download(shadow_->heap(), &piece, 1));
  }
  // What was chosen is compared with what it was chosen from.
  if (const float* from =
          asked.choose_among > 0 ? reinterpret_cast<const float*>(seen[size_t(chosen)].data()) : nullptr;
      from && s.is_ok()) {
    const int64_t n = b.call.out[chosen].dims[1];
    if (n > 0 && seen[size_t(chosen)].size() >= size_t(n) * 4 && choice_ != highest(from, n)) {
      log(LogLevel::kWarning,
          "Vulkan: %s: the choice of the highest element gives other results than on the CPU, which keeps it",
          model_->device().info().name);
      RNL_TRY(failed_.push({range.program_index, choice}));
    }
  }
  run_on_host();
  if (!has_lied(range, op, seen)) return Status::ok();
  log(LogLevel::kWarning,
      "Vulkan: %s: operator %u (%s) of program \"%s\" gives other results than on the CPU, which keeps it",
      model_->device().info().name, number, op.def->name, range.program->info->name);
  return failed_.push({range.program_index, number});
}

Status Runner::end_check(bool is_whole) {
  for (Recording& r : recordings_) free_recording(&r);
  recordings_.clear();
  if (!failed_.empty() && model_->device().features() != 0) {
    model_->drop_features(kind_);
    take_verdict();
  } else {
    if (is_whole) RNL_TRY(model_->keep_verdict(kind_, failed_));
    leave_to_cpu(failed_);
    keep_choice_with_its_values();
    is_checked_ = true;
  }
  failed_ = Vec<ModelOnDevice::Operator>();
  stats_ = BackendStats();
  return Status::ok();
}

}  // namespace runnel::vulkan
