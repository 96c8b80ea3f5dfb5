// Small graphs, sound and lying, that once read or wrote outside, or gave wrong numbers. Tests run them, fuzzers begin
// with them.
#pragma once

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

inline std::vector<KeptGraph> kept_graphs() {
  std::vector<KeptGraph> all = kept_inputs();
  for (const auto& list : {kept_heads(), kept_states(), kept_links()}) all.insert(all.end(), list.begin(), list.end());
  return all;
}

}  // namespace runnel::test
