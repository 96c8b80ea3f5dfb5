#include "converter/program/graph.h"

#include <algorithm>
#include <set>

#include "format/control.h"
#include "format/states.h"

namespace runnel::convert {

GraphBuilder::GraphBuilder(ModelBuilder& builder, const std::string& program) : builder_(builder) {
  builder_.model.programs.push_back(std::make_unique<format::ProgramT>());
  program_ = builder_.model.programs.back().get();
  program_->name = program;
}

void GraphBuilder::add_symbol(const std::string& name, format::SymbolKind kind, const std::string& bound) {
  auto s = std::make_unique<format::SymbolT>();
  s->name = name;
  s->kind = kind;
  s->bound = bound;
  builder_.model.symbols.push_back(std::move(s));
}

void GraphBuilder::add_stream_symbols(bool is_whole) {
  for (const char* option : {"context", "chunk", "rollback", "rows"})
    add_symbol(option, format::SymbolKind::option, "");
  add_symbol("T", format::SymbolKind::axis, is_whole ? "context" : "chunk");
  if (!is_whole) add_symbol("R", format::SymbolKind::axis, "rows");
}

void GraphBuilder::add_input(const std::string& name, format::DType dtype, const Names& shape, format::Role role) {
  auto v = std::make_unique<format::ValueT>();
  v->name = name;
  v->dtype = dtype;
  v->shape = shape;
  v->role = role;
  program_->inputs.push_back(std::move(v));
}

void GraphBuilder::add_filled_input(const std::string& name, const Names& shape, int32_t fill) {
  add_input(name, format::DType::i32, shape, format::Role::none);
  program_->inputs.back()->filled = true;
  program_->inputs.back()->fill = fill;
}

void GraphBuilder::add_filled_input(const std::string& name, const std::string& axis, int32_t fill) {
  add_filled_input(name, Names{axis}, fill);
}

std::unique_ptr<format::OpT> new_op(const std::string& name, const Names& inputs, const Names& outputs) {
  auto o = std::make_unique<format::OpT>();
  o->name = name;
  o->code = op_row(name).number;
  o->version = version_needed(*o);
  o->inputs = inputs;
  o->outputs = outputs;
  return o;
}

const format::ValueT* find_value(const format::ProgramT& program, const std::string& name) {
  for (const auto* list : {&program.values, &program.inputs})
    for (const auto& v : *list)
      if (v->name == name) return v.get();
  return nullptr;
}
const format::ValueT& value_of(const format::ProgramT& program, const std::string& name) {
  if (const format::ValueT* v = find_value(program, name)) return *v;
  fail("value \"%s\" is not in program \"%s\"", printable(name).c_str(), printable(program.name).c_str());
}

const format::StateT* whole_stream_keys(const format::ModelT& model, const format::OpT& op) {
  if (op.name != "attention" || op.inputs.size() < 5 || op.inputs[3].empty()) return nullptr;
  const auto* a = op.attrs.AsAttentionAttrs();
  if (a && (a->window > 0 || a->stride > 1)) return nullptr;
  for (const auto& s : model.states)
    if (s->name == op.inputs[3]) return s->kind == format::StateKind::append ? s.get() : nullptr;
  return nullptr;
}

std::string add_value(format::ProgramT& program, const std::string& name, const Names& shape, format::DType dtype) {
  auto v = std::make_unique<format::ValueT>();
  v->name = name;
  v->shape = shape;
  v->dtype = dtype;
  program.values.push_back(std::move(v));
  return name;
}

void GraphBuilder::move_to_end(const std::string& axis) {
  std::set<std::string> late;
  for (const auto& v : program_->values)
    if (!v->shape.empty() && v->shape[0] == axis) late.insert(v->name);
  std::stable_partition(program_->ops.begin(), program_->ops.end(),
                        [&](const auto& op) { return !late.count(op->outputs[0]); });
}

std::string slots_of_window(int64_t window) {
  const std::string tile = std::to_string(kSlotTile), full = "ceildiv(context," + tile + ")*" + tile;
  if (window == 0) return full;
  return "min(ceildiv(" + std::to_string(window) + "+max(chunk,rollback)," + tile + ")*" + tile + "," + full + ")";
}

void GraphBuilder::add_attention_states(const std::string& name, int64_t window, int64_t kv_heads, int64_t key_dim,
                                        int64_t value_dim) {
  const std::string slots = slots_of_window(window);
  const auto add = [&](const char* suffix, const Names& shape) {
    auto s = std::make_unique<format::StateT>();
    s->name = name + suffix;
    s->kind = window ? format::StateKind::ring : format::StateKind::append;
    s->dtype = builder_.state_dtype();
    s->shape = shape;
    s->block_axis = 2;
    s->slots = slots;
    s->window = uint32_t(window);
    builder_.model.states.push_back(std::move(s));
  };
  add(".k", {std::to_string(kv_heads), "floordiv(" + slots + ",16)", std::to_string(key_dim), "16"});
  add(".v", {std::to_string(kv_heads), slots, std::to_string(value_dim)});
}

uint16_t version_needed(const format::OpT& op) {
  const auto* embedding = op.attrs.AsEmbeddingAttrs();
  const auto* rope = op.attrs.AsRopeAttrs();
  const bool is_newer_rope = rope && (rope->exact || rope->limit || !rope->sections.empty());
  const auto* select = op.attrs.AsSelectBlocksAttrs();
  const bool is_newer_select =
      select && (select->estimate != format::KeyEstimate::antidiagonal || select->choice != format::KeyChoice::share ||
                 select->queries || select->count);
  const auto* cell = op.attrs.AsCellAttrs();
  const bool is_newer_cell = cell && (cell->reset_first || cell->clip != 0 || cell->gate != format::UnaryKind::none ||
                                      cell->candidate != format::UnaryKind::none ||
                                      cell->read != format::UnaryKind::none || op.inputs.size() > 8);
  return (embedding && embedding->outside >= 0) || is_newer_rope || is_newer_select || is_newer_cell ? 2 : 1;
}

OpRow op_row(const std::string& name) {
  static const struct {
    const char* name;
    OpRow row;
  } kRows[] = {
#define RNL_OP(number, version, name, ...) {#name, {number, version}},
#include "ops/registry.inc"
#undef RNL_OP
  };
  for (const auto& r : kRows)
    if (name == r.name) return r.row;
  for (const ControlName& c : kControls)
    if (name == c.name) return {uint16_t(c.control), kControlVersion};
  fail("operator \"%s\" is not in the registry", printable(name).c_str());
}

}  // namespace runnel::convert
