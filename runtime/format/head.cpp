// The order of a program's operators: what is computed from the wanted rows comes last, because the session runs it
// once a block of rows, behind all that is computed for every token.
#include <utility>

#include "format/model_file.h"

namespace runnel {
namespace {

bool is_value(const Operand& o) { return o.kind == Operand::Kind::kValue; }

Status of_wanted_rows(const char* name) {
  return Status::make(Code::kUnsupported, "\"%s\", which decides what follows, is computed from the wanted rows", name);
}

}  // namespace

int Model::axis_bounded_by(const char* option) const {
  for (size_t i = 0; i < symbols_.size(); ++i) {
    if (symbols_[i].kind != format::SymbolKind::axis) continue;
    const int bound = exprs_.as_symbol(symbols_[i].bound);
    if (bound >= 0 && std::strcmp(symbols_[size_t(bound)].name, option) == 0) return int(i);
  }
  return -1;
}

bool Model::depends_on(const ShapeExpr& shape, int symbol) const {
  for (int d = 0; d < shape.rank && symbol >= 0; ++d)
    if (exprs_.depends_on(shape.dims[d], symbol)) return true;
  return false;
}

// Operators keep their order otherwise. One that reads a state keeps its place among those that use the state.
Status Model::put_head_last(ProgramInfo& program) const {
  Vec<uint8_t> of_rows, in_head, touched;
  RNL_TRY(of_rows.assign(program.values.size()));
  RNL_TRY(in_head.assign(program.ops.size()));
  RNL_TRY(touched.assign(states_.size()));
  bool has_rows = false;
  for (uint32_t i = 0; i < program.input_count; ++i)
    has_rows = has_rows || (of_rows[i] = program.values[i].role == format::Role::rows);
  // Without such an input the symbol is one like others.
  const int rows = has_rows ? axis_bounded_by("rows") : -1;
  uint32_t body = 0;
  for (size_t i = 0; i < program.ops.size(); ++i) {
    const OpInfo& op = program.ops[i];
    const Operand* operands = &program.operands[op.first_operand];
    const size_t count = size_t(op.in_count) + op.out_count;
    for (size_t k = 0; k < count; ++k)
      if (is_value(operands[k]) && (k < op.in_count ? of_rows[operands[k].index] != 0
                                                    : depends_on(program.values[operands[k].index].shape, rows)))
        in_head[i] = 1;
    body += !in_head[i];
    if (in_head[i] && program.is_conditional(uint32_t(i)))
      return Status::make(Code::kUnsupported, "operator %zu (%s) computes for the wanted rows inside of if or loop", i,
                          op.def->name);
    for (size_t k = 0; k < count; ++k) {
      const Operand& o = operands[k];
      if (is_value(o) && k >= op.in_count) of_rows[o.index] = in_head[i];
      if (in_head[i] && is_value(o) && k >= op.in_count && !depends_on(program.values[o.index].shape, rows))
        return Status::make(Code::kInvalidModel,
                            "operator %zu (%s): \"%s\" is computed from the wanted rows but has no axis of them", i,
                            op.def->name, program.values[o.index].name);
      if (o.kind != Operand::Kind::kState) continue;
      if (in_head[i] && k >= op.in_count)
        return Status::make(Code::kInvalidModel,
                            "operator %zu (%s) replaces state \"%s\" with what it computes from the wanted rows", i,
                            op.def->name, states_[o.index].name);
      if (in_head[i]) touched[o.index] = 1;
      else if (touched[o.index])
        return Status::make(Code::kInvalidModel,
                            "operator %zu (%s) uses state \"%s\" behind an operator that reads it for the wanted rows",
                            i, op.def->name, states_[o.index].name);
    }
  }
  program.head_begin = body;
  // Numbers that the session reads between operators are there before the head.
  for (const Region& r : program.regions)
    for (const Operand& o : {r.number, r.first, r.condition})
      if (is_value(o) && of_rows[o.index]) return of_wanted_rows(program.values[o.index].name);
  for (const ResultSize& r : program.results)
    if (of_rows[r.value]) return of_wanted_rows(program.values[r.value].name);
  if (body == program.ops.size()) return Status::ok();
  Vec<uint32_t> at;  // where an operator of the body comes to stand
  RNL_TRY(at.assign(program.ops.size() + 1));
  for (size_t i = 0; i < program.ops.size(); ++i) at[i + 1] = at[i] + !in_head[i];
  for (Region& r : program.regions) r.begin = at[r.begin], r.middle = at[r.middle], r.end = at[r.end];
  for (ResultSize& r : program.results) r.op = at[r.op];
  Vec<OpInfo> ordered;
  RNL_TRY(ordered.reserve(program.ops.size()));
  for (const uint8_t head : {0, 1})
    for (size_t i = 0; i < program.ops.size(); ++i)
      if (in_head[i] == head) RNL_TRY(ordered.push(program.ops[i]));
  program.ops = std::move(ordered);
  return Status::ok();
}

}  // namespace runnel
