#include "session/session.h"

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

size_t Session::state_block_bytes(const Plan& plan) {
  return kStateHeaderBytes + plan.state_bytes;
}

unsigned char* Session::state_data(uint32_t index, int buffer) const {
  const PlannedState& s = plan_.states[index];
  return state_.data() + (state_block_bytes(plan_) - plan_.state_bytes) + s.offset + size_t(buffer) * s.stride;
}

Result<std::unique_ptr<Session>> Session::create(const Model& model, ThreadPool* pool, const PlanOptions& options, void* state_memory, void* arena_memory) {
  std::unique_ptr<Session> s(new (std::nothrow) Session);
  if (!s) return Status::make(Code::kOutOfMemory, "no memory for a session");
  PlanOptions o = options;
  o.threads = pool ? thread_pool_size(pool) : 1;
  auto plan = make_plan(model, o);
  if (!plan.is_ok()) return plan.take_status();
  s->plan_ = std::move(plan.value());
  s->pool_ = pool;
  const size_t block = state_block_bytes(s->plan_);
  auto state = state_memory ? Block::borrow(state_memory, block, kStateAlignment, "state") : Block::allocate(block, "state");
  if (!state.is_ok()) return state.take_status();
  s->state_ = std::move(state.value());
  auto arena = arena_memory ? Block::borrow(arena_memory, s->plan_.arena_bytes, kStateAlignment, "arena") : Block::allocate(s->plan_.arena_bytes, "arena");
  if (!arena.is_ok()) return arena.take_status();
  s->arena_ = std::move(arena.value());

  RNL_TRY(s->ops_.assign(s->plan_.programs.size()));
  RNL_TRY(s->views_.assign(s->plan_.programs.size()));
  RNL_TRY(s->bound_.assign(s->plan_.programs.size()));
  s->unbind();
  size_t inputs = 0;
  for (size_t i = 0; i < s->plan_.programs.size(); ++i) {
    const ProgramInfo& info = *s->plan_.programs[i].info;
    RNL_TRY(s->ops_[i].assign(info.ops.size()));
    RNL_TRY(s->views_[i].assign(info.operands.size()));
    inputs = std::max<size_t>(inputs, info.input_count);
  }
  RNL_TRY(s->matched_.assign(inputs));
  if (s->plan_.reach > 0) {
    s->journal_ = {s->state_.data() + (block - s->plan_.state_bytes) + s->plan_.journal_offset, s->plan_.reach, s->plan_.journal_row};
    s->kept_log_ = s->journal_;
    s->kept_log_.data = s->state_.data() + block - (s->plan_.state_bytes - s->plan_.journal_offset) / 2;
  }
  if (o.backend == BackendKind::kVulkan) {
    const BackendEntry* entry = vulkan_backend();
    if (!entry) return Status::make(Code::kUnsupported, "this library was built without Vulkan");
    auto backend = entry->create(s->plan_, {s->arena_.data(), s->state_.data() + (block - s->plan_.state_bytes), pool});
    if (!backend.is_ok()) return backend.take_status();
    s->backend_ = std::move(backend.value());
    s->host_header_.reset(new (std::nothrow) StateHeader);
    if (!s->host_header_) return Status::make(Code::kOutOfMemory, "no memory for a session");
    RNL_ASSIGN(fed, Block::allocate(size_t(o.snapshot_every) * s->plan_.journal_row, "log of inputs"));
    s->fed_memory_ = std::move(fed);
    s->fed_ = {s->fed_memory_.data(), o.snapshot_every, s->plan_.journal_row};
    s->reset();
    RNL_TRY(s->check_backend());
  }
  s->reset();
  return s;
}

void Session::reset() {
  StateHeader* h = header();
  std::memset(h, 0, sizeof *h);
  std::memcpy(h->magic, "RNLSTATE", 8);
  h->version = kStateVersion;
  h->model = model().fingerprint();
  describe_plan(h);
  start_recurrent();
  host_is_newer();
  seen_position_.store(0, std::memory_order_relaxed);
}

void Session::unbind() {
  for (Bound& b : bound_) b.body.v[0] = b.head.v[0] = -1;
}

MemoryReport Session::memory_of(const Plan& plan) {
  MemoryReport m = plan.memory;
  m.fixed += sizeof(Session);
  if (plan.options.backend != BackendKind::kCpu) m.fixed += sizeof(StateHeader) + size_t(plan.options.snapshot_every) * plan.journal_row;
  for (const PlannedProgram& p : plan.programs) m.fixed += sizeof(Bound) + p.info->ops.size() * sizeof(BoundOp) + p.info->operands.size() * sizeof(TensorView);
  return m;
}

SessionStats Session::stats() const {
  return {seen_position_.load(std::memory_order_relaxed), tokens_.load(std::memory_order_relaxed), passes_.load(std::memory_order_relaxed),
          nanoseconds_.load(std::memory_order_relaxed)};
}

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
        s = Status::make(Code::kInvalidModel, "\"%s\" is larger in this call than at the upper bounds of its sizes", p.info->values[o.index].name);
    }
    BoundOp& b = ops[i];
    b.call = {v, v + op.in_count, op.in_count, op.out_count, &op.params, 0, arena_.data() + p.ops[i].scratch_offset, pool};
    if (s.is_ok()) s = op.def->check(b.call);
    if (!s.is_ok()) return std::move(s).with_context("program \"%s\", operator %u (%s)", p.info->name, i, op.def->name);
    b.kernel = find_kernel(op.def->number, b.call);
    const size_t scratch = b.kernel && b.kernel->scratch_bytes ? b.kernel->scratch_bytes(b.call, plan_.options.threads) : 0;
    if (scratch > p.ops[i].scratch_bytes)
      return Status::make(Code::kInternal, "program \"%s\", operator %u (%s): needs %zu bytes of scratch, planned %zu", p.info->name, i, op.def->name, scratch, p.ops[i].scratch_bytes);
  }
  *last = pass.symbols;
  return Status::ok();
}

// What depends on data. On a device only program inputs and tensors of the file are at hand; shaders report the rest.
Status Session::check_op_data(const PlannedProgram& p, uint32_t op, const OpCall& call) const {
  const OpInfo& info = p.info->ops[op];
  if (!info.def->check_data) return Status::ok();
  for (uint32_t k = 0; backend_ && k < info.in_count; ++k) {
    const Operand& o = p.info->operands[info.first_operand + k];
    if (o.kind == Operand::Kind::kValue && o.index >= p.info->input_count && call.in[k].dtype == DType::kI32) return Status::ok();
  }
  Status s = info.def->check_data(call);
  return s.is_ok() ? Status::ok() : std::move(s).with_context("program \"%s\", operator %u (%s)", p.info->name, op, info.def->name);
}

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
  return backend_->enqueue({&p, pass.program_index, begin, end, ops.data(), pass.symbols, from, is_body ? pass.to : from, is_body ? 0 : pass.choose_among}, header()->position);
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
  return observe_(observe_context_, {pass.program, op, &b.call, &pass.symbols, is_view ? "view" : b.kernel ? b.kernel->name : "reference", pass.begin, op < pass.program->head_begin ? -1 : pass.next_row});
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
    if (!plan_.has_recurrent && cancel_.load(std::memory_order_relaxed)) return Status::make(Code::kCancelled, "cancelled");
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
  const bool screened = pass.options && (pass.options->top_logits > 0 || pass.options->wanted) && int(value) == pass.program->screened_value;
  if (v.dtype != DType::kF32 || all_finite(static_cast<const float*>(v.data), view_bytes(v) / 4, screened ? 0xff800000u : 0)) return Status::ok();
  return Status::make(Code::kNonFinite, "\"%s\" holds NaN or infinity for tokens %lld to %lld of the stream", pass.program->info->values[value].name,
                      static_cast<long long>(header()->position), static_cast<long long>(header()->position + pass.tokens - 1));
}

// Hands every output of this pass or block to the sink. first_row: of the rows symbol; the stream's rows start at pass.begin.
Status Session::emit(Pass& pass, int64_t first_row) {
  const PlannedProgram& p = *pass.program;
  for (uint32_t i = 0; i < p.info->outputs.size(); ++i) {
    const uint32_t value = p.info->outputs[i];
    const PlannedOutput& out = p.outputs[i];
    const bool by_rows = out.kind == PlannedOutput::Kind::kRows;
    if (by_rows != (first_row >= 0) || !pass.wants(i)) continue;
    if (pass.choose_among > 0 && int(value) == p.choice_value) {
      const int32_t choice = backend_->choice();
      if (choice < 0 || choice >= pass.choose_among) return Status::make(Code::kInternal, "the device chose %d of %lld", int(choice), static_cast<long long>(pass.choose_among));
      *pass.options->choice = choice;
      continue;
    }
    RNL_TRY(check_finite(pass, value));
    RNL_TRY(pass.options->sink(pass.options->sink_context, i, value_view(pass, value), by_rows ? first_row : pass.begin * out.per_token));
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
    const bool may_choose = backend_ && pass.options->choice && !pass.options->wanted_outputs && total_rows == 1 && p.choice_value >= 0;
    pass.choose_among = may_choose && !backend_->refuses(pass.program_index, uint32_t(p.info->ops.size())) ? pass.options->choose_among : 0;
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
  if (p.rows_symbol < 0 || backend_ || last_tokens_ == 0) return Status::make(Code::kUnsupported, "there is no row to compute again");
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
  RNL_TRY(bind_ops(pass, 0, p.head_begin, &bound_[pass.program_index].body));
  for (uint32_t i = 0; i < p.info->input_count; ++i)
    if (p.info->values[i].role != format::Role::rows && value_view(pass, i).dtype != DType::kNone) RNL_TRY(fill_input(pass, i));
  StateHeader* h = header();
  if (plan_.reach > 0) write_log(journal_, pass, pass.tokens);
  if (backend_) log_for_recovery(pass);
  pass.from = h->buffer, pass.to = p.replaces_states ? free_buffer() : pass.from;
  pass.body_ended = false;
  h->high_water = std::max(h->high_water, h->position + pass.tokens);
  RNL_TRY(run_ops(pass, 0, p.head_begin));
  // A device is given the first rows of the head too before it is waited for.
  if (!backend_) RNL_TRY(finish_ops(pass));
  if (p.rows_symbol >= 0) RNL_TRY(run_head(pass));
  if (!pass.body_ended) RNL_TRY(finish_ops(pass));
  copy_untouched(pass);
  h->buffer = uint8_t(pass.to);
  h->position += pass.tokens;
  pass.has_started = false;
  last_program_ = pass.program_index;
  last_tokens_ = pass.tokens;
  seen_position_.store(h->position, std::memory_order_relaxed);
  return Status::ok();
}

Status Session::find_program(const char* name, uint32_t* index) const {
  for (*index = 0; *index < plan_.programs.size(); ++*index)
    if (!name || std::strcmp(plan_.programs[*index].info->name, name) == 0) return Status::ok();
  return Status::make(Code::kNotFound, "the model has no program \"%.80s\"", name);
}

// What can be told of a call before anything of it has run.
Status Session::check_call(const Pass& pass) const {
  const PlannedProgram& p = *pass.program;
  int64_t before = 0;
  for (int64_t i = 0; pass.rows && i < pass.rows->dims[0]; ++i) {
    const int64_t r = read_int(*pass.rows, i);
    RNL_CHECK_ARG(r >= before && r < pass.total, "rows[%lld] is %lld; rows must rise and stay below %lld", static_cast<long long>(i), static_cast<long long>(r), static_cast<long long>(pass.total));
    before = r;
  }
  RNL_CHECK_ARG(p.stream_symbol < 0 || pass.total > 0, "the call has no tokens");
  const int64_t one_pass = tokens_that_fit(std::min(plan_.options.chunk, pass.total));
  for (uint32_t i = 0; i < p.outputs.size(); ++i)
    RNL_CHECK_ARG(pass.total <= one_pass || !p.outputs[i].needs_whole_call || !pass.wants(i),
                  "output \"%s\" depends on all tokens of a call together, and this one has %lld, more than the %lld of one pass (chunk)", p.info->values[p.info->outputs[i]].name,
                  static_cast<long long>(pass.total), static_cast<long long>(one_pass));
  const int64_t position = header()->position;
  if (plan_.is_limited && pass.total > 0 && (pass.total > plan_.options.context || position > plan_.options.context - pass.total))
    return Status::make(Code::kContextFull, "the stream holds %lld tokens, %lld more do not fit the context of %lld", static_cast<long long>(position), static_cast<long long>(pass.total),
                        static_cast<long long>(plan_.options.context));
  return Status::ok();
}

Status Session::begin_call(const IoTensor* inputs, size_t input_count, const RunOptions& options, Pass* pass) {
  RNL_TRY(find_program(options.program, &pass->program_index));
  const PlannedProgram& p = plan_.programs[pass->program_index];
  pass->program = &p;
  pass->options = &options;
  pass->rows_all = options.rows_all;
  RNL_TRY(match_inputs(p, inputs, input_count));
  RNL_TRY(bind_symbols(p, &pass->symbols));
  pass->total = p.stream_symbol >= 0 ? pass->symbols.v[p.stream_symbol] : 0;
  for (uint32_t i = 0; i < p.info->input_count; ++i)
    if (p.info->values[i].role == format::Role::rows) pass->rows = matched_[i];
  RNL_TRY(check_call(*pass));
  return check_device();
}

Status Session::check_run(const IoTensor* inputs, size_t input_count, const RunOptions& options) {
  Pass pass;
  return begin_call(inputs, input_count, options, &pass);
}

Status Session::output_shapes(const IoTensor* inputs, size_t input_count, const RunOptions& options, Vec<TensorView>* shapes) {
  Pass pass;
  RNL_TRY(begin_call(inputs, input_count, options, &pass));
  const PlannedProgram& p = *pass.program;
  if (p.rows_symbol >= 0) pass.symbols.v[p.rows_symbol] = pass.rows ? pass.rows->dims[0] : pass.rows_all ? pass.total : 1;
  RNL_TRY(shapes->assign(p.info->outputs.size()));
  for (size_t i = 0; i < shapes->size(); ++i) {
    const ValueInfo& v = p.info->values[p.info->outputs[i]];
    RNL_TRY(evaluate_shape(model(), v.shape, pass.symbols, v.name, &(*shapes)[i]));
    (*shapes)[i].dtype = v.dtype;
  }
  return Status::ok();
}

Status Session::run(const IoTensor* inputs, size_t input_count, const RunOptions& options) {
  const uint64_t t0 = now_ns();
  Pass pass;
  RNL_TRY(begin_call(inputs, input_count, options, &pass));
  const PlannedProgram& p = *pass.program;
  const bool streams = p.stream_symbol >= 0;
  if (backend_) RNL_TRY(sync_to_device());
  const int64_t start = header()->position;
  if (plan_.has_recurrent && streams) begin_recurrent_call(pass);
  Status status;
  do {
    pass.tokens = streams ? tokens_that_fit(std::min(plan_.options.chunk, pass.total - pass.begin)) : 0;
    if (streams) pass.symbols.v[p.stream_symbol] = pass.tokens;
    // On the CPU alone, and without recurrent states, run_ops looks between operators.
    if ((plan_.has_recurrent || backend_) && cancel_.load(std::memory_order_relaxed)) {
      status = Status::make(Code::kCancelled, "cancelled");
      break;
    }
    if (plan_.has_recurrent && streams) mark_recurrent();
    status = run_pass(pass);
    if (!status.is_ok()) break;
    pass.begin += pass.tokens;
    tokens_.fetch_add(uint64_t(pass.tokens), std::memory_order_relaxed);
    passes_.fetch_add(1, std::memory_order_relaxed);
    if (progress_ && pass.begin < pass.total && !progress_(progress_context_, pass.begin, pass.total)) status = Status::make(Code::kCancelled, "cancelled");
  } while (status.is_ok() && pass.begin < pass.total);
  nanoseconds_.fetch_add(now_ns() - t0, std::memory_order_relaxed);
  cancel_.store(false, std::memory_order_relaxed);
  if (backend_) status = end_call_on_device(start, std::move(status));
  if (backend_ && backend_->is_lost()) return status;
  if (status.is_ok()) {
    kept_.buffer = -1;
    return status;
  }
  return status.code() == Code::kCancelled ? keep_whole_passes(pass, start, std::move(status)) : undo(pass, start, std::move(status));
}

Status Session::CopySink::deliver(void* context, uint32_t output, const TensorView& block, int64_t first_row) {
  CopySink& sink = *static_cast<CopySink*>(context);
  const char* name = sink.info->values[sink.info->outputs[output]].name;
  for (size_t i = 0; i < sink.count; ++i) {
    IoTensor& t = sink.outputs[i];
    if (std::strcmp(t.name, name) != 0) continue;
    const size_t bytes = view_bytes(block);
    const size_t row = block.rank && block.dims[0] ? bytes / size_t(block.dims[0]) : bytes;
    const size_t at = size_t(first_row) * row;
    RNL_CHECK_ARG((t.data || bytes == 0) && t.bytes >= at + bytes, "output \"%s\" has room for %zu bytes, needs %zu", name, t.bytes, at + bytes);
    if (bytes) std::memcpy(static_cast<char*>(t.data) + at, block.data, bytes);
    t.dtype = block.dtype;
    t.rank = block.rank;
    for (int d = 0; d < block.rank; ++d) t.dims[d] = block.dims[d];
    if (block.rank) t.dims[0] += first_row;
  }
  return Status::ok();
}

Status Session::copy_into(const char* program, IoTensor* outputs, size_t count, CopySink* sink, RunOptions* options) const {
  uint32_t index;
  RNL_TRY(find_program(program, &index));
  const ProgramInfo& info = *plan_.programs[index].info;
  uint64_t named = 0;
  bool is_optional = false;
  for (size_t i = 0; i < count; ++i) {
    uint32_t k = 0;
    while (k < info.outputs.size() && std::strcmp(info.values[info.outputs[k]].name, outputs[i].name) != 0) ++k;
    RNL_CHECK_ARG(k < info.outputs.size(), "program \"%s\" has no output \"%.80s\"", info.name, outputs[i].name);
    is_optional = is_optional || k >= info.required_outputs;
    named |= k < 64 ? uint64_t(1) << k : 0;
  }
  *sink = {outputs, count, &info};
  if (is_optional) options->wanted_outputs = named;
  options->program = program;
  options->sink = CopySink::deliver;
  options->sink_context = sink;
  options->top_logits = top_logits_;
  return Status::ok();
}

Status Session::run_into(const char* program, const IoTensor* inputs, size_t input_count, IoTensor* outputs, size_t output_count) {
  CopySink sink;
  RunOptions options;
  RNL_TRY(copy_into(program, outputs, output_count, &sink, &options));
  return run(inputs, input_count, options);
}

}  // namespace runnel
