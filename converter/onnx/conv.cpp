// Windows over images: convolutions and pools. Inside, an image is [batch, height, width, channels]; one with a single
// axis of places has height 1.
#include <algorithm>
#include <numeric>

#include "converter/onnx/lowering.h"

namespace runnel::convert {
namespace {

struct Image {
  Value value;  // [batch, height, width, channels] as the program has it
  bool is_line;
};

Image image_of(Lowering& l, const Value& v) {
  if (v.rank() != 3 && v.rank() != 4) fail("of %d axes; lines, images and volumes are supported", v.rank());
  if (v.rank() == 4) return {l.stored_in(v, {0, 3, 1, 2}), false};
  const Value s = l.stored_in(v, {0, 2, 1});
  return {l.reshape(s, {s.shape[0], 1, s.shape[1], s.shape[2]}), true};
}

Value from_image(Lowering& l, const Value& v, bool is_line) {
  if (!is_line) return l.labelled(v, {0, 3, 1, 2});
  return l.labelled(l.reshape(v, {v.shape[0], v.shape[2], v.shape[3]}), {0, 2, 1});
}

// Two numbers of an attribute, of which a line has one.
std::vector<uint32_t> pair_of(const Node& n, const char* name, bool is_line, int64_t otherwise) {
  std::vector<int64_t> list = n.integers(name);
  if (list.empty()) list.assign(is_line ? 1 : 2, otherwise);
  if (list.size() != (is_line ? 1u : 2u)) fail("attribute \"%s\" has %zu numbers", name, list.size());
  std::vector<uint32_t> out;
  if (is_line) out.push_back(name == std::string("pads") ? 0 : 1);
  for (int64_t v : list) {
    if (v < 1 || v > 65536) fail("attribute \"%s\" has the number %lld", name, static_cast<long long>(v));
    out.push_back(uint32_t(v));
  }
  return out;
}

// Fills in the attributes of a window; gives height and width of the result.
Sizes window(const Node& n, const Image& image, std::vector<uint32_t> kernel, format::WindowAttrsT* attrs) {
  attrs->kernel = std::move(kernel);
  attrs->stride = pair_of(n, "strides", image.is_line, 1);
  attrs->dilation = pair_of(n, "dilations", image.is_line, 1);
  std::vector<int64_t> pads = n.integers("pads");
  const size_t axes = image.is_line ? 1 : 2;
  if (pads.empty()) pads.assign(axes * 2, 0);
  if (pads.size() != axes * 2) fail("%zu pads", pads.size());
  const std::string automatic = n.text("auto_pad", "NOTSET");
  Sizes sizes;
  attrs->pad.assign(4, 0);
  for (size_t i = 0; i < 2; ++i) {
    const Size& size = image.value.shape[1 + i];
    const int64_t reach = int64_t(attrs->kernel[i] - 1) * attrs->dilation[i] + 1, stride = attrs->stride[i];
    int64_t before = 0, behind = 0;
    if (automatic == "SAME_UPPER" || automatic == "SAME_LOWER") {
      if (!size.is_constant() && stride != 1) fail("%s of an axis of the call", automatic.c_str());
      const int64_t all =
          size.is_constant()
              ? std::max<int64_t>(((size.constant() + stride - 1) / stride - 1) * stride + reach - size.constant(), 0)
              : reach - 1;
      before = automatic == "SAME_UPPER" ? all / 2 : all - all / 2;
      behind = all - before;
    } else if (!image.is_line || i == 1) {
      const size_t at = image.is_line ? 0 : i;
      before = pads[at], behind = pads[at + axes];
    }
    if (before < 0 || behind < 0 || before > 65536 || behind > 65536)
      fail("pads of %lld and %lld", static_cast<long long>(before), static_cast<long long>(behind));
    attrs->pad[i] = uint32_t(before), attrs->pad[i + 2] = uint32_t(behind);
    Size rest = size + Size(before + behind - reach);
    if (n.integer("ceil_mode", 0)) {
      // A window that begins in the padding behind is left out.
      Size count = rest.ceildiv(stride) + 1;
      if (count.is_constant() && size.is_constant() && (count.constant() - 1) * stride >= size.constant() + before)
        count = count - 1;
      else if (!count.is_constant() && !(count == rest.floordiv(stride) + 1)) fail("ceil_mode of an axis of the call");
      sizes.push_back(count);
      // The operator has to know how far the windows reach.
      if (count.is_constant() && size.is_constant()) {
        const int64_t wanted = (count.constant() - 1) * stride + reach - size.constant() - before;
        if (wanted > behind && n.integer("count_include_pad", 0)) fail("ceil_mode with count_include_pad");
        attrs->pad[i + 2] = uint32_t(std::max(wanted, behind));
      }
      continue;
    }
    if (rest.is_constant() && rest.constant() < 0)
      fail("a window of %lld over an axis of %s", static_cast<long long>(reach), size.text().c_str());
    sizes.push_back(rest.floordiv(stride) + 1);
  }
  return sizes;
}

// Weights [out, in / groups, height, width] as rows [height, width, in / groups].
std::vector<float> turned(const std::vector<float>& w, int64_t out, int64_t in, int64_t places,
                          const std::vector<float>& factor) {
  std::vector<float> to(w.size());
  size_t at = 0;
  for (int64_t o = 0; o < out; ++o)
    for (int64_t p = 0; p < places; ++p)
      for (int64_t i = 0; i < in; ++i)
        to[at++] = w[size_t((o * in + i) * places + p)] * (factor.empty() ? 1 : factor[size_t(o)]);
  return to;
}

// A batch norm that alone reads the convolution goes into its weights.
const OnnxNode* fold_norm(Lowering& l, const Node& n, size_t out, std::vector<float>* factor,
                          std::vector<float>* bias) {
  const OnnxNode* norm = l.only_reader(n.raw().outputs[0], "BatchNormalization");
  if (!norm || norm->inputs.size() < 5) return nullptr;
  const Node b(l, *norm, n.opset());
  if (b.integer("training_mode", 0)) return nullptr;
  for (size_t i = 1; i < 5; ++i)
    if (const Value* v = l.find(norm->inputs[i]); !v || !v->is_constant() || l.numbers(*v).size() != out)
      return nullptr;
  const BatchNorm given = batch_norm_of(b);
  if (bias->empty()) bias->assign(out, 0);
  factor->assign(given.factor.begin(), given.factor.end());
  for (size_t i = 0; i < out; ++i) (*bias)[i] = float(double((*bias)[i]) * given.factor[i] + given.shift[i]);
  l.take_over(norm);
  return norm;
}

// A row of numbers, one a channel, that alone is added to the convolution goes into its bias. last: the node that made
// the sum's other part.
const OnnxNode* fold_sum(Lowering& l, const OnnxNode& last, int rank, size_t out, std::vector<float>* bias) {
  const OnnxNode* sum = l.only_reader(last.outputs[0], "Add");
  if (!sum || sum->inputs.size() != 2 || sum->inputs[0] == sum->inputs[1]) return nullptr;
  const Value* v = l.ahead(sum->inputs[sum->inputs[0] == last.outputs[0]]);
  if (!v || !v->is_constant() || v->elem != Elem::kFloat || v->rank() > rank) return nullptr;
  const std::vector<float>& row = l.numbers(*v);
  const int channels = v->rank() - (rank - 1);  // that axis of it
  if (row.size() != 1 && (row.size() != out || channels < 0 || !v->shape[size_t(channels)].is(int64_t(out))))
    return nullptr;
  if (bias->empty()) bias->assign(out, 0);
  for (size_t i = 0; i < out; ++i) (*bias)[i] += row[row.size() == 1 ? 0 : i];
  l.take_over(sum);
  return sum;
}

}  // namespace

format::WindowAttrsT* open_convolution(Lowering& l, const std::string& value, size_t readers) {
  const Value* v = l.find(value);
  format::OpT* op = v && l.has_readers(value, readers) ? l.maker(*v) : nullptr;
  if (!op || op->name != "conv") return nullptr;
  format::WindowAttrsT* attrs = op->attrs.AsWindowAttrs();
  return attrs->activation == format::UnaryKind::none && attrs->least == -INFINITY && attrs->most == INFINITY ? attrs
                                                                                                              : nullptr;
}

Value activated(Lowering& l, format::UnaryKind kind, const std::string& value, size_t readers) {
  if (auto* conv = open_convolution(l, value, readers)) {
    conv->activation = kind;
    return *l.find(value);
  }
  return l.unary(kind, *l.find(value));
}

void lower_conv(Lowering& l, const Node& n) {
  if (n.in(0).rank() == 5) return lower_conv_of_volume(l, n);
  const Image image = image_of(l, n.in(0));
  const Value& w = n.in(1);
  if (!w.is_constant()) fail("weights that the graph computes");
  const std::vector<int64_t> dims = l.known_shape(w, "the weights");
  if (dims.size() != (image.is_line ? 3u : 4u)) fail("weights of %zu axes", dims.size());
  const Size channels = image.value.shape[3];
  const int64_t out = dims[0], in = dims[1], groups = n.integer("group", 1);
  if (groups < 1 || groups > out || in < 1 || !channels.is(in * groups) || out % groups)
    fail("weights %s, %lld groups, and %s channels", text(w.shape).c_str(), static_cast<long long>(groups),
         channels.text().c_str());
  std::vector<uint32_t> kernel = {1};
  if (!image.is_line) kernel.clear();
  for (size_t i = 2; i < dims.size(); ++i) {
    if (dims[i] < 1 || dims[i] > 65536) fail("weights %s", text(w.shape).c_str());
    kernel.push_back(uint32_t(dims[i]));
  }
  format::WindowAttrsT attrs;
  const int64_t places = int64_t(kernel[0]) * kernel[1];
  const Sizes sizes = window(n, image, kernel, &attrs);
  attrs.groups = uint32_t(groups);
  std::vector<float> bias, factor;
  if (n.has(2)) bias = n.known_floats(2, "bias");
  if (!bias.empty() && int64_t(bias.size()) != out) fail("a bias of %zu", bias.size());
  const OnnxNode* norm = fold_norm(l, n, size_t(out), &factor, &bias);
  const OnnxNode* sum = fold_sum(l, norm ? *norm : n.raw(), int(dims.size()), size_t(out), &bias);
  Value weights;
  if (in == 1 && out == groups) {  // one filter a channel: [places, channels]
    const std::vector<float> rows = turned(l.numbers(w), out, 1, places, factor);
    std::vector<float> columns(rows.size());
    for (int64_t o = 0; o < out; ++o)
      for (int64_t p = 0; p < places; ++p) columns[size_t(p * out + o)] = rows[size_t(o * places + p)];
    weights = Lowering::floats(std::move(columns), {places, out});
  } else if (places == 1 && factor.empty()) {
    weights = Lowering::packed(l.matrix(w, out, in, in, 1, true));
  } else {
    weights = Lowering::packed(l.matrix(turned(l.numbers(w), out, in, places, factor), out, places * in, true));
  }
  std::vector<Value> list = {image.value, weights};
  if (!bias.empty()) list.push_back(Lowering::floats(std::move(bias), {out}));
  const Value y =
      from_image(l, l.emit("conv", list, {image.value.shape[0], sizes[0], sizes[1], out}, attrs), image.is_line);
  if (norm) l.define(norm->outputs[0], y);
  if (sum) l.define(sum->outputs[0], y);
  n.set(y);
}

namespace {

// One axis of a transposed convolution. Place f of its full result takes weight k of value i where f = i stride + k
// dilation: results whose f leaves the same rest share their weights, so that a plain window of `taps` values makes
// `stride` results side by side.
struct Spread {
  int64_t kernel, stride, dilation, taps;
  int64_t before, behind;  // padding of that window
  int64_t cut;             // results before the first that is wanted
  Size windows, size;

  // The weight that tap `tap` gives to results of rest `rest`; below 0: none.
  int64_t weight(int64_t tap, int64_t rest) const {
    const int64_t at = (taps - 1 - tap) * stride + rest;
    return at % dilation == 0 && at / dilation < kernel ? at / dilation : -1;
  }
};

Spread spread_of(const Node& n, const Image& image, size_t i, int64_t kernel) {
  Spread out{kernel, 1, 1, 1, 0, 0, 0, 0, 0};
  const size_t axes = image.is_line ? 1 : 2;
  int64_t begin = 0, end = 0, more = 0;
  const Size& size = image.value.shape[1 + i];
  out.stride = pair_of(n, "strides", image.is_line, 1)[i], out.dilation = pair_of(n, "dilations", image.is_line, 1)[i];
  const int64_t reach = (kernel - 1) * out.dilation + 1;
  if (!image.is_line || i == 1) {
    const size_t at = image.is_line ? 0 : i;
    const auto list = [&](const char* name, size_t count) {
      std::vector<int64_t> given = n.integers(name);
      if (given.empty()) given.assign(count, 0);
      if (given.size() != count) fail("attribute \"%s\" has %zu numbers", name, given.size());
      return given;
    };
    more = list("output_padding", axes)[at];
    begin = list("pads", 2 * axes)[at], end = list("pads", 2 * axes)[at + axes];
    const std::string automatic = n.text("auto_pad", "NOTSET");
    const bool is_same = automatic == "SAME_UPPER" || automatic == "SAME_LOWER";
    if (is_same || n.has_attribute("output_shape")) {
      const Size full = (size - 1) * Size(out.stride) + Size(more + reach);
      const Size all =
          full - (n.has_attribute("output_shape") ? Size(list("output_shape", axes)[at]) : size * Size(out.stride));
      if (!all.is_constant() || all.constant() < 0) fail("padding of %s", all.text().c_str());
      begin = automatic == "SAME_UPPER" ? all.constant() / 2 : all.constant() - all.constant() / 2;
      end = all.constant() - begin;
    }
  }
  out.size = (size - 1) * Size(out.stride) + Size(more + reach - begin - end);
  out.taps = (reach - 1) / out.stride + 1;
  const int64_t first = begin / out.stride;
  const Size behind = (out.size + Size(begin - 1)).floordiv(out.stride) + 1 - size;
  out.before = out.taps - 1 - first, out.cut = begin - first * out.stride;
  if (begin < 0 || more < 0 || out.before < 0 || !behind.is_constant())
    fail("padding from %lld to %lld", static_cast<long long>(begin), static_cast<long long>(end));
  out.behind = std::max<int64_t>(behind.constant(), 0);
  out.windows = size + Size(out.before + out.behind - out.taps + 1);
  return out;
}

// Rows [groups, rest down, rest right, out] of [tap down, tap right, in]; given: [groups, in, out, kernel].
std::vector<float> spread_weights(const std::vector<float>& w, const Spread* s, int64_t groups, int64_t in,
                                  int64_t out) {
  std::vector<float> rows;
  for (int64_t g = 0; g < groups; ++g)
    for (int64_t rest = 0; rest < s[0].stride * s[1].stride; ++rest)
      for (int64_t o = 0; o < out; ++o)
        for (int64_t tap = 0; tap < s[0].taps * s[1].taps; ++tap) {
          const int64_t down = s[0].weight(tap / s[1].taps, rest / s[1].stride),
                        right = s[1].weight(tap % s[1].taps, rest % s[1].stride);
          for (int64_t i = 0; i < in; ++i)
            rows.push_back(down < 0 || right < 0
                               ? 0
                               : w[size_t((((g * in + i) * out + o) * s[0].kernel + down) * s[1].kernel + right)]);
        }
  return rows;
}

}  // namespace

void lower_conv_transpose(Lowering& l, const Node& n) {
  const Image image = image_of(l, n.in(0));
  const std::vector<int64_t> dims = l.known_shape(n.in(1), "the weights");
  const int64_t groups = n.integer("group", 1);
  if (dims.size() != (image.is_line ? 3u : 4u) || groups < 1 || dims[0] % groups || dims[0] < 1 || dims[1] < 1 ||
      !image.value.shape[3].is(dims[0]) || dims[2] < 1 || dims.back() < 1)
    fail("weights %s in %lld groups of %s", text(n.in(1).shape).c_str(), static_cast<long long>(groups),
         text(n.in(0).shape).c_str());
  const Spread s[2] = {spread_of(n, image, 0, image.is_line ? 1 : dims[2]), spread_of(n, image, 1, dims.back())};
  const int64_t in = dims[0] / groups, each = dims[1], rests = s[0].stride * s[1].stride, out = groups * each * rests,
                taps = s[0].taps * s[1].taps;
  format::WindowAttrsT attrs;
  attrs.kernel = {uint32_t(s[0].taps), uint32_t(s[1].taps)};
  attrs.pad = {uint32_t(s[0].before), uint32_t(s[1].before), uint32_t(s[0].behind), uint32_t(s[1].behind)};
  attrs.groups = uint32_t(groups);
  const std::vector<float> rows = spread_weights(n.known_floats(1, "the weights"), s, groups, in, each);
  std::vector<Value> list = {image.value, Lowering::packed(l.matrix(rows, out, taps * in, true))};
  if (n.has(2)) {
    const std::vector<float>& given = n.known_floats(2, "bias");
    if (int64_t(given.size()) != groups * each) fail("a bias of %zu", given.size());
    std::vector<float> bias;
    for (int64_t o = 0; o < out; ++o) bias.push_back(given[size_t(o / (rests * each) * each + o % each)]);
    list.push_back(Lowering::floats(std::move(bias), {out}));
  }
  const Size batch = image.value.shape[0];
  Value y = l.emit("conv", list, {batch, s[0].windows, s[1].windows, out}, attrs);
  const Size height = s[0].windows * Size(s[0].stride), width = s[1].windows * Size(s[1].stride);
  if (rests > 1) {
    y = l.reshape(y, {batch * s[0].windows, s[1].windows, groups, s[0].stride, s[1].stride, each});
    y = l.reshape(l.plain(l.transpose(y, {0, 3, 1, 4, 2, 5})), {batch, height, width, groups * each});
  }
  for (uint8_t i = 0; i < 2; ++i) {
    if (s[i].cut == 0 && s[i].size == y.shape[size_t(1 + i)]) continue;
    format::SliceAttrsT slice;
    slice.axis = uint8_t(1 + i), slice.begin = s[i].cut;
    Sizes shape = y.shape;
    shape[size_t(1 + i)] = s[i].size;
    y = l.emit("slice", {y}, shape, slice);
  }
  n.set(from_image(l, y, image.is_line));
}

namespace {

// Of windows that reach behind the padding only what lies in it counts: the padding becomes a part of the image.
void lower_padded_pool(Lowering& l, const Node& n) {
  const Value& v = n.in(0);
  const size_t axes = size_t(v.rank() - 2);
  std::vector<int64_t> pads = n.integers("pads");
  if (pads.empty()) pads.assign(2 * axes, 0);
  if (pads.size() != 2 * axes || n.text("auto_pad", "NOTSET") != "NOTSET") fail("%zu pads", pads.size());
  std::vector<int64_t> all = {0, 0};
  all.insert(all.end(), pads.begin(), pads.begin() + long(axes));
  all.insert(all.end(), {0, 0});
  all.insert(all.end(), pads.begin() + long(axes), pads.end());
  const Value wide = applied(l, n, lower_pad, "Pad", {v}, {"pads"}, 2, {{"pads", all}});
  n.set(applied(l, n, lower_pool, "AveragePool", {wide}, {"pads", "count_include_pad"}, n.opset()));
}

}  // namespace

// (sum |x|^p)^(1 / p)
void lower_lp_pool(Lowering& l, const Node& n) {
  const Value& v = n.in(0);
  const std::vector<int64_t> kernel = n.integers("kernel_shape");
  const double p = double(n.integer("p", 2)),
               places = std::accumulate(kernel.begin(), kernel.end(), 1.0,
                                        [](double a, int64_t b) { return a * double(b); });
  if (v.rank() < 3 || kernel.size() != size_t(v.rank() - 2) || p < 1 || n.integer("ceil_mode", 0))
    fail("of order %g over %s", p, text(v.shape).c_str());
  const auto power = [&](const Value& x, double e) {
    if (e == 1) return x;
    if (e == 2) return l.unary(format::UnaryKind::square, x);
    if (e == 0.5) return l.unary(format::UnaryKind::sqrt, x);
    return l.arithmetic(format::ArithmeticKind::pow, x, Lowering::scalar(float(e)), Elem::kFloat);
  };
  const Value all = power(p == 2 ? v : l.unary(format::UnaryKind::abs, v), p);
  const Value mean = applied(l, n, lower_pool, "AveragePool", {all}, {"p"}, n.opset(), {}, {{"count_include_pad", 1}});
  n.set(power(l.unary(format::UnaryKind::scale, mean, float(places)), 1 / p));
}

void lower_pool(Lowering& l, const Node& n) {
  const Value& v = n.in(0);
  if (n.wants(1)) fail("indices of the largest are wanted");
  if (v.rank() == 5) return lower_pool_of_volume(l, n);
  if (n.integer("ceil_mode", 0) && n.integer("count_include_pad", 0)) return lower_padded_pool(l, n);
  const Image image = image_of(l, v);
  format::WindowAttrsT attrs;
  attrs.pool = n.op() == "MaxPool" ? format::PoolKind::max : format::PoolKind::average;
  attrs.count_padding = n.integer("count_include_pad", 0) != 0;
  if (!n.has_attribute("kernel_shape")) fail("attribute \"kernel_shape\" is missing");
  const Sizes sizes = window(n, image, pair_of(n, "kernel_shape", image.is_line, 1), &attrs);
  n.set(from_image(
      l, l.emit("pool", {image.value}, {image.value.shape[0], sizes[0], sizes[1], image.value.shape[3]}, attrs),
      image.is_line));
}

}  // namespace runnel::convert
