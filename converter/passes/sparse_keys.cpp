#include "converter/passes/sparse_keys.h"

#include <cmath>

#include "converter/program/method_options.h"
#include "converter/program/graph.h"

namespace runnel::convert {

namespace {

using format::KeyChoice;
using format::KeyEstimate;

struct Method {
  KeyEstimate estimate;
  KeyChoice choice;
};
// As rows().
constexpr Method kMethods[] = {
    {KeyEstimate::antidiagonal, KeyChoice::share}, {KeyEstimate::lines, KeyChoice::top},
    {KeyEstimate::flexible, KeyChoice::share},     {KeyEstimate::anchor, KeyChoice::difference},
    {KeyEstimate::pooled, KeyChoice::top},         {KeyEstimate::tree, KeyChoice::top},
    {KeyEstimate::chunks, KeyChoice::top},         {KeyEstimate::quantised, KeyChoice::difference}};

// Keys are chosen in units of `block` for `queries` queries together. Every method takes first, least, exact and
// layers.
const std::vector<MethodRow>& rows() {
  static const std::vector<MethodRow> kRows = {
      {"xattention",
       {{"threshold", 0.9}, {"stride", 8}, {"block", 128}, {"first", 1}, {"least", 256}, {"exact", 0}, {"layers", 1}},
       "blocks of keys that hold `threshold` of the attention, as every stride-th antidiagonal estimates it"},
      {"minference",
       {{"count", 64},
        {"lines", 32},
        {"rows", 64},
        {"block", 16},
        {"queries", 512},
        {"first", 1},
        {"least", 256},
        {"exact", 0},
        {"layers", 1}},
       "the `count` columns and `lines` diagonals of `block` keys that the last `rows` of the queries see most"},
      {"flexprefill",
       {{"threshold", 0.95},
        {"divergence", 0.1},
        {"rows", 64},
        {"block", 64},
        {"queries", 256},
        {"first", 1},
        {"least", 256},
        {"exact", 0},
        {"layers", 1}},
       "blocks by pooled queries and keys where these are close to what the last `rows` see, else columns and "
       "diagonals, up to `threshold` of the attention"},
      {"anchor",
       {{"threshold", 5},
        {"stride", 4},
        {"block", 16},
        {"queries", 128},
        {"first", 1},
        {"least", 256},
        {"exact", 0},
        {"layers", 1}},
       "stripes whose score for the mean query is at most `threshold` below the largest near by and among the first"},
      {"moba",
       {{"count", 16}, {"block", 128}, {"queries", 1}, {"first", 0}, {"least", 256}, {"exact", 0}, {"layers", 1}},
       "the `count` blocks whose mean key meets the query best"},
      {"hip",
       {{"count", 64},
        {"stride", 4},
        {"block", 16},
        {"queries", 32},
        {"first", 1},
        {"least", 0},
        {"exact", 0},
        {"layers", 1}},
       "`count` blocks found by halving, level by level"},
      {"dhsa",
       {{"count", 64},
        {"chunk", 8},
        {"similarity", 0.7},
        {"block", 16},
        {"queries", 16},
        {"first", 1},
        {"least", 0},
        {"exact", 0},
        {"layers", 1}},
       "`count` blocks of the chunks of up to `chunk` similar blocks that meet the mean query best"},
      {"sale",
       {{"threshold", 5},
        {"stride", 2},
        {"block", 64},
        {"queries", 128},
        {"first", 1},
        {"least", 256},
        {"exact", 0},
        {"layers", 1}},
       "blocks where a score in 4 bits is at most `threshold` below the largest near by and among the first"}};
  return kRows;
}

format::SelectBlocksAttrsT attributes(const MethodOptions& o) {
  const Method& m = kMethods[&o.row() - rows().data()];
  const auto whole = [&](const char* name, uint32_t otherwise, double least, double most) {
    return o.has(name) ? o.whole(name, least, most) : otherwise;
  };
  format::SelectBlocksAttrsT a;
  a.estimate = m.estimate, a.choice = m.choice;
  if (o.has("threshold")) a.threshold = float(o.number("threshold"));
  if (m.choice == KeyChoice::share && !(a.threshold > 0 && a.threshold <= 1))
    o.refuse("threshold is not above 0 and at most 1");
  if (!std::isfinite(a.threshold)) o.refuse("threshold is not finite");
  a.block = whole("block", 0, 1, 4096);
  if (a.block % 16 != 0) o.refuse("block is not a multiple of 16");
  a.queries = whole("queries", 0, 1, 4096);
  a.stride = whole("stride", 1, 1, 4096);
  if (m.estimate == KeyEstimate::antidiagonal && a.block % a.stride != 0) o.refuse("block is not a multiple of stride");
  a.count = whole("count", 0, 0, 1 << 20);
  a.lines = whole("lines", 0, 0, 1 << 20);
  a.rows = whole("rows", 0, 0, 4096);
  a.chunk = whole("chunk", 1, 1, 65536);
  a.first = whole("first", 0, 0, 65536);
  a.least = whole("least", 0, 0, 1 << 30);
  if (o.has("similarity")) a.similarity = float(o.number("similarity"));
  if (o.has("divergence")) a.divergence = float(o.number("divergence"));
  if (!std::isfinite(a.similarity) || !std::isfinite(a.divergence)) o.refuse("an option is not finite");
  return a;
}

class Chooser {
 public:
  // The first `exact` attentions stay as they are; of the others a choice serves `layers` one after the other.
  Chooser(const format::SelectBlocksAttrsT& select, size_t exact, size_t layers, ModelBuilder& builder)
      : select_(select), exact_(exact), layers_(layers), b_(builder) {}

  size_t run() {
    for (auto& program : b_.model.programs) {
      size_t seen = 0;
      uses_ = 0;
      std::vector<std::unique_ptr<format::OpT>> old;
      old.swap(program->ops);
      for (auto& op : old) {
        if (applies(*op) && seen++ >= exact_) change(*program, *op);
        program->ops.push_back(std::move(op));
      }
    }
    return changed_;
  }

 private:
  // Attention over all of a stream, that writes the call's own keys.
  bool applies(const format::OpT& op) const { return whole_stream_keys(b_.model, op) && !op.inputs[1].empty(); }

  void change(format::ProgramT& program, format::OpT& op) {
    format::AttentionAttrsT dense;
    if (const auto* a = op.attrs.AsAttentionAttrs()) dense = *a;
    const Names q = value_of(program, op.inputs[0]).shape;
    const bool is_used_up = uses_ == 0 || uses_ == layers_ || Names(q.begin(), q.begin() + 2) != chosen_for_;
    if (is_used_up) add_choice(program, op, q, dense.scale);
    ++uses_;

    format::SparseAttentionAttrsT sparse;
    sparse.scale = dense.scale, sparse.softcap = dense.softcap, sparse.causal = dense.causal;
    sparse.range_block = select_.queries ? select_.queries : select_.block;
    Names inputs = op.inputs;
    inputs.resize(9);
    inputs.push_back(ranges_);
    op = std::move(*new_op("sparse_attention", inputs, op.outputs));
    set_attrs(op, sparse);
    ++changed_;
  }

  void add_choice(format::ProgramT& program, const format::OpT& op, const Names& q, float scale) {
    const int64_t Q = select_.queries ? select_.queries : select_.block, B = select_.block;
    const std::string queries = std::to_string(Q), block = std::to_string(B);
    const std::string lists = Q == 1 ? q[0] : "floordiv(" + q[0] + "+" + std::to_string(Q - 2) + "," + queries + ")+1";
    const std::string units = "ceildiv(context," + block + ")" + (Q > B ? "+" + std::to_string((Q - 1) / B) : "");
    ranges_ = op.outputs[0] + ".ranges";
    add_value(program, ranges_, {q[1], lists, "floordiv(" + units + ",2)+1", "3"}, format::DType::i32);
    format::SelectBlocksAttrsT select = select_;
    select.scale = scale;
    program.ops.push_back(new_op("select_blocks", {op.inputs[0], op.inputs[1], op.inputs[3]}, {ranges_}));
    set_attrs(*program.ops.back(), select);
    chosen_for_ = {q[0], q[1]};
    uses_ = 0;
  }

  const format::SelectBlocksAttrsT select_;
  const size_t exact_, layers_;
  std::string ranges_;  // the newest choice,
  Names chosen_for_;    // tokens and heads that it is for
  size_t uses_ = 0;     // and attentions that use it
  ModelBuilder& b_;
  size_t changed_ = 0;
};

}  // namespace

std::string sparse_methods() { return list_methods(rows()); }

std::string choose_keys(const std::string& method, ModelBuilder& b) {
  const MethodOptions options("--sparse", rows(), method);
  const size_t changed =
      Chooser(attributes(options), options.whole("exact", 0, 1 << 20), options.whole("layers", 1, 1 << 20), b).run();
  if (changed == 0) options.refuse("no attention of this model sees all of a stream");
  return "sparse " + method + ": " + std::to_string(changed) + " attentions";
}

}  // namespace runnel::convert
