#include "converter/write/describe.h"

#include <cstdio>
#include <map>

#include "converter/write/planned_file.h"
#include "session/session.h"

namespace runnel::convert {
namespace {

template <class List>
std::string shape_text(const List& dims) {
  std::string out;
  for (const auto& d : dims) {
    if (!out.empty()) out += ", ";
    if constexpr (std::is_same_v<std::decay_t<decltype(d)>, std::string>) out += d;
    else out += std::to_string(d);
  }
  return "[" + out + "]";
}

// f32, f16, bf16, or the bits and the block of an integer format.
std::string type_text(const format::TensorT& t) {
  if (t.dtype != format::DType::packed || !t.packed) return format::EnumNameDType(t.dtype);
  const format::PackedT& p = *t.packed;
  if (p.kind != format::PackedKind::integer) return format::EnumNamePackedKind(p.kind);
  return std::to_string(p.bits) + " bits, blocks of " + std::to_string(p.block) + (p.has_min ? " with minimum" : "") +
         ", scales " + format::EnumNameScaleKind(p.scale) + (p.split ? ", split" : "");
}

std::string memory_text(ModelBuilder& b, int64_t context) {
  PlannedFile file(b);
  const auto model = file.open();
  PlanOptions options;
  options.context = context;
  options.rollback = 0;
  auto plan = make_plan(*model, options);
  if (!plan.is_ok()) fail("the planned file does not work: %s", plan.take_status().message());
  const MemoryReport m = Session::memory_of(plan.value());
  char text[320];
  std::snprintf(text, sizeof text,
                "file %.1f MB\nmemory at context %lld, chunk %lld: %.1f MB (weights %.1f, state %.1f, arena %.1f, "
                "vocabulary %.1f, tables %.1f)\n",
                double(file.bytes()) * 1e-6, static_cast<long long>(plan.value().options.context),
                static_cast<long long>(plan.value().options.chunk), double(m.total()) * 1e-6, double(m.weights) * 1e-6,
                double(m.state) * 1e-6, double(m.arena) * 1e-6, double(m.tokenizer) * 1e-6,
                double(m.packed + m.fixed) * 1e-6);
  return text;
}

}  // namespace

std::string describe_plan(ModelBuilder& b, int64_t context) {
  std::string out;
  for (const auto& program : b.model.programs) {
    std::map<std::string, int> counts;
    for (const auto& op : program->ops) ++counts[op->name];
    out += "program " + program->name + ": " + std::to_string(program->ops.size()) + " operators";
    for (const auto& [name, count] : counts) out += "\n  " + name + " " + std::to_string(count);
    out += "\n";
  }
  for (const auto& s : b.model.states) {
    out += "state " + s->name + " " + shape_text(s->shape) + " " + format::EnumNameDType(s->dtype) + " " +
           format::EnumNameStateKind(s->kind);
    if (s->window) out += ", window " + std::to_string(s->window);
    out += "\n";
  }
  uint64_t bytes = 0;
  std::map<std::string, uint64_t> by_type;
  for (const Blob& blob : b.blobs()) {
    const format::TensorT& t = *b.model.tensors[blob.tensor];
    out += "tensor " + t.name + " " + shape_text(t.shape) + " " +
           (blob.matrix ? info(blob.matrix->type).name + std::string(" -> ") : "") + type_text(t) + ", " +
           std::to_string(blob.bytes) + " bytes\n";
    bytes += blob.bytes;
    if (blob.segment == format::SegmentKind::weights) by_type[type_text(t)] += blob.bytes;
  }
  char line[160];
  std::snprintf(line, sizeof line, "%zu tensors, %.1f MB\n", b.blobs().size(), double(bytes) * 1e-6);
  out += line;
  for (const auto& [type, n] : by_type) {
    std::snprintf(line, sizeof line, "  %s %.1f MB\n", type.c_str(), double(n) * 1e-6);
    out += line;
  }
  return out + memory_text(b, context);
}

}  // namespace runnel::convert
