#include "cli/inside/observed_call.h"

#include <algorithm>
#include <cstring>

namespace runnel::cli {
namespace {

// Throws Failure; name empty: the first.
const ProgramInfo& find_program(const Model& model, const std::string& name) {
  const ProgramInfo* p = model.find_program(name.empty() ? nullptr : name.c_str());
  if (!p) throw Failure("the model has no program \"" + name + "\"");
  return *p;
}

// Sizes of the whole call: axis symbols from the inputs, rows as many as the stream is long unless given.
CallBinding call_symbols(const Plan& plan, const PlannedProgram& program, const std::vector<rnl_tensor>& inputs) {
  CallBinding v = plan.bounds;
  v.absent = program.info->optional_inputs;
  bool rows_given = false;
  for (const rnl_tensor& t : inputs)
    for (uint32_t i = 0; i < program.info->input_count; ++i) {
      const ValueInfo& info = program.info->values[i];
      if (std::strcmp(info.name, t.name) != 0) continue;
      if (i < 64) v.absent &= ~(uint64_t(1) << i);
      for (int d = 0; d < std::min(t.rank, info.shape.rank); ++d) {
        const int s = plan.model->exprs().as_symbol(info.shape.dims[d]);
        if (s < 0 || plan.model->symbols()[size_t(s)].kind != format::SymbolKind::axis) continue;
        v.v[s] = t.dims[d];
        rows_given = rows_given || s == program.rows_symbol;
      }
    }
  if (!rows_given && program.rows_symbol >= 0 && program.stream_symbol >= 0)
    v.v[program.rows_symbol] = v.v[program.stream_symbol];
  return v;
}

}  // namespace

ObservedCall::ObservedCall(const Options& o, const std::vector<NamedTensor>& tensors) : name_(o.program) {
  if (o.backend != "cpu")
    throw Failure("values can be read behind each operator on the CPU alone: leave out --backend " + o.backend);
  open(o, &opened_);
  program_ = &find_program(model(), o.program);
  for (const NamedTensor& t : tensors)
    for (uint32_t i = 0; i < program_->input_count; ++i)
      if (t.name == program_->values[i].name) given_.push_back(t);
  for (uint32_t i = 0; i < program_->input_count; ++i) {
    const ValueInfo& v = program_->values[i];
    const bool is_given =
        std::any_of(given_.begin(), given_.end(), [&](const NamedTensor& t) { return t.name == v.name; });
    if (!is_given && !program_->is_optional(i) && !v.is_filled_in())
      throw Failure(std::string("input \"") + v.name + "\" is missing");
  }
  for (const NamedTensor& t : given_) tensors_.push_back(to_tensor(t));
  rnl_session_options so = session_options(o, longest_axis(opened_.model, program_->name, given_));
  so.rows = kRowsPerBlock;
  check(session_.create(opened_.model, so));
  planned_ = &plan().programs[size_t(program_ - &model().programs()[0])];
  symbols_ = call_symbols(plan(), *planned_, tensors_);
  seen_.assign(program_->values.size(), 0);
}

TensorView ObservedCall::whole(uint32_t value) const {
  TensorView view{};
  const ValueInfo& info = program_->values[value];
  Status s = evaluate_shape(model(), info.shape, symbols_, info.name, &view);
  if (!s.is_ok()) throw Failure(s.message());
  view.dtype = info.dtype;
  return view;
}

// The one axis whose size follows from that of the stream or the rows.
int ObservedCall::joined_axis(uint32_t value) const {
  int found = -1;
  const ShapeExpr& shape = program_->values[value].shape;
  for (int d = 0; d < shape.rank; ++d)
    for (const int symbol : {planned_->stream_symbol, planned_->rows_symbol}) {
      if (symbol < 0 || !model().exprs().depends_on(shape.dims[d], symbol) || found == d) continue;
      if (found >= 0) return -2;
      found = d;
    }
  return found;
}

rnl::Status ObservedCall::run(const std::function<void(const ValuePart&)>& see) {
  struct Watch {
    ObservedCall* call;
    const std::function<void(const ValuePart&)>* see;
    Progress progress;
    std::string error;
    int64_t total;
  } watch{
      this, &see, Progress("inspect", planned_->stream_symbol >= 0 ? symbols_.v[planned_->stream_symbol] : 0), {}, 0};
  seen_.assign(program_->values.size(), 0);
  Session& session = *session_.get()->session;
  session.set_observer(
      [](void* context, const ObservedOp& op) -> Status {
        Watch& w = *static_cast<Watch*>(context);
        ObservedCall& call = *w.call;
        const OpInfo& info = call.program_->ops[op.index];
        try {
          for (uint32_t k = 0; k < info.out_count; ++k) {
            const Operand& out = call.program_->operands[info.first_operand + info.in_count + k];
            if (out.kind != Operand::Kind::kValue) continue;
            ValuePart part{out.index, op.index, op.kernel, op.call->out[k], call.joined_axis(out.index), {}, 0};
            const TensorView whole = call.whole(out.index);
            std::memcpy(part.whole_dims, whole.dims, sizeof part.whole_dims);
            int64_t& seen = call.seen_[out.index];
            if (part.axis == -2) {  // all of it in one pass, or not at all
              if (!std::equal(whole.dims, whole.dims + whole.rank, part.view.dims))
                throw Failure(std::string("value \"") + call.program_->values[out.index].name +
                              "\" cannot be put together from passes: give a --chunk as long as the inputs");
              part.axis = -1;
            }
            if (part.axis < 0 && seen++ > 0) continue;
            if (part.axis >= 0) {
              part.offset = seen;
              seen += part.view.dims[part.axis];
              if (seen > whole.dims[part.axis])
                throw Failure(std::string("value \"") + call.program_->values[out.index].name +
                              "\" is larger in passes than in one: give a --chunk as long as the inputs");
            }
            (*w.see)(part);
          }
        } catch (const std::exception& e) {
          w.error = e.what();
          return Status::make(Code::kCancelled, "cancelled");
        }
        w.progress.update(op.first_token);
        return Status::ok();
      },
      &watch);
  const rnl::Status s = rnl_session_run_blocks(
      session_.get(), name_.empty() ? nullptr : name_.c_str(), tensors_.data(), tensors_.size(), 1,
      [](void*, const rnl_tensor*, int64_t) { return 0; }, nullptr);
  session.set_observer(nullptr, nullptr);
  if (!watch.error.empty()) throw Failure(watch.error);
  return s;
}

bool ObservedCall::is_complete(uint32_t value) const {
  const int axis = joined_axis(value);
  return axis < 0 ? seen_[value] > 0 : seen_[value] == whole(value).dims[axis];
}

}  // namespace runnel::cli
