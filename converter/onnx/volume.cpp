// Windows over [batch, channels, depth, height, width]: of the planes that a window meets in depth, one behind the
// other, the rest is a window over images.
#include <algorithm>
#include <cmath>

#include "converter/onnx/lowering.h"

namespace runnel::convert {
namespace {

const Perm kStored = {0, 4, 1, 2, 3};  // batch, depth, height, width, channels in the program

struct Depth {
  int64_t kernel, stride, dilation, before, behind;
  Size count;  // of windows
};

// The numbers of an attribute along the depth, and those of height and width.
std::vector<int64_t> numbers_of(const Node& n, const char* name, size_t axes, int64_t otherwise) {
  std::vector<int64_t> list = n.integers(name);
  if (list.empty()) list.assign(axes, otherwise);
  if (list.size() != axes) fail("attribute \"%s\" has %zu numbers", name, list.size());
  return list;
}

Depth depth_of(const Node& n, const Size& size, int64_t kernel) {
  const std::vector<int64_t> pads = numbers_of(n, "pads", 6, 0);
  Depth d{kernel, numbers_of(n, "strides", 3, 1)[0], numbers_of(n, "dilations", 3, 1)[0], pads[0], pads[3], {}};
  if (d.kernel < 1 || d.stride < 1 || d.dilation < 1 || std::max({d.kernel, d.stride, d.dilation}) > 65536)
    fail("a window of %lld, strides of %lld and dilations of %lld along the depth", static_cast<long long>(d.kernel),
         static_cast<long long>(d.stride), static_cast<long long>(d.dilation));
  const int64_t reach = (d.kernel - 1) * d.dilation + 1;
  const std::string automatic = n.text("auto_pad", "NOTSET");
  if (automatic == "SAME_UPPER" || automatic == "SAME_LOWER") {
    if (!size.is_constant()) fail("%s of an axis of the call", automatic.c_str());
    const int64_t all =
        std::max<int64_t>(((size.constant() + d.stride - 1) / d.stride - 1) * d.stride + reach - size.constant(), 0);
    d.before = automatic == "SAME_UPPER" ? all / 2 : all - all / 2, d.behind = all - d.before;
  }
  if (std::min(d.before, d.behind) < 0 || std::max(d.before, d.behind) > 65536) fail("pads along the depth");
  const Size rest = size + Size(d.before + d.behind - reach);
  if (rest.is_constant() && rest.constant() < 0)
    fail("a window of %lld over a depth of %s", static_cast<long long>(reach), size.text().c_str());
  if (n.integer("ceil_mode", 0) && !(rest.ceildiv(d.stride) == rest.floordiv(d.stride)))
    fail("ceil_mode along the depth");
  d.count = rest.floordiv(d.stride) + 1;
  return d;
}

// The planes of each window, [batch, windows, kernel, height, width, channels].
Value planes(Lowering& l, const Value& x, const Depth& d, float padding) {
  Value s = l.stored_in(x, kStored);
  const Size batch = s.shape[0], height = s.shape[2], width = s.shape[3], channels = s.shape[4];
  if (d.before || d.behind) {
    format::PadAttrsT pad;
    pad.begin = {0, int32_t(d.before), 0, 0, 0}, pad.value = padding;
    Sizes shape = s.shape;
    shape[1] = shape[1] + Size(d.before + d.behind);
    s = l.emit("pad", {s}, shape, pad);
  }
  const Sizes wanted = {batch, d.count, d.kernel, height, width, channels};
  // Windows side by side are the planes in their order.
  if (d.kernel == d.stride && d.dilation == 1) return l.reshape(piece(l, s, 1, 0, d.count * Size(d.kernel)), wanted);
  const Value first = l.reshape(counted(l, 0, d.count, d.stride), {d.count, 1}),
              tap = l.reshape(counted(l, 0, d.kernel, d.dilation), {1, d.kernel});
  return looked_up(l, s, 1, l.arithmetic(format::ArithmeticKind::add, first, tap, Elem::kInt));
}

// The attributes of the window over images.
Integers of_image(const Node& n, const std::vector<int64_t>& kernel) {
  const std::vector<int64_t> strides = numbers_of(n, "strides", 3, 1), dilations = numbers_of(n, "dilations", 3, 1),
                             pads = numbers_of(n, "pads", 6, 0);
  Integers out = {{"kernel_shape", {kernel[1], kernel[2]}},
                  {"strides", {strides[1], strides[2]}},
                  {"dilations", {dilations[1], dilations[2]}}};
  if (n.text("auto_pad", "NOTSET") == "NOTSET") out["pads"] = {pads[1], pads[2], pads[4], pads[5]};
  return out;
}

// An image for each window back to volumes.
Value volumes(Lowering& l, const Value& image, const Size& batch, const Size& count) {
  const Value s = l.stored_in(image, {0, 3, 1, 2});
  return l.labelled(l.reshape(s, {batch, count, s.shape[1], s.shape[2], s.shape[3]}), kStored);
}

const std::set<std::string> kOwn = {"kernel_shape", "strides", "dilations", "pads"};

}  // namespace

void lower_conv_of_volume(Lowering& l, const Node& n) {
  const Value &x = n.in(0), &w = n.in(1);
  if (!w.is_constant()) fail("weights that the graph computes");
  const std::vector<int64_t> dims = l.known_shape(w, "the weights");
  const int64_t groups = n.integer("group", 1);
  if (dims.size() != 5 || groups < 1 || dims[1] < 1 || !x.shape[1].is(dims[1] * groups) ||
      *std::min_element(dims.begin(), dims.end()) < 1)
    fail("weights %s, %lld groups, and %s", text(w.shape).c_str(), static_cast<long long>(groups),
         text(x.shape).c_str());
  const Depth d = depth_of(n, x.shape[2], dims[2]);
  const Size batch = x.shape[0], height = x.shape[3], width = x.shape[4], images = batch * d.count;
  // Channels of an image: of each group the planes, of each plane the channels.
  Value s = l.reshape(planes(l, x, d, 0), {images, d.kernel, height, width, groups, dims[1]});
  s = l.reshape(l.plain(l.transpose(s, {0, 2, 3, 4, 1, 5})), {images, height, width, groups * d.kernel * dims[1]});
  const Value rows = l.reshape(l.transpose(w, {0, 2, 1, 3, 4}), {dims[0], dims[2] * dims[1], dims[3], dims[4]});
  const Value y = applied(l, n, lower_conv, "Conv", {l.labelled(s, {0, 3, 1, 2}), rows, n.has(2) ? n.in(2) : Value()},
                          kOwn, n.opset(), of_image(n, {dims[2], dims[3], dims[4]}));
  n.set(volumes(l, y, batch, d.count));
}

void lower_pool_of_volume(Lowering& l, const Node& n) {
  const Value& x = n.in(0);
  if (!n.has_attribute("kernel_shape")) fail("attribute \"kernel_shape\" is missing");
  const std::vector<int64_t> kernel = numbers_of(n, "kernel_shape", 3, 1);
  const Depth d = depth_of(n, x.shape[2], kernel[0]);
  const bool is_max = n.op() == "MaxPool", counts_padding = n.integer("count_include_pad", 0) != 0;
  const Size batch = x.shape[0], height = x.shape[3], width = x.shape[4], channels = x.shape[1];
  const Value s =
      l.reshape(planes(l, x, d, is_max ? -INFINITY : 0.0f), {batch * d.count, d.kernel, height, width, channels});
  format::ReduceAttrsT over;
  over.kind = is_max ? format::ReduceKind::max : format::ReduceKind::mean, over.axis = 1;
  Value plane = l.emit("reduce", {s}, {batch * d.count, height, width, channels}, over);
  if (!is_max && !counts_padding && (d.before || d.behind)) {
    // Windows that reach into the padding have fewer planes.
    if (!d.count.is_constant() || !x.shape[2].is_constant()) fail("pads of a depth that the call gives");
    std::vector<float> factors;
    for (int64_t i = 0; i < d.count.constant(); ++i) {
      int64_t inside = 0;
      for (int64_t k = 0; k < d.kernel; ++k) {
        const int64_t at = i * d.stride - d.before + k * d.dilation;
        inside += at >= 0 && at < x.shape[2].constant();
      }
      if (inside == 0) fail("a window lies in the padding alone");
      factors.push_back(float(double(d.kernel) / double(inside)));
    }
    plane = l.reshape(plane, {batch, d.count, height, width, channels});
    plane = l.binary(format::BinaryKind::mul, plane, Lowering::floats(std::move(factors), {d.count, 1, 1, 1}));
    plane = l.reshape(plane, {batch * d.count, height, width, channels});
  }
  const Value y = applied(l, n, lower_pool, is_max ? "MaxPool" : "AveragePool", {l.labelled(plane, {0, 3, 1, 2})}, kOwn,
                          n.opset(), of_image(n, kernel));
  n.set(volumes(l, y, batch, d.count));
}

}  // namespace runnel::convert
