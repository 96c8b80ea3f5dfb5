// Before a device is trusted, the operators of every program run on both sides, one by one on the same inputs: some
// tokens of made-up input, then one, for which kernels are others. Where results differ the CPU keeps the operator.
#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "session/pass.h"

namespace runnel {
namespace {

constexpr int64_t kTokens = 5;  // products have tiles of four

// Other numbers for each seed: what the device has from an earlier call is no answer.
void make_up(const TensorView& v, int64_t seed) {
  const size_t n = view_bytes(v) / dtype_bytes(v.dtype);
  uint32_t random = uint32_t(seed);
  for (size_t i = 0; i < n; ++i) {
    random = random * 1664525u + 1013904223u;
    if (v.dtype == DType::kF32) static_cast<float*>(v.data)[i] = float(random >> 8) * 0x1p-23f - 1;
    if (v.dtype == DType::kI32) static_cast<int32_t*>(v.data)[i] = int32_t((i + size_t(seed)) % size_t(kTokens));
  }
}

void clear(const TensorView& v) {
  if (v.dtype != DType::kNone) std::memset(v.data, 0, view_bytes(v));
}

}  // namespace

Status Session::check_backend() {
  while (!backend_->is_checked()) {
    bool is_whole = true;
    for (uint32_t i = 0; i < plan_.programs.size(); ++i)
      for (const int64_t most : {kTokens, int64_t(1)}) {
        if (most == 1 && plan_.programs[i].stream_symbol < 0 && plan_.programs[i].rows_symbol < 0) continue;
        const uint64_t optional = plan_.programs[i].info->optional_inputs;
        Status s = check_program(i, most, 0, &is_whole);
        if (s.is_ok() && optional) s = check_program(i, most, optional, &is_whole);
        if (s.code() == Code::kDeviceLost || s.code() == Code::kOutOfMemory) return s;
        if (s.is_ok()) continue;
        is_whole = false;
        log(LogLevel::kInfo, "self-check of program \"%s\" ended early: %s", plan_.programs[i].info->name, s.message());
      }
    unbind();
    RNL_TRY(backend_->end_check(is_whole));
  }
  return Status::ok();
}

// Whether made-up input makes sense to an operator: where it does not, its numbers are made 0.
bool Session::can_check(const PlannedProgram& p, uint32_t number, const OpCall& call) const {
  const OpInfo& op = p.info->ops[number];
  if (!op.def->check_data || op.def->check_data(call).is_ok()) return true;
  for (int k = 0; k < op.in_count; ++k)
    if (p.info->operands[op.first_operand + uint32_t(k)].kind == Operand::Kind::kValue &&
        call.in[k].dtype == DType::kI32)
      clear(call.in[k]);
  const Status s = op.def->check_data(call);
  if (!s.is_ok())
    log(LogLevel::kInfo, "self-check: operator %u (%s) of program \"%s\" was not tried: %s", number, op.def->name,
        p.info->name, s.message());
  return s.is_ok();
}

Status Session::check_program(uint32_t number, int64_t most, uint64_t absent, bool* is_whole) {
  Pass pass;
  pass.program_index = number;
  const PlannedProgram& p = plan_.programs[number];
  pass.program = &p;
  pass.symbols = plan_.bounds;
  pass.symbols.absent = absent;
  for (const int symbol : {p.stream_symbol, p.rows_symbol})
    if (symbol >= 0) pass.symbols.v[symbol] = std::min(most, plan_.bounds.v[symbol]);
  if (p.stream_symbol >= 0) pass.tokens = pass.total = pass.symbols.v[p.stream_symbol];
  CallBinding binding;
  binding.v[0] = -1;
  RNL_TRY(bind_ops(pass, 0, uint32_t(p.info->ops.size()), &binding));
  for (const uint32_t v : p.numbers_written) clear(value_view(pass, v));
  for (const uint32_t state : p.kept_read) {
    const int64_t floats = int64_t(plan_.states[state].bytes / sizeof(float));
    make_up({state_data(state), nullptr, {floats}, 1, DType::kF32}, most);
  }
  for (uint32_t i = 0; i < p.info->input_count; ++i) {
    const ValueInfo& info = p.info->values[i];
    if (info.role == format::Role::rows) clear(value_view(pass, i));
    else if (info.is_filled_in()) RNL_TRY(fill_by_role(pass, i, 0));
    else if (const TensorView v = value_view(pass, i); v.dtype != DType::kNone) make_up(v, most);
  }
  const int from = pass.from = header()->buffer, to = pass.to = p.replaces_states ? free_buffer() : from;
  if (plan_.has_recurrent) point_at_buffers(pass, 0, uint32_t(p.info->ops.size()));
  Vec<BoundOp>& ops = ops_[number];
  for (uint32_t i = 0; i < p.info->ops.size(); ++i) {
    if (p.ops[i].is_skipped_view) continue;
    OpCall& call = ops[i].call;
    call.position = 0;
    if (!can_check(p, i, call)) {
      *is_whole = false;
      for (int k = 0; k < call.out_count; ++k)
        if (p.info->operands[p.info->ops[i].first_operand + uint32_t(call.in_count + k)].kind == Operand::Kind::kValue)
          clear(call.out[k]);
      continue;
    }
    const bool is_body = i < p.head_begin;
    RNL_TRY(backend_->check_op({&p, number, i, i + 1, ops.data(), pass.symbols, from, is_body ? to : from, 0}));
  }
  return Status::ok();
}

}  // namespace runnel
