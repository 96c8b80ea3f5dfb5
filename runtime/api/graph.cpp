// What a model's programs take and give, as the file says.
#include "api/handles.h"

namespace runnel {
namespace {

Status no_such(const char* what, size_t index, size_t count) {
  return Status::make(Code::kNotFound, "the model has no %s %zu, there are %zu", what, index, count);
}

void describe_shape(const Model& model, const ShapeExpr& shape, int32_t* rank, const char** sizes) {
  *rank = shape.rank;
  for (int d = 0; d < kMaxRank; ++d) sizes[d] = d < shape.rank ? model.exprs().text(shape.dims[d]) : "";
}

const char* name_of(const Model& model, int symbol) { return symbol >= 0 ? model.symbols()[size_t(symbol)].name : ""; }

// The symbol when some input of the program has it as a size.
int symbol_of_inputs(const Model& model, const ProgramInfo& p, const char* option) {
  const int symbol = model.axis_bounded_by(option);
  for (uint32_t i = 0; i < p.input_count; ++i)
    if (model.depends_on(p.values[i].shape, symbol)) return symbol;
  return -1;
}

template <class Fn>
rnl_status_code describe(const rnl_model* model, const void* info, Fn fn) {
  if (!model || !info) return report(null_argument("model or info"));
  return report(fn(*model->model));
}

// One of a list of the model: fill(model, item, out) says what there is to say of it.
template <class List, class Info, class Fn>
rnl_status_code describe_one(const rnl_model* model, const List& (Model::*list)() const, const char* what, size_t index,
                             Info* info, Fn fill) {
  return describe(model, info, [&](const Model& m) -> Status {
    const List& all = (m.*list)();
    if (index >= all.size()) return no_such(what, index, all.size());
    Info out{};
    out.name = all[index].name;
    fill(m, all[index], out);
    return write_struct(info, out, "info");
  });
}

rnl_status_code describe_value(const rnl_model* model, const char* program, size_t index, bool is_input,
                               rnl_value_info* info) {
  return describe(model, info, [&](const Model& m) -> Status {
    const ProgramInfo* p = m.find_program(program);
    if (!p) return Status::make(Code::kNotFound, "the model has no program \"%.80s\"", program ? program : "");
    const size_t count = is_input ? p->input_count : p->outputs.size();
    if (index >= count) return no_such(is_input ? "input" : "output", index, count);
    const uint32_t number = is_input ? uint32_t(index) : p->outputs[index];
    const ValueInfo& v = p->values[number];
    rnl_value_info out{};
    out.name = v.name;
    out.dtype = int32_t(v.dtype);
    describe_shape(m, v.shape, &out.rank, out.sizes);
    out.role = is_input ? int32_t(v.role) : RNL_ROLE_NONE;
    out.optional = is_input ? p->is_optional(number) || p->values[number].is_filled : index >= p->required_outputs;
    return write_struct(info, out, "info");
  });
}

}  // namespace
}  // namespace runnel

using namespace runnel;

extern "C" {

rnl_status_code rnl_model_program(const rnl_model* model, size_t index, rnl_program_info* info) {
  return describe_one(model, &Model::programs, "program", index, info,
                      [](const Model& m, const ProgramInfo& p, rnl_program_info& out) {
                        out.inputs = int32_t(p.input_count), out.outputs = int32_t(p.outputs.size());
                        out.stream = name_of(m, symbol_of_inputs(m, p, "chunk"));
                        out.rows = name_of(m, symbol_of_inputs(m, p, "rows"));
                      });
}

rnl_status_code rnl_model_program_input(const rnl_model* model, const char* program, size_t index,
                                        rnl_value_info* info) {
  return describe_value(model, program, index, true, info);
}
rnl_status_code rnl_model_program_output(const rnl_model* model, const char* program, size_t index,
                                         rnl_value_info* info) {
  return describe_value(model, program, index, false, info);
}

rnl_status_code rnl_model_symbol(const rnl_model* model, size_t index, rnl_symbol_info* info) {
  return describe_one(model, &Model::symbols, "symbol", index, info,
                      [](const Model& m, const SymbolInfo& s, rnl_symbol_info& out) {
                        out.kind = int32_t(s.kind);
                        out.bound = s.kind == format::SymbolKind::option ? "" : m.exprs().text(s.bound);
                      });
}

rnl_status_code rnl_model_state(const rnl_model* model, size_t index, rnl_state_info* info) {
  return describe_one(model, &Model::states, "state", index, info,
                      [](const Model& m, const StateInfo& s, rnl_state_info& out) {
                        out.kind = int32_t(s.kind);
                        out.dtype = int32_t(s.dtype);
                        describe_shape(m, s.shape, &out.rank, out.sizes);
                        out.window = int64_t(s.window);
                      });
}

}  // extern "C"
