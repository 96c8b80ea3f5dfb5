#include "converter/recipes/net.h"

#include <algorithm>
#include <cstring>

namespace runnel::convert {

Net::Net(Checkpoint& c, ModelBuilder& model, Naming naming, int64_t context, bool is_whole,
         std::vector<uint8_t> sections)
    : Program(model, "main"), Source(c, std::move(naming)), is_whole_(is_whole), sections_(std::move(sections)) {
  if (!sections_.empty()) position_axes_ = {1 + *std::max_element(sections_.begin(), sections_.end())};
  is_headless_ = is_whole || (c.kind == Checkpoint::Kind::kDirectory && !has("/lm_head.weight") && names_base_class(c));
  builder().model.context = uint64_t(context);
  graph().add_stream_symbols(is_whole);
  input("ids", "T", {}, format::DType::i32, format::Role::tokens);
  input("positions", "T", position_axes_, format::DType::i32, format::Role::positions);
  if (!is_whole) input("rows", "R", {}, format::DType::i32, format::Role::rows);
}

void Net::layer(size_t i, size_t count) {
  enter_layer(i);
  set_scope(layer_scope(i));
  is_last_layer_ = i + 1 == count;
}

void Net::leave_layers() {
  leave_layer();
  set_scope("");
  is_last_layer_ = false;
}

std::string Net::plain(const std::string& name, const std::vector<int64_t>& shape, float offset) {
  const std::string to = own_name(name);
  if (is_new(to)) builder().add_floats(to, take(name, shape), missing_offset(offset));
  return to;
}

std::string Net::plain_as(const std::string& name, const std::vector<int64_t>& source_shape,
                          const std::vector<int64_t>& shape) {
  return constant(name, values(name, source_shape), shape);
}

Var Net::filled_in(const std::string& name, const std::string& axis, format::Role role) {
  if (is_new("/" + name)) return input(name, axis, {}, format::DType::f32, role);
  return {name, axis, {}};
}

Var Net::embed(const std::string& table, int64_t vocab, int64_t hidden, float scale) {
  const std::string matrix_name = matrix(table + ".weight", take(table + ".weight", {vocab, hidden}));
  format::EmbeddingAttrsT attrs;
  attrs.scale = scale;
  return op("embedding", {"ids", matrix_name}, "T", {hidden}, {}, attrs);
}

std::vector<Var> Net::linears(const Var& x, const std::vector<Product>& products) {
  Names inputs = {x.name}, biases, outputs;
  std::vector<Var> vars;
  bool any = false;
  for (const Product& p : products) {
    int64_t rows = 1;
    for (int64_t d : p.dims) rows *= d;
    const int64_t columns = x.dims.back();
    const int64_t all = p.first < 0 ? rows : p.rows_in_all;
    const SourceTensor& whole = take_matrix(p.source, all, columns);
    const std::string part = p.first < 0 ? "" : "[" + std::to_string(p.first) + "]";
    inputs.push_back(matrix(p.source + part + ".weight", p.first < 0 ? whole : rows_of(whole, p.first, rows)));
    biases.emplace_back();
    if (has_bias(p.source)) {
      any = true;
      const std::vector<float> b = values(p.source + ".bias", {all});
      const auto begin = b.begin() + (p.first < 0 ? 0 : p.first);
      biases.back() = constant(p.source + part + ".bias", std::vector<float>(begin, begin + rows), {rows});
    }
    std::vector<int64_t> dims(x.dims.begin(), x.dims.end() - 1);
    dims.insert(dims.end(), p.dims.begin(), p.dims.end());
    vars.push_back(make(p.source + part, x.axis, dims, true));
    outputs.push_back(vars.back().name);
  }
  if (any) inputs.insert(inputs.end(), biases.begin(), biases.end());
  graph().op("matmul", inputs, outputs);
  return vars;
}

Var Net::by_group(const Var& x, const std::string& name, const std::vector<float>& weights, int64_t groups, int64_t out,
                  int64_t in, bool is_delicate) {
  std::vector<const SourceTensor*> pointers;
  for (int64_t g = 0; g < groups; ++g) {
    SourceTensor t{own_name(name), SourceType::kF32, {uint64_t(out), uint64_t(in)}, nullptr, 0};
    std::vector<uint8_t> bytes(size_t(out * in) * 4);
    std::memcpy(bytes.data(), weights.data() + g * out * in, bytes.size());
    pointers.push_back(&derived(std::move(t), std::move(bytes)));
  }
  return op("routed_matmul", {reshape(x, {groups, in}).name, "", matrix(name, stacked(pointers), is_delicate)}, x.axis,
            {groups, out});
}

std::string Net::positions(const std::string& axis) {
  const std::string of_rows = "positions_of_rows";
  if (axis != "R") return "positions";
  if (is_new(of_rows))
    graph().op("gather_rows", {"positions", "rows"},
               {graph().value(of_rows, shape_of(axis, position_axes_), format::DType::i32)});
  return of_rows;
}

Var Net::wanted(const Var& x) {
  if (!is_last_layer_ || is_whole_ || x.axis == "R") return x;
  const auto it = wanted_.find(x.name);
  if (it != wanted_.end()) return it->second;
  return wanted_[x.name] = op("gather_rows", {x.name, "rows"}, "R", x.dims);
}

void Net::head(const Var& x, const std::string& matrix_name, int64_t vocab, double softcap, double factor) {
  // A view under the name that the original gives it.
  graph().op("reshape", {x.name}, {graph().value("last_hidden_state", shape_of(x.axis, x.dims))});
  if (is_headless_) {
    graph().move_to_end("R");
    return graph().add_output("last_hidden_state");
  }
  graph().add_optional_output("last_hidden_state");
  const bool is_changed = softcap > 0 || factor != 1;
  Var y = {is_changed ? "raw_logits" : "logits", x.axis, {vocab}};
  graph().value(y.name, shape_of(y.axis, y.dims));
  Names inputs = {x.name, matrix_name};
  if (has_bias("/lm_head")) inputs.push_back(plain("/lm_head.bias", {vocab}));
  graph().op("matmul", inputs, {y.name});
  if (is_changed) {
    if (softcap > 0 && factor != 1) y = scale(y, factor);
    format::UnaryAttrsT attrs;
    attrs.kind = softcap > 0 ? format::UnaryKind::softcap : format::UnaryKind::scale;
    attrs.alpha = float(softcap > 0 ? softcap : factor);
    graph().op("unary", {y.name}, {graph().value("logits", shape_of(y.axis, y.dims))}, attrs);
  }
  graph().move_to_end("R");
  graph().add_output("logits");
}

}  // namespace runnel::convert
