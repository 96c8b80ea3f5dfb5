#include "converter/write/describe.h"

#include <cstdio>
#include <map>

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
  return std::to_string(p.bits) + " bits, blocks of " + std::to_string(p.block) + (p.has_min ? " with minimum" : "") + ", scales " + format::EnumNameScaleKind(p.scale) + (p.split ? ", split" : "");
}

}  // namespace

std::string describe_plan(const ModelBuilder& b) {
  std::string out;
  for (const auto& program : b.model.programs) {
    std::map<std::string, int> counts;
    for (const auto& op : program->ops) ++counts[op->name];
    out += "program " + program->name + ": " + std::to_string(program->ops.size()) + " operators";
    for (const auto& [name, count] : counts) out += "\n  " + name + " " + std::to_string(count);
    out += "\n";
  }
  for (const auto& s : b.model.states) {
    out += "state " + s->name + " " + shape_text(s->shape) + " " + format::EnumNameStateKind(s->kind);
    if (s->window) out += ", window " + std::to_string(s->window);
    out += "\n";
  }
  uint64_t bytes = 0;
  for (const Blob& blob : b.blobs()) {
    const format::TensorT& t = *b.model.tensors[blob.tensor];
    out += "tensor " + t.name + " " + shape_text(t.shape) + " " + type_text(t) + ", " + std::to_string(blob.bytes) + " bytes\n";
    bytes += blob.bytes;
  }
  char sum[96];
  std::snprintf(sum, sizeof sum, "%zu tensors, %.1f MB\n", b.blobs().size(), double(bytes) * 1e-6);
  return out + sum;
}

}  // namespace runnel::convert
