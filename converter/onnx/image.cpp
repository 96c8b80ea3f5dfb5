// Images of other sizes, and pixels that become channels.
#include <algorithm>
#include <cmath>

#include "converter/onnx/lowering.h"

namespace runnel::convert {
namespace {

template <class T>
struct Named {
  const char* name;
  T value;
};
template <class T, size_t kCount>
T named(const Named<T> (&rows)[kCount], const std::string& name, const char* what) {
  for (const auto& row : rows)
    if (name == row.name) return row.value;
  fail("%s \"%s\"", what, printable(name).c_str());
}

constexpr Named<format::ResizeMode> kModes[] = {{"nearest", format::ResizeMode::nearest},
                                                {"linear", format::ResizeMode::linear},
                                                {"bilinear", format::ResizeMode::linear},
                                                {"cubic", format::ResizeMode::cubic}};
constexpr Named<format::ResizePlace> kPlaces[] = {{"half_pixel", format::ResizePlace::half_pixel},
                                                  {"half_pixel_symmetric", format::ResizePlace::half_pixel_symmetric},
                                                  {"pytorch_half_pixel", format::ResizePlace::pytorch_half_pixel},
                                                  {"align_corners", format::ResizePlace::align_corners},
                                                  {"asymmetric", format::ResizePlace::asymmetric},
                                                  {"tf_half_pixel_for_nn", format::ResizePlace::tf_half_pixel_for_nn},
                                                  {"tf_crop_and_resize", format::ResizePlace::tf_crop_and_resize}};
constexpr Named<format::ResizeRounding> kRoundings[] = {
    {"round_prefer_floor", format::ResizeRounding::round_prefer_floor},
    {"round_prefer_ceil", format::ResizeRounding::round_prefer_ceil},
    {"floor", format::ResizeRounding::floor},
    {"ceil", format::ResizeRounding::ceil}};

// What happens to each axis of the value, in the graph's order.
struct Axes {
  Sizes to;
  std::vector<float> scale, begin, end;
};

// size * scale, rounded down or to the nearest, as onnxruntime does it in f32.
Size scaled(const Size& size, float scale, bool to_nearest = false) {
  if (size.is_constant()) {
    const float exact = float(size.constant()) * scale, wide = to_nearest ? std::round(exact) : exact;
    if (!(wide < 1e9f)) fail("an axis of %s is scaled by %g", size.text().c_str(), double(scale));
    return int64_t(wide);
  }
  for (int64_t under = 1; under <= 64; ++under) {
    const float over = scale * float(under);
    if (over == std::floor(over) && over < 65536) return (size * Size(int64_t(over))).floordiv(under);
  }
  fail("an axis of the call is scaled by %g", double(scale));
}

// One scale for all axes of `list`: the smallest or the largest that the sizes ask for.
void keep_aspect(const Value& x, const std::vector<int64_t>& list, bool is_smallest, Axes* axes) {
  float scale = 0;
  for (size_t i = 0; i < list.size(); ++i) {
    const Size &from = x.shape[size_t(list[i])], to = axes->to[size_t(list[i])];
    if (!from.is_constant() || !to.is_constant()) fail("keep_aspect_ratio_policy of an axis of the call");
    if (from.constant() < 1 || to.constant() < 0 || to.constant() > 1 << 30)
      fail("%s places become %s", from.text().c_str(), to.text().c_str());
    const float here = float(to.constant()) / float(from.constant());
    scale = i == 0 ? here : is_smallest ? std::min(scale, here) : std::max(scale, here);
  }
  for (int64_t a : list) {
    axes->scale[size_t(a)] = scale;
    axes->to[size_t(a)] = scaled(x.shape[size_t(a)], scale, true);
  }
}

Axes axes_of(const Node& n, const Value& x) {
  const bool is_upsample = n.op() == "Upsample", is_old = n.opset() < 11;
  const size_t roi_at = 1, scales_at = is_upsample || is_old ? 1 : 2, sizes_at = 3, rank = size_t(x.rank());
  Axes out{x.shape, std::vector<float>(rank, 0), std::vector<float>(rank, 0), std::vector<float>(rank, 1)};
  std::vector<int64_t> list = n.integers("axes");
  for (int64_t& a : list) {
    if (a < 0) a += x.rank();
    if (a < 0 || a >= x.rank()) fail("its axes are not those of %s", text(x.shape).c_str());
  }
  if (list.empty())
    for (int i = 0; i < x.rank(); ++i) list.push_back(i);
  if (!is_old && n.has(roi_at) && n.text("coordinate_transformation_mode", "") == "tf_crop_and_resize") {
    const std::vector<float>& roi = n.known_floats(roi_at, "the region");
    if (roi.size() != 2 * list.size()) fail("a region of %zu numbers", roi.size());
    for (size_t i = 0; i < list.size(); ++i)
      out.begin[size_t(list[i])] = roi[i], out.end[size_t(list[i])] = roi[i + list.size()];
  }
  if (!is_old && n.has(sizes_at) && !product(n.in(sizes_at).shape).is(0)) {
    const Sizes& sizes = n.known_sizes(sizes_at, "the sizes");
    if (sizes.size() != list.size()) fail("%zu sizes of %zu axes", sizes.size(), list.size());
    for (size_t i = 0; i < list.size(); ++i) out.to[size_t(list[i])] = sizes[i];
    const std::string policy = n.text("keep_aspect_ratio_policy", "stretch");
    if (policy != "stretch") keep_aspect(x, list, policy == "not_larger", &out);
    return out;
  }
  std::vector<float> scales;
  if (const OnnxAttribute* a = n.attribute("scales", OnnxKind::kFloats)) scales = a->floats;
  else scales = n.known_floats(scales_at, "the scales");
  if (scales.size() != list.size()) fail("%zu scales of %zu axes", scales.size(), list.size());
  for (size_t i = 0; i < list.size(); ++i) {
    if (!(scales[i] > 0)) fail("a scale of %g", double(scales[i]));
    out.scale[size_t(list[i])] = scales[i];
    out.to[size_t(list[i])] = scaled(x.shape[size_t(list[i])], scales[i]);
  }
  return out;
}

format::ResizeAttrsT attrs_of(const Node& n, const Axes& axes) {
  format::ResizeAttrsT attrs;
  attrs.mode = named(kModes, n.text("mode", "nearest"), "mode");
  attrs.cubic = float(n.real("cubic_coeff_a", -0.75));
  attrs.antialias = n.integer("antialias", 0) != 0;
  attrs.exclude_outside = n.integer("exclude_outside", 0) != 0;
  attrs.outside = float(n.real("extrapolation_value", 0));
  if (n.opset() < 11 || n.op() == "Upsample") {
    // Then a pixel is one of those before it, or behind it where there are fewer than before.
    attrs.place = format::ResizePlace::asymmetric;
    const bool is_smaller = std::any_of(axes.scale.begin(), axes.scale.end(), [](float s) { return s > 0 && s < 1; });
    attrs.rounding = is_smaller ? format::ResizeRounding::ceil : format::ResizeRounding::floor;
    return attrs;
  }
  attrs.place = named(kPlaces, n.text("coordinate_transformation_mode", "half_pixel"), "places");
  attrs.rounding = named(kRoundings, n.text("nearest_mode", "round_prefer_floor"), "rounding");
  return attrs;
}

// Blocks of pixels and channels: `apart` are axes of the value cut in pieces, `perm` their order in the result.
Value blocks(Lowering& l, const Value& x, const Sizes& apart, const Perm& perm, const Sizes& shape) {
  return l.reshape(l.transpose(l.reshape(x, apart), perm), shape);
}

}  // namespace

void lower_resize(Lowering& l, const Node& n) {
  const Elem elem = n.in(0).elem;
  const Value x = l.cast(n.in(0), Elem::kFloat);
  const Axes axes = axes_of(n, x);
  const format::ResizeAttrsT given = attrs_of(n, axes);
  const bool is_crop = given.place == format::ResizePlace::tf_crop_and_resize;
  const bool is_image = x.rank() == 4 && axes.to[0] == x.shape[0] && axes.to[1] == x.shape[1];
  const Perm perm = is_image ? Perm{0, 3, 1, 2} : x.order();
  Value s = l.stored_in(x, perm);
  std::vector<size_t> source(perm.size());
  for (size_t i = 0; i < perm.size(); ++i) source[size_t(perm[i])] = i;
  const auto changes = [&](size_t at) {
    const size_t a = source[at];
    return !(axes.to[a] == x.shape[a]) || (axes.scale[a] != 0 && axes.scale[a] != 1) ||
           (is_crop && (axes.begin[a] != 0 || axes.end[a] != 1));
  };
  for (size_t at = 0; at < perm.size(); ++at) {
    if (!changes(at)) continue;
    // This axis, and the one behind it where that changes too.
    const size_t next = at + 1 < perm.size() && changes(at + 1) ? at + 1 : at;
    format::ResizeAttrsT attrs = given;
    const bool is_pair = next != at;
    const size_t a = source[at], b = source[next];
    attrs.scale = {is_pair ? axes.scale[a] : 0, axes.scale[b]};
    attrs.roi = {is_pair ? axes.begin[a] : 0, axes.begin[b], is_pair ? axes.end[a] : 1, axes.end[b]};
    Sizes shape = s.shape;
    const Size outer = product(Sizes(shape.begin(), shape.begin() + long(at))),
               inner = product(Sizes(shape.begin() + long(next) + 1, shape.end()));
    const Value flat = l.reshape(s, {outer, is_pair ? shape[at] : Size(1), shape[next], inner});
    shape[at] = axes.to[a], shape[next] = axes.to[b];
    s = l.reshape(l.emit("resize", {flat}, {outer, is_pair ? shape[at] : Size(1), shape[next], inner}, attrs), shape);
    at = next;
  }
  n.set(l.cast(l.labelled(s, perm), elem));
}

void lower_depth_to_space(Lowering& l, const Node& n) {
  const Value& x = n.in(0);
  const int64_t block = n.integer("blocksize", 0);
  if (x.rank() != 4 || block < 1 || block > 4096)
    fail("blocks of %lld of %s", static_cast<long long>(block), text(x.shape).c_str());
  const Size batch = x.shape[0], height = x.shape[2], width = x.shape[3];
  if (n.op() == "SpaceToDepth") {
    const Size rows = height.floordiv(block), columns = width.floordiv(block);
    return n.set(blocks(l, x, {batch, x.shape[1], rows, block, columns, block}, {0, 3, 5, 1, 2, 4},
                        {batch, x.shape[1] * Size(block * block), rows, columns}));
  }
  const auto channels = x.shape[1].divided_by(block * block);
  if (!channels) fail("blocks of %lld of %s", static_cast<long long>(block), text(x.shape).c_str());
  const Sizes shape = {batch, *channels, height * Size(block), width * Size(block)};
  if (n.text("mode", "DCR") == "CRD")
    return n.set(blocks(l, x, {batch, *channels, block, block, height, width}, {0, 1, 4, 2, 5, 3}, shape));
  n.set(blocks(l, x, {batch, block, block, *channels, height, width}, {0, 3, 4, 1, 5, 2}, shape));
}

// x / (bias + alpha / size * (squares of the channels around it))^beta: averages along the channels.
void lower_lrn(Lowering& l, const Node& n) {
  const Value& x = n.in(0);
  const int64_t size = n.integer("size", 0);
  if (x.rank() < 2 || size < 1 || size > 65536) fail("over %lld channels", static_cast<long long>(size));
  Perm perm = identity(x.rank());
  for (int i = 2; i < x.rank(); ++i) perm[size_t(i)] = i - 1;
  perm[1] = x.rank() - 1;
  const Value s = l.stored_in(x, perm), square = l.unary(format::UnaryKind::square, s);
  const Size channels = s.shape.back(), places = product(Sizes(s.shape.begin(), s.shape.end() - 1));
  format::WindowAttrsT window;
  window.kernel = {1, uint32_t(size)}, window.pad = {0, uint32_t((size - 1) / 2), 0, uint32_t(size / 2)};
  window.pool = format::PoolKind::average, window.count_padding = true;
  const Value flat = l.reshape(square, {places, 1, channels, 1});
  const Value mean = l.reshape(l.emit("pool", {flat}, flat.shape, window), s.shape);
  const Value base =
      l.binary(format::BinaryKind::add, l.unary(format::UnaryKind::scale, mean, float(n.real("alpha", 1e-4))),
               Lowering::scalar(float(n.real("bias", 1))));
  const Value under =
      l.arithmetic(format::ArithmeticKind::pow, base, Lowering::scalar(float(n.real("beta", 0.75))), Elem::kFloat);
  n.set(l.labelled(l.binary(format::BinaryKind::div, s, under), perm));
}

}  // namespace runnel::convert
