// Operators of a program proved and pointed at memory for the sizes of a call; each program keeps what it was bound to
// last.
#include <cstring>

#include "session/pass.h"

namespace runnel {

TensorView Session::value_view(const Pass& pass, uint32_t value) const {
  TensorView v{};
  const ValueInfo& info = pass.program->info->values[value];
  if (value < 64 && (pass.symbols.absent >> value & 1)) return v;
  // The shape was evaluated with the same symbols when the operators were bound, so it cannot fail here.
  if (!evaluate_shape(model(), info.shape, pass.symbols, info.name, &v).is_ok()) return v;
  v.dtype = info.dtype;
  v.data = arena_.data() + pass.program->values[value].offset;
  return v;
}

// Evaluates shapes and proves the calls of operators [begin, end), unless they are bound to these symbols already.
Status Session::bind_ops(Pass& pass, uint32_t begin, uint32_t end, CallBinding* last) {
  const PlannedProgram& p = *pass.program;
  if (std::memcmp(last, &pass.symbols, sizeof *last) == 0) return Status::ok();
  last->v[0] = -1;  // until all of it succeeded
  if (begin == 0) RNL_TRY(check_input_sizes(p, pass.symbols));
  Vec<BoundOp>& ops = ops_[pass.program_index];
  Vec<TensorView>& views = views_[pass.program_index];
  const int along = begin < p.head_begin ? p.stream_symbol : p.rows_symbol;
  ThreadPool* pool = along >= 0 && pass.symbols.v[along] == 1 ? thread_pool_part(pool_) : pool_;
  for (uint32_t i = begin; i < end; ++i) {
    const OpInfo& op = p.info->ops[i];
    TensorView* v = &views[op.first_operand];
    Status s = operand_views(plan_, p, op, pass.symbols, v);
    for (uint32_t k = 0; s.is_ok() && k < uint32_t(op.in_count) + op.out_count; ++k) {
      const Operand& o = p.info->operands[op.first_operand + k];
      if (o.kind == Operand::Kind::kState) v[k].data = state_data(o.index);
      if (o.kind != Operand::Kind::kValue || v[k].dtype == DType::kNone) continue;
      v[k].data = arena_.data() + p.values[o.index].offset;
      if (view_bytes(v[k]) > p.values[o.index].bytes)
        s = Status::make(Code::kInvalidModel, "\"%s\" is larger in this call than at the upper bounds of its sizes",
                         p.info->values[o.index].name);
    }
    BoundOp& b = ops[i];
    b.call = {v,   v + op.in_count, op.in_count, op.out_count, &op.params, 0, arena_.data() + p.ops[i].scratch_offset,
              pool};
    if (s.is_ok()) s = op.def->check(b.call);
    if (!s.is_ok()) return std::move(s).with_context("program \"%s\", operator %u (%s)", p.info->name, i, op.def->name);
    b.kernel = find_kernel(op.def->number, b.call);
    const size_t scratch =
        b.kernel && b.kernel->scratch_bytes ? b.kernel->scratch_bytes(b.call, plan_.options.threads) : 0;
    if (scratch > p.ops[i].scratch_bytes)
      return Status::make(Code::kInternal, "program \"%s\", operator %u (%s): needs %zu bytes of scratch, planned %zu",
                          p.info->name, i, op.def->name, scratch, p.ops[i].scratch_bytes);
  }
  if (end > begin) *last = pass.symbols;
  return Status::ok();
}

void Session::unbind() {
  for (Bound& b : bound_) {
    for (CallBinding& body : b.body) body.v[0] = -1;
    b.head.v[0] = -1;
  }
}

// What depends on data. On a device only program inputs and tensors of the file are at hand; shaders report the rest.
Status Session::check_op_data(const PlannedProgram& p, uint32_t op, const OpCall& call) const {
  const OpInfo& info = p.info->ops[op];
  if (!info.def->check_data) return Status::ok();
  for (uint32_t k = 0; backend_ && k < info.in_count; ++k) {
    const Operand& o = p.info->operands[info.first_operand + k];
    if (o.kind == Operand::Kind::kValue && o.index >= p.info->input_count && call.in[k].dtype == DType::kI32)
      return Status::ok();
  }
  Status s = info.def->check_data(call);
  return s.is_ok() ? Status::ok()
                   : std::move(s).with_context("program \"%s\", operator %u (%s)", p.info->name, op, info.def->name);
}

}  // namespace runnel
