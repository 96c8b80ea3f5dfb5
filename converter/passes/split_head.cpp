#include "converter/passes/split_head.h"

#include <algorithm>
#include <set>

namespace runnel::convert {
namespace {

// Below, a token's time is elsewhere: the matrix has few rows or is a small part of what a token reads.
constexpr uint64_t kMinRows = 32768;
constexpr uint64_t kMinShare = 10;  // 1 / kMinShare of the weights

bool is_output(const format::ProgramT& program, const std::string& value) {
  return std::find(program.outputs.begin(), program.outputs.end(), value) != program.outputs.end();
}

bool is_read(const format::ProgramT& program, const std::string& value) {
  for (const auto& op : program.ops)
    if (std::find(op->inputs.begin(), op->inputs.end(), value) != op->inputs.end()) return true;
  return false;
}

std::set<std::string> output_matrices(const format::ModelT& model) {
  std::set<std::string> names;
  for (const auto& program : model.programs)
    for (const auto& op : program->ops)
      if (op->name == "matmul" && op->inputs.size() == 2 && op->outputs.size() == 1 &&
          is_output(*program, op->outputs[0]) && !is_read(*program, op->outputs[0]))
        names.insert(op->inputs[1]);
  return names;
}

}  // namespace

void split_heads(Head head, ModelBuilder& b) {
  if (head == Head::kWhole) return;
  uint64_t weights = 0;
  for (const Blob& blob : b.blobs())
    if (blob.segment == format::SegmentKind::weights) weights += blob.bytes;
  bool found = false;
  for (const std::string& name : output_matrices(b.model)) {
    const format::PackedT* p = b.format_of_matrix(name);
    if (!p || p->kind != format::PackedKind::integer || p->bits != 8 || p->block != 32 || p->has_min ||
        p->scale != format::ScaleKind::f16)
      continue;
    const auto& tensors = b.model.tensors;
    const format::TensorT& t =
        **std::find_if(tensors.begin(), tensors.end(), [&](const auto& candidate) { return candidate->name == name; });
    if (head == Head::kAuto && (t.shape[0] < kMinRows || t.bytes < weights / kMinShare)) continue;
    b.split_matrix(name);
    found = true;
  }
  if (head == Head::kSplit && !found)
    fail(
        "no output matrix can be split: that needs 8 bits in blocks of 32, no bias, and logits that nothing changes "
        "afterwards");
}

}  // namespace runnel::convert
