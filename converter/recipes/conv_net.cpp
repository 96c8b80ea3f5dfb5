#include "converter/recipes/conv_net.h"

#include <algorithm>
#include <cmath>

#include "converter/program/filters.h"
#include "converter/recipes/decoder.h"

namespace runnel::convert {
namespace {

constexpr int64_t kUsualSide = 224;

std::string axes_of(const Size& height, const Size& width) { return "batch " + height.text() + " " + width.text(); }

}  // namespace

Activation image_activation(const Facts& f, const std::string& key, const std::string& otherwise) {
  const std::string name = f.text(key, otherwise);
  Activation a;
  if (name == "relu6") a.kind = format::UnaryKind::relu, a.most = kRelu6;
  else if (name == "leaky_relu") a.leak = 0.01f;
  else if (name != "linear") a.kind = activation_named(f, key, otherwise);
  return a;
}

ConvNet::ConvNet(Checkpoint& c, ModelBuilder& b, Naming naming, const Facts& f, bool is_mirrored)
    : VisionNet(c, b, std::move(naming), "min(rows,65536)"),
      channels_(f.integer("num_channels", 1, 4096, 3)),
      is_mirrored_(is_mirrored) {
  const std::vector<int64_t> sides =
      f.has("image_size") ? f.integers("image_size", 2, 1, 1 << 14) : std::vector<int64_t>(2, kUsualSide);
  builder().model.context = uint64_t(std::max(sides[0], sides[1]));
  for (const char* name : {"height", "width"}) {
    graph().add_symbol(name, format::SymbolKind::axis, "context");
    keep(Size::symbol(name));
  }
}

ConvNet::ConvNet(Checkpoint& c, ModelBuilder& b, Naming naming, const Image& image)
    : VisionNet(c, b, std::move(naming)), channels_(image.channels), image_(image) {}

Size ConvNet::keep(const Size& size) {
  sizes_.emplace(size.text(), size);
  return size;
}

Size ConvNet::size_of(const Var& x, int i) const {
  const Names axes = shape_of(x.axis, {});
  if (axes.size() != 3) fail("recipe: %s is no image", x.name.c_str());
  const std::string& text = axes[size_t(1 + i)];
  const auto it = sizes_.find(text);
  return it == sizes_.end() ? Size(std::stoll(text)) : it->second;
}

Var ConvNet::pixels() {
  if (image_) return shaped(VisionNet::pixels(*image_), axes_of(image_->height, image_->width), {channels_});
  const Var x = input("pixel_values", "batch " + std::to_string(channels_) + " height width", {});
  format::TransposeAttrsT attrs;
  attrs.perm = {0, 2, 3, 1};
  return mirrored(op("transpose", {x.name}, "batch height width", {channels_}, {}, attrs));
}

// Both sides from their ends to their beginnings.
Var ConvNet::mirrored(const Var& x) {
  if (!is_mirrored_) return x;
  Var y = x;
  for (int i = 0; i < 2; ++i) {
    format::IndexAttrsT from_end;
    from_end.begin = from_end.step = -1;
    const Var places = make("index", size_of(x, i).text(), {}, false, format::DType::i32);
    graph().op("index", {}, {places.name}, from_end);
    format::GatherAttrsT attrs;
    attrs.axis = uint8_t(1 + i);
    y = op("gather", {y.name, places.name}, x.axis, x.dims, {}, attrs);
  }
  return y;
}

// Sizes of what a window makes of x; `attrs` have all but dilation and stride of 1.
Sizes ConvNet::window(const Var& x, format::WindowAttrsT* attrs) {
  if (attrs->dilation.empty()) attrs->dilation.assign(2, 1);
  Sizes out;
  for (int i = 0; i < 2; ++i) {
    const size_t at = size_t(i);
    const int64_t reach = int64_t(attrs->kernel[at] - 1) * attrs->dilation[at] + 1;
    const Size room = size_of(x, i) + Size(int64_t(attrs->pad[at]) + attrs->pad[at + 2] - reach);
    out.push_back(keep(room.floordiv(int64_t(attrs->stride[at])) + 1));
  }
  return out;
}

Var ConvNet::conv(const Var& x, const Conv& c) {
  const SourceTensor& t = find(c.name + ".weight");
  if (t.shape.size() != 4) fail("tensor \"%s\" is no weight of a convolution over images", t.describe().c_str());
  const std::vector<int64_t> shape(t.shape.begin(), t.shape.end());
  return conv_of(x, c, values(c.name + ".weight", shape), shape,
                 has(c.name + ".bias") ? values(c.name + ".bias", {shape[0]}) : std::vector<float>());
}

Var ConvNet::conv_of(const Var& x, const Conv& c, std::vector<float> weights, const std::vector<int64_t>& shape,
                     std::vector<float> bias) {
  const int64_t out = shape[0], in = shape[1], places = shape[2] * shape[3], channels = x.dims.back();
  if (in * c.groups != channels || out % c.groups != 0 || places < 1)
    fail("%s: \"%s.weight\" of %lld channels in %lld groups does not fit %lld channels", checkpoint().path.c_str(),
         full_name(c.name).c_str(), static_cast<long long>(in), static_cast<long long>(c.groups),
         static_cast<long long>(channels));
  if (!c.norm.empty()) fold(batch_norm_of(c.norm, out, c.eps), &weights, &bias);
  if (is_mirrored_)
    for (auto at = weights.begin(); at != weights.end(); at += places) std::reverse(at, at + places);
  Names inputs = {x.name};
  if (in == 1 && out == c.groups) {
    inputs.push_back(constant(c.name + ".weight", channel_filters(weights, out, places), {places, out}));
  } else {
    inputs.push_back(matrix_of(c.name + ".weight", filter_rows(weights, out, in, places), out, places * in, true));
  }
  if (!bias.empty()) inputs.push_back(constant(c.name + ".bias", bias, {out}));
  format::WindowAttrsT attrs;
  attrs.stride.assign(2, uint32_t(c.stride));
  attrs.dilation.assign(2, uint32_t(c.dilation));
  attrs.pad.assign(4, 0);
  for (size_t i = 0; i < 2; ++i) {
    attrs.kernel.push_back(uint32_t(shape[2 + i]));
    const int64_t all = (shape[2 + i] - 1) * c.dilation, before = c.before < 0 ? all / 2 : c.before;
    attrs.pad[i] = uint32_t(before);
    attrs.pad[i + 2] = uint32_t(c.behind >= 0 ? c.behind : c.before < 0 ? all - before : before);
  }
  attrs.groups = uint32_t(c.groups);
  attrs.activation = c.activation.kind;
  attrs.most = c.activation.most;
  const Sizes sizes = window(x, &attrs);
  const Var y = op("conv", inputs, axes_of(sizes[0], sizes[1]), {out}, {}, attrs);
  return c.activation.leak != 0 ? act(y, c.activation) : y;
}

Var ConvNet::act(const Var& x, const Activation& a) {
  format::MathAttrsT attrs;
  if (a.leak != 0) {
    attrs.kind = format::MathKind::leaky_relu;
    attrs.alpha = a.leak;
  } else if (std::isfinite(a.most)) {
    attrs.kind = format::MathKind::clip;
    attrs.beta = a.most;
  } else {
    return a.kind == format::UnaryKind::none ? x : unary(a.kind, x);
  }
  return op("math", {x.name}, x.axis, x.dims, {}, attrs);
}

Var ConvNet::pool(format::PoolKind kind, const Var& x, const Places& p, bool counts_padding) {
  format::WindowAttrsT attrs;
  attrs.pool = kind;
  attrs.count_padding = counts_padding;
  attrs.kernel.assign(2, uint32_t(p.kernel));
  attrs.stride.assign(2, uint32_t(p.stride));
  attrs.pad.assign(4, uint32_t(p.pad));
  if (p.behind >= 0) attrs.pad[2] = attrs.pad[3] = uint32_t(p.behind);
  const Sizes sizes = window(x, &attrs);
  return op("pool", {x.name}, axes_of(sizes[0], sizes[1]), x.dims, {}, attrs);
}

Var ConvNet::ringed(const Var& x) {
  format::PadAttrsT attrs;
  attrs.begin = {0, 1, 1, 0};
  return op("pad", {x.name}, axes_of(keep(size_of(x, 0) + 2), keep(size_of(x, 1) + 2)), x.dims, {}, attrs);
}

Var ConvNet::repeated(const Var& x, int64_t factor) {
  format::ResizeAttrsT attrs;
  attrs.mode = format::ResizeMode::nearest;
  attrs.place = format::ResizePlace::asymmetric;
  attrs.rounding = format::ResizeRounding::floor;
  const Size height = keep(size_of(x, 0) * factor), width = keep(size_of(x, 1) * factor);
  return op("resize", {x.name}, axes_of(height, width), x.dims, {}, attrs);
}

Var ConvNet::group_norm(const Var& x, const std::string& name, int64_t groups, double eps) {
  const int64_t n = x.dims.back();
  if (groups < 1 || n % groups != 0)
    fail("%s: \"%s\" has %lld groups of %lld channels", checkpoint().path.c_str(), full_name(name).c_str(),
         static_cast<long long>(groups), static_cast<long long>(n));
  format::GroupNormAttrsT attrs;
  attrs.groups = uint32_t(groups);
  attrs.eps = float(eps);
  return op("group_norm",
            {x.name, constant(name + ".weight", values(name + ".weight", {n}), {n}),
             constant(name + ".bias", values(name + ".bias", {n}), {n})},
            x.axis, x.dims, {}, attrs);
}

Var ConvNet::along(format::ReduceKind kind, const Var& x, int axis, const std::string& axis_left) {
  format::ReduceAttrsT attrs;
  attrs.kind = kind;
  attrs.axis = uint8_t(axis);
  return op("reduce", {x.name}, axis_left, x.dims, {}, attrs);
}

Var ConvNet::tokens(const Var& x) {
  const Size all = keep(size_of(x, 0) * size_of(x, 1));
  return shaped(x, "batch " + all.text(), x.dims);
}

Var ConvNet::mean_of_places(const Var& x) { return along(format::ReduceKind::mean, tokens(x), 1, "batch"); }

Var ConvNet::combined(format::BinaryKind kind, const Var& x, const Var& y) {
  format::BinaryAttrsT attrs;
  attrs.kind = kind;
  return op("binary", {x.name, y.name}, x.axis, x.dims, {}, attrs);
}

Var ConvNet::squeeze_excite(const Var& x, const std::string& reduce, const std::string& expand, const Activation& a) {
  const Var mean = one_place(mean_of_places(x));
  const Var gate = conv(conv(mean, {reduce, "", 1, a}), {expand, "", 1, {format::UnaryKind::sigmoid}});
  return combined(format::BinaryKind::mul, x, gate);
}

void ConvNet::give_image(const Var& x, const std::string& name) {
  const Var y = mirrored(x);
  format::TransposeAttrsT attrs;
  attrs.perm = {0, 3, 1, 2};
  const std::string axes =
      "batch " + std::to_string(x.dims.at(0)) + " " + size_of(x, 0).text() + " " + size_of(x, 1).text();
  graph().op("transpose", {y.name}, {graph().value(name, shape_of(axes, {}))}, attrs);
  graph().add_output(name);
}

void ConvNet::give_pooled(const Var& x, const std::string& name, int axes) {
  std::vector<int64_t> dims = x.dims;
  dims.insert(dims.end(), size_t(axes), 1);
  give(shaped(x, x.axis, dims), name);
}

void ConvNet::classify(const Var& x, const std::string& name) {
  give(has(name + ".weight") ? linear(x, name) : x, "logits");
}

}  // namespace runnel::convert
