// Programs that run others (control.h): the operators of those take the place of the one that names them.
#include <cstring>

#include "format/model_file.h"

namespace runnel {
namespace {

bool is_value(const Operand& o) { return o.kind == Operand::Kind::kValue; }
Operand value_operand(size_t index) { return {Operand::Kind::kValue, uint32_t(index)}; }

// Whether `dtype` can be a condition or a number of rounds.
bool is_number(DType dtype, int rank) { return (dtype == DType::kI32 || dtype == DType::kF32) && rank == 1; }

}  // namespace

struct Model::Linker {
  Model& model;
  ProgramInfo& program;
  Vec<uint8_t>& produced;

  // What an operand looks like from here.
  struct Shape {
    DType dtype = DType::kNone;
    int rank = 0;
    ExprId dims[kMaxRank];
  };
  Result<Shape> shape_of(const Operand& o) {
    Shape s;
    const ShapeExpr* shape = nullptr;
    if (is_value(o)) shape = &program.values[o.index].shape, s.dtype = program.values[o.index].dtype;
    if (o.kind == Operand::Kind::kState) shape = &model.states_[o.index].shape, s.dtype = DType::kF32;
    if (shape) {
      s.rank = shape->rank;
      std::memcpy(s.dims, shape->dims, sizeof s.dims);
    } else if (o.kind == Operand::Kind::kTensor) {
      const TensorView& v = model.tensors_[o.index].view;
      s.dtype = v.dtype, s.rank = v.rank;
      for (int d = 0; d < v.rank; ++d) {
        RNL_ASSIGN(size, model.exprs_.constant(v.dims[d]));
        s.dims[d] = size;
      }
    }
    return s;
  }

  const ProgramInfo* find(const flatbuffers::String* name, uint32_t after) const {
    for (size_t i = after + 1; name && i < model.programs_.size(); ++i)
      if (std::strcmp(model.programs_[i].name, name->c_str()) == 0) return &model.programs_[i];
    return nullptr;
  }

  Status new_value(const char* name, DType dtype, const ShapeExpr& shape, Operand* out) {
    *out = value_operand(program.values.size());
    RNL_TRY(program.values.push(ValueInfo{name, dtype, shape, format::Role::none}));
    return produced.push(1);
  }

  // An operator that copies.
  Status copy(const Operand& from, const Operand& to) {
    const OpDef* def = find_op_by_name("transpose");
    if (!def)
      return Status::make(Code::kUnsupported, "this runtime is built without operator \"transpose\", which copies");
    OpInfo info{def, {}, uint32_t(program.operands.size()), 1, 1};
    RNL_TRY(def->parse(kNoAttributes, &info.params));
    RNL_TRY(program.operands.push(from));
    RNL_TRY(program.operands.push(to));
    return program.ops.push(info);
  }

  // The value that a view shares its memory with.
  Operand source_of(Operand o) const {
    for (size_t i = program.ops.size(); i-- > 0 && is_value(o);) {
      const OpInfo& op = program.ops[i];
      const Operand* operands = &program.operands[op.first_operand];
      if (op.def->is_view && operands[op.in_count] == o) o = operands[0];
    }
    return o;
  }

  // Sizes of the callee's values, from those of what is handed over.
  Status bind(const ProgramInfo& callee, const Operand* args, uint32_t count, ExprId* by_symbol) {
    for (int s = 0; s < kMaxSymbols; ++s) by_symbol[s] = ExprPool::kSame;
    uint64_t bound = 0;
    static_assert(kMaxSymbols <= 64);
    if (count > callee.input_count)
      return Status::make(Code::kInvalidModel, "program \"%s\" has %u inputs, %u are given", callee.name,
                          callee.input_count, count);
    for (uint32_t i = 0; i < callee.input_count; ++i) {
      const ValueInfo& input = callee.values[i];
      const Operand arg = i < count ? args[i] : Operand{};
      const bool may_be_absent =
          arg.kind == Operand::Kind::kAbsent || (is_value(arg) && program.is_optional(arg.index));
      if (may_be_absent && !callee.is_optional(i))
        return Status::make(Code::kInvalidModel, "program \"%s\" needs its input \"%s\"", callee.name, input.name);
      if (arg.kind == Operand::Kind::kAbsent) continue;
      if (arg.kind == Operand::Kind::kState && model.states_[arg.index].kind != format::StateKind::kept)
        return Status::make(Code::kInvalidModel, "state \"%s\" cannot be handed over: it is not kept",
                            model.states_[arg.index].name);
      RNL_ASSIGN(shape, shape_of(arg));
      if (shape.dtype != input.dtype || shape.rank != input.shape.rank)
        return Status::make(Code::kInvalidModel, "input \"%s\" of program \"%s\" is %s with %d axes, given %s with %d",
                            input.name, callee.name, dtype_name(input.dtype), input.shape.rank, dtype_name(shape.dtype),
                            shape.rank);
      for (int d = 0; d < shape.rank; ++d) {
        const int s = model.exprs_.as_symbol(input.shape.dims[d]);
        if (s < 0 || model.symbols_[size_t(s)].kind != format::SymbolKind::axis || (bound >> s & 1)) continue;
        by_symbol[s] = shape.dims[d], bound |= uint64_t(1) << s;
      }
    }
    return Status::ok();
  }

  // The callee's operators. targets: for each of its outputs the value that it is to be, or absent; may be null.
  // outputs: where they are.
  Status run(const ProgramInfo& callee, const Operand* args, uint32_t count, const Operand* targets,
             Vec<Operand>* outputs) {
    ExprId by_symbol[kMaxSymbols];
    RNL_TRY(bind(callee, args, count, by_symbol));
    Vec<Operand> values;  // by value of the callee
    Vec<ExprId> sizes;    // by expression, those that were needed already
    RNL_TRY(values.assign(callee.values.size()));
    RNL_TRY(sizes.assign(model.exprs_.size()));
    for (ExprId& e : sizes) e = ExprPool::kSame;
    for (uint32_t i = 0; i < count; ++i) values[i] = args[i];
    for (uint32_t k = 0; targets && k < callee.required_outputs; ++k) {
      const uint32_t v = callee.outputs[k];
      if (is_value(targets[k]) && v >= callee.input_count && !is_value(values[v])) values[v] = targets[k];
    }
    for (size_t v = callee.input_count; v < callee.values.size(); ++v) {
      const ValueInfo& info = callee.values[v];
      if (is_value(values[v])) {
        const ValueInfo& target = program.values[values[v].index];
        if (target.dtype != info.dtype || target.shape.rank != info.shape.rank)
          return Status::make(Code::kInvalidModel,
                              "output \"%s\" of program \"%s\" is another kind of value than \"%s\"", info.name,
                              callee.name, target.name);
        continue;
      }
      ShapeExpr shape = info.shape;
      for (int d = 0; d < shape.rank; ++d) {
        ExprId& e = sizes[shape.dims[d]];
        if (e == ExprPool::kSame) {
          RNL_ASSIGN(size, model.exprs_.substitute(shape.dims[d], by_symbol));
          e = size;
        }
        shape.dims[d] = e;
      }
      RNL_TRY(new_value(info.name, info.dtype, shape, &values[v]));
    }
    const auto mapped = [&](const Operand& o) { return is_value(o) ? values[o.index] : o; };
    const uint32_t first = uint32_t(program.ops.size());
    for (const OpInfo& op : callee.ops) {
      OpInfo info = op;
      info.first_operand = uint32_t(program.operands.size());
      for (uint32_t k = 0; k < uint32_t(op.in_count) + op.out_count; ++k)
        RNL_TRY(program.operands.push(mapped(callee.operands[op.first_operand + k])));
      RNL_TRY(program.ops.push(info));
    }
    for (Region r : callee.regions) {
      r.begin += first, r.middle += first, r.end += first;
      r.number = mapped(r.number), r.first = mapped(r.first), r.condition = mapped(r.condition);
      if (r.is_loop) r.round = values[r.round].index;
      RNL_TRY(program.regions.push(r));
    }
    for (const ResultSize& r : callee.results)
      RNL_TRY(program.results.push(ResultSize{r.op + first, values[r.value].index, r.symbol}));
    for (uint32_t k = 0; k < callee.required_outputs; ++k) {
      Operand at = values[callee.outputs[k]];
      if (targets && is_value(targets[k]) && !(at == targets[k])) RNL_TRY(copy(at, targets[k]));
      if (outputs) RNL_TRY(outputs->push(at));
    }
    return Status::ok();
  }

  Status check_number(const Operand& o, const char* what) {
    RNL_ASSIGN(shape, shape_of(o));
    if (o.kind == Operand::Kind::kAbsent || (is_number(shape.dtype, shape.rank) && o.kind != Operand::Kind::kState &&
                                             !(is_value(o) && program.is_optional(o.index))))
      return Status::ok();
    return Status::make(Code::kInvalidModel, "%s is no vector of i32 or f32 that every call has", what);
  }

  Status branch(const ProgramInfo& yes, const ProgramInfo* no, const Vec<Operand>& in, const Vec<Operand>& out) {
    if (!no || yes.required_outputs != no->required_outputs)
      return Status::make(Code::kInvalidModel, "its two programs are not there or have different outputs");
    if (in[0].kind == Operand::Kind::kAbsent) return Status::make(Code::kInvalidModel, "it has no condition");
    RNL_TRY(check_number(in[0], "its condition"));
    const size_t number = program.regions.size();
    RNL_TRY(program.regions.push(Region{uint32_t(program.ops.size()), 0, 0, false, in[0], {}, {}, 0}));
    RNL_TRY(run(yes, in.data() + 1, uint32_t(in.size() - 1), out.data(), nullptr));
    program.regions[number].middle = uint32_t(program.ops.size());
    RNL_TRY(run(*no, in.data() + 1, uint32_t(in.size() - 1), out.data(), nullptr));
    program.regions[number].end = uint32_t(program.ops.size());
    return Status::ok();
  }

  Status loop(const ProgramInfo& body, const Vec<Operand>& in, const Vec<Operand>& out) {
    const size_t n = out.size();
    const bool has_condition = body.required_outputs == n + 1;
    if (in.size() < 2 + n || body.required_outputs < n || body.required_outputs > n + 1 || body.input_count < 1 + n)
      return Status::make(Code::kInvalidModel, "a loop of %zu values does not fit %zu inputs and program \"%s\"", n,
                          in.size(), body.name);
    if (in[0].kind == Operand::Kind::kAbsent && !has_condition)
      return Status::make(Code::kInvalidModel, "a loop without an end");
    RNL_TRY(check_number(in[0], "the number of rounds"));
    RNL_TRY(check_number(in[1], "the first condition"));
    for (size_t k = 0; k < n; ++k) RNL_TRY(copy(in[2 + k], out[k]));
    Vec<Operand> args, outputs;
    RNL_TRY(args.assign(1));
    RNL_TRY(new_value(body.values[0].name, DType::kI32, body.values[0].shape, &args[0]));
    RNL_TRY(args.append(out.data(), n));
    RNL_TRY(args.append(in.data() + 2 + n, in.size() - 2 - n));
    const size_t number = program.regions.size();
    RNL_TRY(program.regions.push(Region{uint32_t(program.ops.size()), 0, 0, true, in[0], in[1], {}, args[0].index}));
    RNL_TRY(run(body, args.data(), uint32_t(args.size()), nullptr, &outputs));
    // The values of this round serve until all those of the next are computed.
    for (Operand& o : outputs) {
      const Operand source = source_of(o);
      for (const Operand& carried : out)
        if (source == carried) {
          const ValueInfo info = program.values[o.index];
          const Operand from = o;
          RNL_TRY(new_value(info.name, info.dtype, info.shape, &o));
          RNL_TRY(copy(from, o));
          break;
        }
    }
    for (size_t k = 0; k < n; ++k) RNL_TRY(copy(outputs[k], out[k]));
    if (has_condition) {
      RNL_TRY(check_number(outputs[n], "the condition"));
      program.regions[number].condition = outputs[n];
    }
    program.regions[number].middle = program.regions[number].end = uint32_t(program.ops.size());
    return Status::ok();
  }
};

Status Model::load_control(const format::Op& op, uint32_t number, Vec<uint8_t>& produced) {
  ProgramInfo& program = programs_[number];
  const Control control = control_of(op.code());
  for (const ControlName& row : kControls)
    if (row.control == control && std::strcmp(row.name, op.name()->c_str()) != 0)
      return Status::make(Code::kUnsupported, "number %u is that of \"%s\"", op.code(), row.name);
  if (op.version() != kControlVersion)
    return Status::make(Code::kUnsupported, "version %u of the operator; this runtime knows %u: update the runtime",
                        op.version(), kControlVersion);
  const format::ControlAttrs* attrs = op.attrs_as_ControlAttrs();
  Linker linker{*this, program, produced};
  const ProgramInfo* callee = attrs ? linker.find(attrs->program(), number) : nullptr;
  if (!callee) return Status::make(Code::kInvalidModel, "it names no program that stands behind this one");
  Vec<Operand> in, out;
  for (uint32_t i = 0; op.inputs() && i < op.inputs()->size(); ++i) {
    RNL_ASSIGN(o, read_input(op.inputs()->Get(i)->c_str(), produced));
    RNL_TRY(in.push(o));
  }
  for (uint32_t i = 0; op.outputs() && i < op.outputs()->size(); ++i) {
    const Operand o = find_name(op.outputs()->Get(i)->c_str());
    if (!is_value(o) || produced[o.index])
      return Status::make(Code::kInvalidModel, "output \"%.80s\" is no value, or computed twice",
                          op.outputs()->Get(i)->c_str());
    produced[o.index] = 1;
    RNL_TRY(out.push(o));
  }
  if (out.empty() || (control != Control::kLoop && out.size() != callee->required_outputs))
    return Status::make(Code::kInvalidModel, "program \"%s\" has %u outputs, taken are %zu", callee->name,
                        callee->required_outputs, out.size());
  if (control == Control::kCall) return linker.run(*callee, in.data(), uint32_t(in.size()), out.data(), nullptr);
  if (in.empty()) return Status::make(Code::kInvalidModel, "it has no inputs");
  if (control == Control::kIf) return linker.branch(*callee, linker.find(attrs->otherwise(), number), in, out);
  return linker.loop(*callee, in, out);
}

}  // namespace runnel
