#include "cli/inside/plan_report.h"

#include "api/handles.h"
#include "cli/common.h"
#include "cli/inside/tensor_type.h"
#include "text/tokenizer.h"

namespace runnel::cli {
namespace {

std::string packed_text(const PackedFormat& f) {
  if (f.kind == PackedKind::kF32) return "f32";
  if (f.kind == PackedKind::kF16) return "f16";
  if (f.kind == PackedKind::kBF16) return "bf16";
  static const char* const kScales[] = {"f16", "u4", "u6", "s6", "i8"};
  return std::to_string(f.bits) + " bits, block " + std::to_string(f.block) + ", scales " + kScales[int(f.scale)] +
         (f.has_min ? ", minimums" : "") + (f.split ? ", split" : "");
}

std::string operand_name(const Model& model, const ProgramInfo& p, const Operand& o) {
  switch (o.kind) {
    case Operand::Kind::kAbsent: return "-";
    case Operand::Kind::kTensor: return model.tensors()[o.index].name;
    case Operand::Kind::kState: return model.states()[o.index].name;
    case Operand::Kind::kValue: return p.values[o.index].name;
  }
  return "?";
}

// Where an operator runs: its CPU kernel, or the device unless that refuses it.
std::string kernel_text(const PlannedOp& op, const char* name, const char* refused, bool on_device) {
  const std::string cpu = op.kernel ? op.kernel->name : "reference";
  if (op.is_skipped_view) return "view";
  return !on_device ? cpu : refused ? cpu + " (" + refused + ")" : std::string(name) + "__vulkan";
}

std::vector<PlanReport::Op> ops_of(const Model& model, const Plan& plan, uint32_t program, const Backend* backend) {
  const PlannedProgram& p = plan.programs[program];
  std::vector<PlanReport::Op> all;
  for (uint32_t i = 0; i < p.info->ops.size(); ++i) {
    const OpInfo& op = p.info->ops[i];
    const char* refused = backend ? backend->refuses(program, i) : nullptr;
    PlanReport::Op out{op.def->name,
                       kernel_text(p.ops[i], op.def->name, refused, backend != nullptr),
                       {},
                       {},
                       p.ops[i].scratch_bytes,
                       i >= p.head_begin};
    for (uint32_t k = 0; k < uint32_t(op.in_count + op.out_count); ++k)
      (k < op.in_count ? out.inputs : out.outputs)
          .push_back(operand_name(model, *p.info, p.info->operands[op.first_operand + k]));
    all.push_back(out);
  }
  return all;
}

}  // namespace

std::string tensor_type(const TensorInfo& t) {
  return t.view.packed ? packed_text(*t.view.packed) : dtype_name(t.view.dtype);
}

PlanReport plan_report(const rnl_model* handle, const rnl_session_options& given, const rnl_session* on_device) {
  const Model& model = *handle->model;
  rnl_session_options copy;
  PlanOptions options;
  if (Status s = plan_options(&given, &copy, &options); !s.is_ok()) throw Failure(s.message());
  options.threads = thread_pool_size(handle->engine->pool);
  auto made = make_plan(model, options);
  if (!made.is_ok()) throw Failure(made.take_status().message());
  const Plan& plan = made.value();
  PlanReport out;
  out.context = plan.options.context, out.chunk = plan.options.chunk;
  for (const TensorInfo& t : model.tensors())
    out.weights.push_back({t.name, tensor_type(t), {t.view.dims, t.view.dims + t.view.rank}, t.bytes});
  for (size_t i = 0; i < model.states().size(); ++i) {
    const StateInfo& s = model.states()[i];
    const PlannedState& p = plan.states[i];
    out.states.push_back({s.name,
                          format::EnumNameStateKind(s.kind),
                          dtype_name(p.dtype),
                          {p.dims, p.dims + s.shape.rank},
                          int64_t(s.window),
                          p.slots,
                          p.copies,
                          uint64_t(p.bytes) * uint64_t(p.copies)});
  }
  for (uint32_t i = 0; i < plan.programs.size(); ++i)
    out.programs.push_back(ops_of(model, plan, i, on_device ? on_device->session->backend() : nullptr));
  return out;
}

void check_tokenizer(const rnl_model* handle) {
  const Model& model = *handle->model;
  Status s = model.root().tokenizer() ? tokenizer_self_check(model) : Status::ok();
  if (!s.is_ok()) throw Failure(s.message());
}

}  // namespace runnel::cli
