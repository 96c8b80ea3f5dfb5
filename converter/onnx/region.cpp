// What detectors read of an image: regions (RoiAlign), windows with moved places (DeformConv), and the boxes that are
// left of those that say the same (NonMaxSuppression).
#include "converter/onnx/sampling.h"

namespace runnel::convert {
namespace {

using format::BinaryKind;
using format::MathKind;
using format::ReduceKind;
using format::UnaryKind;

constexpr int64_t kMostPlaces = 4096, kMostNumbers = 1 << 20;

// An attribute of at most 65536.
int64_t small(const Node& n, const char* name, int64_t otherwise, int64_t least) {
  const int64_t v = n.integer(name, otherwise);
  if (v < least || v > 65536) fail("attribute \"%s\" is %lld", name, static_cast<long long>(v));
  return v;
}

// Two numbers of an attribute, or four.
std::vector<int64_t> numbers_of(const Node& n, const char* name, size_t count, int64_t otherwise) {
  const std::vector<int64_t> list = n.integers(name, std::vector<int64_t>(count, otherwise));
  if (list.size() != count) fail("attribute \"%s\" has %zu numbers", name, list.size());
  for (const int64_t v : list)
    if (v < otherwise || v > 65536) fail("attribute \"%s\" has the number %lld", name, static_cast<long long>(v));
  return list;
}

Value column(Lowering& l, const Value& rows, int64_t i) {
  return l.reshape(piece(l, rows, rows.rank() - 1, i, 1), Sizes(rows.shape.begin(), rows.shape.end() - 1));
}

}  // namespace

void lower_roi_align(Lowering& l, const Node& n) {
  const Value &x = n.in(0), &regions = n.in(1), &images = n.in(2);
  if (regions.rank() != 2 || !regions.shape[1].is(4) || images.rank() != 1)
    fail("regions %s of images %s", text(regions.shape).c_str(), text(images.shape).c_str());
  if (n.text("mode", "avg") != "avg") fail("mode \"%s\"", printable(n.text("mode", "avg")).c_str());
  const std::string places =
      n.text("coordinate_transformation_mode", n.opset() < 16 ? "output_half_pixel" : "half_pixel");
  if (places != "half_pixel" && places != "output_half_pixel") fail("places \"%s\"", printable(places).c_str());
  const bool is_half = places == "half_pixel";
  const int64_t sides[2] = {small(n, "output_height", 1, 1), small(n, "output_width", 1, 1)},
                samples = small(n, "sampling_ratio", 0, 0);
  if (samples == 0) fail("sampling_ratio 0: how many places are read would hang on each region's size");
  const float scale = float(n.real("spatial_scale", 1));
  const Size count = regions.shape[0];
  const Pixels pixels = pixels_of(l, x, l.reshape(images, {count, 1, 1}));

  // Places along an axis: [regions, side * samples].
  const Value corners = l.plain(regions);
  Value at[2], seen;
  for (int axis = 0; axis < 2; ++axis) {
    const int64_t steps = sides[axis] * samples;
    if (steps > kMostPlaces) fail("%lld places along an axis", static_cast<long long>(steps));
    const Value first = plus(l, times(l, column(l, corners, 1 - axis), scale), is_half ? -0.5f : 0.0f);
    const Value last = plus(l, times(l, column(l, corners, 3 - axis), scale), is_half ? -0.5f : 0.0f);
    Value length = l.binary(BinaryKind::sub, last, first);
    if (!is_half) length = l.binary(BinaryKind::max, length, Lowering::scalar(1));
    std::vector<float> parts;
    for (int64_t i = 0; i < steps; ++i) parts.push_back((float(i) + 0.5f) / float(steps));
    const Value along = l.binary(BinaryKind::mul, l.reshape(length, {count, 1}), Lowering::floats(parts, {1, steps}));
    const Value place = l.binary(BinaryKind::add, l.reshape(first, {count, 1}), along);
    at[axis] = l.reshape(place, axis == 0 ? Sizes{count, steps, 1} : Sizes{count, 1, steps});
    const float size = float(axis == 0 ? pixels.height : pixels.width);
    const Value inside = is_within(l, at[axis], -1, size);
    seen = axis == 0 ? inside : l.binary(BinaryKind::mul, seen, inside);
    at[axis] = l.math(MathKind::clip, at[axis], 0, double(size) - 1);
  }
  const Value read = weighed(l, between(l, pixels, at[0], at[1], false), seen);
  const Value apart = l.reshape(read, {count, sides[0], samples, sides[1], samples, x.shape[1]});
  const Value mean = reduced(l, ReduceKind::mean, apart, {false, false, true, false, true, false});
  n.set(l.transpose(l.reshape(mean, {count, sides[0], sides[1], x.shape[1]}), {0, 3, 1, 2}));
}

void lower_deform_conv(Lowering& l, const Node& n) {
  const Value &x = n.in(0), &w = n.in(1), &offsets = n.in(2);
  if (x.rank() != 4 || w.rank() != 4 || offsets.rank() != 4)
    fail("%s with weights %s and offsets %s", text(x.shape).c_str(), text(w.shape).c_str(),
         text(offsets.shape).c_str());
  const std::vector<int64_t> dims = l.known_shape(w, "the weights");
  const std::vector<float>& weights = n.known_floats(1, "the weights");
  if (!x.shape[1].is_constant()) fail("of %s", text(x.shape).c_str());
  const int64_t channels = x.shape[1].constant(), out = dims[0], kernel[2] = {dims[2], dims[3]},
                places = dims[2] * dims[3], groups = small(n, "group", 1, 1), moved = small(n, "offset_group", 1, 1);
  if (channels % groups || out % groups || channels / groups != dims[1] || channels % moved || places < 1 || out < 1)
    fail("weights %s in %lld groups, %lld of offsets, for %s", text(w.shape).c_str(), static_cast<long long>(groups),
         static_cast<long long>(moved), text(x.shape).c_str());
  const std::vector<int64_t> strides = numbers_of(n, "strides", 2, 1), dilations = numbers_of(n, "dilations", 2, 1),
                             pads = numbers_of(n, "pads", 4, 0);
  const Size batch = x.shape[0], height = offsets.shape[2], width = offsets.shape[3];
  if (!height.is_constant() || !width.is_constant() || !offsets.shape[1].is(moved * places * 2))
    fail("offsets %s", text(offsets.shape).c_str());
  if (places > kMostNumbers || height.constant() > kMostNumbers || width.constant() > kMostNumbers ||
      places * height.constant() * width.constant() > kMostNumbers)
    fail("more than %lld places", static_cast<long long>(kMostNumbers));
  for (int axis = 0; axis < 2; ++axis) {
    const Size& side = x.shape[size_t(2 + axis)];
    const int64_t reach = (kernel[axis] - 1) * dilations[size_t(axis)] + 1,
                  wanted =
                      (side.constant() + pads[size_t(axis)] + pads[size_t(axis + 2)] - reach) / strides[size_t(axis)] +
                      1;
    if (side.is_constant() && !offsets.shape[size_t(2 + axis)].is(wanted))
      fail("offsets %s in the place of %lld along an axis", text(offsets.shape).c_str(),
           static_cast<long long>(wanted));
  }
  const Pixels all = pixels_of(l, x, l.reshape(counted(l, 0, batch), {batch, 1, 1, 1}));
  const Value apart = l.reshape(l.plain(offsets), {batch * Size(moved), places, 2, height * width});
  const Value mask = n.has(4) ? l.reshape(l.plain(n.in(4)), {batch, moved, places, height * width}) : Value();

  // Where a window's places would stand unmoved: [1, places, height * width].
  const auto unmoved = [&](int axis) {
    std::vector<float> list;
    for (int64_t k = 0; k < places; ++k)
      for (int64_t y = 0; y < height.constant(); ++y)
        for (int64_t z = 0; z < width.constant(); ++z) {
          const int64_t at = axis == 0 ? y : z, tap = axis == 0 ? k / kernel[1] : k % kernel[1];
          list.push_back(float(at * strides[size_t(axis)] - pads[size_t(axis)] + tap * dilations[size_t(axis)]));
        }
    return Lowering::floats(std::move(list), {1, 1, places, height * width});
  };
  const auto moves = [&](int axis) {
    const Value v = l.reshape(piece(l, apart, 2, axis, 1), {batch, moved, places, height * width});
    return l.binary(BinaryKind::add, v, unmoved(axis));
  };
  const Value down = moves(0), across = moves(1);

  // [batch, places, height * width, channels], then rows of a window's channels.
  std::vector<Value> read;
  for (int64_t g = 0; g < moved; ++g) {
    Pixels pixels = all;
    pixels.rows = piece(l, all.rows, 1, g * (channels / moved), channels / moved);
    const auto of_group = [&](const Value& v) { return piece(l, v, 1, g, 1); };
    Value part = between(l, pixels, of_group(down), of_group(across), true);
    if (!mask.is_absent()) part = weighed(l, part, of_group(mask));
    read.push_back(l.reshape(part, {batch, places, height * width, channels / moved}));
  }
  const Value windows = l.transpose(joined(l, std::move(read), 3), {0, 2, 1, 3});
  const int64_t in = channels / groups, made = out / groups;
  std::vector<Value> parts;
  for (int64_t g = 0; g < groups; ++g) {
    const Value rows = l.reshape(l.plain(piece(l, windows, 3, g * in, in)), {batch, height * width, places * in});
    std::vector<float> turned;
    for (int64_t o = g * made; o < (g + 1) * made; ++o)
      for (int64_t k = 0; k < places; ++k)
        for (int64_t i = 0; i < in; ++i) turned.push_back(weights[size_t((o * in + i) * places + k)]);
    const Value matrix = Lowering::packed(l.matrix(std::move(turned), made, places * in));
    parts.push_back(l.emit("matmul", {rows, matrix}, {batch, height * width, made}));
  }
  Value y = joined(l, std::move(parts), 2);
  if (n.has(3)) y = l.binary(BinaryKind::add, y, l.reshape(n.in(3), {1, 1, out}));
  n.set(l.transpose(l.reshape(y, {batch, height, width, out}), {0, 3, 1, 2}));
}

void lower_non_max_suppression(Lowering& l, const Node& n) {
  const Value &boxes = n.in(0), &scores = n.in(1);
  if (boxes.rank() != 3 || scores.rank() != 3 || !boxes.shape[2].is(4) || !(boxes.shape[1] == scores.shape[2]) ||
      !(boxes.shape[0] == scores.shape[0]))
    fail("boxes %s with scores %s", text(boxes.shape).c_str(), text(scores.shape).c_str());
  const int64_t wanted = n.has(2) ? n.known_integer(2, "how many boxes a class are kept") : 0;
  if (wanted < 0) fail("%lld boxes a class", static_cast<long long>(wanted));
  const Size &batch = boxes.shape[0], &classes = scores.shape[1], &count = boxes.shape[1];
  const Size most = wanted > (1 << 24) ? count : count.min(wanted);
  const auto number = [&](size_t i, const Value& otherwise) {
    return n.has(i) ? l.reshape(l.cast(n.in(i), Elem::kFloat), {1}) : otherwise;
  };
  Value corners = l.plain(boxes);
  if (n.integer("center_point_box", 0)) {
    const Value middle = piece(l, corners, 2, 0, 2), half = times(l, piece(l, corners, 2, 2, 2), 0.5f);
    corners = joined(l, {l.binary(BinaryKind::sub, middle, half), l.binary(BinaryKind::add, middle, half)}, 2);
  }
  const Value limit = number(3, Lowering::floats({0}, {1})), threshold = number(4, Value());
  const Value ids = l.emit_all("select_greedy", {corners, l.plain(scores), limit, threshold},
                               {{Elem::kInt, {batch, classes, most}}, {Elem::kFloat, scores.shape}})[0];

  // What was found: image, class and box.
  using format::ArithmeticKind;
  const Value flat = l.reshape(ids, {batch * classes * most});
  const Value is_box = l.arithmetic(ArithmeticKind::at_most, Lowering::ints({0}, {}), flat, Elem::kBool);
  const Value found = places_of(l, is_box);
  const Value group = with_size(l, ArithmeticKind::div, found, most);
  const Sizes row = {found.shape[0], 1};
  n.set(joined(l,
               {l.reshape(with_size(l, ArithmeticKind::div, group, classes), row),
                l.reshape(with_size(l, ArithmeticKind::mod, group, classes), row),
                l.reshape(looked_up(l, flat, 0, found), row)},
               1));
}

}  // namespace runnel::convert
