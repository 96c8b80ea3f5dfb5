#include "converter/recipes/net.h"

#include <algorithm>
#include <cstring>

namespace runnel::convert {

std::vector<uint64_t> as_shape(const std::vector<int64_t>& dims) { return {dims.begin(), dims.end()}; }

namespace {

Names axes(const std::string& axis, const std::vector<int64_t>& dims) {
  Names out = {axis};
  for (int64_t d : dims) out.push_back(std::to_string(d));
  return out;
}

}  // namespace

void expect_biases(const Facts& f, const std::string& option, std::initializer_list<const char*> products, Naming& naming) {
  if (!f.has(option)) return;
  for (const char* product : products) naming.biases[product] = {f.name_for_messages(option), f.boolean(option, false)};
}

Net::Net(Checkpoint& checkpoint, ModelBuilder& builder, Naming naming, int64_t context, bool is_whole)
    : checkpoint_(checkpoint), builder_(builder), graph_(builder, "main"), naming_(std::move(naming)), is_whole_(is_whole) {
  const auto has_root = [&](const SourceTensor& t) { return t.name.compare(0, naming_.root.size(), naming_.root) == 0; };
  if (!is_gguf() && std::none_of(checkpoint_.tensors().begin(), checkpoint_.tensors().end(), has_root)) naming_.root.clear();
  is_headless_ = is_whole || (checkpoint_.kind == Checkpoint::Kind::kDirectory && !has("/lm_head.weight") && names_base_class(checkpoint_));
  builder_.model.context = uint64_t(context);
  graph_.add_stream_symbols(is_whole);
  graph_.add_input("ids", format::DType::i32, {"T"}, format::Role::tokens);
  graph_.add_input("positions", format::DType::i32, {"T"}, format::Role::positions);
  if (!is_whole) graph_.add_input("rows", format::DType::i32, {"R"}, format::Role::rows);
}

void Net::layer(size_t i, size_t count) {
  scope_ = naming_.layer + std::to_string(i) + ".";
  is_last_layer_ = i + 1 == count;
}

void Net::leave_layers() {
  scope_.clear();
  is_last_layer_ = false;
}

std::string Net::full_name(const std::string& name) const {
  const bool is_absolute = name[0] == '/';
  std::string stem = name, ending;
  for (const char* e : {".weight", ".bias"})
    if (name.size() > std::strlen(e) && name.compare(name.size() - std::strlen(e), std::string::npos, e) == 0) stem = name.substr(0, name.size() - std::strlen(e)), ending = e;
  if (!is_gguf()) {
    const auto other = naming_.renamed.find(stem);
    if (other != naming_.renamed.end()) stem = other->second;
    return stem[0] == '/' ? stem.substr(1) + ending : naming_.root + scope_ + stem + ending;
  }
  const auto it = naming_.gguf.find(stem);
  if (it == naming_.gguf.end()) return name;  // no such tensor in a GGUF: looked up under a name that it cannot have
  std::string prefix;
  if (!scope_.empty() && !is_absolute) prefix = "blk." + scope_.substr(naming_.layer.size());
  return prefix + it->second + ending;
}

bool Net::has_bias(const std::string& product) const {
  const bool is_there = has(product + ".bias");
  for (const auto& [name, rule] : naming_.biases) {
    if (rule.is_there == is_there || !product.ends_with(name) || (product.size() > name.size() && std::strchr("./", product[product.size() - name.size() - 1]) == nullptr)) continue;
    fail("%s is %s, but tensor \"%s\" is %s", rule.option.c_str(), is_there ? "false" : "true", full_name(product + ".bias").c_str(), is_there ? "there" : "missing");
  }
  return is_there;
}

const SourceTensor& Net::take(const std::string& name, const std::vector<int64_t>& shape) { return checkpoint_.take(full_name(name), as_shape(shape)); }

std::vector<float> Net::values(const std::string& name, const std::vector<int64_t>& shape) {
  const SourceTensor& t = take(name, shape);
  std::vector<float> out(size_t(t.count()));
  decode_values(t, 0, t.count(), out.data());
  return out;
}

const SourceTensor& Net::find(const std::string& name) {
  const SourceTensor* t = checkpoint_.find(full_name(name));
  if (!t) fail("%s: tensor \"%s\" is missing", checkpoint_.path.c_str(), full_name(name).c_str());
  return *t;
}

std::vector<float> Net::numbers(const std::string& name, int64_t count) {
  const SourceTensor& t = find(name);
  if (t.count() != uint64_t(count)) fail("%s: tensor \"%s\" does not have %lld elements", checkpoint_.path.c_str(), t.describe().c_str(), static_cast<long long>(count));
  std::vector<float> out(static_cast<size_t>(count));
  decode_values(t, 0, uint64_t(count), out.data());
  return out;
}

std::vector<float> Net::values_of_rows(const std::string& name, const std::vector<int64_t>& row) {
  const SourceTensor* t = checkpoint_.find(full_name(name));
  std::vector<int64_t> shape = row;
  shape.insert(shape.begin(), t && !t->shape.empty() ? int64_t(t->shape[0]) : 1);
  return values(name, shape);
}

std::string Net::plain(const std::string& name, const std::vector<int64_t>& shape, float offset) {
  const std::string to = own_name(name);
  if (added_.insert(to).second) builder_.add_floats(to, take(name, shape), offset);
  return to;
}

std::string Net::plain_as(const std::string& name, const std::vector<int64_t>& source_shape, const std::vector<int64_t>& shape) {
  return constant(name, values(name, source_shape), shape);
}

std::string Net::constant(const std::string& name, const std::vector<float>& values, const std::vector<int64_t>& shape) {
  const std::string to = own_name(name);
  if (added_.insert(to).second) builder_.add_floats(to, values, shape == std::vector<int64_t>{-1} ? std::vector<uint64_t>{values.size()} : as_shape(shape));
  return to;
}

std::string Net::state(const std::string& name, const std::vector<int64_t>& shape, format::DType dtype, const std::string& initial) {
  auto s = std::make_unique<format::StateT>();
  s->name = own_name(name);
  s->kind = format::StateKind::recurrent;
  s->dtype = dtype;
  s->initial = initial;
  for (int64_t d : shape) s->shape.push_back(std::to_string(d));
  builder_.model.states.push_back(std::move(s));
  return own_name(name);
}

void Net::attention_states(const std::string& name, int64_t window, int64_t kv_heads, int64_t key_dim, int64_t value_dim) {
  graph_.add_attention_states(own_name(name), window, kv_heads, key_dim, value_dim);
}

const SourceTensor& Net::reordered(const SourceTensor& source, const std::vector<int64_t>& rows) {
  SourceTensor t = source;
  const uint64_t row_bytes = source.bytes / source.shape[0];
  std::vector<uint8_t> bytes(size_t(row_bytes) * rows.size());
  for (size_t i = 0; i < rows.size(); ++i) {
    if (uint64_t(rows[i]) >= source.shape[0]) fail("tensor \"%s\" has no row %lld", source.describe().c_str(), static_cast<long long>(rows[i]));
    std::memcpy(bytes.data() + i * row_bytes, source.data + uint64_t(rows[i]) * row_bytes, size_t(row_bytes));
  }
  t.shape[0] = rows.size();
  t.bytes = bytes.size();
  return checkpoint_.derive(std::move(t), std::move(bytes));
}

const SourceTensor& Net::derived(SourceTensor description, std::vector<uint8_t> bytes) {
  description.bytes = bytes.size();
  return checkpoint_.derive(std::move(description), std::move(bytes));
}

const SourceTensor& Net::transposed(const SourceTensor& source) {
  if (source.shape.size() != 2 || info(source.type).block != 1) fail("tensor \"%s\" is not a plain matrix", source.describe().c_str());
  SourceTensor t = source;
  std::swap(t.shape[0], t.shape[1]);
  const uint64_t rows = source.shape[0], columns = source.shape[1], each = info(source.type).bytes;
  std::vector<uint8_t> bytes(size_t(source.bytes));
  for (uint64_t r = 0; r < rows; ++r)
    for (uint64_t c = 0; c < columns; ++c) std::memcpy(bytes.data() + (c * rows + r) * each, source.data + (r * columns + c) * each, each);
  return checkpoint_.derive(std::move(t), std::move(bytes));
}

const SourceTensor& Net::stacked(const std::vector<const SourceTensor*>& parts) {
  SourceTensor t = *parts[0];
  const uint64_t rows = t.shape[0], tiled = (rows + kTileRows - 1) / kTileRows * kTileRows;
  std::vector<uint8_t> bytes(size_t(t.bytes / rows * tiled * parts.size()));
  for (size_t i = 0; i < parts.size(); ++i) {
    if (parts[i]->shape != t.shape || parts[i]->type != t.type) fail("tensor \"%s\" is not like \"%s\"", parts[i]->describe().c_str(), t.describe().c_str());
    std::memcpy(bytes.data() + i * (t.bytes / rows * tiled), parts[i]->data, size_t(t.bytes));
  }
  t.shape[0] = tiled * parts.size();
  return checkpoint_.derive(std::move(t), std::move(bytes));
}

Var Net::make(const std::string& what, const std::string& axis, const std::vector<int64_t>& dims, bool is_plain, format::DType dtype) {
  std::string name = own_name(what);
  const int n = used_names_[name]++;
  if (!is_plain || n) name += "#" + std::to_string(n + 1);
  graph_.value(name, axes(axis, dims), dtype);
  return {name, axis, dims};
}

Var Net::op(const std::string& name, const Names& inputs, const std::string& axis, const std::vector<int64_t>& dims, const Names& more_outputs) {
  const Var y = make(name, axis, dims);
  Names outputs = {y.name};
  outputs.insert(outputs.end(), more_outputs.begin(), more_outputs.end());
  graph_.op(name, inputs, outputs);
  return y;
}

Var Net::filled_in(const std::string& name, const std::string& axis, format::Role role) {
  if (added_.insert("/" + name).second) graph_.add_input(name, format::DType::f32, {axis}, role);
  return {name, axis, {}};
}

Var Net::embed(const std::string& table, int64_t vocab, int64_t hidden, float scale) {
  const std::string matrix_name = matrix(table + ".weight", take(table + ".weight", {vocab, hidden}));
  format::EmbeddingAttrsT attrs;
  attrs.scale = scale;
  return op("embedding", {"ids", matrix_name}, "T", {hidden}, {}, attrs);
}

std::string Net::matrix(const std::string& name, const SourceTensor& source, bool is_delicate) {
  const std::string to = own_name(name);
  if (added_.insert(to).second) builder_.add_matrix(to, source, is_delicate);
  return to;
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
    const std::string source = p.source + ".weight";
    if (naming_.is_turned && !turned_.count(full_name(source))) turned_[full_name(source)] = &transposed(take(source, {columns, all}));
    const SourceTensor& whole = naming_.is_turned ? *turned_[full_name(source)] : take(source, {all, columns});
    const std::string part = p.first < 0 ? "" : "[" + std::to_string(p.first) + "]";
    inputs.push_back(matrix(p.source + part + ".weight", p.first < 0 ? whole : checkpoint_.rows_of(whole, uint64_t(p.first), uint64_t(rows))));
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
  graph_.op("matmul", inputs, outputs);
  return vars;
}

std::vector<Var> Net::products(const Var& x, const std::vector<Weight>& weights) {
  Names inputs = {x.name}, outputs;
  std::vector<Var> vars;
  for (const Weight& w : weights) {
    inputs.push_back(w.matrix);
    std::vector<int64_t> dims(x.dims.begin(), x.dims.end() - 1);
    dims.insert(dims.end(), w.dims.begin(), w.dims.end());
    vars.push_back(make("matmul", x.axis, dims));
    outputs.push_back(vars.back().name);
  }
  graph_.op("matmul", inputs, outputs);
  return vars;
}

Var Net::times(const Var& x, const std::string& matrix_name, const std::string& bias, const std::vector<int64_t>& dims) {
  Names inputs = {x.name, matrix_name};
  if (!bias.empty()) inputs.push_back(bias);
  std::vector<int64_t> out(x.dims.begin(), x.dims.end() - 1);
  out.insert(out.end(), dims.begin(), dims.end());
  return op("matmul", inputs, x.axis, out);
}

Var Net::by_group(const Var& x, const std::string& name, const std::vector<float>& weights, int64_t groups, int64_t out, int64_t in, bool is_delicate) {
  std::vector<const SourceTensor*> pointers;
  for (int64_t g = 0; g < groups; ++g) {
    SourceTensor t{own_name(name), SourceType::kF32, {uint64_t(out), uint64_t(in)}, nullptr, 0};
    std::vector<uint8_t> bytes(size_t(out * in) * 4);
    std::memcpy(bytes.data(), weights.data() + g * out * in, bytes.size());
    pointers.push_back(&checkpoint_.derive(std::move(t), std::move(bytes)));
  }
  return op("routed_matmul", {reshape(x, {groups, in}).name, "", matrix(name, stacked(pointers), is_delicate)}, x.axis, {groups, out});
}

Var Net::rms_norm(const Var& x, const std::string& weight, double eps, const Var* residual) {
  format::NormAttrsT attrs;
  attrs.eps = float(eps);
  Names inputs = {x.name};
  if (!weight.empty() || residual) inputs.push_back(weight);
  if (residual) inputs.push_back(residual->name);
  return op("rms_norm", inputs, x.axis, x.dims, {}, attrs);
}

Var Net::layer_norm(const Var& x, const std::string& weight, const std::string& bias, double eps) {
  format::NormAttrsT attrs;
  attrs.eps = float(eps);
  Names inputs = {x.name};
  if (!weight.empty() || !bias.empty()) inputs.push_back(weight);
  if (!bias.empty()) inputs.push_back(bias);
  return op("layer_norm", inputs, x.axis, x.dims, {}, attrs);
}

Var Net::unary(format::UnaryKind kind, const Var& x, float alpha) {
  format::UnaryAttrsT attrs;
  attrs.kind = kind;
  attrs.alpha = alpha;
  return op("unary", {x.name}, x.axis, x.dims, {}, attrs);
}

Var Net::binary(format::BinaryKind kind, const Var& x, const Var& y) {
  format::BinaryAttrsT attrs;
  attrs.kind = kind;
  if (x.axis != y.axis) fail("recipe: %s and %s have different token axes", x.name.c_str(), y.name.c_str());
  // Axes meet from the end; the token axes must meet each other.
  if (x.dims.size() != y.dims.size()) fail("recipe: %s and %s have different ranks", x.name.c_str(), y.name.c_str());
  std::vector<int64_t> dims = x.dims;
  for (size_t i = 0; i < dims.size(); ++i) dims[i] = std::max(x.dims[i], y.dims[i]);
  return op("binary", {x.name, y.name}, x.axis, dims, {}, attrs);
}

Var Net::binary(format::BinaryKind kind, const Var& x, const std::string& tensor) {
  format::BinaryAttrsT attrs;
  attrs.kind = kind;
  return op("binary", {x.name, tensor}, x.axis, x.dims, {}, attrs);
}

Var Net::glu(format::UnaryKind activation, const Var& gate, const Var& up) {
  format::GluAttrsT attrs;
  attrs.activation = activation;
  return op("glu", {gate.name, up.name}, gate.axis, gate.dims, {}, attrs);
}

Var Net::rope(const Var& x, const std::string& table, bool interleaved, float scale) {
  format::RopeAttrsT attrs;
  attrs.interleaved = interleaved;
  attrs.scale = scale;
  return op("rope", {x.name, positions(x.axis), table}, x.axis, x.dims, {}, attrs);
}

std::string Net::positions(const std::string& axis) {
  const std::string of_rows = "positions_of_rows";
  if (axis != "R") return "positions";
  if (added_.insert(of_rows).second) graph_.op("gather_rows", {"positions", "rows"}, {graph_.value(of_rows, {axis}, format::DType::i32)});
  return of_rows;
}

Var Net::reshape(const Var& x, const std::vector<int64_t>& dims) { return op("reshape", {x.name}, x.axis, dims); }

Var Net::slice(const Var& x, int axis, int64_t begin, int64_t count) {
  format::SliceAttrsT attrs;
  attrs.axis = uint8_t(axis);
  attrs.begin = begin;
  std::vector<int64_t> dims = x.dims;
  dims[size_t(axis - 1)] = count;
  return op("slice", {x.name}, x.axis, dims, {}, attrs);
}

Var Net::concat(const std::vector<Var>& parts, int axis) {
  constexpr size_t kMost = 16;  // inputs of the operator
  if (parts.size() == 1) return parts[0];
  if (parts.size() > kMost) {
    std::vector<Var> groups;
    for (size_t i = 0; i < parts.size(); i += kMost) groups.push_back(concat({parts.begin() + long(i), parts.begin() + long(std::min(i + kMost, parts.size()))}, axis));
    return concat(groups, axis);
  }
  format::ConcatAttrsT attrs;
  attrs.axis = uint8_t(axis);
  Names inputs;
  std::vector<int64_t> dims = parts[0].dims;
  int64_t& n = dims[size_t(axis - 1)];
  n = 0;
  for (const Var& p : parts) {
    inputs.push_back(p.name);
    n += p.dims[size_t(axis - 1)];
  }
  return op("concat", inputs, parts[0].axis, dims, {}, attrs);
}

Var Net::wanted(const Var& x) {
  if (!is_last_layer_ || is_whole_ || x.axis == "R") return x;
  const auto it = wanted_.find(x.name);
  if (it != wanted_.end()) return it->second;
  return wanted_[x.name] = op("gather_rows", {x.name, "rows"}, "R", x.dims);
}

void Net::head(const Var& x, const std::string& matrix_name, int64_t vocab, double softcap, double factor) {
  // A view under the name that the original gives it.
  graph_.op("reshape", {x.name}, {graph_.value("last_hidden_state", axes(x.axis, x.dims))});
  if (is_headless_) {
    graph_.move_to_end("R");
    return graph_.add_output("last_hidden_state");
  }
  graph_.add_optional_output("last_hidden_state");
  const bool is_changed = softcap > 0 || factor != 1;
  Var y = {is_changed ? "raw_logits" : "logits", x.axis, {vocab}};
  graph_.value(y.name, axes(y.axis, y.dims));
  Names inputs = {x.name, matrix_name};
  if (has_bias("/lm_head")) inputs.push_back(plain("/lm_head.bias", {vocab}));
  graph_.op("matmul", inputs, {y.name});
  if (is_changed) {
    if (softcap > 0 && factor != 1) y = scale(y, factor);
    format::UnaryAttrsT attrs;
    attrs.kind = softcap > 0 ? format::UnaryKind::softcap : format::UnaryKind::scale;
    attrs.alpha = float(softcap > 0 ? softcap : factor);
    graph_.op("unary", {y.name}, {graph_.value("logits", axes(y.axis, y.dims))}, attrs);
  }
  graph_.move_to_end("R");
  graph_.add_output("logits");
}

}  // namespace runnel::convert
