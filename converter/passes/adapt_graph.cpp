#include "converter/passes/adapt_graph.h"

#include <algorithm>
#include <map>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "converter/program/graph.h"
#include "format/model_file.h"

namespace runnel::convert {
namespace {

const char* const kOtherwise = "the file does not hold its matrix row by row";

// A matrix of the file and the pair that is added to what operators make of it.
struct Adapted {
  std::string a, b;  // names of the tensors
  uint64_t rank;
};

class Adapter {
 public:
  Adapter(Lora& lora, ModelBuilder& builder) : lora_(lora), b_(builder) {
    for (const Blob& blob : b_.blobs())
      if (blob.matrix) pieces_[blob.matrix->name].push_back({b_.model.tensors[blob.tensor]->name, blob.matrix});
  }
  // The tensors can be added when the builder has left the others to the base.
  struct NewTensor {
    std::string name;
    const SourceTensor* source;
  };
  std::vector<NewTensor> plan() {
    std::vector<NewTensor> out;
    for (const LoraPair& pair : lora_.pairs) plan_pair(pair, out);
    return out;
  }
  void rewrite() {
    for (auto& program : b_.model.programs) {
      program_ = program.get();
      std::vector<std::unique_ptr<format::OpT>> old;
      old.swap(program_->ops);
      for (auto& op : old) {
        ops_.push_back(std::move(op));
        if (ops_.back()->name == "matmul") adapt_matmul(*ops_.back());
        if (ops_.back()->name == "embedding") adapt_embedding(*ops_.back());
      }
      program_->ops = std::move(ops_);
      ops_.clear();
    }
  }

 private:
  struct Piece {
    std::string tensor;
    const SourceTensor* matrix;  // that the file's tensor is made of: rows of a tensor of the checkpoint
  };

  [[noreturn]] void refuse(const LoraPair& pair, const std::string& why) const {
    fail("%s: the pair for \"%s\" cannot be added at run time: %s; merge the adapter with --lora instead",
         lora_.file.c_str(), printable(pair.module).c_str(), why.c_str());
  }
  int count(const std::string& tensor, const std::string& op_name) const {
    int n = 0;
    for (const auto& program : b_.model.programs)
      for (const auto& op : program->ops)
        n += op->name == op_name && std::find(op->inputs.begin(), op->inputs.end(), tensor) != op->inputs.end();
    return n;
  }
  // Looking up and multiplying can be told apart, also when they share a matrix; other operators cannot be added to.
  void refuse_other_uses(const LoraPair& pair, const std::string& tensor) const {
    for (const auto& program : b_.model.programs)
      for (const auto& op : program->ops)
        if (op->name != "matmul" && op->name != "embedding" &&
            std::find(op->inputs.begin(), op->inputs.end(), tensor) != op->inputs.end())
          refuse(pair, "operator \"" + op->name + "\" uses its matrix");
  }
  // The output matrix of a model that has it in common with the embedding.
  const std::vector<Piece>* tied_head(const LoraPair& pair) const {
    if (pair.is_embedding) return nullptr;
    if (pair.module != "lm_head" &&
        (pair.module.size() < 8 || pair.module.compare(pair.module.size() - 8, 8, ".lm_head") != 0))
      return nullptr;
    for (const auto& [origin, pieces] : pieces_)
      if (pieces.size() == 1 && count(pieces[0].tensor, "embedding") > 0 && count(pieces[0].tensor, "matmul") > 0)
        return &pieces;
    return nullptr;
  }

  void plan_pair(const LoraPair& pair, std::vector<NewTensor>& out) {
    const auto it = pair.target ? pieces_.find(pair.target->name) : pieces_.end();
    const std::vector<Piece>* pieces = it == pieces_.end() ? nullptr : &it->second;
    if (!pieces) pieces = tied_head(pair);
    if (!pieces && !pair.target)
      fail("%s: the model has no matrix \"%s.weight\" to adapt", lora_.file.c_str(), printable(pair.module).c_str());
    if (!pieces) refuse(pair, kOtherwise);
    const SourceTensor& target = pair.target ? *pair.target : *pieces->front().matrix;
    lora_.check(pair, target);
    if (pair.base && values_of(*pair.base) != values_of(target))
      refuse(pair, "the adapter brings another matrix along");
    std::vector<bool> covered(size_t(pair.out));
    std::string shared;  // the half that all pieces have in common
    for (const Piece& piece : *pieces) {
      refuse_other_uses(pair, piece.tensor);
      if (count(piece.tensor, pair.is_embedding ? "embedding" : "matmul") == 0) continue;
      const std::vector<uint64_t> rows = rows_of(pair, *piece.matrix);
      for (const uint64_t r : rows) covered[size_t(r)] = true;
      Adapted& adapted = (pair.is_embedding ? tables_ : products_)[piece.tensor];
      if (!adapted.a.empty()) refuse(pair, "another pair is for the same matrix");
      const std::string kind = pair.is_embedding ? ".lora_embedding_" : ".lora_",
                        stem =
                            piece.tensor.size() > 7 && piece.tensor.compare(piece.tensor.size() - 7, 7, ".weight") == 0
                                ? piece.tensor.substr(0, piece.tensor.size() - 7)
                                : piece.tensor;
      adapted = {stem + kind + "A.weight", stem + kind + "B.weight", pair.rank};
      if (pair.is_embedding) {
        out.push_back({adapted.a, &table_half(pair, rows)});
        if (shared.empty()) out.push_back({shared = adapted.b, &scaled(pair, {})});
        adapted.b = shared;
      } else {
        if (shared.empty()) out.push_back({shared = adapted.a, pair.a});
        adapted.a = shared;
        out.push_back({adapted.b, &scaled(pair, rows)});
      }
    }
    if (std::find(covered.begin(), covered.end(), false) != covered.end())
      refuse(pair, "the file does not hold all rows of its matrix as one or more factors of a product");
  }
  // Which rows of the pair's matrix the piece holds, in order.
  std::vector<uint64_t> rows_of(const LoraPair& pair, const SourceTensor& part) const {
    std::vector<uint64_t> rows(size_t(part.shape[0]));
    const SourceTensor& whole = pair.target ? *pair.target : part;
    if (part.shape.size() != 2 || part.shape[1] != whole.shape[1] || part.type != whole.type ||
        part.bytes % part.shape[0])
      refuse(pair, kOtherwise);
    const uint64_t row_bytes = part.bytes / part.shape[0];
    if (part.data >= whole.data && part.data + part.bytes <= whole.data + whole.bytes) {
      for (size_t i = 0; i < rows.size(); ++i) rows[i] = uint64_t(part.data - whole.data) / row_bytes + i;
      return rows;
    }
    // Put in another order by the recipe: rows are known by their contents.
    const auto bytes_of = [&](const SourceTensor& t, uint64_t r) {
      return std::string_view(reinterpret_cast<const char*>(t.data + r * row_bytes), size_t(row_bytes));
    };
    std::unordered_map<std::string_view, uint64_t> found;
    std::unordered_set<std::string_view> twice;
    for (uint64_t r = 0; r < whole.shape[0]; ++r)
      if (!found.emplace(bytes_of(whole, r), r).second) twice.insert(bytes_of(whole, r));
    for (size_t i = 0; i < rows.size(); ++i) {
      const auto it = found.find(bytes_of(part, i));
      if (it == found.end()) refuse(pair, kOtherwise);
      if (twice.count(it->first)) refuse(pair, "equal rows of its matrix cannot be told apart");
      rows[i] = it->second;
    }
    return rows;
  }
  // Rows of B (none given: all) with the scale in them, in B's own type where that is exact.
  const SourceTensor& scaled(const LoraPair& pair, const std::vector<uint64_t>& rows) {
    std::vector<float> all = values_of(*pair.b), values;
    for (float& v : all) v *= pair.scale;
    for (const uint64_t r : rows)
      values.insert(values.end(), all.begin() + long(r * pair.rank), all.begin() + long((r + 1) * pair.rank));
    if (rows.empty()) values = std::move(all);
    SourceTensor t = *pair.b;
    t.shape = {values.size() / pair.rank, pair.rank};
    return derive(std::move(t), values, pair.b->type);
  }
  // A of an embedding turned round, a row for each of these tokens.
  const SourceTensor& table_half(const LoraPair& pair, const std::vector<uint64_t>& rows) {
    const std::vector<float> all = values_of(*pair.a);
    std::vector<float> values;
    for (const uint64_t r : rows)
      for (uint64_t k = 0; k < pair.rank; ++k) values.push_back(all[size_t(k * pair.out + r)]);
    SourceTensor t = *pair.a;
    t.shape = {rows.size(), pair.rank};
    return derive(std::move(t), values, pair.a->type);
  }
  const SourceTensor& derive(SourceTensor t, const std::vector<float>& values, SourceType type) {
    t.type = type == SourceType::kF16 || type == SourceType::kBF16 ? type : SourceType::kF32;
    std::vector<uint8_t> bytes = encoded(values, t.type);
    t.data = bytes.data();
    t.bytes = bytes.size();
    if (t.type != SourceType::kF32) {
      std::vector<float> back(values.size());
      decode_values(t, 0, t.count(), back.data());
      if (back != values) t.type = SourceType::kF32, bytes = encoded(values, t.type);
    }
    return lora_.adapter.derive(std::move(t), std::move(bytes));
  }

  const format::ValueT& value(const std::string& name) const {
    if (const format::ValueT* v = find_value(*program_, name)) return *v;
    fail("%s: operator input \"%s\" is no value, so nothing can be added to its product", lora_.file.c_str(),
         printable(name).c_str());
  }
  std::string new_value(const std::string& name, const Names& shape) { return add_value(*program_, name, shape); }
  format::OpT& add_op(const std::string& name, const Names& inputs, const Names& outputs) {
    ops_.push_back(new_op(name, inputs, outputs));
    return *ops_.back();
  }
  // y = what stood at y before + low b; low: [..., rank].
  void add_product(const std::string& low, const Adapted& pair, const std::string& y) {
    const std::string delta = new_value(y + ".lora_B", value(y).shape);
    add_op("matmul", {low, pair.b}, {delta});
    format::BinaryAttrsT attrs;
    attrs.kind = format::BinaryKind::add;
    set_attrs(add_op("binary", {y + ".base_layer", delta}, {y}), attrs);
  }

  void adapt_matmul(format::OpT& op) {
    std::map<std::string, std::string> low;  // tensor a -> x times it
    std::vector<std::pair<std::string, Adapted>> adapted;
    Names inputs = {op.inputs[0]}, outputs;
    for (size_t i = 0; i < op.outputs.size(); ++i) {
      const auto it = products_.find(op.inputs[1 + i]);
      if (it == products_.end()) continue;
      const std::string y = op.outputs[i];
      adapted.emplace_back(y, it->second);
      op.outputs[i] = new_value(y + ".base_layer", value(y).shape);
      if (low.count(it->second.a)) continue;
      Names shape = value(inputs[0]).shape;
      shape.back() = std::to_string(it->second.rank);
      low[it->second.a] = new_value(y + ".lora_A", shape);
      inputs.push_back(it->second.a);
      outputs.push_back(y + ".lora_A");
    }
    if (adapted.empty()) return;
    add_op("matmul", inputs, outputs);
    for (const auto& [y, pair] : adapted) add_product(low[pair.a], pair, y);
  }
  void adapt_embedding(format::OpT& op) {
    const auto it = tables_.find(op.inputs[1]);
    if (it == tables_.end()) return;
    const std::string y = op.outputs[0];
    op.outputs[0] = new_value(y + ".base_layer", value(y).shape);
    Names shape = value(y).shape;
    shape.back() = std::to_string(it->second.rank);
    const format::AttrsUnion attrs = op.attrs;
    format::OpT& look_up = add_op("embedding", {op.inputs[0], it->second.a}, {new_value(y + ".lora_A", shape)});
    look_up.attrs = attrs;
    look_up.version = version_needed(look_up);
    add_product(y + ".lora_A", it->second, y);
  }

  Lora& lora_;
  ModelBuilder& b_;
  std::map<std::string, std::vector<Piece>> pieces_;  // by origin
  std::map<std::string, Adapted> products_, tables_;  // by tensor of the file
  format::ProgramT* program_ = nullptr;
  std::vector<std::unique_ptr<format::OpT>> ops_;
};

}  // namespace

void adapt_graph(Lora& lora, ModelBuilder& base, ModelBuilder& adapter) {
  if (!lora.wholes.empty())
    fail(
        "%s: \"%s\" is a module saved whole (modules_to_save), which cannot be added at run time; merge the adapter "
        "with --lora instead",
        lora.file.c_str(), printable(lora.wholes[0].name).c_str());
  Adapter work(lora, base);
  const auto tensors = work.plan();
  work.rewrite();
  adapter.model = std::move(base.model);
  adapter.model.features.push_back("adapter");
  for (auto& t : adapter.model.tensors) {
    t->segment = kBaseSegment;
    t->offset = t->bytes = 0;
    t->packed.reset();
  }
  for (const auto& t : tensors) adapter.add_matrix(t.name, *t.source);
}

}  // namespace runnel::convert
