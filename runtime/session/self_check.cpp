// Before a device is trusted, the operators of every program run once on both sides, one by one on the same inputs: some tokens of made-up
// input. Where results differ the CPU keeps the operator.
#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "session/pass.h"

namespace runnel {
namespace {

constexpr int64_t kTokens = 3;

void make_up(const TensorView& v) {
  const size_t n = view_bytes(v) / dtype_bytes(v.dtype);
  uint32_t random = 1;
  for (size_t i = 0; i < n; ++i) {
    random = random * 1664525u + 1013904223u;
    if (v.dtype == DType::kF32) static_cast<float*>(v.data)[i] = float(random >> 8) * 0x1p-23f - 1;
    if (v.dtype == DType::kI32) static_cast<int32_t*>(v.data)[i] = int32_t(i % size_t(kTokens));
  }
}

}  // namespace

Status Session::check_backend() {
  while (!backend_->is_checked()) {
    for (uint32_t i = 0; i < plan_.programs.size(); ++i) {
      Status s = check_program(i);
      // Made-up input need not make sense to a program; what has been checked by then stands.
      if (s.code() == Code::kDeviceLost || s.code() == Code::kOutOfMemory) return s;
      if (!s.is_ok()) log(LogLevel::kInfo, "self-check of program \"%s\" ended early: %s", plan_.programs[i].info->name, s.message());
    }
    body_bound_.v[0] = head_bound_.v[0] = -1;
    bound_program_ = nullptr;
    RNL_TRY(backend_->end_check());
  }
  return Status::ok();
}

Status Session::check_program(uint32_t number) {
  Pass pass;
  pass.program_index = number;
  const PlannedProgram& p = plan_.programs[number];
  pass.program = &p;
  pass.symbols = plan_.bounds;
  if (p.stream_symbol >= 0) pass.symbols.v[p.stream_symbol] = pass.tokens = pass.total = std::min(kTokens, plan_.options.chunk);
  body_bound_.v[0] = -1;
  RNL_TRY(bind_ops(pass, 0, uint32_t(p.info->ops.size()), &body_bound_));
  for (uint32_t i = 0; i < p.info->input_count; ++i) {
    const ValueInfo& info = p.info->values[i];
    if (info.role == format::Role::rows) std::memset(value_view(pass, i).data, 0, view_bytes(value_view(pass, i)));
    else if (is_filled_in(info.role)) RNL_TRY(fill_by_role(pass, i, 0));
    else make_up(value_view(pass, i));
  }
  const int from = pass.from = header()->buffer, to = pass.to = p.replaces_states ? free_buffer() : from;
  if (plan_.has_recurrent) point_at_buffers(pass, 0, uint32_t(p.info->ops.size()));
  Vec<BoundOp>& ops = ops_[number];
  for (uint32_t i = 0; i < p.info->ops.size(); ++i) {
    if (p.ops[i].is_skipped_view) continue;
    if (p.info->ops[i].def->check_data) RNL_TRY(p.info->ops[i].def->check_data(ops[i].call));
    const bool is_body = i < p.head_begin;
    RNL_TRY(backend_->check_op({&p, number, i, i + 1, ops.data(), pass.symbols, from, is_body ? to : from, 0}));
  }
  return Status::ok();
}

}  // namespace runnel
