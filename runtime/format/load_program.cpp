// Programs of a file: their values, operators and states, everything that these refer to proved.
#include <cstring>

#include "format/model_file.h"

namespace runnel {
namespace {

Status bad(const char* what) { return Status::make(Code::kInvalidModel, "%s", what); }

}  // namespace

// The last one first: a program may run those behind it.
Status Model::load_programs() {
  const auto& list = *root_->programs();
  RNL_TRY(programs_.assign(list.size()));
  for (uint32_t i = list.size(); i-- > 0;) {
    Status s = load_program(*list.Get(i), i);
    if (!s.is_ok()) return std::move(s).with_context("program \"%.80s\"", list.Get(i)->name()->c_str());
  }
  return Status::ok();
}

Status Model::load_program(const format::Program& p, uint32_t number) {
  ++generation_;
  ProgramInfo& program = programs_[number];
  program.name = p.name()->c_str();
  for (size_t i = number + 1; i < programs_.size(); ++i)
    if (std::strcmp(programs_[i].name, program.name) == 0) return bad("the name is used twice");

  auto add_values = [&](const flatbuffers::Vector<flatbuffers::Offset<format::Value>>* list) -> Status {
    if (!list) return Status::ok();
    for (const auto* v : *list) {
      const char* name = v->name()->c_str();
      const DType dtype = DType(v->dtype());
      if (v->dtype() > format::DType::MAX || dtype_bytes(dtype) == 0)
        return Status::make(Code::kUnsupported, "value \"%s\" has dtype %d, unknown to this runtime", name,
                            int(v->dtype()));
      if (v->role() > format::Role::MAX)
        return Status::make(Code::kUnsupported, "value \"%s\" has role %d, unknown to this runtime", name,
                            int(v->role()));
      RNL_ASSIGN(shape, load_shape(v->shape(), name, false));
      // Those behind `tokens` and what is filled the session writes by itself, as whole numbers.
      const format::Role role = v->role();
      const bool is_filled = v->filled();
      const bool can_be_float = role != format::Role::rows;
      const int most_axes = is_filled ? kMaxRank : role == format::Role::positions && dtype == DType::kI32 ? 2 : 1;
      if ((is_filled || role > format::Role::tokens) &&
          ((dtype != DType::kI32 && !(can_be_float && dtype == DType::kF32)) || shape.rank < 1 ||
           shape.rank > most_axes))
        return Status::make(Code::kInvalidModel, "value \"%s\" has role %s but is no vector of i32%s", name,
                            format::EnumNameRole(role), can_be_float ? " or f32" : "");
      RNL_TRY(index_name(name, Operand::Kind::kValue, uint32_t(program.values.size())));
      if (v->optional() || is_filled) {
        const char* feature = is_filled ? "filled_inputs" : "optional_inputs";
        if (list != p.inputs() || role != format::Role::none || !requires_feature(feature))
          return Status::make(Code::kInvalidModel, "value \"%s\" has a role or is no input of a model with \"%s\"",
                              name, feature);
      }
      if (v->optional()) {
        if (program.values.size() >= 64) return bad("more than 64 inputs or outputs, some of them optional");
        program.optional_inputs |= uint64_t(1) << program.values.size();
      }
      if (v->binds()) RNL_TRY(load_result(*v, dtype, shape, list == p.inputs(), program));
      RNL_TRY(program.values.push(ValueInfo{name, dtype, shape, role, is_filled, v->fill()}));
    }
    return Status::ok();
  };
  RNL_TRY(add_values(p.inputs()));
  program.input_count = uint32_t(program.values.size());
  RNL_TRY(add_values(p.values()));

  Vec<uint8_t> produced;
  RNL_TRY(produced.assign(program.values.size()));
  for (uint32_t i = 0; i < program.input_count; ++i) produced[i] = 1;
  uint32_t index = 0;
  if (p.ops())
    for (const auto* op : *p.ops()) {
      Status s = control_of(op->code()) != Control::kNone ? load_control(*op, number, produced)
                                                          : load_op(*op, program, produced);
      if (s.is_ok()) s = check_count();
      if (!s.is_ok()) return std::move(s).with_context("operator %u (%.40s)", index, op->name()->c_str());
      ++index;
    }
  RNL_TRY(check_states(program));
  RNL_TRY(check_results(program));
  RNL_TRY(put_head_last(program));
  for (size_t i = 0; i < program.values.size(); ++i)
    if (!produced[i])
      return Status::make(Code::kInvalidModel, "value \"%s\" is never computed", program.values[i].name);
  if (!p.outputs() || p.outputs()->size() == 0) return bad("no outputs");
  program.required_outputs = p.outputs()->size();
  for (const auto* list : {p.outputs(), p.optional_outputs()})
    for (uint32_t i = 0; list && i < list->size(); ++i) {
      const char* name = list->Get(i)->c_str();
      const Operand o = find_name(name);
      if (o.kind != Operand::Kind::kValue)
        return Status::make(Code::kInvalidModel, "output \"%.80s\" is not a value of the program", name);
      if (program.is_optional(o.index))
        return Status::make(Code::kInvalidModel, "output \"%.80s\" is an optional input", name);
      RNL_TRY(program.outputs.push(o.index));
    }
  if (program.outputs.size() > program.required_outputs && program.outputs.size() > 64)
    return bad("more than 64 inputs or outputs, some of them optional");
  return Status::ok();
}

// A state as an output: kept, or recurrent and an input of the same operator.
Status Model::check_state_output(const ProgramInfo& program, const OpInfo& op, uint32_t state) const {
  const StateInfo& s = states_[state];
  if (s.has_slots())
    return Status::make(Code::kInvalidModel, "state \"%s\" is an output but neither recurrent nor kept", s.name);
  int as_input = 0, as_output = 1;
  for (uint32_t k = op.first_operand; k < program.operands.size(); ++k) {
    const Operand& o = program.operands[k];
    if (o.kind == Operand::Kind::kState && o.index == state)
      ++(k < op.first_operand + op.in_count ? as_input : as_output);
  }
  if (as_input == (s.is_recurrent() ? 1 : 0) && as_output == 1) return Status::ok();
  return Status::make(Code::kInvalidModel,
                      s.is_recurrent() ? "recurrent state \"%s\" must be one input and one output of the same operator"
                                       : "kept state \"%s\" is written by an operator that reads it",
                      s.name);
}

// Behind the operator that replaces a recurrent state no other may see it: whether it saw the old or the new one would
// be chance. A kept state is written once, before it is read. Under a condition none is written.
Status Model::check_states(const ProgramInfo& program) const {
  Vec<uint8_t> written, seen;
  RNL_TRY(written.assign(states_.size()));
  RNL_TRY(seen.assign(states_.size()));
  for (uint32_t i = 0; i < program.ops.size(); ++i) {
    const OpInfo& op = program.ops[i];
    for (uint32_t k = 0; k < uint32_t(op.in_count) + op.out_count; ++k) {
      const Operand& o = program.operands[op.first_operand + k];
      if (o.kind != Operand::Kind::kState || states_[o.index].has_slots()) continue;
      const StateInfo& s = states_[o.index];
      const bool writes = k >= op.in_count;
      if (writes && program.is_conditional(i))
        return Status::make(Code::kUnsupported, "state \"%s\" is written inside of if or loop", s.name);
      if (written[o.index] && (writes || s.is_recurrent()))
        return Status::make(Code::kInvalidModel,
                            s.is_recurrent() ? "recurrent state \"%s\" is used after an operator replaced it"
                                             : "kept state \"%s\" is written twice",
                            s.name);
      if (writes && !s.is_recurrent() && seen[o.index])
        return Status::make(Code::kInvalidModel, "kept state \"%s\" is read before it is written", s.name);
      written[o.index] |= uint8_t(writes), seen[o.index] = 1;
    }
  }
  return Status::ok();
}

// A value that binds a symbol.
Status Model::load_result(const format::Value& v, DType dtype, const ShapeExpr& shape, bool is_input,
                          ProgramInfo& program) {
  const char* name = v.name()->c_str();
  const int symbol = exprs_.find_symbol(v.binds()->c_str(), v.binds()->size());
  if (symbol < 0 || symbols_[size_t(symbol)].kind != format::SymbolKind::result || is_input || dtype != DType::kI32 ||
      shape.rank != 1)
    return Status::make(
        Code::kInvalidModel,
        "value \"%s\" binds \"%.80s\": it takes a vector of i32 that is computed and a symbol of kind result", name,
        v.binds()->c_str());
  return program.results.push(ResultSize{UINT32_MAX, uint32_t(program.values.size()), symbol});
}

// Each size that is a result is bound once, outside of conditions and before everything else that has it. What its own
// operator gives with that size has it as axis 0, so that fewer rows are the front of all.
Status Model::check_results(const ProgramInfo& program) const {
  Vec<uint32_t> made_by;
  RNL_TRY(made_by.assign(program.values.size()));
  for (uint32_t i = 0; i < program.ops.size(); ++i)
    for (uint32_t k = 0; k < program.ops[i].out_count; ++k) {
      const Operand& o = program.operands[program.ops[i].first_operand + program.ops[i].in_count + k];
      if (o.kind == Operand::Kind::kValue) made_by[o.index] = i;
    }
  for (size_t symbol = size_t(option_count_); symbol < symbols_.size(); ++symbol) {
    if (symbols_[symbol].kind != format::SymbolKind::result) continue;
    const ResultSize* bound = nullptr;
    const auto refuse = [&](const char* what, const char* why) {
      return Status::make(Code::kInvalidModel, "size \"%s\", a result: \"%s\" %s", symbols_[symbol].name, what, why);
    };
    for (const ResultSize& r : program.results) {
      if (r.symbol != int(symbol)) continue;
      if (bound) return refuse(program.values[r.value].name, "binds it once more");
      if (r.op == UINT32_MAX || program.is_conditional(r.op))
        return refuse(program.values[r.value].name, "binds it inside of if or loop");
      bound = &r;
    }
    for (uint32_t i = 0; i < program.values.size(); ++i) {
      const ValueInfo& v = program.values[i];
      if (!depends_on(v.shape, int(symbol))) continue;
      if (!bound) return refuse(v.name, "has it, but no value binds it");
      if (i < program.input_count) return refuse(v.name, "has it and is an input");
      if (made_by[i] > bound->op) continue;
      if (made_by[i] < bound->op) return refuse(v.name, "has it before it is bound");
      for (int d = 0; d < v.shape.rank; ++d)
        if (d == 0 ? exprs_.as_symbol(v.shape.dims[d]) != int(symbol) : exprs_.depends_on(v.shape.dims[d], int(symbol)))
          return refuse(v.name, "has it otherwise than as axis 0, in the operator that binds it");
    }
  }
  return Status::ok();
}

// Programs that run others grow.
Status Model::check_count() const {
  size_t ops = 0, values = 0;
  for (const ProgramInfo& p : programs_) ops += p.ops.size(), values += p.values.size();
  if (ops <= kMaxOps && values <= kMaxValues) return Status::ok();
  return Status::make(Code::kUnsupported, "%zu operators and %zu values, at most %zu and %zu", ops, values, kMaxOps,
                      kMaxValues);
}

Result<Operand> Model::read_input(const char* name, const Vec<uint8_t>& produced) const {
  if (!*name) return Operand{};
  const Operand o = find_name(name);
  if (o.kind == Operand::Kind::kAbsent)
    return Status::make(Code::kInvalidModel, "input \"%.80s\" does not exist", name);
  if (o.kind == Operand::Kind::kValue && !produced[o.index])
    return Status::make(Code::kInvalidModel, "input \"%.80s\" is used before it is computed", name);
  return o;
}

Status Model::load_op(const format::Op& op, ProgramInfo& program, Vec<uint8_t>& produced) {
  const OpDef* def = find_op(op.code());
  if (const char* known = op_name(op.code()); !def && known && std::strcmp(known, op.name()->c_str()) == 0)
    return Status::make(Code::kUnsupported, "this runtime is built without operator \"%s\"", known);
  if (!def || std::strcmp(def->name, op.name()->c_str()) != 0)
    return Status::make(Code::kUnsupported,
                        "operator \"%.40s\" (number %u) is unknown to this runtime: update the runtime",
                        op.name()->c_str(), op.code());
  if (op.version() == 0 || op.version() > def->version)
    return Status::make(Code::kUnsupported,
                        "version %u of the operator; this runtime knows 1 to %u: update the runtime", op.version(),
                        def->version);
  const uint32_t ins = op.inputs() ? op.inputs()->size() : 0, outs = op.outputs() ? op.outputs()->size() : 0;
  if (ins < def->min_in || ins > def->max_in || outs < def->min_out || outs > def->max_out)
    return Status::make(Code::kInvalidModel, "%u inputs and %u outputs; it takes %u..%u and %u..%u", ins, outs,
                        def->min_in, def->max_in, def->min_out, def->max_out);
  if (uint8_t(op.attrs_type()) != 0 && uint8_t(op.attrs_type()) != def->attrs_type)
    return Status::make(Code::kUnsupported, "attribute table %d does not belong to this operator",
                        int(op.attrs_type()));
  OpInfo info{def, {}, uint32_t(program.operands.size()), uint16_t(ins), uint16_t(outs)};
  RNL_TRY(def->parse(op.attrs_type() == format::Attrs::NONE ? kNoAttributes : op.attrs(), &info.params));
  for (uint32_t i = 0; i < ins; ++i) {
    const char* name = op.inputs()->Get(i)->c_str();
    RNL_ASSIGN(o, read_input(name, produced));
    if (i < def->min_in && o.kind == Operand::Kind::kAbsent)
      return Status::make(Code::kInvalidModel, "input %u is not optional", i);
    if (i < def->min_in && o.kind == Operand::Kind::kValue && program.is_optional(o.index))
      return Status::make(Code::kInvalidModel, "input %u is not optional, but \"%.80s\" is", i, name);
    RNL_TRY(program.operands.push(o));
  }
  for (uint32_t i = 0; i < outs; ++i) {
    const char* name = op.outputs()->Get(i)->c_str();
    Operand o;
    if (*name) o = find_name(name);
    else if (i < def->min_out) return Status::make(Code::kInvalidModel, "output %u is not optional", i);
    const bool is_state = o.kind == Operand::Kind::kState;
    if (is_state ? i > 0 || states_[o.index].kind == format::StateKind::kept : i > 0 && !*name) {
      if (is_state) RNL_TRY(check_state_output(program, info, o.index));
      RNL_TRY(program.operands.push(o));
      continue;
    }
    if (o.kind != Operand::Kind::kValue)
      return Status::make(Code::kInvalidModel, "output \"%.80s\" is not a value of the program", name);
    if (produced[o.index]) return Status::make(Code::kInvalidModel, "output \"%.80s\" is computed twice", name);
    produced[o.index] = 1;
    for (ResultSize& r : program.results)
      if (r.value == o.index) r.op = uint32_t(program.ops.size());
    RNL_TRY(program.operands.push(o));
  }
  return program.ops.push(info);
}

}  // namespace runnel
