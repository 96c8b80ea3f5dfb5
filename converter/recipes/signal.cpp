#include "converter/recipes/signal.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

namespace runnel::convert {
namespace {

// Added to the scores of places that nobody is to see; any real score is lost beside it.
constexpr float kUnseen = -1e30f;

bool is_number(const std::string& size) {
  return !size.empty() && std::all_of(size.begin(), size.end(), [](unsigned char c) { return std::isdigit(c); });
}
// In brackets where it is a sum.
std::string term(const std::string& size) {
  return size.find_first_of("+-") != std::string::npos ? "(" + size + ")" : size;
}
std::string product_of(const Names& sizes) {
  int64_t number = 1;
  std::string rest;
  for (const std::string& s : sizes)
    if (is_number(s)) number *= std::stoll(s);
    else rest += (rest.empty() ? "" : "*") + term(s);
  if (rest.empty()) return std::to_string(number);
  return number == 1 ? rest : std::to_string(number) + "*" + rest;
}

}  // namespace

std::string more(const std::string& size, int64_t n) {
  if (is_number(size)) return std::to_string(std::stoll(size) + n);
  return n == 0 ? size : size + (n > 0 ? "+" : "") + std::to_string(n);
}
std::string multiple(const std::string& size, int64_t n) { return product_of({size, std::to_string(n)}); }
std::string quotient(const std::string& size, int64_t n) {
  if (is_number(size)) return std::to_string(std::stoll(size) / n);
  return n == 1 ? size : "floordiv(" + size + "," + std::to_string(n) + ")";
}
std::string places(const std::string& size, const Slide& w) {
  const std::string free = more(size, w.before + w.behind - w.reach() + (w.stride == 1 ? 1 : 0));
  return w.stride == 1 ? free : more(quotient(free, w.stride), 1);
}

std::string class_of(const Facts& f, const std::string& otherwise) {
  const Json* classes = f.find("architectures");
  if (!classes || !classes->is_array() || classes->empty() || !(*classes)[0].is_string()) return otherwise;
  return (*classes)[0].get<std::string>();
}

Signal::Signal(Checkpoint& c, ModelBuilder& model, Naming naming, int64_t context, int64_t most, const char* program)
    : Program(model, program), Source(c, std::move(naming)) {
  if (!model.model.symbols.empty()) return;
  builder().model.context = uint64_t(context);
  for (const char* option : {"context", "chunk", "rollback", "rows"})
    graph().add_symbol(option, format::SymbolKind::option, "");
  axis("batch", std::to_string(most));
}

Var Signal::of_sizes(const std::string& name, const Names& sizes) {
  Var v{name, "", {}};
  size_t front = sizes.size();
  while (front > 0 && is_number(sizes[front - 1])) --front;
  for (size_t i = 0; i < front; ++i) v.axis += (i ? " " : "") + sizes[i];
  for (size_t i = front; i < sizes.size(); ++i) v.dims.push_back(std::stoll(sizes[i]));
  return v;
}

Var Signal::given(const std::string& name, const Names& sizes, format::DType dtype) {
  graph().add_input(name, dtype, sizes, format::Role::none);
  return of_sizes(name, sizes);
}

Var Signal::filled(const std::string& name, const Names& sizes, int32_t fill) {
  graph().add_filled_input(name, sizes, fill);
  return of_type(of_sizes(name, sizes), format::DType::f32);
}

void Signal::output(const Var& x, const std::string& name, format::DType dtype) {
  graph().op("reshape", {x.name}, {graph().value(name, sizes(x), dtype)});
  graph().add_output(name);
}
void Signal::optional_output(const Var& x, const std::string& name) {
  graph().op("reshape", {x.name}, {graph().value(name, sizes(x))});
  graph().add_optional_output(name);
}

void Signal::keep(const Var& x, const std::string& name) {
  auto state = std::make_unique<format::StateT>();
  state->name = name;
  state->kind = format::StateKind::kept;
  state->dtype = format::DType::f32;
  state->shape = sizes(x);
  builder().model.states.push_back(std::move(state));
  graph().op("reshape", {x.name}, {name});
}

Var Signal::stream() {
  axis("T", "chunk");
  axis("R", "rows");
  Program::input("ids", "T", {}, format::DType::i32, format::Role::tokens);
  Program::input("positions", "T", {}, format::DType::i32, format::Role::positions);
  Program::input("rows", "R", {}, format::DType::i32, format::Role::rows);
  return {"positions", "T", {}};
}

Var Signal::tensor(const std::string& name, const std::vector<int64_t>& shape) { return tensor(name, shape, shape); }
Var Signal::tensor(const std::string& name, const std::vector<int64_t>& source_shape,
                   const std::vector<int64_t>& shape) {
  return {constant(name, values(name, source_shape), shape), "", shape};
}
Var Signal::numbers(const std::string& name, const std::vector<float>& values, const std::vector<int64_t>& shape) {
  return {constant("/" + name, values, shape), "", shape};
}
Var Signal::number(double value) {
  char name[40];
  std::snprintf(name, sizeof name, "%.9g", value);
  return numbers(name, {float(value)}, {1});
}
std::string Signal::places_of(const std::string& name, const std::vector<int32_t>& values,
                              const std::vector<int64_t>& shape) {
  if (!builder().has_tensor(name)) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(values.data());
    builder().add_bytes(format::SegmentKind::weights, name, format::DType::i32, as_shape(shape),
                        {bytes, bytes + values.size() * 4});
  }
  return name;
}

Var Signal::of_type(const Var& x, format::DType dtype) {
  const Var y = make("cast", x.axis, x.dims, false, dtype);
  graph().op("cast", {x.name}, {y.name});
  return y;
}

Var Signal::turned(const Var& x, const std::vector<uint8_t>& perm) {
  const Names before = sizes(x);
  Names after;
  for (uint8_t p : perm) after.push_back(before[p]);
  format::TransposeAttrsT attrs;
  attrs.perm = perm;
  return apply("transpose", {x.name}, after, attrs);
}

Var Signal::cut(const Var& x, size_t axis, int64_t begin, const std::string& size) {
  Names n = sizes(x);
  if (begin == 0 && n[axis] == size) return x;
  n[axis] = size;
  format::SliceAttrsT attrs;
  attrs.axis = uint8_t(axis);
  attrs.begin = begin;
  return apply("slice", {x.name}, n, attrs);
}

Var Signal::joined(const std::vector<Var>& parts, size_t axis) {
  if (parts.size() == 1) return parts[0];
  constexpr size_t kMost = 16;  // inputs of the operator
  if (parts.size() > kMost) {
    std::vector<Var> groups;
    for (size_t i = 0; i < parts.size(); i += kMost)
      groups.push_back(
          joined({parts.begin() + long(i), parts.begin() + long(std::min(i + kMost, parts.size()))}, axis));
    return joined(groups, axis);
  }
  Names n = sizes(parts[0]), inputs;
  int64_t number = 0;
  std::string rest;
  for (const Var& p : parts) {
    inputs.push_back(p.name);
    const std::string size = sizes(p)[axis];
    if (is_number(size)) number += std::stoll(size);
    else rest += (rest.empty() ? "" : "+") + size;
  }
  n[axis] = rest.empty() ? std::to_string(number) : more(rest, number);
  if (parts.size() == 2 && rest == sizes(parts[0])[axis] + "+" + sizes(parts[0])[axis])
    n[axis] = multiple(sizes(parts[0])[axis], 2);
  format::ConcatAttrsT attrs;
  attrs.axis = uint8_t(axis);
  return apply("concat", inputs, n, attrs);
}

Var Signal::padded(const Var& x, size_t axis, int64_t before, const std::string& size, format::PadKind kind,
                   float value) {
  Names n = sizes(x);
  if (before == 0 && n[axis] == size) return x;
  n[axis] = size;
  format::PadAttrsT attrs;
  attrs.kind = kind;
  attrs.value = value;
  attrs.begin.assign(n.size(), 0);
  attrs.begin[axis] = int32_t(before);
  return apply("pad", {x.name}, n, attrs);
}

Var Signal::reduced(format::ReduceKind kind, const Var& x, size_t axis, bool keep) {
  Names n = sizes(x), kept = n;
  n.erase(n.begin() + long(axis));
  kept[axis] = "1";
  format::ReduceAttrsT attrs;
  attrs.kind = kind;
  attrs.axis = uint8_t(axis);
  const Var y = apply("reduce", {x.name}, n, attrs);
  return keep ? view(y, kept) : y;
}

Var Signal::counted(const std::string& size, float begin, float step) {
  format::IndexAttrsT attrs;
  attrs.begin = begin;
  attrs.step = step;
  return apply("index", {}, {size}, attrs);
}

namespace {

Names met(const std::vector<Var>& parts) {
  Names out;
  for (const Var& p : parts) {
    const Names n = Signal::sizes(p);
    while (out.size() < n.size()) out.insert(out.begin(), "1");
    for (size_t i = 0; i < n.size(); ++i) {
      std::string& size = out[out.size() - n.size() + i];
      if (size == "1") size = n[i];
      else if (n[i] != "1" && n[i] != size)
        fail("recipe: %s has an axis of %s where another has %s", p.name.c_str(), n[i].c_str(), size.c_str());
    }
  }
  return out;
}

}  // namespace

Var Signal::with(format::BinaryKind kind, const Var& x, const Var& y) {
  format::BinaryAttrsT attrs;
  attrs.kind = kind;
  return apply("binary", {x.name, y.name}, met({x, y}), attrs);
}

Var Signal::math(format::MathKind kind, const Var& x, float alpha, float beta) {
  format::MathAttrsT attrs;
  attrs.kind = kind;
  attrs.alpha = alpha, attrs.beta = beta;
  return apply("math", {x.name}, sizes(x), attrs);
}

Var Signal::compared(format::ArithmeticKind kind, const Var& x, const Var& y) {
  format::ArithmeticAttrsT attrs;
  attrs.kind = kind;
  const Var shape = of_sizes("", met({x, y}));
  const Var out = make("arithmetic", shape.axis, shape.dims, false, format::DType::i32);
  graph().op("arithmetic", {x.name, y.name}, {out.name}, attrs);
  return out;
}

Var Signal::chosen(const Var& condition, const Var& x, const Var& y) {
  return apply("where", {condition.name, x.name, y.name}, met({condition, x, y}));
}

Var Signal::product(const Var& a, const Var& b, bool turn_b, double scale) {
  const Names n = sizes(a), m = sizes(b);
  Names out = met({of_sizes(a.name, {n.begin(), n.end() - 2}), of_sizes(b.name, {m.begin(), m.end() - 2})});
  out.push_back(n[n.size() - 2]);
  out.push_back(m[m.size() - (turn_b ? 2 : 1)]);
  format::BatchMatmulAttrsT attrs;
  attrs.transpose_b = turn_b;
  attrs.scale = float(scale);
  return apply("batch_matmul", {a.name, b.name}, out, attrs);
}

Var Signal::linear(const Var& x, const std::string& name, int64_t out, int64_t first, int64_t all) {
  const int64_t rows = first < 0 ? out : all;
  const std::string part = first < 0 ? "" : "[" + std::to_string(first) + "]";
  const SourceTensor& whole = take(name + ".weight", {rows, x.dims.back()});
  const std::string weights = matrix(name + part + ".weight", first < 0 ? whole : rows_of(whole, first, out));
  std::string bias;
  if (has(name + ".bias")) {
    const std::vector<float> b = values(name + ".bias", {rows});
    const auto begin = b.begin() + std::max<int64_t>(first, 0);
    bias = constant(name + part + ".bias", std::vector<float>(begin, begin + out), {out});
  }
  return Program::times(x, weights, bias, {out});
}

Var Signal::norm(const Var& x, const std::string& name, double eps) {
  const int64_t n = x.dims.back();
  return layer_norm(x, has(name + ".weight") ? tensor(name + ".weight", {n}).name : "",
                    has(name + ".bias") ? tensor(name + ".bias", {n}).name : "", eps);
}

Var Signal::rms(const Var& x, const std::string& name, double eps) {
  return rms_norm(x, tensor(name + ".weight", {x.dims.back()}).name, eps);
}

Var Signal::batch_norm(const Var& x, const std::string& name, double eps) {
  const int64_t n = x.dims.back();
  std::vector<float> scale = values(name + ".weight", {n}), shift = values(name + ".bias", {n});
  const std::vector<float> mean = values(name + ".running_mean", {n}), variance = values(name + ".running_var", {n});
  if (has(name + ".num_batches_tracked")) find(name + ".num_batches_tracked");  // how long the training was
  for (size_t i = 0; i < scale.size(); ++i) {
    scale[i] = float(double(scale[i]) / std::sqrt(double(variance[i]) + eps));
    shift[i] = float(double(shift[i]) - double(mean[i]) * double(scale[i]));
  }
  return plus(by(x, {constant(name + ".weight", scale, {n}), "", {n}}),
              {constant(name + ".bias", shift, {n}), "", {n}});
}

namespace {

std::vector<uint8_t> bytes_of(const std::vector<float>& values) {
  std::vector<uint8_t> bytes(values.size() * 4);
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

}  // namespace

std::string Signal::made_matrix(const std::string& name, const std::vector<float>& values, int64_t rows,
                                int64_t columns) {
  SourceTensor t{own_name(name), SourceType::kF32, {uint64_t(rows), uint64_t(columns)}, nullptr, 0};
  return matrix(name, derived(std::move(t), bytes_of(values)), true);
}

Var Signal::convolved(const Var& x, const std::string& name, int64_t out, const Slide& w, bool is_line,
                      const std::vector<float>* weights) {
  const int64_t channels = x.dims.back(), in = channels / w.groups, k = w.kernel * (is_line ? 1 : w.kernel);
  const std::string weight = name + ".weight", bias = has(name + ".bias") ? tensor(name + ".bias", {out}).name : "";
  const std::vector<int64_t> shape =
      is_line ? std::vector<int64_t>{out, in, k} : std::vector<int64_t>{out, in, w.kernel, w.kernel};
  const std::vector<float> source = weights ? *weights : values(weight, shape);
  const bool is_channelwise = w.groups == channels && out == channels && channels > 1;
  std::vector<float> turned(source.size());
  for (int64_t o = 0; o < out; ++o)
    for (int64_t c = 0; c < in; ++c)
      for (int64_t p = 0; p < k; ++p)
        turned[size_t(is_channelwise ? p * out + o : (o * k + p) * in + c)] = source[size_t((o * in + c) * k + p)];
  if (k == 1 && w.stride == 1 && w.groups == 1 && w.before == 0 && w.behind == 0)
    return Program::times(x, made_matrix(weight, turned, out, in), bias, {out});
  Names inputs = {x.name,
                  is_channelwise ? constant(weight, turned, {k, channels}) : made_matrix(weight, turned, out, k * in)};
  if (!bias.empty()) inputs.push_back(bias);
  const auto both = [&](int64_t n, int64_t alone) {
    return std::vector<uint32_t>{uint32_t(is_line ? alone : n), uint32_t(n)};
  };
  format::WindowAttrsT attrs;
  attrs.kernel = both(w.kernel, 1);
  attrs.stride = both(w.stride, 1);
  attrs.dilation = both(w.dilation, 1);
  attrs.pad = both(w.before, 0);
  for (uint32_t n : both(w.behind, 0)) attrs.pad.push_back(n);
  attrs.groups = uint32_t(w.groups);
  Names n = sizes(x);
  if (!is_line) n[1] = places(n[1], w);
  n[2] = places(n[2], w), n[3] = std::to_string(out);
  return apply("conv", inputs, n, attrs);
}

Var Signal::conv(const Var& x, const std::string& name, int64_t out, const Slide& w,
                 const std::vector<float>* weights) {
  Names n = sizes(x);
  const Var y = convolved(view(x, {product_of({n.begin(), n.end() - 2}), "1", n[n.size() - 2], n.back()}), name, out, w,
                          true, weights);
  n[n.size() - 2] = sizes(y)[2], n.back() = std::to_string(out);
  return view(y, n);
}

Var Signal::conv_of_images(const Var& x, const std::string& name, int64_t out, const Slide& w) {
  return convolved(x, name, out, w, false, nullptr);
}

Var Signal::conv_transposed(const Var& x, const std::string& name, int64_t out, const Slide& w, int64_t from,
                            const std::string& size) {
  const int64_t channels = x.dims.back(), k = w.kernel, rounds = (k + w.stride - 1) / w.stride, s = w.stride;
  const bool is_channelwise = w.groups == channels && out == channels && channels > 1;
  if (!is_channelwise && w.groups != 1) fail("%s: a transposed convolution in groups is not supported", name.c_str());
  const std::string weight = name + ".weight";
  const std::vector<float> source = values(weight, {channels, out / w.groups, k});
  // Each place gives `rounds` pieces of `s` places, which are added where they meet.
  const Names n = sizes(x);
  const std::string batch = product_of({n.begin(), n.end() - 2}), length = n[n.size() - 2];
  Var all;
  if (is_channelwise) {
    std::vector<float> taps(size_t(rounds * s * out));
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t p = 0; p < k; ++p) taps[size_t(p * out + c)] = source[size_t(c * k + p)];
    all =
        by(view(x, {batch, length, "1", n.back()}), {constant(weight, taps, {rounds * s, out}), "", {rounds * s, out}});
  } else {
    std::vector<float> rows(size_t(rounds * s * out * channels));
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t o = 0; o < out; ++o)
        for (int64_t p = 0; p < k; ++p)
          rows[size_t((p * out + o) * channels + c)] = source[size_t((c * out + o) * k + p)];
    all = Program::times(x, made_matrix(weight, rows, rounds * s * out, channels), "", {rounds * s * out});
  }
  const std::string piece = std::to_string(s * out);
  all = view(all, {batch, length, std::to_string(rounds), piece});
  const std::string longer = more(length, rounds - 1);
  Var sum;
  for (int64_t i = 0; i < rounds; ++i) {
    const Var part = padded(view(cut(all, 2, i, "1"), {batch, length, piece}), 1, i, longer);
    sum = i ? plus(sum, part) : part;
  }
  Var y = view(sum, {batch, multiple(longer, s), std::to_string(out)});
  y = cut(y, 1, from, size);
  Names result = n;
  result[n.size() - 2] = size, result.back() = std::to_string(out);
  y = view(y, result);
  return has(name + ".bias") ? plus(y, tensor(name + ".bias", {out})) : y;
}

Var Signal::rotated(const Var& x, const std::string& frequencies, bool interleaved) {
  const Names n = sizes(x);
  const std::string groups = product_of({n.begin(), n.end() - 3}), size = n[n.size() - 3],
                    all = product_of({groups, size});
  std::string& positions = positions_[groups + " " + size];
  if (positions.empty()) {
    const auto whole = [&](const std::string& op, const std::string& from, const Names& shape) {
      const Var s = of_sizes("", shape), y = make("/" + op, s.axis, s.dims, false, format::DType::i32);
      if (from.empty()) graph().op(op, {}, {y.name}, format::IndexAttrsT());
      else graph().op(op, {from}, {y.name});
      return y.name;
    };
    const std::string one = whole("reshape", whole("index", "", {size}), {"1", size});
    positions = whole("reshape", whole("expand", one, {groups, size}), {all});
  }
  return view(rotate(view(x, {all, n[n.size() - 2], n.back()}), positions, frequencies, interleaved), n);
}

Var Signal::unseen(const Var& mask) { return by(less(mask, number(1)), number(-kUnseen)); }

std::string Signal::segments(const std::string& groups, const std::string& size) {
  std::string& name = segments_[groups + " " + size];
  if (!name.empty()) return name;
  const std::string bounds = more(groups, 1);
  format::IndexAttrsT attrs;
  if (is_number(size)) {
    attrs.step = std::stof(size);
    const Var out = of_sizes("", {bounds});
    name = make("/segments", out.axis, out.dims, false, format::DType::i32).name;
    graph().op("index", {}, {name}, attrs);
    return name;
  }
  const Var count = reduced(format::ReduceKind::max, view(counted(size, 1), {size, "1"}), 0);
  return name = of_type(by(counted(bounds), count), format::DType::i32).name;
}

Var Signal::attend_by_segments(const Attending& how, const Var& q, const Var& k, const Var& v) {
  Names n = sizes(q);
  const std::string groups = product_of({n.begin(), n.end() - 3}), size = n[n.size() - 3];
  const auto flat = [&](const Var& x) {
    const Names own = sizes(x);
    return view(x, {product_of({groups, size}), own[own.size() - 2], own.back()});
  };
  format::AttentionAttrsT attrs;
  attrs.scale = float(how.scale);
  attrs.causal = how.causal;
  attrs.window = uint32_t(how.window);
  Names inputs = {flat(q).name, flat(k).name, flat(v).name, "", "", ""};
  inputs.push_back(how.unseen.name.empty() ? "" : view(how.unseen, {"1", "1", product_of({groups, size})}).name);
  if (groups != "1") inputs.push_back(segments(groups, size));
  const std::string width = std::to_string(q.dims[q.dims.size() - 2] * v.dims.back());
  const Var y = apply("attention", inputs, {product_of({groups, size}), width}, attrs);
  n.resize(n.size() - 1);
  n.back() = width;
  return view(y, n);
}

Var Signal::attend(const Attending& how, const Var& q, const Var& k, const Var& v) {
  const Names n = sizes(q), m = sizes(k);
  const size_t rank = n.size();
  if (how.bias.name.empty() && n[rank - 3] == m[rank - 3]) return attend_by_segments(how, q, k, v);
  if (rank != 4 || how.window || how.causal) fail("recipe: this attention is not written down");
  // With heads in front: [batch, kv heads, heads of each, places, width].
  const int64_t heads = std::stoll(n[2]), kv = std::stoll(m[2]);
  const auto in_front = [&](const Var& x, int64_t each) {
    const Names s = sizes(x);
    const Var y = turned(x, {0, 2, 1, 3});
    return kv == heads ? y : view(y, {s[0], std::to_string(kv), std::to_string(each), s[1], s[3]});
  };
  Var scores = product(in_front(q, heads / kv), in_front(k, 1), true, how.scale);
  if (!how.bias.name.empty()) scores = plus(scores, how.bias);
  if (!how.unseen.name.empty()) {
    Names mask = {n[0], "1", "1", m[1]};
    if (kv != heads) mask.insert(mask.begin() + 1, "1");
    scores = plus(scores, view(how.unseen, mask));
  }
  const Var seen = apply("softmax", {scores.name}, sizes(scores), format::SoftmaxAttrsT());
  const Var y = product(seen, in_front(v, 1), false);
  const Names front = {n[0], n[2], n[1], sizes(v)[3]};
  return view(turned(kv == heads ? y : view(y, front), {0, 2, 1, 3}),
              {n[0], n[1], std::to_string(heads * v.dims.back())});
}

}  // namespace runnel::convert
