// Small graphs, sound and lying, that once read or wrote outside, or gave wrong numbers. Tests run them, fuzzers begin
// with them.
#pragma once

#include <algorithm>
#include <functional>

#include "unit/model_builder.h"

namespace runnel::test {

using format::DType;
using format::Role;
using format::StateKind;
using format::UnaryKind;

class GraphBuilder : public ModelBuilder {
 public:
  // A matrix of f32 in tile layout.
  void add_matrix(const std::string& name, uint64_t rows, uint64_t columns, const std::vector<float>& data) {
    const uint64_t tiles = (rows + 15) / 16;
    std::vector<float> tiled(tiles * 16 * columns);
    for (uint64_t r = 0; r < rows; ++r)
      for (uint64_t c = 0; c < columns; ++c) tiled[(r / 16 * columns + c) * 16 + r % 16] = data[r * columns + c];
    add_tensor(name, {rows, columns}, tiled);
    format::TensorT& t = *root.tensors.back();
    t.dtype = DType::packed;
    t.packed = std::make_unique<format::PackedT>();
    t.packed->kind = format::PackedKind::f32;
  }
  void unary(const std::string& x, const std::string& y, UnaryKind kind = UnaryKind::tanh) {
    format::UnaryAttrsT a;
    a.kind = kind;
    add_op("unary", {x}, {y}).attrs.Set(std::move(a));
  }
  void binary(const std::string& a, const std::string& b, const std::string& y,
              format::BinaryKind kind = format::BinaryKind::add) {
    format::BinaryAttrsT attrs;
    attrs.kind = kind;
    add_op("binary", {a, b}, {y}).attrs.Set(std::move(attrs));
  }
  void scan(const std::string& a, const std::string& b, const std::string& state, const std::string& y) {
    format::ScanAttrsT attrs;
    attrs.kind = format::ScanKind::real;
    add_op("scan", {a, b, state}, {y, state}).attrs.Set(std::move(attrs));
  }
  void attention(const std::string& x, const std::string& y, const std::string& k, const std::string& v,
                 uint32_t window = 0) {
    format::AttentionAttrsT a;
    a.window = window;
    add_op("attention", {x, x, x, k, v}, {y}).attrs.Set(std::move(a));
  }
  void reduce(const std::string& x, const std::string& y, format::ReduceKind kind, uint8_t axis) {
    format::ReduceAttrsT a;
    a.kind = kind, a.axis = axis;
    add_op("reduce", {x}, {y}).attrs.Set(std::move(a));
  }
  void embedding(const std::string& ids, const std::string& table, const std::string& y) {
    format::EmbeddingAttrsT a;
    a.scale = 1;
    add_op("embedding", {ids, table}, {y}).attrs.Set(std::move(a));
  }
  void add_recurrent(const std::string& name, std::vector<std::string> shape) {
    add_state(name, StateKind::recurrent, std::move(shape), "", 0);
    root.states.back()->block_axis = 0;
  }
  // Keys and values of `heads` heads of `width`.
  void add_kv(const std::string& name, StateKind kind, const std::string& heads, const std::string& width,
              const std::string& slots, uint32_t window) {
    add_state(name + "k", kind, {heads, "floordiv(" + slots + ",16)", width, "16"}, slots, window);
    add_state(name + "v", kind, {heads, slots, width}, slots, window);
  }
  void add_ints(const std::string& name, std::vector<std::string> shape) {
    add_value(name, std::move(shape)), program().values.back()->dtype = DType::i32;
  }
  // A vector that a call may leave out.
  void add_filled(const std::string& name, const std::string& size, DType dtype, int fill) {
    add_input(name, {size}, dtype);
    program().inputs.back()->filled = true, program().inputs.back()->fill = fill;
    if (std::find(root.features.begin(), root.features.end(), "filled_inputs") == root.features.end())
      root.features.push_back("filled_inputs");
  }
  void arithmetic(const std::string& a, const std::string& b, const std::string& y, format::ArithmeticKind kind) {
    format::ArithmeticAttrsT attrs;
    attrs.kind = kind;
    add_op("arithmetic", {a, b}, {y}).attrs.Set(std::move(attrs));
  }
  void math(const std::string& x, const std::string& y, format::MathKind kind, float alpha = 0, float beta = 0) {
    format::MathAttrsT attrs;
    attrs.kind = kind, attrs.alpha = alpha, attrs.beta = beta;
    add_op("math", {x}, {y}).attrs.Set(std::move(attrs));
  }
  void index(const std::string& y, float begin, float step) {
    format::IndexAttrsT attrs;
    attrs.begin = begin, attrs.step = step;
    add_op("index", {}, {y}).attrs.Set(std::move(attrs));
  }
  void gather(const std::string& x, const std::string& ids, const std::string& y, uint8_t axis) {
    format::GatherAttrsT attrs;
    attrs.axis = axis;
    add_op("gather", {x, ids}, {y}).attrs.Set(std::move(attrs));
  }
  void pad(const std::string& x, const std::string& y, format::PadKind kind, std::vector<int32_t> begin) {
    format::PadAttrsT attrs;
    attrs.kind = kind, attrs.begin = std::move(begin), attrs.value = 0.5f;
    add_op("pad", {x}, {y}).attrs.Set(std::move(attrs));
  }
  void group_norm(const std::string& x, const std::string& y, uint32_t groups) {
    format::GroupNormAttrsT attrs;
    attrs.groups = groups, attrs.eps = 0.1f;
    add_op("group_norm", {x}, {y}).attrs.Set(std::move(attrs));
  }
  // A window of size x size, moved by `stride`; as many places of padding on all sides. weight "": the average.
  void window(const std::string& x, const std::string& weight, const std::string& y, uint32_t size, uint32_t stride,
              uint32_t padding, uint32_t groups = 1) {
    format::WindowAttrsT attrs;
    attrs.kernel = {size, size}, attrs.stride = {stride, stride}, attrs.groups = groups;
    attrs.pad.assign(4, padding), attrs.pool = format::PoolKind::average;
    if (weight.empty()) add_op("pool", {x}, {y}).attrs.Set(std::move(attrs));
    else add_op("conv", {x, weight}, {y}).attrs.Set(std::move(attrs));
  }
  // Attention of one head over the newest and the first of the units of 16 keys, chosen for four queries together.
  void chosen_attention(const std::string& x, const std::string& y, const std::string& k, const std::string& v,
                        format::KeyEstimate estimate) {
    format::SelectBlocksAttrsT choose;
    choose.estimate = estimate, choose.choice = format::KeyChoice::top;
    choose.block = 16, choose.queries = estimate == format::KeyEstimate::antidiagonal ? 16 : 4, choose.stride = 2;
    const std::string ranges = y + ".ranges", queries = std::to_string(choose.queries);
    add_ints(ranges, {"1", "floordiv(T+" + std::to_string(choose.queries - 2) + "," + queries + ")+1",
                      "floordiv(ceildiv(context,16),2)+1", "3"});
    format::SparseAttentionAttrsT attend;
    attend.range_block = choose.queries;
    add_op("select_blocks", {x, x, k}, {ranges}).attrs.Set(std::move(choose));
    add_op("sparse_attention", {x, x, x, k, v, "", "", "", "", ranges}, {y}).attrs.Set(std::move(attend));
  }
  // Attention of one head over the `budget` newest keys, given up in blocks of 8.
  void budget_attention(const std::string& x, const std::string& y, const std::string& name, const std::string& width,
                        uint32_t budget) {
    const std::string slots = std::to_string((budget + 8 + 15) / 16 * 16);
    add_recurrent(name + "k", {"1", "floordiv(" + slots + ",16)", width, "16"});
    add_recurrent(name + "v", {"1", slots, width}), add_recurrent(name + "w", {"1", slots});
    format::BudgetAttentionAttrsT attrs;
    attrs.budget = attrs.recent = budget, attrs.block = 8;
    add_op("budget_attention", {x, x, x, name + "k", name + "v", name + "w"}, {y, name + "k", name + "v", name + "w"})
        .attrs.Set(std::move(attrs));
  }
  // [n, width] -> groups [n] and the means of those that were merged, [n - merge, width].
  void merge_tokens(const std::string& x, const std::string& groups, const std::string& y, uint32_t merge) {
    format::MatchTokensAttrsT attrs;
    attrs.merge = merge, attrs.keep = 1;
    add_op("match_tokens", {x}, {groups}).attrs.Set(std::move(attrs));
    add_op("merge_tokens", {x, groups}, {y});
  }
  void add_rows() { add_input("rows", {"R"}, DType::i32, Role::rows); }
  void add_ids() { add_input("ids", {"T"}, DType::i32, Role::tokens); }
  format::ProgramT& add_program(const std::string& name) {
    root.programs.push_back(std::make_unique<format::ProgramT>());
    root.programs.back()->name = name;
    return *root.programs.back();
  }
};

inline std::vector<float> ramp(size_t n, float from = -0.9f, float step = 0.37f) {
  std::vector<float> v(n);
  for (float& x : v) x = from, from = from + step > 1 ? from + step - 2 : from + step;
  return v;
}

inline constexpr const char* kAllSlots = "ceildiv(context,64)*64";
inline std::string ring_slots(int window) {
  return "min(ceildiv(" + std::to_string(window) + "+max(chunk,rollback),64)*64,ceildiv(context,64)*64)";
}

struct KeptGraph {
  const char* name;
  void (*build)(GraphBuilder&);
  // What an output is of: a token, a call as a whole, or the last token of a pass.
  enum Of : uint8_t { kTokens, kCall, kPass } of = kTokens;
};

// x [T, 4] -> tanh -> y, which most of them are around.
inline void x_to_y(GraphBuilder& b) {
  b.add_input("x", {"T", "4"});
  b.add_value("y", {"T", "4"});
  b.unary("x", "y");
  b.program().outputs = {"y"};
}

inline std::vector<KeptGraph> kept_inputs() {
  return {
      {"stream_on_axis_1",
       [](GraphBuilder& b) {
         b.add_input("x", {"2", "T"}), b.add_value("y", {"2", "T"}), b.unary("x", "y"), b.program().outputs = {"y"};
       },
       KeptGraph::kCall},
      {"rows_without_role",
       [](GraphBuilder& b) {
         b.add_ids(), b.add_input("m", {"R", "8"}), b.add_value("y", {"R", "8"}), b.unary("m", "y"),
             b.program().outputs = {"y"};
       },
       KeptGraph::kCall},
      {"axis_depends_on_stream",
       [](GraphBuilder& b) {
         b.add_input("x", {"T", "mod(T,8)+1"}), b.add_value("y", {"T", "mod(T,8)+1"}), b.unary("x", "y"),
             b.program().outputs = {"y"};
       }},
      {"axis_depends_on_rows",
       [](GraphBuilder& b) {
         x_to_y(b), b.add_rows(), b.add_input("z", {"T", "R"}), b.add_value("w", {"T", "R"}), b.unary("z", "w"),
             b.program().outputs = {"y", "w"};
       }},
      {"unread_grows_as_the_call_shrinks", [](GraphBuilder& b) { x_to_y(b), b.add_input("z", {"(chunk-T)*1000"}); }},
      {"positions_grow_as_the_call_shrinks",
       [](GraphBuilder& b) { x_to_y(b), b.add_input("p", {"(chunk-T)*1000"}, DType::i32, Role::positions); }},
      {"read_by_the_head_alone",
       [](GraphBuilder& b) {
         b.add_input("x", {"T", "4"}), b.add_rows(), b.add_input("z", {"(chunk-T)*1000+4"});
         b.add_value("t", {"T", "4"}), b.add_value("g", {"R", "4"}), b.add_value("zz", {"(chunk-T)*1000+4"}),
             b.add_value("s", {"4"}), b.add_value("y", {"R", "4"});
         b.unary("x", "t"), b.add_op("gather_rows", {"t", "rows"}, {"g"}), b.unary("z", "zz");
         format::SliceAttrsT slice;
         b.add_op("slice", {"zz"}, {"s"}).attrs.Set(std::move(slice)), b.binary("g", "s", "y");
         b.program().outputs = {"y"};
       }},
      {"log_row_depends_on_the_chunk",
       [](GraphBuilder& b) {
         b.add_input("x", {"T", "4"}), b.add_input("z", {"T", "floordiv(chunk,T)*100"});
         b.add_recurrent("h", {"4"}), b.add_value("s", {"T", "4"}), b.add_value("y", {"T", "floordiv(chunk,T)*100"});
         b.scan("", "x", "h", "s"), b.unary("z", "y");
         b.program().outputs = {"s", "y"};
       }},
      {"input_without_stream",
       [](GraphBuilder& b) {
         b.add_input("b", {"T", "4"}), b.add_input("a", {"1", "4"}), b.add_recurrent("s", {"4"}),
             b.add_value("y", {"T", "4"}), b.scan("a", "b", "s", "y"), b.program().outputs = {"y"};
       }},
      {"own_positions",
       [](GraphBuilder& b) {
         b.add_input("x", {"T", "1", "4"}), b.add_input("positions", {"T"}, DType::i32, Role::positions);
         b.add_tensor("fr", {2}, {1, 0.5f}), b.add_recurrent("h", {"4"});
         b.add_value("r", {"T", "1", "4"}), b.add_value("f", {"T", "4"}), b.add_value("s", {"T", "4"});
         b.add_op("rope", {"x", "positions", "fr"}, {"r"}).attrs.Set(format::RopeAttrsT{}),
             b.add_op("reshape", {"r"}, {"f"}), b.scan("", "f", "h", "s");
         b.program().outputs = {"s"};
       }},
      {"own_context",
       [](GraphBuilder& b) {
         b.add_input("x", {"T", "4"}), b.add_input("c", {"1"}, DType::f32, Role::context);
         b.add_recurrent("h", {"4"}), b.add_value("m", {"T", "4"}), b.add_value("s", {"T", "4"});
         b.binary("x", "c", "m", format::BinaryKind::mul), b.scan("", "m", "h", "s");
         b.program().outputs = {"s"};
       }},
  };
}

inline std::vector<KeptGraph> kept_heads() {
  return {
      {"fixed_size_output",
       [](GraphBuilder& b) {
         b.add_input("x", {"T", "4"}), b.add_value("z", {"T", "4"}), b.add_value("m", {"4"}), b.unary("x", "z"),
             b.reduce("z", "m", format::ReduceKind::sum, 0), b.program().outputs = {"m"};
       },
       KeptGraph::kCall},
      {"fixed_size_beside_rows",
       [](GraphBuilder& b) {
         b.add_input("x", {"T", "4"}), b.add_rows(), b.add_value("z", {"T", "4"}), b.add_value("m", {"4"}),
             b.add_value("y", {"R", "4"});
         b.unary("x", "z"), b.reduce("z", "m", format::ReduceKind::sum, 0),
             b.add_op("gather_rows", {"z", "rows"}, {"y"});
         b.program().outputs = {"y", "m"};
       },
       KeptGraph::kCall},
      {"head_is_all",
       [](GraphBuilder& b) {
         b.add_input("x", {"T", "4"}), b.add_rows(), b.add_matrix("w", 64, 4, ramp(256));
         b.add_value("a", {"R", "4"}), b.add_value("b", {"R", "64"}), b.add_value("y", {"R", "64"});
         b.add_op("gather_rows", {"x", "rows"}, {"a"}), b.add_op("matmul", {"a", "w"}, {"b"}), b.unary("b", "y");
         b.program().outputs = {"y"};
       }},
      {"rows_before_stream",
       [](GraphBuilder& b) {
         b.add_input("x", {"T", "4"}), b.add_rows(), b.add_value("a", {"R", "4"}), b.add_value("z", {"T", "4"});
         b.add_op("gather_rows", {"x", "rows"}, {"a"}), b.unary("x", "z");
         b.program().outputs = {"a", "z"};
       }},
      {"output_axis_not_0",
       [](GraphBuilder& b) {
         b.add_input("x", {"T", "4"}), b.add_value("y", {"4", "T"}), b.add_value("z", {"T*2", "2"}),
             b.add_value("m", {"4"});
         format::TransposeAttrsT t;
         t.perm = {1, 0};
         b.add_op("transpose", {"x"}, {"y"}).attrs.Set(std::move(t)), b.add_op("reshape", {"x"}, {"z"}),
             b.reduce("x", "m", format::ReduceKind::mean, 0);
         b.program().outputs = {"y", "z", "m"};
       },
       KeptGraph::kCall},
      {"i32_output",
       [](GraphBuilder& b) {
         b.add_ids(), b.add_rows(), b.add_matrix("t", 8, 4, ramp(32));
         b.add_value("e", {"T", "4"}), b.add_value("l", {"R", "4"}), b.add_value("c", {"R"}),
             b.program().values.back()->dtype = DType::i32;
         b.embedding("ids", "t", "e"), b.add_op("gather_rows", {"e", "rows"}, {"l"}),
             b.add_op("gather_rows", {"ids", "rows"}, {"c"});
         b.program().outputs = {"l", "c"};
       }},
      {"i32_output_alone",
       [](GraphBuilder& b) {
         b.add_ids(), b.add_rows(), b.add_value("c", {"R"}), b.program().values.back()->dtype = DType::i32,
                                                             b.add_op("gather_rows", {"ids", "rows"}, {"c"}),
                                                             b.program().outputs = {"c"};
       }},
  };
}

inline void add_states_before(GraphBuilder& b, int count) {
  for (int i = 0; i < count; ++i) b.add_recurrent("h" + std::to_string(i), {"4"});
}

inline std::vector<KeptGraph> kept_states() {
  return {
      {"state_as_value",
       [](GraphBuilder& b) {
         add_states_before(b, 300);
         b.add_input("x", {"T", "4"}), b.add_rows(), b.add_value("s", {"T", "4"}), b.add_value("g", {"R", "4"});
         b.scan("", "x", "h299", "s"), b.add_op("gather_rows", {"s", "rows"}, {"g"});
         b.program().outputs = {"g"};
       }},
      {"state_as_unread_input",
       [](GraphBuilder& b) {
         add_states_before(b, 3);
         b.add_input("x", {"T", "4"}), b.add_rows(), b.add_input("z", {"T", "4"}), b.add_value("s", {"T", "4"}),
             b.add_value("g", {"R", "4"});
         b.scan("", "x", "h2", "s"), b.add_op("gather_rows", {"s", "rows"}, {"g"});
         b.program().outputs = {"g"};
       }},
      {"block_axis_1",
       [](GraphBuilder& b) {
         b.add_input("x", {"T", "1", "4"}), b.add_kv("", StateKind::append, "1", "4", kAllSlots, 0),
             b.add_value("y", {"T", "4"}), b.attention("x", "y", "k", "v");
         for (auto& s : b.root.states) s->block_axis = 1, s->dtype = DType::q8;
         b.program().outputs = {"y"};
       }},
      {"block_axis_by_default",
       [](GraphBuilder& b) {
         b.add_input("x", {"T", "32", "4"}), b.add_kv("", StateKind::append, "32", "4", kAllSlots, 0),
             b.add_value("y", {"T", "128"}), b.attention("x", "y", "k", "v");
         for (auto& s : b.root.states) s->block_axis = 0, s->dtype = DType::f16;
         b.program().outputs = {"y"};
       }},
      {"slots_lie",
       [](GraphBuilder& b) {
         b.add_input("x", {"T", "1", "4"}), b.add_kv("", StateKind::append, "1", "4", kAllSlots, 0),
             b.add_value("y", {"T", "4"}), b.attention("x", "y", "k", "v");
         for (auto& s : b.root.states) s->slots = "100000";
         b.program().outputs = {"y"};
       }},
      {"window_lies",
       [](GraphBuilder& b) {
         b.add_input("x", {"T", "1", "4"}), b.add_kv("", StateKind::ring, "1", "4", "64", 1),
             b.add_value("y", {"T", "4"}), b.attention("x", "y", "k", "v", 8);
         b.program().outputs = {"y"};
       }},
      {"window_beyond_slots",
       [](GraphBuilder& b) {
         b.add_input("x", {"T", "1", "4"}), b.add_kv("", StateKind::ring, "1", "4", "64", 500),
             b.add_value("y", {"T", "4"}), b.attention("x", "y", "k", "v", 4);
         b.program().outputs = {"y"};
       }},
      {"ring_and_recurrent",
       [](GraphBuilder& b) {
         b.add_ids(), b.add_matrix("t", 32, 16, ramp(512)), b.add_recurrent("s", {"16"}),
             b.add_kv("", StateKind::ring, "1", "16", ring_slots(8), 8);
         for (const char* v : {"x", "h", "o2", "y"}) b.add_value(v, {"T", "16"});
         b.add_value("q", {"T", "1", "16"}), b.add_value("o", {"T", "1", "16"}),
             b.add_tensor("a", {1, 16}, std::vector<float>(16, 0.5f));
         b.embedding("ids", "t", "x"), b.scan("a", "x", "s", "h"), b.add_op("reshape", {"x"}, {"q"}),
             b.attention("q", "o", "k", "v", 8);
         b.add_op("reshape", {"o"}, {"o2"}), b.binary("h", "o2", "y");
         b.program().outputs = {"y"};
       }},
      {"state_read_in_head",
       [](GraphBuilder& b) {
         b.add_input("x", {"T", "4"}), b.add_rows(), b.add_recurrent("s", {"4"});
         b.add_value("h", {"T", "4"}), b.add_value("g", {"R", "4"}), b.add_value("y", {"R", "4"});
         b.scan("", "x", "s", "h"), b.add_op("gather_rows", {"h", "rows"}, {"g"}), b.binary("g", "s", "y");
         b.program().outputs = {"y"};
       },
       KeptGraph::kPass},
      {"state_read_in_other_program",
       [](GraphBuilder& b) {
         b.add_input("x", {"T", "4"}), b.add_recurrent("s", {"4"}), b.add_value("y", {"T", "4"}),
             b.scan("", "x", "s", "y"), b.program().outputs = {"y"};
         format::ProgramT& peek = b.add_program("peek");
         peek.inputs.push_back(ModelBuilder::value("z", {"4"}, DType::f32, Role::none));
         peek.values.push_back(ModelBuilder::value("now", {"4"}, DType::f32, Role::none));
         std::swap(b.root.programs[0], b.root.programs[1]);
         b.binary("z", "s", "now");
         std::swap(b.root.programs[0], b.root.programs[1]);
         peek.outputs = {"now"};
       }},
      {"matmul_overflow",
       [](GraphBuilder& b) {
         b.add_input("a", {"0", "4"}), b.add_input("x", {"T", "4"}), b.add_matrix("w", 4, 4, ramp(16)),
             b.add_value("y", {"0", "2147418113", "2147549185", "4"}), b.add_value("z", {"T", "4"});
         b.add_op("matmul", {"a", "w"}, {"y"}), b.unary("x", "z");
         b.program().outputs = {"z"};
       }},
      {"embedding_overflow",
       [](GraphBuilder& b) {
         b.add_input("i", {"0", "2147418113", "2147549185"}, DType::i32), b.add_input("x", {"T", "4"}),
             b.add_matrix("w", 4, 4, ramp(16)), b.add_value("y", {"0", "2147418113", "2147549185", "4"}),
             b.add_value("z", {"T", "4"});
         b.embedding("i", "w", "y"), b.unary("x", "z");
         b.program().outputs = {"z"};
       }},
  };
}

// A program of values [N, 4]: `inputs` of them, and what the last of `ops` gives is its output.
inline void add_part(GraphBuilder& b, const std::string& name, std::vector<std::string> inputs,
                     const std::vector<std::string>& values, const std::function<void(GraphBuilder&)>& ops) {
  format::ProgramT& p = b.add_program(name);
  for (const std::string& i : inputs) p.inputs.push_back(ModelBuilder::value(i, {"N", "4"}, DType::f32, Role::none));
  for (const std::string& v : values) p.values.push_back(ModelBuilder::value(v, {"N", "4"}, DType::f32, Role::none));
  std::swap(b.root.programs[0], b.root.programs.back());
  ops(b);
  std::swap(b.root.programs[0], b.root.programs.back());
  p.outputs = {p.ops.empty() ? inputs[0] : p.ops.back()->outputs[0]};
}
inline format::OpT& add_control(GraphBuilder& b, const std::string& name, std::vector<std::string> in,
                                std::vector<std::string> out, const std::string& program,
                                const std::string& otherwise = "") {
  format::ControlAttrsT a;
  a.program = program, a.otherwise = otherwise;
  format::OpT& op = b.add_op(name, std::move(in), std::move(out));
  op.attrs.Set(std::move(a));
  return op;
}

// Programs that run others, sizes that are results, and states that one program writes for another.
inline std::vector<KeptGraph> kept_links() {
  return {
      {"call_and_branch",
       [](GraphBuilder& b) {
         b.add_symbol("N", format::SymbolKind::axis, "64");
         b.add_input("x", {"T", "4"}), b.add_input("c", {"1"}, DType::i32), b.add_value("h", {"T", "4"}),
             b.add_value("y", {"T", "4"}), b.add_value("z", {"T", "4"}), b.add_recurrent("s", {"4"});
         add_control(b, "call", {"x"}, {"h"}, "tanh"), add_control(b, "if", {"c", "h", "x"}, {"y"}, "sum", "first");
         b.scan("", "y", "s", "z");
         b.program().outputs = {"z"};
         add_part(b, "tanh", {"x"}, {"y"}, [](GraphBuilder& p) { p.unary("x", "y"); });
         add_part(b, "sum", {"x", "y"}, {"h", "z"},
                  [](GraphBuilder& p) { p.binary("x", "y", "h"), p.unary("h", "z", UnaryKind::sigmoid); });
         add_part(b, "first", {"x", "y"}, {}, [](GraphBuilder&) {});
       }},
      {"loop_of_rounds",
       [](GraphBuilder& b) {
         b.add_symbol("N", format::SymbolKind::axis, "64");
         b.add_input("x", {"T", "4"}), b.add_input("n", {"1"}, DType::i32), b.add_value("y", {"T", "4"}),
             b.add_value("z", {"T", "4"}), b.add_value("d", {"T", "4"});
         add_control(b, "loop", {"n", "", "x", "x"}, {"y", "z"}, "step");
         b.binary("y", "z", "d", format::BinaryKind::sub);
         b.program().outputs = {"d", "y"};
         add_part(b, "step", {"x", "y"}, {"h"}, [](GraphBuilder& p) { p.binary("x", "y", "h"); });
         format::ProgramT& step = *b.root.programs.back();
         step.inputs.insert(step.inputs.begin(), ModelBuilder::value("i", {"1"}, DType::i32, Role::none));
         step.outputs = {"y", "h"};
       }},
      {"size_is_a_result",
       [](GraphBuilder& b) {
         b.add_symbol("N", format::SymbolKind::axis, "16"), b.add_symbol("K", format::SymbolKind::result, "5");
         b.add_input("x", {"T", "4"}), b.add_input("n", {"N", "4"}), b.add_value("sums", {"N"}),
             b.add_value("ids", {"K"}), b.add_value("k", {"1"}), b.add_value("taken", {"K", "4"}),
             b.add_value("most", {"4"}), b.add_value("y", {"T", "4"});
         b.program().values[1]->dtype = b.program().values[2]->dtype = DType::i32;
         b.program().values[2]->binds = "K";
         b.reduce("n", "sums", format::ReduceKind::sum, 1);
         format::SelectTokensAttrsT a;
         a.threshold = 0.1f, a.least = 1;
         b.add_op("select_tokens", {"sums"}, {"ids", "k"}).attrs.Set(std::move(a));
         b.add_op("gather_rows", {"n", "ids"}, {"taken"});
         b.reduce("taken", "most", format::ReduceKind::sum, 0), b.binary("x", "most", "y");
         b.program().outputs = {"y"};
       }},
      {"kept_for_another",
       [](GraphBuilder& b) {
         b.add_symbol("N", format::SymbolKind::axis, "16");
         b.add_state("m", StateKind::kept, {"N", "4"}, "", 0), b.root.states.back()->block_axis = 0;
         b.add_input("x", {"T", "4"}), b.add_value("s", {"4"}), b.add_value("y", {"T", "4"});
         b.reduce("m", "s", format::ReduceKind::sum, 0), b.binary("x", "s", "y");
         b.program().outputs = {"y"};
         add_part(b, "write", {"x"}, {"h"}, [](GraphBuilder& p) { p.unary("x", "m"), p.unary("m", "h"); });
       }},
  };
}

// Sound ones, of operators that choose keys and tokens and of those that graphs from elsewhere use.
inline std::vector<KeptGraph> kept_operators() {
  return {
      {"chosen_keys",
       [](GraphBuilder& b) {
         b.add_input("x", {"T", "1", "16"}), b.add_kv("", StateKind::append, "1", "16", kAllSlots, 0),
             b.add_value("h", {"T", "1", "16"}), b.add_value("y", {"T", "1", "16"});
         b.chosen_attention("x", "h", "k", "v", format::KeyEstimate::pooled), b.unary("h", "y");
         b.program().outputs = {"y"};
       }},
      {"keys_within_a_budget",
       [](GraphBuilder& b) {
         b.add_input("x", {"T", "1", "4"}), b.add_value("y", {"T", "4"});
         b.budget_attention("x", "y", "s", "4", 20), b.program().outputs = {"y"};
       }},
      {"merged_tokens",
       [](GraphBuilder& b) {
         b.add_input("x", {"T", "4"}), b.add_input("n", {"6", "4"}), b.add_ints("groups", {"6"}),
             b.add_value("m", {"4", "4"}), b.add_value("back", {"6", "4"}), b.add_value("mean", {"4"}),
             b.add_value("y", {"T", "4"});
         b.merge_tokens("n", "groups", "m", 2), b.add_op("gather_rows", {"m", "groups"}, {"back"}),
             b.reduce("back", "mean", format::ReduceKind::mean, 0), b.binary("x", "mean", "y");
         b.program().outputs = {"y"};
       }},
      {"merged_stream",
       [](GraphBuilder& b) {
         b.add_input("x", {"T", "4"}), b.add_ints("groups", {"T"}),
             b.add_value("m", {"T-min(2,floordiv(max(T-1,0),2))", "4"}), b.add_value("y", {"T", "4"});
         b.merge_tokens("x", "groups", "m", 2), b.add_op("gather_rows", {"m", "groups"}, {"y"});
         b.program().outputs = {"y"};
       },
       KeptGraph::kCall},
      {"image_of_a_token",
       [](GraphBuilder& b) {
         b.add_input("x", {"T", "36"}), b.add_value("i", {"T", "3", "4", "3"}), b.add_value("p", {"T", "6", "6", "3"}),
             b.add_value("c", {"T", "4", "4", "8"}), b.add_value("d", {"T", "4", "4", "8"}),
             b.add_value("n", {"T", "4", "4", "8"}), b.add_value("a", {"T", "2", "2", "8"}),
             b.add_value("y", {"T", "32"});
         b.add_matrix("w", 8, 27, ramp(216, -0.4f, 0.03f)), b.add_tensor("e", {9, 8}, ramp(72));
         b.add_op("reshape", {"x"}, {"i"}), b.pad("i", "p", format::PadKind::reflect, {0, 1, 1, 0});
         b.window("p", "w", "c", 3, 1, 0), b.window("c", "e", "d", 3, 1, 1, 8), b.group_norm("d", "n", 2);
         b.window("n", "", "a", 2, 2, 0), b.add_op("reshape", {"a"}, {"y"});
         b.program().outputs = {"y"};
       }},
      {"numbers_and_truths",
       [](GraphBuilder& b) {
         b.add_input("x", {"T", "4"}), b.add_ints("i", {"4"}), b.add_ints("j", {"4"}), b.add_ints("less", {"4"}),
             b.add_value("one", {"T", "1", "4"}), b.add_value("e", {"T", "2", "4"});
         for (const char* v : {"g", "m", "w", "y"}) b.add_value(v, {"T", "4"});
         b.add_value("f", {"4"}), b.add_value("r", {"T", "4"});
         b.index("i", 0, 1), b.index("j", 3, -1), b.arithmetic("i", "j", "less", format::ArithmeticKind::less);
         b.gather("x", "j", "g", 1), b.math("g", "m", format::MathKind::erf);
         b.add_op("where", {"less", "x", "m"}, {"w"}), b.add_op("reshape", {"w"}, {"one"}),
             b.add_op("expand", {"one"}, {"e"}), b.reduce("e", "r", format::ReduceKind::sum, 1);
         b.add_op("cast", {"less"}, {"f"}), b.arithmetic("r", "f", "y", format::ArithmeticKind::add);
         b.program().outputs = {"y"};
       }},
      {"filled",
       [](GraphBuilder& b) {
         b.add_input("x", {"T", "4"}), b.add_filled("f", "T", DType::f32, 3), b.add_filled("i", "2", DType::i32, -1),
             b.add_value("c", {"T", "1"}), b.add_value("g", {"T", "2"}), b.add_value("y", {"T", "2"});
         b.add_op("reshape", {"f"}, {"c"}), b.gather("x", "i", "g", 1),
             b.arithmetic("g", "c", "y", format::ArithmeticKind::mul);
         b.program().outputs = {"y"};
       }},
  };
}

inline std::vector<KeptGraph> kept_graphs() {
  std::vector<KeptGraph> all = kept_inputs();
  for (const auto& list : {kept_heads(), kept_states(), kept_links(), kept_operators()})
    all.insert(all.end(), list.begin(), list.end());
  return all;
}

}  // namespace runnel::test
