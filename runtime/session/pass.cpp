// One pass: operators before the head for its tokens, then the head a block of rows at a time, and what they give out.
#include <algorithm>
#include <cstring>

#include "base/clock.h"
#include "session/pass.h"

namespace runnel {
namespace {

// allowed: the bits of a value that is let through though it is not finite.
bool all_finite(const float* p, size_t n, uint32_t allowed) {
  uint32_t bad = 0;
  for (size_t i = 0; i < n; ++i) {
    uint32_t bits;
    std::memcpy(&bits, p + i, 4);
    bad |= uint32_t((bits & 0x7f800000u) == 0x7f800000u) & uint32_t(bits != allowed);
  }
  return bad == 0;
}

}  // namespace

Status Session::enqueue_ops(Pass& pass, uint32_t begin, uint32_t end) {
  const PlannedProgram& p = *pass.program;
  Vec<BoundOp>& ops = ops_[pass.program_index];
  for (uint32_t i = begin; i < end; ++i) {
    ops[i].call.position = header()->position;
    RNL_TRY(check_op_data(p, i, ops[i].call));
  }
  host_is_old_ = true;
  const bool is_body = begin < p.head_begin;
  // A recording of a head that reads no recurrent state serves whatever buffer they are in.
  const int from = is_body || p.head_reads_states ? pass.from : 0;
  return backend_->enqueue({&p, pass.program_index, begin, end, ops.data(), pass.symbols, from,
                            is_body ? pass.to : from, is_body ? 0 : pass.choose_among},
                           header()->position);
}

// Waits for a device; then gives out what the operators before the head computed, unless that is done.
Status Session::finish_ops(Pass& pass) {
  if (backend_) {
    const uint64_t t0 = now_ns();
    RNL_TRY(backend_->finish());
    if (trace_) trace_(trace_context_, "submission", backend_->device_name(), t0, now_ns());
  }
  if (pass.body_ended) return Status::ok();
  pass.body_ended = true;
  const PlannedProgram& p = *pass.program;
  // What the head would read must be finite also when no row is wanted: the states hold it already.
  for (uint32_t k = 0; !backend_ && k < p.head_inputs.size(); ++k) RNL_TRY(check_finite(pass, p.head_inputs[k]));
  return emit(pass, -1);
}

Status Session::observe(const Pass& pass, uint32_t op) const {
  const BoundOp& b = ops_[pass.program_index][op];
  const bool is_view = pass.program->ops[op].is_skipped_view;
  return observe_(observe_context_, {pass.program, op, &b.call, &pass.symbols,
                                     is_view    ? "view"
                                     : b.kernel ? b.kernel->name
                                                : "reference",
                                     pass.begin, op < pass.program->head_begin ? -1 : pass.next_row});
}

Status Session::run_ops(Pass& pass, uint32_t begin, uint32_t end) {
  pass.has_started = true;
  if (plan_.has_recurrent) point_at_buffers(pass, begin, end);
  if (backend_) return enqueue_ops(pass, begin, end);
  const PlannedProgram& p = *pass.program;
  Vec<BoundOp>& ops = ops_[pass.program_index];
  for (uint32_t i = begin; i < end; ++i) {
    if (p.ops[i].is_skipped_view) {
      if (observe_) RNL_TRY(observe(pass, i));
      continue;
    }
    // A recurrent state that is half renewed would be worth nothing: such models are cancelled between passes.
    if (!plan_.has_recurrent && cancel_.load(std::memory_order_relaxed))
      return Status::make(Code::kCancelled, "cancelled");
    BoundOp& b = ops[i];
    const OpDef& def = *p.info->ops[i].def;
    b.call.position = header()->position;
    const bool screened = int(i) == p.screened_op && pass.options;
    b.call.best = screened ? pass.options->top_logits : 0;
    b.call.wanted = screened ? pass.options->wanted : nullptr;
    b.call.wanted_count = screened ? pass.options->wanted_count : 0;
    RNL_TRY(check_op_data(p, i, b.call));
    const uint64_t t0 = trace_ ? now_ns() : 0;
    if (b.kernel) b.kernel->run(b.call);
    else def.reference(b.call);
    if (trace_) trace_(trace_context_, def.name, b.kernel ? b.kernel->name : "reference", t0, now_ns());
    if (observe_) RNL_TRY(observe(pass, i));
  }
  return Status::ok();
}

Status Session::check_finite(const Pass& pass, uint32_t value) const {
  const TensorView v = value_view(pass, value);
  // Minus infinity stands where a few logits alone were wanted.
  const bool screened = pass.options && (pass.options->top_logits > 0 || pass.options->wanted) &&
                        int(value) == pass.program->screened_value;
  if (v.dtype != DType::kF32 ||
      all_finite(static_cast<const float*>(v.data), view_bytes(v) / 4, screened ? 0xff800000u : 0))
    return Status::ok();
  return Status::make(Code::kNonFinite, "\"%s\" holds NaN or infinity for tokens %lld to %lld of the stream",
                      pass.program->info->values[value].name, static_cast<long long>(header()->position),
                      static_cast<long long>(header()->position + pass.tokens - 1));
}

// Hands every output of this pass or block to the sink. first_row: of the rows symbol; the stream's rows start at
// pass.begin.
Status Session::emit(Pass& pass, int64_t first_row) {
  const PlannedProgram& p = *pass.program;
  for (uint32_t i = 0; i < p.info->outputs.size(); ++i) {
    const uint32_t value = p.info->outputs[i];
    const PlannedOutput& out = p.outputs[i];
    const bool by_rows = out.kind == PlannedOutput::Kind::kRows;
    if (by_rows != (first_row >= 0) || !pass.wants(i)) continue;
    if (pass.choose_among > 0 && int(value) == p.choice_value) {
      const int32_t choice = backend_->choice();
      if (choice < 0 || choice >= pass.choose_among)
        return Status::make(Code::kInternal, "the device chose %d of %lld", int(choice),
                            static_cast<long long>(pass.choose_among));
      *pass.options->choice = choice;
      continue;
    }
    RNL_TRY(check_finite(pass, value));
    RNL_TRY(pass.options->sink(pass.options->sink_context, i, value_view(pass, value),
                               by_rows ? first_row : pass.begin * out.per_token));
  }
  return Status::ok();
}

// Behind the last operator of the head that computes an output that is wanted.
uint32_t Session::end_of_head(const Pass& pass) const {
  const ProgramInfo& info = *pass.program->info;
  uint32_t end = uint32_t(info.ops.size());
  const auto is_needed = [&](const OpInfo& op) {
    for (uint32_t i = 0; i < info.outputs.size(); ++i)
      for (uint32_t k = 0; k < op.out_count; ++k) {
        const Operand& o = info.operands[op.first_operand + op.in_count + k];
        if (o.kind == Operand::Kind::kValue && o.index == info.outputs[i] && pass.wants(i)) return true;
      }
    return false;
  };
  while (end > pass.program->head_begin && !is_needed(info.ops[end - 1])) --end;
  return end;
}

// Runs the head for the rows of this pass, a block at a time.
Status Session::run_head(Pass& pass) {
  const PlannedProgram& p = *pass.program;
  uint32_t rows_value = 0;
  while (rows_value < p.info->input_count && p.info->values[rows_value].role != format::Role::rows) ++rows_value;
  const int64_t end = pass.begin + pass.tokens;
  const uint32_t end_op = end_of_head(pass);
  const int64_t total_rows = pass.rows ? pass.rows->dims[0] : pass.rows_all ? pass.total : 1;
  auto row_at = [&](int64_t i) { return pass.rows ? read_int(*pass.rows, i) : pass.rows_all ? i : pass.total - 1; };
  while (pass.next_row < total_rows && row_at(pass.next_row) < end) {
    int64_t n = 0;
    while (n < plan_.options.rows && pass.next_row + n < total_rows && row_at(pass.next_row + n) < end) ++n;
    pass.symbols.v[p.rows_symbol] = n;
    const bool may_choose =
        backend_ && pass.options->choice && !pass.options->wanted_outputs && total_rows == 1 && p.choice_value >= 0;
    pass.choose_among = may_choose && !backend_->refuses(pass.program_index, uint32_t(p.info->ops.size()))
                            ? pass.options->choose_among
                            : 0;
    RNL_TRY(bind_ops(pass, p.head_begin, uint32_t(p.info->ops.size()), &bound_[pass.program_index].head));
    if (rows_value < p.info->input_count) {
      auto* out = reinterpret_cast<int32_t*>(arena_.data() + p.values[rows_value].offset);
      for (int64_t i = 0; i < n; ++i) out[i] = int32_t(row_at(pass.next_row + i) - pass.begin);
    }
    RNL_TRY(run_ops(pass, p.head_begin, end_op));
    RNL_TRY(finish_ops(pass));
    RNL_TRY(emit(pass, pass.next_row));
    pass.next_row += n;
  }
  return Status::ok();
}

Status Session::repeat_last_row(const RunOptions& options) {
  const PlannedProgram& p = plan_.programs[last_program_];
  if (p.rows_symbol < 0 || backend_ || last_tokens_ == 0)
    return Status::make(Code::kUnsupported, "there is no row to compute again");
  // What the head reads outlives all its runs; only its own rows are written anew.
  Pass pass;
  pass.program = &p;
  pass.program_index = last_program_;
  pass.symbols = bound_[last_program_].head;
  pass.tokens = pass.total = last_tokens_;
  pass.options = &options;
  pass.body_ended = true;
  return run_head(pass);
}

Status Session::run_pass(Pass& pass) {
  const PlannedProgram& p = *pass.program;
  last_tokens_ = 0;
  if (p.rows_symbol >= 0) pass.symbols.v[p.rows_symbol] = plan_.options.rows;  // of no effect before the head
  for (const ResultSize& r : p.info->results) pass.symbols.v[r.symbol] = plan_.bounds.v[r.symbol];
  // Its first operators alone: sizes of later ones may be results.
  RNL_TRY(bind_ops(pass, 0, p.first_end(), &bound_[pass.program_index].body[0]));
  for (uint32_t i = 0; i < p.info->input_count; ++i)
    if (p.info->values[i].role != format::Role::rows && value_view(pass, i).dtype != DType::kNone)
      RNL_TRY(fill_input(pass, i));
  StateHeader* h = header();
  if (plan_.reach > 0) write_log(journal_, pass, pass.tokens);
  if (backend_) log_for_recovery(pass);
  pass.from = h->buffer, pass.to = p.replaces_states ? free_buffer() : pass.from;
  pass.body_ended = false;
  h->high_water = std::max(h->high_water, h->position + pass.tokens);
  RNL_TRY(run_body(pass));
  // A device is given the first rows of the head too before it is waited for.
  if (!backend_) RNL_TRY(finish_ops(pass));
  if (p.rows_symbol >= 0) RNL_TRY(run_head(pass));
  if (!pass.body_ended) RNL_TRY(finish_ops(pass));
  copy_untouched(pass);
  h->buffer = uint8_t(pass.to);
  h->position += pass.tokens;
  if (pass.next_position >= 0) note_positions(pass, h->position - pass.tokens);
  pass.has_started = false;
  last_program_ = pass.program_index;
  last_tokens_ = pass.tokens;
  seen_position_.store(h->position, std::memory_order_relaxed);
  return Status::ok();
}

}  // namespace runnel
