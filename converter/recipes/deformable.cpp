#include "converter/recipes/deformable.h"

#include <functional>

namespace runnel::convert {
namespace {

using format::ArithmeticKind;
using format::BinaryKind;
using format::DType;
using format::UnaryKind;

Var arithmetic(VisionNet& net, ArithmeticKind kind, const Var& x, const Var& y, DType dtype) {
  format::ArithmeticAttrsT attrs;
  attrs.kind = kind;
  const Var out = net.make("arithmetic", x.axis, x.dims, false, dtype);
  net.graph().op("arithmetic", {x.name, y.name}, {out.name}, attrs);
  return out;
}

Var cast(VisionNet& net, const Var& x, DType dtype) {
  const Var out = net.make("cast", x.axis, x.dims, false, dtype);
  net.graph().op("cast", {x.name}, {out.name});
  return out;
}

// ids of rows of each image as ids of rows of all images, each of which has n.
Var of_batch(VisionNet& net, const Var& ids, int64_t n) {
  format::IndexAttrsT begins;
  begins.step = float(n);
  const Var first = net.make("index", ids.axis, {}, false, DType::i32);
  net.graph().op("index", {}, {first.name}, begins);
  const std::vector<int64_t> ones(ids.dims.size(), 1);
  const Var each = net.make("reshape", ids.axis, ones, false, DType::i32);
  net.graph().op("reshape", {first.name}, {each.name});
  return arithmetic(net, ArithmeticKind::add, ids, each, DType::i32);
}

Var gathered(VisionNet& net, const Var& rows, const Var& ids) {
  std::vector<int64_t> dims = ids.dims;
  dims.push_back(rows.dims.back());
  return net.op("gather", {rows.name, ids.name}, ids.axis, dims, {}, format::GatherAttrsT());
}

// Numbers [all points] of each level, once for each of its points.
std::vector<float> by_point(const Deformable& d, const std::function<double(size_t level)>& number) {
  std::vector<float> all;
  for (size_t i = 0; i < d.levels.size(); ++i) all.insert(all.end(), size_t(d.points[i]), float(number(i)));
  return all;
}

// Whole places along one axis around each place, and how much each weighs.
struct Corners {
  Var place, weight;  // [q, heads, corners, points]
};

Corners corners(VisionNet& net, const Deformable& d, const Var& part, bool is_down) {
  const std::string axis = is_down ? "/deformable.rows" : "/deformable.columns";
  const auto size = [&](size_t i) { return double(is_down ? d.levels[i].rows : d.levels[i].columns); };
  const int64_t points = part.dims.back();
  const Var at = net.times_numbers(part, axis, by_point(d, size), {points});
  const auto clipped = [&](const Var& x) {
    const std::string last = net.constant(axis + ".last", by_point(d, [&](size_t i) { return size(i) - 1; }), {points});
    return net.binary(BinaryKind::min, net.unary(UnaryKind::relu, x), last);
  };
  if (d.is_nearest) return {clipped(net.unary(UnaryKind::floor, net.plus_numbers(at, "/half", {0.5f}, {1}))), {}};
  const Var middle = net.plus_numbers(at, "/minus_half", {-0.5f}, {1});
  const std::vector<float> steps = is_down ? std::vector<float>{0, 0, 1, 1} : std::vector<float>{0, 1, 0, 1};
  const std::string corner = net.constant(axis + ".corners", steps, {4, 1});
  std::vector<int64_t> dims = middle.dims;
  dims[2] = 4;
  format::BinaryAttrsT sum;
  const Var whole = net.op("binary", {net.unary(UnaryKind::floor, middle).name, corner}, middle.axis, dims, {}, sum);
  // As near as it is, and nothing where it is outside.
  const Var distance = net.unary(UnaryKind::abs, net.binary(BinaryKind::sub, whole, middle));
  const Var nearness = net.plus_numbers(net.unary(UnaryKind::neg, distance), "/one", {1}, {1});
  const Var place = clipped(whole);
  const Var inside = cast(net, arithmetic(net, ArithmeticKind::equal, place, whole, DType::i32), DType::f32);
  return {place, net.mul(net.unary(UnaryKind::relu, nearness), inside)};
}

}  // namespace

Var rows_by_id(VisionNet& net, const Var& x, const Var& ids) {
  const int64_t n = x.dims[0];
  return gathered(net, net.shaped(x, x.axis + "*" + std::to_string(n), {x.dims[1]}), of_batch(net, ids, n));
}

Var relu_layers(VisionNet& net, const std::string& name, int64_t count, Var x) {
  for (int64_t i = 0; i < count; ++i) {
    x = net.linear(x, name + ".layers." + std::to_string(i));
    if (i + 1 < count) x = net.unary(UnaryKind::relu, x);
  }
  return x;
}

Var deformable_attention(VisionNet& net, const Deformable& d, const std::string& prefix, const Var& queries,
                         const Var& memory, const Var& boxes) {
  const int64_t q = queries.dims[0], heads = d.heads, tokens = memory.dims[0], width = memory.dims[1] / heads;
  int64_t points = 0;
  for (int64_t n : d.points) points += n;
  const Var offsets = net.reshape(net.linear(queries, prefix + "sampling_offsets"), {q, heads, points, 2});
  const Var scores = net.reshape(net.linear(queries, prefix + "attention_weights"), {q, heads, points});
  const Var weights = net.op("softmax", {scores.name}, scores.axis, scores.dims, {}, format::SoftmaxAttrsT());
  const auto of_box = [&](int64_t i) { return net.reshape(net.slice(boxes, 2, i, 2), {q, 1, 1, 2}); };
  const Var steps = net.times_numbers(
      offsets, "/deformable.reach", by_point(d, [&](size_t i) { return d.reach / double(d.points[i]); }), {points, 1});
  const Var places = net.add(net.mul(steps, of_box(2)), of_box(0));
  const auto along = [&](int64_t i) {
    return corners(net, d, net.reshape(net.slice(places, 4, i, 1), {q, heads, 1, points}), i == 1);
  };
  const Corners across = along(0), down = along(1);
  // Rows of the values lie as image, token, head.
  const auto begin = [&](size_t level) {
    int64_t n = 0;
    for (size_t i = 0; i < level; ++i) n += d.levels[i].rows * d.levels[i].columns;
    return double(n);
  };
  constexpr int64_t kMostExact = 1 << 24;
  if (tokens * heads > kMostExact) fail("%s: too many tokens for deformable attention", net.checkpoint().path.c_str());
  const auto columns = [&](size_t i) { return double(d.levels[i].columns); };
  Var id = net.times_numbers(down.place, "/deformable.columns", by_point(d, columns), {points});
  id = net.plus_numbers(net.add(id, across.place), "/deformable.begins", by_point(d, begin), {points});
  std::vector<float> head_ids;
  for (int64_t i = 0; i < heads; ++i) head_ids.push_back(float(i));
  id = net.plus_numbers(net.scale(id, double(heads)), "/deformable.heads", head_ids, {heads, 1, 1});
  const int64_t looks = id.dims[2] * points;
  const Var ids = of_batch(net, cast(net, net.reshape(id, {q, heads, looks}), DType::i32), tokens * heads);
  const Var rows = net.shaped(memory, memory.axis + "*" + std::to_string(tokens * heads), {width});
  Var share = net.reshape(weights, {q, heads, 1, points});
  if (!d.is_nearest) share = net.mul(net.mul(across.weight, down.weight), share);
  share = net.reshape(share, {q, heads, 1, looks});
  const Var y = net.op("batch_matmul", {share.name, gathered(net, rows, ids).name}, share.axis, {q, heads, 1, width},
                       {}, format::BatchMatmulAttrsT());
  return net.reshape(y, {q, heads * width});
}

}  // namespace runnel::convert
