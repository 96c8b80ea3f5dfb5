// Normalisations.
#include <algorithm>

#include "converter/onnx/lowering.h"

namespace runnel::convert {
namespace {

// [channels] as a value that meets axis 1.
Sizes channel_shape(const Value& v) {
  Sizes shape(size_t(v.rank()), Size(1));
  shape[1] = v.shape[1];
  return shape;
}

// The value with axis 1 last in the program, and that order.
Value channels_last(Lowering& l, const Value& v, Perm* perm) {
  *perm = identity(v.rank());
  for (int i = 2; i < v.rank(); ++i) (*perm)[size_t(i)] = i - 1;
  (*perm)[1] = v.rank() - 1;
  return l.stored_in(v, *perm);
}

void lower_groups(Lowering& l, const Node& n, int64_t groups, double eps) {
  const Value& x = n.in(0);
  if (x.rank() < 2 || !x.shape[1].is_constant() || groups < 1 || x.shape[1].constant() % groups)
    fail("%lld groups of %s", static_cast<long long>(groups), text(x.shape).c_str());
  const int64_t channels = x.shape[1].constant();
  std::vector<Value> more;
  for (size_t i = 1; i < 3; ++i) {
    if (!n.has(i)) continue;
    std::vector<float> list = n.known_floats(i, "scale and bias");
    if (int64_t(list.size()) == groups && groups != channels) {  // the first versions have one for each group
      std::vector<float> all;
      for (float f : list) all.insert(all.end(), size_t(channels / groups), f);
      list = std::move(all);
    }
    if (int64_t(list.size()) != channels)
      fail("%zu factors for %lld channels", list.size(), static_cast<long long>(channels));
    more.push_back(Lowering::floats(std::move(list), {channels}));
  }
  Perm perm;
  const Value s = channels_last(l, x, &perm);
  format::GroupNormAttrsT attrs;
  attrs.groups = uint32_t(groups);
  attrs.eps = float(eps);
  std::vector<Value> in = {s};
  in.insert(in.end(), more.begin(), more.end());
  n.set(l.labelled(l.emit("group_norm", in, s.shape, attrs), perm));
}

// In training mode mean and variance are those of the values: so weights are standardised.
void lower_norm_by_own_numbers(Lowering& l, const Node& n) {
  const Value& x = n.in(0);
  std::vector<bool> gone(size_t(x.rank()), true);
  gone[1] = false;
  const Sizes shape = channel_shape(x);
  const auto mean_of = [&](const Value& v) { return l.reshape(reduced(l, format::ReduceKind::mean, v, gone), shape); };
  const auto channels = [&](size_t i) { return l.reshape(n.in(i), shape); };
  const Value rest = l.binary(format::BinaryKind::sub, x, mean_of(x));
  const Value variance = l.binary(format::BinaryKind::add, mean_of(l.unary(format::UnaryKind::square, rest)),
                                  Lowering::scalar(float(n.real("epsilon", 1e-5))));
  const Value y = l.binary(format::BinaryKind::div, rest, l.unary(format::UnaryKind::sqrt, variance));
  n.set(l.binary(format::BinaryKind::add, l.binary(format::BinaryKind::mul, y, channels(1)), channels(2)));
}

}  // namespace

BatchNorm batch_norm_of(const Node& n) {
  const auto &scale = n.known_floats(1, "scale"), &bias = n.known_floats(2, "bias"), &mean = n.known_floats(3, "mean"),
             &variance = n.known_floats(4, "variance");
  if (bias.size() != scale.size() || mean.size() != scale.size() || variance.size() != scale.size())
    fail("its numbers are for different channels");
  return batch_norm(scale, bias, mean, variance, n.real("epsilon", 1e-5));
}

void lower_batch_norm(Lowering& l, const Node& n) {
  const Value& x = n.in(0);
  if (x.rank() < 2) fail("of %s", text(x.shape).c_str());
  if (n.integer("training_mode", 0)) return lower_norm_by_own_numbers(l, n);
  const BatchNorm norm = batch_norm_of(n);
  if (!x.shape[1].is(int64_t(norm.factor.size()))) fail("its numbers do not fit %s", text(x.shape).c_str());
  const auto channels = [&](const std::vector<double>& list) {
    return Lowering::floats({list.begin(), list.end()}, channel_shape(x));
  };
  const Value y = l.binary(format::BinaryKind::mul, x, channels(norm.factor));
  n.set(l.binary(format::BinaryKind::add, y, channels(norm.shift)));
}

Value layer_norm_of(Lowering& l, const Value& x, const Value& scale, const Value& bias, double eps, bool is_rms) {
  const Perm perm = x.order().back() == x.rank() - 1 ? x.order() : identity(x.rank());
  const Value in = l.stored_in(x, perm);
  format::NormAttrsT attrs;
  attrs.eps = float(eps);
  std::vector<Value> list = {in};
  for (const Value& v : {scale, bias})
    if (!v.is_absent()) list.push_back(v);
  return l.labelled(l.emit(is_rms ? "rms_norm" : "layer_norm", list, in.shape, attrs), perm);
}

void lower_layer_norm(Lowering& l, const Node& n) {
  const Value& x = n.in(0);
  const int64_t given = n.integer("axis", -1), axis = given < 0 ? given + x.rank() : given;
  if (axis < 0 || axis >= x.rank()) fail("axis %lld of %s", static_cast<long long>(given), text(x.shape).c_str());
  if (n.wants(1) && n.outputs() > 1) fail("its mean is wanted");
  const Size width = product(Sizes(x.shape.begin() + axis, x.shape.end()));
  if (!width.is_constant()) fail("over axes of the call: %s", text(x.shape).c_str());
  Sizes shape(x.shape.begin(), x.shape.begin() + axis);
  shape.push_back(width);
  const bool is_rms = n.op() != "LayerNormalization";
  const auto row = [&](size_t i) {
    return n.has(i) ? l.reshape(Lowering::floats(n.known_floats(i, "scale and bias"), n.in(i).shape), {width})
                    : Value();
  };
  const Value y =
      layer_norm_of(l, l.reshape(x, shape), row(1), is_rms ? Value() : row(2), n.real("epsilon", 1e-5), is_rms);
  n.set(l.reshape(y, x.shape));
}

void lower_instance_norm(Lowering& l, const Node& n) {
  if (n.in(0).rank() < 2 || !n.in(0).shape[1].is_constant()) fail("of %s", text(n.in(0).shape).c_str());
  lower_groups(l, n, n.in(0).shape[1].constant(), n.real("epsilon", 1e-5));
}
void lower_group_norm(Lowering& l, const Node& n) {
  lower_groups(l, n, n.integer("num_groups", 1), n.real("epsilon", 1e-5));
}

}  // namespace runnel::convert
