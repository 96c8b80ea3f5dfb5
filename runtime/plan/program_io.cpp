#include "plan/program_io.h"

#include <cstring>

#include "ops/define.h"

namespace runnel {
namespace {

bool is_rows_input(const ValueInfo& input) { return input.role == format::Role::rows; }

Status check_input(const Model& model, const PlannedProgram& program, const ValueInfo& input) {
  const ExprPool& exprs = model.exprs();
  for (int d = 0; d < input.shape.rank; ++d) {
    const ExprId dim = input.shape.dims[d];
    const auto refuse = [&](const char* why) {
      return Status::make(Code::kInvalidModel, "input \"%s\": axis %d is \"%s\"; %s", input.name, d, exprs.text(dim),
                          why);
    };
    const int symbol = d == 0 ? exprs.as_symbol(dim) : -1;
    if (program.stream_symbol >= 0 && exprs.depends_on(dim, program.stream_symbol) && symbol != program.stream_symbol)
      return refuse("the stream may stand on axis 0 alone");
    const int rows = program.rows_symbol;
    if (rows >= 0 && exprs.depends_on(dim, rows) && !is_rows_input(input))
      return refuse("only an input of role rows may have the axis of rows");
    if (is_rows_input(input) && (rows < 0 || symbol != rows))
      return refuse("an input of role rows has the axis of rows alone");
  }
  return Status::ok();
}

// A size that optional inputs alone bind may be unknown in a call: nothing else depends on it.
Status check_optional_sizes(const Model& model, const ProgramInfo& info) {
  for (size_t s = 0; s < model.symbols().size(); ++s) {
    const char* optional = nullptr;
    bool is_bound = false;
    for (uint32_t i = 0; i < info.input_count; ++i)
      for (int d = 0; d < info.values[i].shape.rank; ++d) {
        if (model.exprs().as_symbol(info.values[i].shape.dims[d]) != int(s)) continue;
        if (info.is_optional(i)) optional = info.values[i].name;
        else is_bound = true;
      }
    if (!optional || is_bound || model.symbols()[s].kind != format::SymbolKind::axis) continue;
    for (uint32_t i = 0; i < info.values.size(); ++i)
      if (!info.is_optional(i) && model.depends_on(info.values[i].shape, int(s)))
        return Status::make(Code::kInvalidModel,
                            "\"%s\" depends on the size \"%s\", which no call binds that leaves out \"%s\"",
                            info.values[i].name, model.symbols()[s].name, optional);
  }
  return Status::ok();
}

// k where an axis is k times the stream's tokens, else 0.
int64_t multiple_of_stream(const Model& model, ExprId dim, int stream, SymbolValues values) {
  int64_t per_token = 0;
  for (const int64_t n : {1, 2, 3, 64}) {
    values.v[stream] = n;
    auto at = model.exprs().evaluate(dim, values);
    if (!at.is_ok()) return 0;
    if (n == 1) per_token = at.value();
    if (at.value() != per_token * n) return 0;
  }
  return per_token;
}

template <class... Rows>
constexpr uint64_t set_of(const Rows&... rows) {
  return (... | (uint64_t(1) << rows.number));
}
namespace row = registry_row;
#define RNL_OP(number, ...) static_assert(number < 64, "sets of operators have 64 bits");
#include "ops/registry.inc"
#undef RNL_OP
// Operators that go along axis 0 of their first input, or of the second: where all of these inputs depend on a call's
// tokens and no state tells of earlier ones, what they make of a token depends on others of the pass.
constexpr uint64_t kAlongFirst = set_of(row::gather_rows, row::causal_conv, row::selective_scan, row::cell_recurrence,
                                        row::inner_model, row::match_tokens, row::gather),
                   kAlongSecond = set_of(row::attention, row::gather_rows, row::scan, row::matrix_recurrence,
                                         row::sparse_attention, row::merge_tokens, row::gather);
// How others treat tokens that stand on another axis than the first: elements by themselves; rows of the last axis;
// tokens apart where the output has them on the same axis. What stands in no set puts several together there.
constexpr uint64_t kElements = set_of(row::unary, row::binary, row::glu, row::slice, row::concat, row::transpose,
                                      row::pad, row::math, row::arithmetic, row::where, row::cast, row::expand),
                   kLastAxis = set_of(row::matmul, row::rms_norm, row::layer_norm, row::softmax, row::top_k),
                   kSameAxis = set_of(row::reshape, row::batch_matmul, row::reduce);

// The axis on which the stream's tokens stand: -1 none, kMaxRank several.
int axis_of_tokens(const Model& model, const ShapeExpr& shape, int stream) {
  int found = -1;
  for (int d = shape.rank; d-- > 0;)
    if (model.exprs().depends_on(shape.dims[d], stream)) found = found < 0 ? d : kMaxRank;
  return found;
}

// Whether an operator that reads `in` makes of its tokens what depends on several of them. self: the set of it alone.
bool joins_tokens(const Model& model, const PlannedProgram& program, const OpInfo& op, uint64_t self,
                  const ShapeExpr& in) {
  const int axis = axis_of_tokens(model, in, program.stream_symbol);
  if (self & kLastAxis) return axis >= in.rank - 1;
  if (axis <= 0 || self & (kElements | kAlongFirst | kAlongSecond)) return false;
  const Operand& out = program.info->operands[op.first_operand + op.in_count];  // or a kept state
  return !(self & kSameAxis) || out.kind != Operand::Kind::kValue ||
         axis_of_tokens(model, program.info->values[out.index].shape, program.stream_symbol) != axis;
}

// Of each value: whether it depends on the stream's tokens, and whether on all tokens of a pass together.
struct Dependence {
  Vec<uint8_t> on_stream, on_whole_pass;
};

struct Deciding {
  bool on_stream = false, on_whole_pass = false;
};

Deciding find_deciding(const ProgramInfo& info, const Region& region, const Dependence& d) {
  Deciding found;
  for (const Operand& o : {region.number, region.first})
    if (o.kind == Operand::Kind::kValue && d.on_stream[o.index]) found = {true, true};
  for (uint32_t i = region.begin; region.is_loop && i < region.end; ++i)
    for (uint32_t k = 0; k < info.ops[i].in_count; ++k) {
      const Operand& o = info.operands[info.ops[i].first_operand + k];
      if (o.kind != Operand::Kind::kValue) continue;
      found.on_stream = found.on_stream || d.on_stream[o.index];
      // How many rounds there are may follow from any of it.
      found.on_whole_pass = found.on_whole_pass || d.on_whole_pass[o.index] ||
                            (region.condition.kind == Operand::Kind::kValue && d.on_stream[o.index]);
    }
  return found;
}

Status find_dependence(const Model& model, const PlannedProgram& program, Dependence* d) {
  const ProgramInfo& info = *program.info;
  RNL_TRY(d->on_stream.assign(info.values.size()));
  RNL_TRY(d->on_whole_pass.assign(info.values.size()));
  for (uint32_t i = 0; i < info.input_count; ++i)
    d->on_stream[i] = model.depends_on(info.values[i].shape, program.stream_symbol);
  // What decides over the operators of a region: its condition; and of a loop, whose rounds hand values on, all that
  // stands before it.
  Vec<Deciding> deciding;
  RNL_TRY(deciding.assign(info.regions.size()));
  size_t next = 0;
  for (uint32_t i = 0; i < info.ops.size(); ++i) {
    for (; next < info.regions.size() && info.regions[next].begin == i; ++next)
      deciding[next] = find_deciding(info, info.regions[next], *d);
    const OpInfo& op = info.ops[i];
    bool on_stream = false, on_whole = false;
    const uint64_t self = uint64_t(1) << op.def->number;
    uint32_t along = (self & kAlongFirst ? 1u : 0u) | (self & kAlongSecond ? 2u : 0u);
    uint32_t off_stream = along;
    for (uint32_t k = 0; k < op.in_count; ++k) {
      const Operand& o = info.operands[op.first_operand + k];
      if (o.kind == Operand::Kind::kState) along = 0;
      if (o.kind != Operand::Kind::kValue || !d->on_stream[o.index]) continue;
      on_stream = true;
      on_whole =
          on_whole || d->on_whole_pass[o.index] || joins_tokens(model, program, op, self, info.values[o.index].shape);
      off_stream &= ~(1u << k);
    }
    on_whole = on_whole || (along && !off_stream);
    for (size_t r = 0; r < next; ++r)
      if (i < info.regions[r].end)
        on_stream = on_stream || deciding[r].on_stream, on_whole = on_whole || deciding[r].on_whole_pass;
    for (uint32_t k = 0; k < op.out_count; ++k) {
      const Operand& o = info.operands[op.first_operand + op.in_count + k];
      if (o.kind != Operand::Kind::kValue) continue;
      const ShapeExpr& shape = info.values[o.index].shape;
      d->on_stream[o.index] |= uint8_t(on_stream);
      d->on_whole_pass[o.index] |= uint8_t(on_whole || (on_stream && !model.depends_on(shape, program.stream_symbol) &&
                                                        !model.depends_on(shape, program.rows_symbol)));
    }
  }
  return Status::ok();
}

// See PlannedProgram::logits_value and choice_value.
void find_logits(PlannedProgram& program) {
  const ProgramInfo& info = *program.info;
  int by_rows = 0, found = -1, candidates = 0;
  bool is_named = false;
  for (uint32_t i = 0; i < info.required_outputs && program.rows_symbol >= 0; ++i) {
    const uint32_t v = info.outputs[i];
    const ValueInfo& value = info.values[v];
    if (v < info.input_count || program.outputs[i].kind != PlannedOutput::Kind::kRows) continue;
    ++by_rows;
    if (value.shape.rank != 2 || value.dtype != DType::kF32 || is_named) continue;
    is_named = std::strcmp(value.name, "logits") == 0;
    found = int(v);
    ++candidates;
  }
  if (!is_named && candidates != 1) return;
  program.logits_value = found;
  // The head has to make it, and nothing else may read it.
  bool is_read = program.head_begin == 0;
  for (const OpInfo& op : info.ops)
    for (uint32_t k = 0; k < op.in_count; ++k) {
      const Operand& o = info.operands[op.first_operand + k];
      is_read = is_read || (o.kind == Operand::Kind::kValue && int(o.index) == found);
    }
  if (by_rows == 1 && !is_read) program.choice_value = found;
}

}  // namespace

bool is_stream_input(const Model& model, const PlannedProgram& program, const ValueInfo& input) {
  return program.stream_symbol >= 0 && input.shape.rank > 0 &&
         model.exprs().as_symbol(input.shape.dims[0]) == program.stream_symbol;
}

size_t log_header_bytes(const PlannedProgram& program) {
  return 1 + (program.call_symbols.size() + (program.info->optional_inputs ? 1 : 0)) * sizeof(int64_t);
}

Result<size_t> log_row_bytes(const Model& model, const PlannedProgram& program, const SymbolValues& symbols) {
  size_t row = log_header_bytes(program);
  for (uint32_t i = 0; i < program.info->input_count; ++i) {
    const ValueInfo& input = program.info->values[i];
    if (is_rows_input(input)) continue;
    TensorView v{};
    RNL_TRY(evaluate_shape(model, input.shape, symbols, input.name, &v));
    v.dtype = input.dtype;
    if (is_stream_input(model, program, input)) v.dims[0] = 1;
    row += view_bytes(v);
    if (row > kMaxBlock) return Status::make(Code::kInvalidModel, "input \"%s\" is too large", input.name);
  }
  return row;
}

Status plan_inputs(const Model& model, const Plan& plan, PlannedProgram& program) {
  const ProgramInfo& info = *program.info;
  const int stream = model.axis_bounded_by("chunk"), rows = model.axis_bounded_by("rows");
  uint32_t rows_inputs = 0;
  for (uint32_t i = 0; i < info.input_count; ++i) {
    if (model.depends_on(info.values[i].shape, stream)) program.stream_symbol = stream;
    if (is_rows_input(info.values[i])) program.rows_symbol = rows, ++rows_inputs;
  }
  for (uint32_t i = 0; i < info.input_count; ++i) RNL_TRY(check_input(model, program, info.values[i]));
  RNL_TRY(check_optional_sizes(model, info));
  bool has_stream = false;
  for (uint32_t i = 0; i < info.input_count; ++i)
    has_stream = has_stream || (!info.is_optional(i) && is_stream_input(model, program, info.values[i]));
  if (program.stream_symbol >= 0 && !has_stream)
    return Status::make(Code::kInvalidModel, "every input with the stream is optional");
  if (rows_inputs > 1) return Status::make(Code::kInvalidModel, "%u inputs have role rows; one may", rows_inputs);
  for (size_t s = 0; s < model.symbols().size(); ++s) {
    bool is_bound = false;
    for (uint32_t i = 0; i < info.input_count; ++i)
      is_bound = is_bound || model.depends_on(info.values[i].shape, int(s));
    if (is_bound && model.symbols()[s].kind == format::SymbolKind::axis && int(s) != stream &&
        int(s) != program.rows_symbol)
      RNL_TRY(program.call_symbols.push(int(s)));
  }
  if (program.stream_symbol < 0) return Status::ok();
  RNL_ASSIGN(row, log_row_bytes(model, program, plan.bounds));
  program.log_row = row;
  return Status::ok();
}

Status plan_outputs(const Model& model, PlannedProgram& program) {
  const ProgramInfo& info = *program.info;
  Dependence d;
  RNL_TRY(find_dependence(model, program, &d));
  RNL_TRY(program.outputs.assign(info.outputs.size()));
  for (size_t i = 0; i < info.outputs.size(); ++i) {
    const uint32_t v = info.outputs[i];
    const ShapeExpr& shape = info.values[v].shape;
    PlannedOutput& out = program.outputs[i];
    ShapeExpr rest = shape;
    for (int axis = 1; axis < shape.rank; ++axis) rest.dims[axis - 1] = shape.dims[axis];
    rest.rank = shape.rank ? shape.rank - 1 : 0;
    if (model.depends_on(shape, program.rows_symbol)) {
      if (model.exprs().as_symbol(shape.dims[0]) != program.rows_symbol || model.depends_on(rest, program.rows_symbol))
        return Status::make(Code::kInvalidModel, "output \"%s\": the wanted rows are not its axis 0 alone",
                            info.values[v].name);
      out.kind = PlannedOutput::Kind::kRows;
    } else if (shape.rank > 0 && program.stream_symbol >= 0 && !model.depends_on(rest, program.stream_symbol) &&
               model.exprs().depends_on(shape.dims[0], program.stream_symbol)) {
      SymbolValues sizes{};
      for (int64_t& size : sizes.v) size = 1;
      out.per_token = multiple_of_stream(model, shape.dims[0], program.stream_symbol, sizes);
      if (out.per_token > 0) out.kind = PlannedOutput::Kind::kTokens;
    }
    out.needs_whole_call = d.on_whole_pass[v] || (out.kind == PlannedOutput::Kind::kCall && d.on_stream[v]);
  }
  find_logits(program);
  Vec<uint8_t> seen;
  RNL_TRY(seen.assign(info.values.size()));
  for (uint32_t i = 0; i < program.head_begin; ++i)
    for (uint32_t k = 0; k < info.ops[i].out_count; ++k) {
      const Operand& o = info.operands[info.ops[i].first_operand + info.ops[i].in_count + k];
      if (o.kind == Operand::Kind::kValue) seen[o.index] = info.values[o.index].dtype == DType::kF32;
    }
  for (size_t i = program.head_begin; i < info.ops.size(); ++i)
    for (uint32_t k = 0; k < info.ops[i].in_count; ++k) {
      const Operand& o = info.operands[info.ops[i].first_operand + k];
      if (o.kind != Operand::Kind::kValue || !seen[o.index]) continue;
      seen[o.index] = 0;
      RNL_TRY(program.head_inputs.push(o.index));
    }
  return Status::ok();
}

}  // namespace runnel
