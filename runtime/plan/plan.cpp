#include "plan/plan.h"

#include <algorithm>
#include <cstring>

#include "format/states.h"
#include "plan/program_io.h"

namespace runnel {
namespace {

constexpr size_t align_up(size_t n, size_t a) { return (n + a - 1) / a * a; }

// A piece of memory that is needed from operator `first` to operator `last`.
struct Lifetime {
  size_t bytes;
  size_t offset;
  uint32_t first, last;
};

// Best fit, largest first: each piece goes into the smallest gap between the placed pieces that live at the same time.
Result<size_t> place(Vec<Lifetime>& pieces) {
  Vec<uint32_t> order;
  Vec<uint32_t> placed;  // sorted by offset
  RNL_TRY(order.assign(pieces.size()));
  for (uint32_t i = 0; i < order.size(); ++i) order[i] = i;
  const auto before = [&](uint32_t a, uint32_t b) {
    return pieces[a].bytes != pieces[b].bytes ? pieces[a].bytes > pieces[b].bytes : a < b;
  };
  std::make_heap(order.begin(), order.end(), before);
  std::sort_heap(order.begin(), order.end(), before);
  size_t total = 0;
  for (uint32_t index : order) {
    Lifetime& piece = pieces[index];
    if (piece.bytes == 0) continue;
    size_t cursor = 0, best = SIZE_MAX, best_gap = SIZE_MAX;
    for (uint32_t other : placed) {
      const Lifetime& o = pieces[other];
      if (o.last < piece.first || o.first > piece.last) continue;
      if (o.offset >= cursor && o.offset - cursor >= piece.bytes && o.offset - cursor < best_gap) {
        best = cursor;
        best_gap = o.offset - cursor;
      }
      cursor = std::max(cursor, o.offset + o.bytes);
    }
    piece.offset = best == SIZE_MAX ? cursor : best;
    if (piece.offset > kMaxBlock || piece.bytes > kMaxBlock)
      return Status::make(Code::kUnsupported,
                          "a pass needs more memory than can be addressed; a smaller chunk needs less");
    total = std::max(total, piece.offset + piece.bytes);
    RNL_TRY(placed.push(index));
    for (size_t i = placed.size() - 1; i > 0 && pieces[placed[i - 1]].offset > piece.offset; --i)
      std::swap(placed[i - 1], placed[i]);
  }
  return total;
}

Status bind_symbols(const Model& model, Plan& plan) {
  const PlanOptions& o = plan.options;
  const struct {
    const char* name;
    int64_t value;
  } options[] = {{"context", o.context},
                 {"chunk", o.chunk},
                 {"rollback", std::max(o.chunk + o.rollback, plan.reach)},
                 {"rows", o.rows}};
  for (size_t i = 0; i < model.symbols().size(); ++i) {
    const SymbolInfo& s = model.symbols()[i];
    if (s.kind == format::SymbolKind::option) {
      bool known = false;
      for (const auto& row : options)
        if (std::strcmp(row.name, s.name) == 0) {
          plan.bounds.v[i] = row.value;
          known = true;
        }
      if (!known)
        return Status::make(Code::kUnsupported,
                            "the model asks for a session option \"%s\", which this runtime does not have", s.name);
    } else {
      RNL_ASSIGN(bound, model.exprs().evaluate(s.bound, plan.bounds));
      if (bound < 0)
        return Status::make(Code::kInvalidModel, "symbol \"%s\" has the negative bound %lld", s.name,
                            static_cast<long long>(bound));
      plan.bounds.v[i] = bound;
    }
  }
  return Status::ok();
}

Status plan_recurrent_state(const StateInfo& s, const TensorView& v, const Plan& plan, size_t offset, PlannedState& p) {
  std::memcpy(p.dims, v.dims, sizeof p.dims);
  p.dtype = s.dtype;
  p.bytes = state_bytes(p.dtype, p.dims, v.rank, 0);
  p.copies = recurrent_copies(plan.options.rollback);
  p.stride = align_up(p.bytes, kStateAlignment);
  p.offset = offset;
  if (p.bytes > kMaxBlock / size_t(p.copies) || offset > kMaxBlock)
    return Status::make(Code::kInvalidModel, "state \"%s\" is too large", s.name);
  if (s.initial) {
    bool same = s.initial->view.rank == v.rank;
    for (int d = 0; same && d < v.rank; ++d) same = s.initial->view.dims[d] == v.dims[d];
    if (!same) return Status::make(Code::kInvalidModel, "the initial value of state \"%s\" has another shape", s.name);
  }
  return Status::ok();
}

Status plan_kept_state(const StateInfo& s, TensorView v, size_t offset, PlannedState& p) {
  std::memcpy(p.dims, v.dims, sizeof p.dims);
  v.dtype = s.dtype;
  p.bytes = view_bytes(v);
  p.stride = align_up(p.bytes, kStateAlignment);
  p.offset = offset;
  if (p.bytes > kMaxBlock || offset > kMaxBlock)
    return Status::make(Code::kInvalidModel, "state \"%s\" is too large", s.name);
  return Status::ok();
}

Status plan_states(const Model& model, Plan& plan) {
  RNL_TRY(plan.states.assign(model.states().size()));
  size_t offset = 0;
  for (size_t i = 0; i < model.states().size(); ++i) {
    const StateInfo& s = model.states()[i];
    PlannedState& p = plan.states[i];
    TensorView v{};
    RNL_TRY(evaluate_shape(model, s.shape, plan.bounds, s.name, &v));
    if (s.is_recurrent()) {
      RNL_TRY(plan_recurrent_state(s, v, plan, offset, p));
      offset += size_t(p.copies) * p.stride;
      continue;
    }
    if (s.kind == format::StateKind::kept) {
      RNL_TRY(plan_kept_state(s, v, offset, p));
      offset += p.stride;
      continue;
    }
    RNL_ASSIGN(slots, model.exprs().evaluate(s.slots, plan.bounds));
    if (slots < 1)
      return Status::make(Code::kInvalidModel, "state \"%s\" has %lld slots", s.name, static_cast<long long>(slots));
    std::memcpy(p.dims, v.dims, sizeof p.dims);
    p.slots = slots;
    plan.is_limited = plan.is_limited || s.kind == format::StateKind::append || slots < int64_t(s.window);
    p.dtype = plan.options.kv == DType::kNone ? s.dtype : plan.options.kv;
    p.bytes = state_bytes(p.dtype, p.dims, s.shape.rank, s.block_axis);
    p.offset = offset;
    if (p.bytes > kMaxBlock || offset > kMaxBlock)
      return Status::make(Code::kInvalidModel, "state \"%s\" is too large", s.name);
    offset += align_up(p.bytes, kStateAlignment);
  }
  plan.state_bytes = offset;
  return Status::ok();
}

// Sizes of kept states. They stand behind the states, which a device has copies of.
void plan_kept(const Model& model, Plan& plan) {
  plan.kept_offset = plan.state_bytes;
  for (const StateInfo& s : model.states())
    if (s.kind == format::StateKind::kept) plan.kept_bytes = model.states().size() * kMaxRank * sizeof(int64_t);
  plan.state_bytes += align_up(plan.kept_bytes, kStateAlignment);
}

// Room for the inputs of the last `reach` tokens, from which recurrent states are computed again, and for as many that
// a call must not lose. A session on a device has a log of its own too.
Status plan_journal(Plan& plan) {
  if (plan.reach == 0 && plan.options.backend == BackendKind::kCpu) return Status::ok();
  for (const PlannedProgram& p : plan.programs) plan.journal_row = std::max(plan.journal_row, p.log_row);
  if (plan.journal_row > kMaxBlock / size_t(std::max<int64_t>(1, 2 * plan.reach)))
    return Status::make(Code::kUnsupported, "inputs of %zu bytes a token, of %lld tokens that are kept, are too large",
                        plan.journal_row, static_cast<long long>(plan.reach));
  plan.journal_offset = plan.state_bytes;
  plan.state_bytes +=
      (plan.options.rollback > 0 ? 2 : 1) * align_up(plan.journal_row * size_t(plan.reach), kStateAlignment);
  return Status::ok();
}

// See PlannedProgram::screened_op. The kernel wants one matrix and no bias.
int find_screened(const Model& model, const ProgramInfo& info) {
  int found = -1;
  for (size_t i = 0; i < info.ops.size(); ++i) {
    const OpInfo& op = info.ops[i];
    if (op.in_count < 2 || op.out_count != 1) continue;
    const Operand &w = info.operands[op.first_operand + 1], &y = info.operands[op.first_operand + op.in_count];
    if (std::strcmp(op.def->name, "matmul") != 0 || w.kind != Operand::Kind::kTensor ||
        !model.tensors()[w.index].packed.split)
      continue;
    int uses = 0;
    bool is_output = false;
    for (const Operand& o : info.operands) uses += o.kind == Operand::Kind::kValue && o.index == y.index;
    for (uint32_t v : info.outputs) is_output = is_output || v == y.index;
    if (is_output && uses == 1) found = int(i);
  }
  return found;
}

// An operator's states with slots are as the operator uses them.
Status check_slots(Plan& plan, const PlannedProgram& program, uint32_t number, const OpCall& call) {
  const OpInfo& op = program.info->ops[number];
  for (uint32_t k = 0; k < uint32_t(op.in_count) + op.out_count; ++k) {
    const Operand& o = program.info->operands[op.first_operand + k];
    if (o.kind != Operand::Kind::kState) continue;
    const StateInfo& s = plan.model->states()[o.index];
    PlannedState& p = plan.states[o.index];
    const auto refuse = [&](const char* why) {
      return Status::make(Code::kInvalidModel, "state \"%s\": %s", s.name, why);
    };
    if (s.kind == format::StateKind::kept) continue;
    if (s.is_recurrent() != !op.def->use_slots)
      return refuse(s.is_recurrent() ? "the operator takes states of kind append or ring"
                                     : "the operator takes recurrent states");
    if (!op.def->use_slots) continue;
    const SlotUse use = op.def->use_slots(call);
    if ((use.first > 0) != (s.kind == format::StateKind::first))
      return refuse(use.first > 0 ? "the operator stores the first tokens: it takes states of kind first"
                                  : "the operator does not take states of kind first");
    p.tokens_per_slot = use.stride;
    if (use.writes && number >= program.head_begin)
      return refuse("it is written by an operator that computes for the wanted rows");
    if (use.writes && program.info->is_conditional(number)) return refuse("it is written inside of if or loop");
    if (slots_of(p.dims, s.shape.rank) != p.slots)
      return Status::make(Code::kInvalidModel, "state \"%s\" has %lld slots, but its shape has %lld", s.name,
                          static_cast<long long>(p.slots), static_cast<long long>(slots_of(p.dims, s.shape.rank)));
    if (p.dtype == DType::kQ8 && s.block_axis != kBlockAxis)
      return Status::make(Code::kInvalidModel, "state \"%s\" has block axis %d; a state of q8 needs %d", s.name,
                          s.block_axis, kBlockAxis);
    if (s.kind == format::StateKind::ring && (use.window == 0 || use.window > int64_t(s.window)))
      return Status::make(Code::kInvalidModel,
                          "ring state \"%s\" says a window of %u, but the operator reads %lld positions", s.name,
                          s.window, static_cast<long long>(use.window));
  }
  return Status::ok();
}

// Kept states of the program. What it writes belongs to a call as a whole.
Status find_kept(const Model& model, const ProgramInfo& info, PlannedProgram& program) {
  Vec<uint8_t> is_written;
  RNL_TRY(is_written.assign(model.states().size()));
  for (const bool writes : {true, false})
    for (const OpInfo& op : info.ops)
      for (uint32_t k = writes ? op.in_count : 0u, end = writes ? uint32_t(op.in_count) + op.out_count : op.in_count;
           k < end; ++k) {
        const Operand& o = info.operands[op.first_operand + k];
        if (o.kind != Operand::Kind::kState || model.states()[o.index].kind != format::StateKind::kept) continue;
        if (!writes && is_written[o.index]) continue;
        is_written[o.index] = 1;  // or known to be read
        RNL_TRY((writes ? program.kept_written : program.kept_read).push(o.index));
        if (writes && program.stream_symbol >= 0)
          return Status::make(
              Code::kInvalidModel,
              "it writes kept state \"%s\", but an input has an axis bounded by chunk, along which calls "
              "are cut",
              model.states()[o.index].name);
      }
  return Status::ok();
}

// Where sizes and what runs are decided between operators.
Status find_cuts(PlannedProgram& program) {
  const ProgramInfo& info = *program.info;
  const auto add = [&](const Operand& o, Vec<uint32_t>* list) {
    return o.kind == Operand::Kind::kValue ? list->push(o.index) : Status::ok();
  };
  Vec<uint8_t> is_cut;
  RNL_TRY(is_cut.assign(info.ops.size() + 1));
  is_cut[0] = 1;
  for (const Region& r : info.regions) {
    is_cut[r.begin] = is_cut[r.middle] = is_cut[r.end] = 1;
    for (const Operand& o : {r.number, r.first, r.condition}) RNL_TRY(add(o, &program.numbers_read));
    if (r.is_loop) RNL_TRY(program.numbers_written.push(r.round));
  }
  for (const ResultSize& r : info.results) {
    is_cut[r.op + 1] = 1;
    RNL_TRY(program.numbers_read.push(r.value));
  }
  for (uint32_t i = 0; i < is_cut.size(); ++i)
    if (is_cut[i]) RNL_TRY(program.cuts.push(i));
  return Status::ok();
}

Status find_replaced(const Model& model, const ProgramInfo& info, PlannedProgram& program) {
  RNL_TRY(program.replaces.assign(model.states().size()));
  for (uint32_t i = 0; i < info.ops.size(); ++i)
    for (uint32_t k = 0; k < uint32_t(info.ops[i].in_count) + info.ops[i].out_count; ++k) {
      const Operand& o = info.operands[info.ops[i].first_operand + k];
      if (o.kind != Operand::Kind::kState || !model.states()[o.index].is_recurrent()) continue;
      if (k >= info.ops[i].in_count) program.replaces[o.index] = 1, program.replaces_states = true;
      else program.head_reads_states = program.head_reads_states || i >= info.head_begin;
    }
  if (program.replaces_states && program.stream_symbol < 0)
    return Status::make(Code::kInvalidModel,
                        "it replaces recurrent states, but no input has an axis bounded by chunk, along which a stream "
                        "is taken back");
  return Status::ok();
}

// The kernel, at the upper bounds and with all inputs, and the most scratch that a call needs.
Status plan_op(Plan& plan, PlannedProgram& program, uint32_t number, const CallBinding& binding) {
  const OpInfo& op = program.info->ops[number];
  TensorView views[kMaxOpInputs + kMaxOpOutputs];
  RNL_TRY(operand_views(plan, program, op, binding, views));
  const OpCall call{views, views + op.in_count, op.in_count, op.out_count, &op.params, 0, nullptr, nullptr};
  Status s = op.def->check(call);
  if (!s.is_ok()) return binding.absent ? std::move(s).with_context("without optional inputs") : std::move(s);
  RNL_TRY(check_slots(plan, program, number, call));
  PlannedOp& p = program.ops[number];
  const Kernel* kernel = find_kernel(op.def->number, call);
  if (!binding.absent) p.kernel = kernel;
  p.scratch_bytes = std::max(p.scratch_bytes,
                             kernel && kernel->scratch_bytes ? kernel->scratch_bytes(call, plan.options.threads) : 0);
  return Status::ok();
}

Status count_makers(const ProgramInfo& info, Vec<uint8_t>* makers) {
  RNL_TRY(makers->assign(info.values.size()));
  for (const OpInfo& op : info.ops)
    for (uint32_t k = 0; k < op.out_count; ++k) {
      const Operand& o = info.operands[op.first_operand + op.in_count + k];
      if (o.kind == Operand::Kind::kValue && (*makers)[o.index] < 2) ++(*makers)[o.index];
    }
  return Status::ok();
}

// Numbers are read, and written, where a condition is decided; what a loop finds there is needed until its last round.
void extend_lifetimes(const PlannedProgram& program, Vec<Lifetime>& pieces) {
  const ProgramInfo& info = *program.info;
  const auto use = [&](uint32_t value, uint32_t at) {
    Lifetime& l = pieces[program.values[value].storage];
    l.first = std::min(l.first, at), l.last = std::max(l.last, at);
  };
  for (const ResultSize& r : info.results) use(r.value, r.op);
  for (size_t i = info.regions.size(); i-- > 0;) {
    const Region& r = info.regions[i];
    for (const Operand& o : {r.number, r.first, r.condition})
      if (o.kind == Operand::Kind::kValue) use(o.index, r.begin), use(o.index, r.is_loop ? r.end - 1 : r.begin);
    if (!r.is_loop) continue;
    use(r.round, r.begin), use(r.round, r.end - 1);
    for (Lifetime& l : pieces)
      if (l.first < r.begin && l.last >= r.begin && l.last < r.end) l.last = r.end - 1;
  }
}

Status plan_program(const Model& model, const ProgramInfo& info, Plan& plan) {
  RNL_TRY(plan.programs.push(PlannedProgram{}));
  PlannedProgram& program = plan.programs.back();
  program.info = &info;
  program.head_begin = info.head_begin;
  RNL_TRY(plan_inputs(model, plan, program));
  RNL_TRY(find_replaced(model, info, program));
  RNL_TRY(find_kept(model, info, program));
  RNL_TRY(find_cuts(program));
  RNL_TRY(plan_outputs(model, program));
  program.screened_op = find_screened(model, info);
  if (program.screened_op >= 0) {
    const OpInfo& op = info.ops[size_t(program.screened_op)];
    program.screened_value = int(info.operands[op.first_operand + op.in_count].index);
  }
  RNL_TRY(program.values.assign(info.values.size()));
  RNL_TRY(program.ops.assign(info.ops.size()));

  const uint32_t end = uint32_t(info.ops.size());
  Vec<uint8_t> makers;  // operators that give a value: one, or those of both branches
  RNL_TRY(count_makers(info, &makers));
  Vec<Lifetime> pieces;  // one a value, then one a scratch
  RNL_TRY(pieces.assign(info.values.size() + info.ops.size()));
  for (size_t i = 0; i < info.values.size(); ++i) {
    TensorView v{};
    RNL_TRY(evaluate_shape(model, info.values[i].shape, plan.bounds, info.values[i].name, &v));
    v.dtype = info.values[i].dtype;
    program.values[i].storage = uint32_t(i);
    program.values[i].bytes = view_bytes(v);
    pieces[i] = {align_up(program.values[i].bytes, kArenaAlignment), 0, i < info.input_count ? 0 : end, 0};
  }
  for (uint32_t i = 0; i < end; ++i) {
    const OpInfo& op = info.ops[i];
    PlannedOp& p = program.ops[i];
    if (__builtin_popcountll(optional_operands(info, op)) > kMaxOptionalOperands)
      return Status::make(Code::kUnsupported, "operator %u (%s) reads more than %d optional inputs", i, op.def->name,
                          kMaxOptionalOperands);
    Status s = for_each_absence(info, op, plan.bounds,
                                [&](const CallBinding& binding) { return plan_op(plan, program, i, binding); });
    if (!s.is_ok()) return std::move(s).with_context("operator %u (%s)", i, op.def->name);
    const Operand& first_in = info.operands[op.first_operand];
    const Operand& first_out = info.operands[op.first_operand + op.in_count];
    // What several operators give is no view of any one's input.
    if (op.def->is_view && first_in.kind == Operand::Kind::kValue && first_out.kind == Operand::Kind::kValue &&
        makers[first_out.index] == 1) {
      p.is_skipped_view = true;
      program.values[first_out.index].storage = program.values[first_in.index].storage;
      pieces[first_out.index].bytes = 0;
    }
    // The head runs several times: what it reads from before, inputs too, must outlive all of its runs.
    for (uint32_t k = 0; k < uint32_t(op.in_count) + op.out_count; ++k) {
      const Operand& o = info.operands[op.first_operand + k];
      if (o.kind != Operand::Kind::kValue) continue;
      const uint32_t storage = program.values[o.index].storage;
      Lifetime& l = pieces[storage];
      l.first = std::min(l.first, i);
      l.last = std::max(
          l.last, i >= program.head_begin && (l.first < program.head_begin || storage < info.input_count) ? end : i);
    }
    pieces[info.values.size() + i] = {align_up(p.scratch_bytes, kArenaAlignment), 0, i, i};
  }
  for (uint32_t v : info.outputs) pieces[program.values[v].storage].last = end;
  extend_lifetimes(program, pieces);
  RNL_ASSIGN(total, place(pieces));
  for (size_t i = 0; i < info.values.size(); ++i) program.values[i].offset = pieces[program.values[i].storage].offset;
  for (uint32_t i = 0; i < end; ++i) program.ops[i].scratch_offset = pieces[info.values.size() + i].offset;
  plan.arena_bytes = std::max(plan.arena_bytes, total);
  return Status::ok();
}

Status check_options(const Model& model, PlanOptions& o) {
  const int64_t model_context = model.root().context()
                                    ? int64_t(std::min<uint64_t>(model.root().context(), uint64_t(kMaxSize)))
                                    : kDefaultContext;
  if (o.context == 0) o.context = std::min(model_context, kDefaultContext);
  RNL_CHECK_ARG(o.context > 0 && o.context <= int64_t(1) << 31, "a context of %lld tokens",
                static_cast<long long>(o.context));
  RNL_CHECK_ARG(o.chunk >= 0 && o.chunk <= 65536, "a chunk of %lld tokens; 1 to 65536 are possible",
                static_cast<long long>(o.chunk));
  if (o.chunk == 0) o.chunk = kDefaultChunk;
  o.chunk = std::min(o.chunk, o.context);
  RNL_CHECK_ARG(o.rows >= 1 && o.rows <= 65536, "%lld rows a pass; 1 to 65536 are possible",
                static_cast<long long>(o.rows));
  o.rows = std::min(o.rows, o.chunk);
  RNL_CHECK_ARG(o.rollback >= 0 && o.rollback <= int64_t(1) << 31, "a rollback window of %lld tokens",
                static_cast<long long>(o.rollback));
  RNL_CHECK_ARG(o.snapshot_every >= 1 && o.snapshot_every <= 1 << 20,
                "a snapshot every %lld tokens; 1 to 1048576 are possible", static_cast<long long>(o.snapshot_every));
  RNL_CHECK_ARG(o.backend <= BackendKind::kVulkan, "backend %d is unknown", int(o.backend));
  RNL_CHECK_ARG(o.threads >= 1 && o.threads <= 256, "%d threads; 1 to 256 are possible", o.threads);
  RNL_CHECK_ARG(o.kv == DType::kNone || o.kv == DType::kF32 || o.kv == DType::kF16 || o.kv == DType::kQ8,
                "KV type %s; f32, f16 and q8 are possible", dtype_name(o.kv));
  return Status::ok();
}

}  // namespace

Status evaluate_shape(const Model& model, const ShapeExpr& shape, const SymbolValues& values, const char* owner,
                      TensorView* view) {
  int64_t count = 1;
  view->rank = shape.rank;
  for (int d = 0; d < shape.rank; ++d) {
    auto dim = model.exprs().evaluate(shape.dims[d], values);
    if (!dim.is_ok()) return dim.take_status().with_context("shape of \"%s\"", owner);
    view->dims[d] = dim.value();
    // An empty axis counts as one here, so that no product of some axes is too large either.
    if (dim.value() < 0 || __builtin_mul_overflow(count, dim.value() ? dim.value() : 1, &count) || count > kMaxElements)
      return Status::make(Code::kInvalidModel, "axis %d of \"%s\" is %lld (%s)", d, owner,
                          static_cast<long long>(dim.value()), dim.value() < 0 ? "negative" : "too large");
  }
  return Status::ok();
}

size_t view_bytes(const TensorView& view) {
  size_t n = dtype_bytes(view.dtype);
  for (int d = 0; d < view.rank; ++d) n *= size_t(view.dims[d]);
  return n;
}

uint64_t optional_operands(const ProgramInfo& program, const OpInfo& op) {
  uint64_t found = 0;
  for (uint32_t k = 0; program.optional_inputs && k < op.in_count; ++k) {
    const Operand& o = program.operands[op.first_operand + k];
    if (o.kind == Operand::Kind::kValue && program.is_optional(o.index)) found |= uint64_t(1) << o.index;
  }
  return found;
}

Status operand_views(const Plan& plan, const PlannedProgram& program, const OpInfo& op, const CallBinding& binding,
                     TensorView* views) {
  const ProgramInfo& info = *program.info;
  for (uint32_t k = 0; k < uint32_t(op.in_count) + op.out_count; ++k) {
    const Operand& o = info.operands[op.first_operand + k];
    TensorView& v = views[k];
    v = {};
    switch (o.kind) {
      case Operand::Kind::kAbsent: break;
      case Operand::Kind::kTensor: v = plan.model->tensors()[o.index].view; break;
      case Operand::Kind::kState: {
        const PlannedState& s = plan.states[o.index];
        const StateInfo& state = plan.model->states()[o.index];
        v.rank = state.shape.rank;
        v.dtype = s.dtype;
        if (state.kind == format::StateKind::kept) {
          RNL_TRY(evaluate_shape(*plan.model, state.shape, binding, state.name, &v));
          break;
        }
        std::memcpy(v.dims, s.dims, sizeof v.dims);
        break;
      }
      case Operand::Kind::kValue:
        if (info.is_optional(o.index) && (binding.absent >> o.index & 1)) break;
        RNL_TRY(evaluate_shape(*plan.model, info.values[o.index].shape, binding, info.values[o.index].name, &v));
        v.dtype = info.values[o.index].dtype;
        break;
    }
  }
  return Status::ok();
}

size_t Plan::table_bytes() const {
  size_t n = sizeof *this + programs.bytes() + states.bytes();
  for (const PlannedProgram& p : programs)
    n += p.values.bytes() + p.ops.bytes() + p.replaces.bytes() + p.outputs.bytes() + p.head_inputs.bytes() +
         p.call_symbols.bytes() + p.cuts.bytes() + p.numbers_read.bytes() + p.numbers_written.bytes() +
         p.kept_written.bytes() + p.kept_read.bytes();
  return n;
}

Result<Plan> make_plan(const Model& model, const PlanOptions& options) {
  Plan plan;
  plan.model = &model;
  plan.options = options;
  RNL_TRY(check_options(model, plan.options));
  for (const StateInfo& s : model.states()) plan.has_recurrent = plan.has_recurrent || s.is_recurrent();
  const PlanOptions& o = plan.options;
  if (plan.has_recurrent) plan.reach = o.rollback > 0 ? 2 * (o.chunk + o.rollback) : 2 * kReplayWindow;
  RNL_TRY(bind_symbols(model, plan));
  RNL_TRY(plan_states(model, plan));
  for (const ProgramInfo& p : model.programs()) {
    Status s = plan_program(model, p, plan);
    if (!s.is_ok()) return std::move(s).with_context("program \"%s\"", p.name);
  }
  plan_kept(model, plan);
  RNL_TRY(plan_journal(plan));
  plan.memory.weights = model.segment_bytes(format::SegmentKind::weights);
  plan.memory.tokenizer =
      model.segment_bytes(format::SegmentKind::tokenizer) + model.segment_bytes(format::SegmentKind::index);
  plan.memory.state = kStateHeaderBytes + plan.state_bytes;
  plan.memory.arena = plan.arena_bytes;
  plan.memory.fixed = model.memory_bytes() + plan.table_bytes();
  const uint64_t need = plan.memory.state + plan.memory.arena;
  if (plan.options.budget_bytes && need > plan.options.budget_bytes)
    return Status::make(Code::kBudgetExceeded,
                        "needs %llu bytes (state %llu, arena %llu) but the budget is %llu; a smaller context, chunk or "
                        "KV type needs less",
                        static_cast<unsigned long long>(need), static_cast<unsigned long long>(plan.memory.state),
                        static_cast<unsigned long long>(plan.memory.arena),
                        static_cast<unsigned long long>(plan.options.budget_bytes));
  return plan;
}

}  // namespace runnel
