// Both halves of an RWKV layer, by version.
#include <cmath>

#include "converter/recipes/rwkv.h"

namespace runnel::convert {
namespace {

using format::BinaryKind;
using format::UnaryKind;

// The token before minus this one; a stream begins after zeros.
Var shifted(Net& net, const Var& x, const std::string& name) {
  const int64_t width = x.width();
  std::vector<float> taps;
  for (int64_t i = 0; i < width; ++i) taps.insert(taps.end(), {1, -1});
  const std::string state = net.state(name + ".previous", {1, width});
  return net.op("causal_conv", {x.name, net.constant("/token_shift", taps, {width, 2}), "", state}, x.axis, x.dims,
                {state}, format::ConvAttrsT());
}

// x + shift * mix
Var lerp(Net& net, const Var& x, const Var& shift, const std::string& name, const std::vector<float>& mix) {
  return net.add(x, net.binary(BinaryKind::mul, shift, net.constant(name, mix, {-1})));
}

// 4 and 5 weigh the token itself with mix and the one before with 1 - mix, the others the other way round.
Var mixed(Net& net, const Rwkv& r, const Var& x, const Var& shift, const std::string& name) {
  std::vector<float> mix = net.numbers(name, r.hidden);
  if (r.version < 6)
    for (float& m : mix) m = 1 - m;
  return lerp(net, x, shift, name, mix);
}

// Mixes of several names one after the other, from one tensor where the source holds them so.
std::vector<float> mixes(Net& net, const std::vector<std::string>& names, int64_t hidden) {
  if (net.has("att.fused")) return net.numbers("att.fused", int64_t(names.size()) * hidden);
  std::vector<float> out;
  for (const std::string& name : names) {
    const std::vector<float> each = net.numbers(name, hidden);
    out.insert(out.end(), each.begin(), each.end());
  }
  return out;
}

// x through two thin matrices with an activation between them. Thin matrices steer decays and gates, so they stay
// floats.
Var low_rank(Net& net, const Rwkv& r, const Var& x, const std::string& first, const std::string& second,
             UnaryKind between, const std::vector<int64_t>& dims, const std::string& bias) {
  const auto matrix = [&](const std::string& name, int64_t out, int64_t in) {
    const SourceTensor& t = r.is_transposed ? net.find(name) : net.transposed(net.find(name));
    if (t.shape != as_shape({out, in}))
      fail("tensor \"%s\" does not have shape %s", t.describe().c_str(),
           shape_text(as_shape(r.is_transposed ? std::vector<int64_t>{out, in} : std::vector<int64_t>{in, out}))
               .c_str());
    return net.matrix(name, t, true);
  };
  int64_t width = 1;
  for (int64_t d : dims) width *= d;
  const int64_t rank = int64_t(net.find(first).count()) / x.width();
  Var h = net.times(x, matrix(first, rank, x.width()), "", {rank});
  if (between != UnaryKind::none) h = net.unary(between, h);
  return net.times(h, matrix(second, width, rank),
                   bias.empty() ? "" : net.constant(bias, net.numbers(bias, width), {width}), dims);
}

// Each head's output to mean 0 and variance 1, then weights and biases of all.
Var group_norm(Net& net, const Rwkv& r, const Var& y) {
  const int64_t width = r.heads * r.head_dim;
  Var n = net.layer_norm(y, "", "", r.group_eps);
  n = net.binary(BinaryKind::mul, n,
                 net.constant("att.ln_x.weight", net.numbers("att.ln_x.weight", width), {r.heads, r.head_dim}));
  return net.binary(BinaryKind::add, n,
                    net.constant("att.ln_x.bias", net.numbers("att.ln_x.bias", width), {r.heads, r.head_dim}));
}

// wkv of RWKV-4: means of v with weights that decay, in a form that cannot overflow.
Var time_mix_4(Net& net, const Rwkv& r, const Var& x) {
  const int64_t width = r.head_dim;
  const Var shift = shifted(net, x, "att");
  const Var k = net.linear(mixed(net, r, x, shift, "att.time_mix_k"), {"att.key", {1, width}});
  const Var v = net.linear(mixed(net, r, x, shift, "att.time_mix_v"), {"att.value", {1, width}});
  const Var gate =
      net.unary(UnaryKind::sigmoid, net.linear(mixed(net, r, x, shift, "att.time_mix_r"), {"att.receptance", {width}}));
  std::vector<float> decay = net.numbers("att.time_decay", width);
  for (float& d : decay) d = -std::exp(d);
  const std::string w = net.constant("att.time_decay", decay, {1, width});
  const std::string u = net.constant("att.time_first", net.numbers("att.time_first", width), {1, width});
  const std::string state = net.state("att.wkv", {3, 1, width});
  format::ScanAttrsT attrs;
  attrs.kind = format::ScanKind::log_sum;
  const Var y = net.op("scan", {w, k.name, v.name, u, state}, x.axis, {1, width}, {state}, attrs);
  return net.linear(net.mul(gate, net.reshape(y, {width})), {"att.output", {r.hidden}});
}

Var recur(Net& net, const Rwkv& r, const Var& q, const Var& k, const Var& v, const std::string& decay,
          const std::string& bonus) {
  const std::string state = net.state("att.wkv", {r.heads, r.head_dim, r.head_dim});
  format::MatrixRecurrenceAttrsT attrs;
  attrs.read = format::RecurrenceRead::before;
  return net.op("matrix_recurrence", {q.name, k.name, v.name, decay, "", "", "", bonus, "", state}, q.axis, q.dims,
                {state}, attrs);
}

// The weight of the current token, one a channel or one a head.
std::string bonus_of(Net& net, const Rwkv& r) {
  const bool is_log = !net.has("att.time_faaaa");
  const std::string name = is_log ? "att.time_first" : "att.time_faaaa";
  const int64_t given = int64_t(net.find(name).count());
  const std::vector<float> u = net.numbers(name, given == r.heads ? r.heads : r.heads * r.head_dim);
  std::vector<float> all(static_cast<size_t>(r.heads * r.head_dim));
  for (size_t i = 0; i < all.size(); ++i) {
    const float value = given == r.heads ? u[i / size_t(r.head_dim)] : u[i];
    all[i] = is_log ? std::exp(value) : value;
  }
  return net.constant("att.bonus", all, {r.heads, r.head_dim});
}

// Behind the recurrence of 5 and 6.
Var gated_output(Net& net, const Rwkv& r, const Var& y, const Var* gate) {
  Var n = net.reshape(group_norm(net, r, y), {r.heads * r.head_dim});
  if (gate) n = net.glu(UnaryKind::silu, *gate, n);
  return net.linear(n, {"att.output", {r.hidden}});
}

Var time_mix_5(Net& net, const Rwkv& r, const Var& x) {
  const std::vector<int64_t> dims = {r.heads, r.head_dim};
  const Var shift = shifted(net, x, "att");
  const Var q = net.linear(mixed(net, r, x, shift, "att.time_mix_r"), {"att.receptance", dims});
  const Var k = net.linear(mixed(net, r, x, shift, "att.time_mix_k"), {"att.key", dims});
  const Var v = net.linear(mixed(net, r, x, shift, "att.time_mix_v"), {"att.value", dims});
  const bool is_by_head = int64_t(net.find("att.time_decay").count()) == r.heads;
  std::vector<float> decay = net.numbers("att.time_decay", is_by_head ? r.heads : r.heads * r.head_dim);
  for (float& d : decay) d = -std::exp(d);
  const std::string w =
      net.constant("att.time_decay", decay,
                   is_by_head ? std::vector<int64_t>{r.heads} : std::vector<int64_t>{1, r.heads, r.head_dim});
  const Var y = recur(net, r, q, k, v, w, bonus_of(net, r));
  if (!net.has("att.gate.weight")) return gated_output(net, r, y, nullptr);
  const Var gate = net.linear(mixed(net, r, x, shift, "att.time_mix_g"), {"att.gate", {r.heads * r.head_dim}});
  return gated_output(net, r, y, &gate);
}

// The five mixes of RWKV-6 depend on the token: w, k, v, r, g.
std::vector<Var> mixes_6(Net& net, const Rwkv& r, const Var& x, const Var& shift) {
  const Var xx = mixed(net, r, x, shift, "att.time_maa_x");
  const SourceTensor& first = net.find("att.time_maa_w1");
  const int64_t rank = int64_t(first.count()) / r.hidden / 5;
  const SourceTensor& rows = r.is_transposed ? first : net.transposed(first);
  if (rank < 1 || rows.shape != as_shape({5 * rank, r.hidden}))
    fail("tensor \"%s\" does not make five mixes", first.describe().c_str());
  const Var h = net.unary(UnaryKind::tanh, net.times(xx, net.matrix("att.time_maa_w1", rows, true), "", {5 * rank}));
  // The authors keep [5, rank, hidden], a product needs [5, hidden, rank].
  std::vector<float> second = net.numbers("att.time_maa_w2", 5 * rank * r.hidden), ordered = second;
  for (int64_t i = 0; i < 5 && !r.is_transposed; ++i)
    for (int64_t c = 0; c < r.hidden; ++c)
      for (int64_t k = 0; k < rank; ++k)
        ordered[size_t((i * r.hidden + c) * rank + k)] = second[size_t((i * rank + k) * r.hidden + c)];
  const Var own = net.by_group(h, "att.time_maa_w2", ordered, 5, r.hidden, rank, true);
  const std::vector<float> fixed =
      mixes(net, {"att.time_maa_w", "att.time_maa_k", "att.time_maa_v", "att.time_maa_r", "att.time_maa_g"}, r.hidden);
  const Var mix = net.binary(BinaryKind::add, own, net.constant("att.time_maa", fixed, {5, r.hidden}));
  const Var all = net.add(net.reshape(x, {1, r.hidden}), net.mul(mix, net.reshape(shift, {1, r.hidden})));
  std::vector<Var> out;
  for (int64_t i = 0; i < 5; ++i) out.push_back(net.reshape(net.slice(all, 1, i, 1), {r.hidden}));
  return out;
}

Var time_mix_6(Net& net, const Rwkv& r, const Var& x) {
  const std::vector<int64_t> dims = {r.heads, r.head_dim};
  const std::vector<Var> m = mixes_6(net, r, x, shifted(net, x, "att"));
  const Var k = net.linear(m[1], {"att.key", dims}), v = net.linear(m[2], {"att.value", dims}),
            q = net.linear(m[3], {"att.receptance", dims});
  const Var gate = net.linear(m[4], {"att.gate", {r.heads * r.head_dim}});
  const Var w =
      low_rank(net, r, m[0], "att.time_decay_w1", "att.time_decay_w2", UnaryKind::tanh, dims, "att.time_decay");
  const Var decay = net.unary(UnaryKind::neg, net.unary(UnaryKind::exp, w));
  return gated_output(net, r, recur(net, r, q, k, v, decay.name, bonus_of(net, r)), &gate);
}

// S = S (diag(w) - kk (kk a)^T) + v k^T, kk of length 1.
Var time_mix_7(Net& net, const Rwkv& r, const Var& x, Var* first_value) {
  const std::vector<int64_t> dims = {r.heads, r.head_dim};
  const int64_t width = r.heads * r.head_dim;
  const Var shift = shifted(net, x, "att");
  const std::vector<std::string> names = {"att.x_r", "att.x_w", "att.x_k", "att.x_v", "att.x_a", "att.x_g"};
  const std::vector<float> mix = mixes(net, names, r.hidden);
  const auto input = [&](int64_t i) {
    return lerp(net, x, shift, names[size_t(i)], {mix.begin() + i * r.hidden, mix.begin() + (i + 1) * r.hidden});
  };
  const auto tensor = [&](const std::string& name) { return net.constant(name, net.numbers(name, width), dims); };
  const Var q = net.linear(input(0), {"att.receptance", dims}), k = net.linear(input(2), {"att.key", dims});
  const Var xv = input(3);
  Var v = net.linear(xv, {"att.value", dims});
  if (first_value->name.empty()) {
    *first_value = v;
  } else {
    const Var share =
        net.unary(UnaryKind::sigmoid, low_rank(net, r, xv, "att.v1", "att.v2", UnaryKind::none, dims, "att.v0"));
    v = net.add(v, net.mul(net.binary(BinaryKind::sub, *first_value, v), share));
  }
  const Var gate = low_rank(net, r, input(5), "att.g1", "att.g2", UnaryKind::sigmoid, {width}, "");
  const Var w = low_rank(net, r, input(1), "att.w1", "att.w2", UnaryKind::tanh, dims, "att.w0");
  const Var decay = net.scale(net.unary(UnaryKind::sigmoid, w), -std::exp(-0.5));
  const Var a =
      net.unary(UnaryKind::sigmoid, low_rank(net, r, input(4), "att.a1", "att.a2", UnaryKind::none, dims, "att.a0"));
  // The mean of squares to a length: a factor of 1 / sqrt(head_dim).
  const std::string unit = net.constant(
      "/unit", std::vector<float>(size_t(r.head_dim), float(1 / std::sqrt(double(r.head_dim)))), {r.head_dim});
  const Var kk = net.rms_norm(net.binary(BinaryKind::mul, k, tensor("att.k_k")), unit, 1e-24);
  // k (1 + (a - 1) k_a)
  const std::vector<float> share = net.numbers("att.k_a", width);
  std::vector<float> rest = share;
  for (float& f : rest) f = 1 - f;
  const Var factor = net.binary(BinaryKind::add, net.binary(BinaryKind::mul, a, tensor("att.k_a")),
                                net.constant("att.k_a_rest", rest, dims));
  const Var key = net.mul(k, factor);
  const std::string state = net.state("att.wkv", {r.heads, r.head_dim, r.head_dim});
  format::MatrixRecurrenceAttrsT attrs;
  attrs.rule = format::RecurrenceRule::dplr;
  const Var y = net.op("matrix_recurrence",
                       {q.name, key.name, v.name, decay.name, "", net.unary(UnaryKind::neg, kk).name,
                        net.mul(kk, a).name, "", "", state},
                       x.axis, dims, {state}, attrs);
  // What the current token says about itself, past the norm.
  format::ReduceAttrsT sum;
  sum.kind = format::ReduceKind::sum;
  sum.axis = 2;
  const Var match = net.op("reduce", {net.binary(BinaryKind::mul, net.mul(q, key), tensor("att.r_k")).name}, x.axis,
                           {r.heads}, {}, sum);
  const Var all = net.add(group_norm(net, r, y), net.mul(v, net.reshape(match, {r.heads, 1})));
  return net.linear(net.mul(net.reshape(all, {width}), gate), {"att.output", {r.hidden}});
}

}  // namespace

Var rwkv_time_mix(Net& net, const Rwkv& r, const Var& x, Var* first_value) {
  if (r.version == 4) return time_mix_4(net, r, x);
  if (r.version == 5) return time_mix_5(net, r, x);
  if (r.version == 6) return time_mix_6(net, r, x);
  return time_mix_7(net, r, x, first_value);
}

Var rwkv_channel_mix(Net& net, const Rwkv& r, const Var& x) {
  const std::string mix = r.version == 7 ? "ffn.x_" : r.version == 6 ? "ffn.time_maa_" : "ffn.time_mix_";
  const Var shift = shifted(net, x, "ffn");
  const Var key = net.wanted(mixed(net, r, x, shift, mix + "k"));
  const Var value =
      net.linear(net.unary(UnaryKind::relu_squared, net.linear(key, {"ffn.key", {r.ffn}})), {"ffn.value", {r.hidden}});
  if (r.version == 7) return value;
  const Var gate = net.linear(net.wanted(mixed(net, r, x, shift, mix + "r")), {"ffn.receptance", {r.hidden}});
  return net.mul(net.unary(UnaryKind::sigmoid, gate), value);
}

}  // namespace runnel::convert
