// Mamba-3 (Lahoti et al. 2025), single input and output: a trapezoidal rule that adds the token before and this one, B
// and C with biases and turned by angles that follow from the data. As flash-linear-attention's class and the authors'
// reference step compute it.
#include <cmath>

#include "converter/recipes/delta.h"
#include "converter/recipes/ssm.h"

namespace runnel::convert {

using format::BinaryKind;
using format::UnaryKind;

namespace {

// The value one token ago; 0 before the first.
Var previous(Net& net, const Var& x, const std::string& name) {
  std::vector<float> taps;
  for (int64_t i = 0; i < x.dims[0]; ++i) taps.insert(taps.end(), {1, 0});
  return short_conv(net, x, net.constant(name + ".taps", taps, {x.dims[0], 2}), "", 2, UnaryKind::none, name);
}

// cos and sin of the sum of the angles so far, [n, 2]: the product of unit numbers, which starts as 1.
Var turned_so_far(Net& net, const Var& angles, const std::string& name) {
  const int64_t n = angles.width();
  const Var im = net.reshape(angles, {n, 1}), log = net.concat({net.scale(im, 0), im}, 2);
  std::vector<float> one;
  for (int64_t i = 0; i < n; ++i) one.insert(one.end(), {1, 0});
  const std::string state = net.state(name, {n, 2}, format::DType::f32, net.constant(name + ".initial", one, {n, 2}));
  format::ScanAttrsT attrs;
  attrs.kind = format::ScanKind::complex;
  attrs.log_decay = true;
  return net.op("scan", {log.name, net.scale(log, 0).name, state}, "T", {n, 2}, {state}, attrs);
}

// The first 2 n channels of each head as n pairs of neighbours, turned; x [heads, channels], turn [heads * n, 2].
Var rotated(Net& net, const Var& x, const Var& turn, int64_t n) {
  const int64_t heads = x.dims[0], all = x.dims[1];
  const Var pairs = net.reshape(net.slice(x, 2, 0, 2 * n), {heads * n, 2});
  const Var a = net.slice(pairs, 2, 0, 1), b = net.slice(pairs, 2, 1, 1), cos = net.slice(turn, 2, 0, 1),
            sin = net.slice(turn, 2, 1, 1);
  const Var first = net.binary(BinaryKind::sub, net.mul(a, cos), net.mul(b, sin)),
            second = net.add(net.mul(a, sin), net.mul(b, cos));
  const Var done = net.reshape(net.concat({first, second}, 2), {heads, 2 * n});
  return all == 2 * n ? done : net.concat({done, net.slice(x, 2, 2 * n, all - 2 * n)}, 2);
}

}  // namespace

Var mamba3(Net& net, const Mamba3& m, const Var& x) {
  const std::string& p = m.prefix;
  const int64_t inner = m.heads * m.head_dim, bc = m.groups * m.state,
                all = 2 * inner + 2 * bc + 3 * m.heads + m.angles;
  std::vector<Product> products;
  int64_t first = 0;
  for (const int64_t rows : {inner, inner, bc, bc, m.heads, m.heads, m.heads, m.angles}) {
    products.push_back({p + "in_proj", {rows}, first, all});
    first += rows;
  }
  const std::vector<Var> in = net.linears(x, products);
  const Var dt =
      net.unary(UnaryKind::softplus, net.binary(BinaryKind::add, in[4], net.plain(p + "dt_bias", {m.heads})));
  const Var rate = net.binary(BinaryKind::max, net.unary(UnaryKind::softplus, in[5]),
                              net.constant(p + "A_floor", {float(m.a_floor)}, {1}));
  const Var decay = net.unary(UnaryKind::neg, net.mul(dt, rate));
  const Var now = net.mul(net.unary(UnaryKind::sigmoid, in[6]), dt);
  const Var before = net.mul(net.mul(net.unary(UnaryKind::sigmoid, net.unary(UnaryKind::neg, in[6])), dt),
                             net.unary(UnaryKind::exp, decay));
  const Var angles = net.scale(net.unary(UnaryKind::tanh, in[7]), M_PI);
  const Var turn =
      turned_so_far(net, net.mul(net.reshape(dt, {m.heads, 1}), net.reshape(angles, {1, m.angles})), p + "angles");
  const auto directions = [&](const Var& v, const char* norm, const char* bias) {
    const Var normed = net.rms_norm(net.reshape(v, {m.groups, m.state}),
                                    net.plain(p + norm + std::string(".weight"), {m.state}), m.eps);
    // Each group serves neighbouring heads.
    const Var each =
        net.reshape(net.concat(std::vector<Var>(size_t(m.heads / m.groups), normed), 2), {m.heads, m.state});
    const Var biased = net.binary(BinaryKind::add, each, net.plain_as(p + bias, {m.heads, 1, m.state}, each.dims));
    return rotated(net, biased, turn, m.angles);
  };
  const Var q = directions(in[3], "C_norm", "C_bias"),
            k = net.reshape(directions(in[2], "B_norm", "B_bias"), {m.heads * m.state});
  const auto weighted = [&](const Var& v, const Var& by) {
    return net.reshape(net.mul(net.reshape(v, {m.heads, m.head_dim}), net.reshape(by, {m.heads, 1})), {inner});
  };
  // Two steps a token: the one before, then this one.
  const Var keys =
      net.op("reshape", {net.concat({previous(net, k, p + "previous_k"), k}, 1).name}, "T*2", {m.heads, m.state});
  const Var values =
      net.op("reshape",
             {net.concat({weighted(previous(net, in[1], p + "previous_x"), before), weighted(in[1], now)}, 1).name},
             "T*2", {m.heads, m.head_dim});
  format::MatrixRecurrenceAttrsT attrs;
  attrs.steps = 2;
  const std::string state = net.state(p + "state", {m.heads, m.state, m.head_dim});
  const Var read = net.op("matrix_recurrence", {q.name, keys.name, values.name, decay.name, "", "", "", "", "", state},
                          "T", {m.heads, m.head_dim}, {state}, attrs);
  const Var skip = net.binary(BinaryKind::mul, net.reshape(net.wanted(in[1]), read.dims),
                              net.plain_as(p + "D", {m.heads}, {m.heads, 1}));
  Var y = net.add(net.wanted(read), skip);
  if (m.has_norm)
    y = net.binary(BinaryKind::mul, net.rms_norm(y, "", m.eps), net.plain_as(p + "norm.weight", {inner}, read.dims));
  return net.linear(net.glu(UnaryKind::silu, net.wanted(in[0]), net.reshape(y, {inner})),
                    {p + "out_proj", {x.dims[0]}});
}

}  // namespace runnel::convert
