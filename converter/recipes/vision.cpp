#include "converter/recipes/vision.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "converter/program/pruning.h"
#include "converter/read/source_file.h"
#include "converter/weights/encode.h"

namespace runnel::convert {

namespace {

// Height and width that images are brought to: an integer, or an object with both, or with one length for both.
bool read_sides(const Json& size, Image* image) {
  if (size.is_number_integer()) {
    image->height = image->width = size.get<int64_t>();
    return true;
  }
  if (!size.is_object()) return false;
  const auto length = [&](const char* key) {
    return size.value(key, Json()).is_number_integer() ? size[key].get<int64_t>() : 0;
  };
  image->height = length("height"), image->width = length("width");
  if (!image->height) image->height = image->width = length("shortest_edge");
  return image->height > 0;
}

}  // namespace

Image image_of(const Checkpoint& c, const Facts& f) {
  Image image = {0, 0, f.integer("num_channels", 1, 4096, 3)};
  constexpr int64_t kMostSide = 1 << 14;
  const std::filesystem::path file = c.path / "preprocessor_config.json";
  if (f.has("image_size")) {
    const std::vector<int64_t> sides = f.integers("image_size", 2, 1, kMostSide);
    image.height = sides[0], image.width = sides[1];
  } else if (std::filesystem::exists(file)) {
    const Json prepared = parse_json(read_text(file, 1 << 20), file.string());
    if (!read_sides(prepared.value("crop_size", Json()), &image)) read_sides(prepared.value("size", Json()), &image);
  }
  if (image.height < 1 || image.width < 1 || image.height > kMostSide || image.width > kMostSide)
    f.refuse("image_size", "is missing, and no preprocessor_config.json says a size; write the size of images into it");
  return image;
}

void refuse_class(const Facts& f, const std::string& name) {
  f.refuse("architectures", "names a class ..." + printable(name) + ", which is not supported");
}

std::string class_of(const Checkpoint& c, const std::string& family) {
  const Facts f = outer_facts(c);
  const Json* classes = f.find("architectures");
  if (!classes || !classes->is_array() || classes->empty() || !(*classes)[0].is_string()) return "Model";
  const std::string name = (*classes)[0].get<std::string>();
  if (!name.starts_with(family)) f.refuse("architectures", "names " + printable(name) + ", not a class of " + family);
  if (name == family + "Backbone") refuse_class(f, "Backbone");
  return name.substr(family.size());
}

void rename_tensors(Checkpoint& c, const std::vector<std::pair<std::string, std::string>>& names) {
  std::vector<std::pair<std::string, std::string>> renamed;
  for (const SourceTensor& t : c.tensors()) {
    std::string name = t.name;
    for (const auto& [from, to] : names)
      if (const size_t at = name.find(from); at != name.npos) name.replace(at, from.size(), to);
    if (name != t.name && !c.has(name)) renamed.push_back({t.name, name});
  }
  for (const auto& [from, to] : renamed) {
    SourceTensor t = *c.find(from);
    t.name = to;
    c.add(t, c.path.string());
  }
}

Window square(int64_t kernel, int64_t stride, int64_t pad, int64_t groups) {
  return {{kernel, kernel}, {stride, stride}, pad, groups};
}

VisionNet::VisionNet(Checkpoint& c, ModelBuilder& b, Naming naming, const char* most_images)
    : Program(b, "main"), Source(c, std::move(naming)) {
  builder().model.context = 1;
  for (const char* option : {"context", "chunk", "rollback", "rows"})
    graph().add_symbol(option, format::SymbolKind::option, "");
  // Pruned tokens are those of one image; passes/images_in_turn takes more.
  graph().add_symbol("batch", format::SymbolKind::axis, builder().prune.empty() ? most_images : kOneImage);
}

Var VisionNet::pixels(const Image& image) {
  const Var x = input("pixel_values", "batch", {image.channels, image.height, image.width});
  return transposed(x, {0, 2, 3, 1});
}

Var VisionNet::shaped(const Var& x, const std::string& axis, const std::vector<int64_t>& dims) {
  return op("reshape", {x.name}, axis, dims);
}

Var VisionNet::transposed(const Var& x, const std::vector<uint8_t>& perm) {
  format::TransposeAttrsT attrs;
  attrs.perm = perm;
  std::vector<int64_t> dims;
  for (size_t i = 1; i < perm.size(); ++i) dims.push_back(x.dims.at(size_t(perm[i] - 1)));
  return op("transpose", {x.name}, x.axis, dims, {}, attrs);
}

std::vector<Var> VisionNet::linears(const Var& x, const std::vector<std::string>& names) {
  Names inputs = {x.name}, biases, outputs;
  std::vector<Var> vars;
  bool any = false;
  for (const std::string& name : names) {
    const SourceTensor& source = find(name + ".weight");
    const int64_t rows = source.shape.empty() ? 0 : int64_t(source.shape[0]);
    inputs.push_back(matrix(name + ".weight", take(name + ".weight", {rows, x.dims.back()})));
    biases.push_back(has(name + ".bias") ? constant(name + ".bias", values(name + ".bias", {rows}), {rows}) : "");
    any = any || !biases.back().empty();
    std::vector<int64_t> dims = x.dims;
    dims.back() = rows;
    vars.push_back(make(name, x.axis, dims));
    outputs.push_back(vars.back().name);
  }
  if (any) inputs.insert(inputs.end(), biases.begin(), biases.end());
  graph().op("matmul", inputs, outputs);
  return vars;
}

std::vector<Var> VisionNet::parts(const Var& x, const std::string& weight, const std::string& bias, int64_t all,
                                  const std::vector<Rows>& rows) {
  const SourceTensor& whole = take(weight, {all, x.dims.back()});
  const std::vector<float> shift = has(bias) ? values(bias, {all}) : std::vector<float>();
  std::vector<Var> out;
  for (const Rows& r : rows) {
    const std::string part = "[" + std::to_string(r.first) + "]";
    const std::string own = matrix(weight + part, rows_of(whole, r.first, r.count));
    std::string added;
    if (!shift.empty()) {
      const auto begin = shift.begin() + r.first;
      added = constant(bias + part, std::vector<float>(begin, begin + r.count), {r.count});
    }
    out.push_back(times(x, own, added, {r.count}));
  }
  return out;
}

Var VisionNet::conv(const Var& x, const std::string& name, const Window& w) {
  const int64_t out = int64_t(find(name + ".weight").shape.at(0));
  const std::vector<float> bias = has(name + ".bias") ? values(name + ".bias", {out}) : std::vector<float>();
  return conv_with(x, name, values(name + ".weight", {out, x.dims.back() / w.groups, w.kernel[0], w.kernel[1]}), bias,
                   out, w);
}

Var VisionNet::batch_norm(const Var& x, const std::string& name, double eps) {
  const int64_t n = x.dims.back();
  const BatchNorm norm = batch_norm_of(name, n, eps);
  const Var y = times_numbers(x, name + ".factor", {norm.factor.begin(), norm.factor.end()}, {n});
  return plus_numbers(y, name + ".shift", {norm.shift.begin(), norm.shift.end()}, {n});
}

Var VisionNet::conv_norm(const Var& x, const std::string& name, const std::string& norm, double eps, const Window& w) {
  const int64_t out = int64_t(find(name + ".weight").shape.at(0)), in = x.dims.back() / w.groups;
  std::vector<float> weight = values(name + ".weight", {out, in, w.kernel[0], w.kernel[1]}), bias;
  if (has(name + ".bias")) bias = values(name + ".bias", {out});
  fold(batch_norm_of(norm, out, eps), &weight, &bias);
  return conv_with(x, name, weight, bias, out, w);
}

Var VisionNet::linear_norm(const Var& x, const std::string& name, const std::string& norm, double eps) {
  const int64_t out = int64_t(find(name + ".weight").shape.at(0)), in = x.dims.back();
  std::vector<float> weight = values(name + ".weight", {out, in}), bias;
  if (has(name + ".bias")) bias = values(name + ".bias", {out});
  fold(batch_norm_of(norm, out, eps), &weight, &bias);
  return times(x, matrix_of(name + ".weight", weight, out, in), constant(name + ".bias", bias, {out}), {out});
}

std::string VisionNet::matrix_of(const std::string& name, const std::vector<float>& numbers, int64_t rows,
                                 int64_t columns, bool is_delicate) {
  SourceTensor t{own_name(name), SourceType::kF32, {uint64_t(rows), uint64_t(columns)}, nullptr, 0};
  std::vector<uint8_t> bytes(numbers.size() * 4);
  std::memcpy(bytes.data(), numbers.data(), bytes.size());
  return matrix(name, derived(std::move(t), std::move(bytes)), is_delicate);
}

Var VisionNet::conv_with(const Var& x, const std::string& name, const std::vector<float>& weight,
                         const std::vector<float>& bias, int64_t out, const Window& w) {
  const int64_t in = x.dims.back() / w.groups, places = w.kernel[0] * w.kernel[1];
  const bool is_single = w.groups == out && w.groups == x.dims.back();
  Names inputs = {x.name};
  if (is_single) inputs.push_back(constant(name + ".weight", channel_filters(weight, out, places), {places, out}));
  else inputs.push_back(matrix_of(name + ".weight", filter_rows(weight, out, in, places), out, places * in, true));
  if (!bias.empty()) inputs.push_back(constant(name + ".bias", bias, {out}));
  format::WindowAttrsT attrs;
  std::vector<int64_t> dims;
  for (size_t i = 0; i < 2; ++i) {
    attrs.kernel.push_back(uint32_t(w.kernel[i]));
    attrs.stride.push_back(uint32_t(w.stride[i]));
    attrs.dilation.push_back(uint32_t(w.dilation));
    const int64_t reach = (w.kernel[i] - 1) * w.dilation + 1;
    if (x.dims[i] + 2 * w.pad < reach)
      fail("%s: images are too small for \"%s\"", checkpoint().path.c_str(), full_name(name).c_str());
    dims.push_back((x.dims[i] + 2 * w.pad - reach) / w.stride[i] + 1);
  }
  attrs.pad.assign(4, uint32_t(w.pad));
  attrs.groups = uint32_t(w.groups);
  attrs.activation = w.activation;
  dims.push_back(out);
  return op("conv", inputs, x.axis, dims, {}, attrs);
}

Var VisionNet::norm(const Var& x, const std::string& name, double eps) {
  const int64_t n = x.dims.back();
  return layer_norm(x, constant(name + ".weight", values(name + ".weight", {n}), {n}),
                    has(name + ".bias") ? constant(name + ".bias", values(name + ".bias", {n}), {n}) : "", eps);
}

Var VisionNet::rms(const Var& x, const std::string& name, double eps) {
  const int64_t n = x.dims.back();
  return rms_norm(x, constant(name + ".weight", values(name + ".weight", {n}), {n}), eps);
}

Var VisionNet::times_numbers(const Var& x, const std::string& name, const std::vector<float>& numbers,
                             const std::vector<int64_t>& shape) {
  return binary(format::BinaryKind::mul, x, constant(name, numbers, shape));
}

Var VisionNet::plus_numbers(const Var& x, const std::string& name, const std::vector<float>& numbers,
                            const std::vector<int64_t>& shape) {
  return binary(format::BinaryKind::add, x, constant(name, numbers, shape));
}

Var VisionNet::with_tokens(const Var& x, const std::string& name, const std::vector<float>& numbers) {
  const int64_t width = x.dims.back(), count = int64_t(numbers.size()) / width;
  if (count == 0) return x;
  const Var first = op("expand", {constant(name, numbers, {1, count, width})}, x.axis, {count, width});
  return concat({first, x}, 1);
}

Var VisionNet::mean(const Var& x, int axis) {
  format::ReduceAttrsT attrs;
  attrs.kind = format::ReduceKind::mean;
  attrs.axis = uint8_t(axis);
  std::vector<int64_t> dims = x.dims;
  dims.erase(dims.begin() + (axis - 1));
  return op("reduce", {x.name}, x.axis, dims, {}, attrs);
}

Var VisionNet::token(const Var& x, int64_t i) { return reshape(slice(x, 1, i, 1), {x.dims.back()}); }

Var VisionNet::padded(const Var& x, int64_t rows, int64_t columns) {
  if (x.dims[0] == rows && x.dims[1] == columns) return x;
  format::PadAttrsT attrs;
  attrs.begin.assign(4, 0);
  return op("pad", {x.name}, x.axis, {rows, columns, x.dims[2]}, {}, attrs);
}

Var VisionNet::cropped(Var x, int64_t rows, int64_t columns) {
  if (x.dims[0] != rows) x = slice(x, 1, 0, rows);
  return x.dims[1] == columns ? x : slice(x, 2, 0, columns);
}

std::vector<float> linear_weights(int64_t to, int64_t from, bool aligns_corners) {
  std::vector<float> weights(size_t(to * from));
  for (int64_t i = 0; i < to; ++i) {
    const double place = aligns_corners ? (to > 1 ? double(i) * double(from - 1) / double(to - 1) : 0)
                                        : std::max((double(i) + 0.5) * double(from) / double(to) - 0.5, 0.0);
    const int64_t first = std::min(int64_t(place), from - 1), second = std::min(first + 1, from - 1);
    const double part = std::min(place - double(first), 1.0);
    weights[size_t(i * from + first)] += float(1 - part);
    weights[size_t(i * from + second)] += float(part);
  }
  return weights;
}

std::vector<float> mean_weights(int64_t to, int64_t from) {
  std::vector<float> weights(size_t(to * from));
  for (int64_t i = 0; i < to; ++i) {
    const int64_t begin = i * from / to, end = ((i + 1) * from + to - 1) / to;
    for (int64_t k = begin; k < end; ++k) weights[size_t(i * from + k)] = 1 / float(end - begin);
  }
  return weights;
}

Var VisionNet::resampled(const Var& x, const Mixing& rows, const Mixing& columns) {
  const int64_t width = x.dims[2];
  const auto named = [&](const char* what, const Mixing& m) {
    const std::string sizes = std::to_string(m.from) + "_" + std::to_string(m.to);
    // The sum of squares tells apart what has the same sizes.
    double kind = 0;
    for (float w : m.weights) kind += double(w) * double(w);
    return constant("/" + std::string(what) + sizes + "_" + std::to_string(kind), m.weights, {m.to, m.from});
  };
  Var y = reshape(x, {x.dims[0], x.dims[1] * width});
  y = op("batch_matmul", {named("mixing_", rows), y.name}, x.axis, {rows.to, x.dims[1] * width}, {},
         format::BatchMatmulAttrsT());
  y = reshape(y, {rows.to, x.dims[1], width});
  return op("batch_matmul", {named("mixing_", columns), y.name}, x.axis, {rows.to, columns.to, width}, {},
            format::BatchMatmulAttrsT());
}

Var VisionNet::stretched(const Var& x, int64_t rows, int64_t columns, bool aligns_corners) {
  if (x.dims[0] == rows && x.dims[1] == columns) return x;
  return resampled(x, {rows, x.dims[0], linear_weights(rows, x.dims[0], aligns_corners)},
                   {columns, x.dims[1], linear_weights(columns, x.dims[1], aligns_corners)});
}

Var VisionNet::hard_swish(const Var& x) {
  format::MathAttrsT attrs;
  attrs.kind = format::MathKind::hard_swish;
  attrs.alpha = 1 / 6.0f, attrs.beta = 0.5f;
  return op("math", {x.name}, x.axis, x.dims, {}, attrs);
}

Var VisionNet::unit(const Var& x) {
  format::ReduceAttrsT sum;
  sum.kind = format::ReduceKind::sum;
  sum.axis = 1;
  const Var squares = op("reduce", {unary(format::UnaryKind::square, x).name}, x.axis, {}, {}, sum);
  return binary(format::BinaryKind::div, x, reshape(unary(format::UnaryKind::sqrt, squares), {1}));
}

Var VisionNet::attend(const Var& q, const Var& k, const Var& v, double scale, const std::vector<Bias>& biases) {
  const int64_t n = q.dims[0], m = k.dims[0], heads = q.dims[1], width = heads * v.dims[2];
  if (biases.empty() && n == m) {
    // One sequence for each image, one behind the other.
    const std::string tokens = "(" + q.axis + ")*" + std::to_string(n);
    format::IndexAttrsT starts;
    starts.step = float(n);
    const Var segments = make("index", "(" + q.axis + ")+1", {}, false, format::DType::i32);
    graph().op("index", {}, {segments.name}, starts);
    const auto flat = [&](const Var& x) { return shaped(x, tokens, {heads, x.dims[2]}).name; };
    format::AttentionAttrsT attrs;
    attrs.scale = float(scale);
    attrs.causal = false;
    const Var y =
        op("attention", {flat(q), flat(k), flat(v), "", "", "", "", segments.name}, tokens, {width}, {}, attrs);
    return shaped(y, q.axis, {n, width});
  }
  format::BatchMatmulAttrsT product;
  product.transpose_b = true;
  product.scale = float(scale);
  const auto by_head = [&](const Var& x) { return transposed(x, {0, 2, 1, 3}); };
  const Var keys = by_head(k), values_of = by_head(v);
  Var scores = op("batch_matmul", {by_head(q).name, keys.name}, q.axis, {heads, n, m}, {}, product);
  for (const Bias& b : biases) {
    if (b.windows == 0) {
      scores = binary(format::BinaryKind::add, scores, b.name);
      continue;
    }
    const Var by_window = shaped(scores, "batch", {b.windows, heads, n, m});
    scores = shaped(binary(format::BinaryKind::add, by_window, b.name), q.axis, {heads, n, m});
  }
  const Var weights = op("softmax", {scores.name}, q.axis, scores.dims, {}, format::SoftmaxAttrsT());
  const Var y = op("batch_matmul", {weights.name, values_of.name}, q.axis, {heads, n, v.dims[2]}, {},
                   format::BatchMatmulAttrsT());
  return reshape(by_head(y), {n, width});
}

void VisionNet::give_usual(const Facts& f, const std::string& name, const Var& x, const Var& pooled) {
  if (name == "ForImageClassification") return give(linear(pooled, "/classifier"), "logits");
  if (name != "Model") refuse_class(f, name);
  x.dims.size() == 3 ? give_image(x, "last_hidden_state") : give(x, "last_hidden_state");
  give(pooled, "pooler_output");
}

void VisionNet::give_reconstruction(const Facts& f, const Var& tokens, int64_t channels) {
  const int64_t n = tokens.dims[0], side = int64_t(std::floor(std::sqrt(double(n)))),
                step = f.integer("encoder_stride", 1, 4096, 16);
  if (side * side != n) f.refuse("image_size", "is not square, as this head needs it");
  const Var image = reshape(tokens, {side, side, tokens.dims[1]});
  const Var y = reshape(conv(image, "/decoder.0", square(1, 1)), {side, side, channels, step, step});
  give(reshape(transposed(y, {0, 3, 1, 4, 2, 5}), {channels, side * step, side * step}), "reconstruction");
}

void VisionNet::give(const Var& x, const std::string& name, bool is_optional) {
  // A view under the name that the original gives it.
  graph().op("reshape", {x.name}, {graph().value(name, shape_of(x.axis, x.dims))});
  if (is_optional) graph().add_optional_output(name);
  else graph().add_output(name);
}

}  // namespace runnel::convert
