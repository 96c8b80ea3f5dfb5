// RetNet (arXiv 2307.08621), GLA (2312.06635), linear attention with its feature maps, HGRN (2311.04823), HGRN2
// (2404.07904), LightNet (2405.21022), the delta rule: DeltaNet (2406.06484), Gated DeltaNet (2412.06464), Gated
// DeltaProduct (2502.10297), Kimi Delta Attention (2510.26692).
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/delta.h"
#include "converter/recipes/fla.h"
#include "converter/recipes/rope.h"
#include "converter/recipes/ssm.h"

namespace runnel::convert {

using format::BinaryKind;
using format::UnaryKind;

int64_t fla_rows(Net& net, const std::string& name) {
  const SourceTensor& t = net.find(name);
  if (t.shape.empty()) fail("%s: tensor \"%s\" is no matrix", net.checkpoint().path.c_str(), t.describe().c_str());
  return int64_t(t.shape[0]);
}

std::vector<Var> fla_streams(Net& net, const Var& x, const std::vector<std::string>& names, UnaryKind convolved,
                             UnaryKind plain) {
  std::vector<Product> products;
  for (const std::string& name : names)
    products.push_back({"attn." + name + "_proj", {fla_rows(net, "attn." + name + "_proj.weight")}});
  std::vector<Var> out = net.linears(x, products);
  for (size_t i = 0; i < names.size(); ++i) {
    const std::string conv = "attn." + names[i] + "_conv1d";
    if (net.has(conv + ".weight"))
      out[i] = short_conv(net, out[i], conv, int64_t(net.find(conv + ".weight").shape.back()), convolved);
    else if (plain != UnaryKind::none) out[i] = net.unary(plain, out[i]);
  }
  return out;
}

Var fla_gate(Net& net, const Var& x) {
  if (!net.has("attn.g_proj.weight")) return {};
  return net.linear(x, {"attn.g_proj", {fla_rows(net, "attn.g_proj.weight")}});
}

Var fla_output(Net& net, const FlaLayer& layer, const Var& y, const Var& gate, const std::string& norm,
               UnaryKind activation) {
  const std::string weight = "attn." + norm + ".weight";
  Var z = net.rms_norm(net.wanted(y), net.has(weight) ? net.plain(weight, {y.dims.back()}) : "", layer.eps);
  if (!gate.name.empty()) z = net.glu(activation, net.reshape(net.wanted(gate), y.dims), z);
  return net.linear(net.reshape(z, {y.width()}), {"attn.o_proj", {layer.hidden}});
}

namespace {

int64_t divided(Net& net, int64_t n, int64_t by, const char* what) {
  if (by < 1 || n % by)
    fail("%s: %lld channels do not divide into %lld %s", net.checkpoint().path.c_str(), static_cast<long long>(n),
         static_cast<long long>(by), what);
  return n / by;
}

// S = e^decay S + k v^T, read with q: heads of y are those of q.
Var additive(Net& net, const Var& q, const Var& k, const Var& v, const std::string& decay, bool is_normalised = false) {
  format::MatrixRecurrenceAttrsT attrs;
  attrs.scale = float(1 / std::sqrt(double(q.dims[1])));
  const std::string state = net.state("attn.state", {q.dims[0], q.dims[1], v.dims[1]});
  Names inputs = {q.name, k.name, v.name, decay, "", "", "", "", "", state}, states = {state};
  if (is_normalised) {
    attrs.normalise = format::RecurrenceNorm::sum;
    attrs.eps = 1e-10f;
    states.push_back(net.state("attn.norm_state", {q.dims[0], q.dims[1]}));
    inputs.push_back(states[1]);
  }
  return net.op("matrix_recurrence", inputs, "T", {q.dims[0], v.dims[1]}, states, attrs);
}

// q [heads, key], k [kv heads, key], v [kv heads, value] of RetNet, GLA and linear attention.
struct Heads {
  Var q, k, v;
  int64_t kv;
};
Heads heads_of(Net& net, const Facts& f, const Var& x) {
  const std::vector<Var> in = fla_streams(net, x, {"q", "k", "v"}, UnaryKind::silu, UnaryKind::none);
  const int64_t heads = f.integer("num_heads", 1, 65536), kv = f.integer("num_kv_heads", 1, 65536, heads);
  divided(net, heads, kv, "heads of keys and values");
  const int64_t key = divided(net, in[0].dims[0], heads, "heads");
  return {net.reshape(in[0], {heads, key}), net.reshape(in[1], {kv, divided(net, in[1].dims[0], kv, "heads")}),
          net.reshape(in[2], {kv, divided(net, in[2].dims[0], kv, "heads")}), kv};
}

void apply_map(Net& net, const Facts& f, Heads& h) {
  if (!f.has("feature_map")) return;
  const UnaryKind map = activation_named(f, "feature_map", "relu");
  h.q = net.unary(map, h.q);
  h.k = net.unary(map, h.k);
}

// The gated norm goes by one name when it is fused with its activation, else by another.
Var gated_output(Net& net, const Facts& f, const FlaLayer& layer, const Var& y, const Var& x) {
  const char* norm = net.has("attn.g_norm_swish_gate.weight") ? "g_norm_swish_gate" : "g_norm";
  return fla_output(net, layer, y, fla_gate(net, x), norm, activation_named(f, "hidden_act", "swish"));
}

// log sigmoid(x), exact for large |x| too.
Var log_sigmoid(Net& net, const Var& x) {
  return net.unary(UnaryKind::neg, net.unary(UnaryKind::softplus, net.unary(UnaryKind::neg, x)));
}

// Forget gate a = bound + (1 - bound) sigmoid(f) and what is left of 1.
struct Forget {
  Var a, rest;
};
Forget forget_gate(Net& net, const FlaLayer& layer, const Var& f) {
  Forget g{net.unary(UnaryKind::sigmoid, f), net.unary(UnaryKind::sigmoid, net.unary(UnaryKind::neg, f))};
  if (layer.lower_bound.empty()) return g;
  std::vector<float> other(layer.lower_bound);
  for (float& v : other) v = 1 - v;
  const std::string bound = net.constant("attn.lower_bound", layer.lower_bound, {-1}),
                    left = net.constant("attn.upper_part", other, {-1});
  return {net.binary(BinaryKind::add, net.binary(BinaryKind::mul, g.a, left), bound),
          net.binary(BinaryKind::mul, g.rest, left)};
}

// Roll to the right along the last axis, as torch.roll.
Var rolled(Net& net, const Var& x, int64_t by) {
  const int64_t n = x.dims[1];
  return net.concat({net.slice(x, 2, n - by % n, by % n), net.slice(x, 2, 0, n - by % n)}, 2);
}

// which: "q" or "k".
Var feature_map(Net& net, const Facts& f, const std::string& which, const Var& x) {
  const std::string kind = f.text("feature_map", "elementwise_product");
  const std::string p = "attn.feature_map_" + which + ".";
  const auto through = [&](const char* name) { return net.linear(x, {p + name, {x.dims[1]}}); };
  const auto relu = [&](const Var& v) { return net.unary(UnaryKind::relu, v); };
  const auto neg = [&](const Var& v) { return net.unary(UnaryKind::neg, v); };
  if (kind == "identity") return x;
  if (kind == "relu") return relu(x);
  if (kind == "elu") return net.add(net.unary(UnaryKind::exp, neg(relu(neg(x)))), relu(x));  // elu + 1
  if (kind == "t2r") return relu(through("layer"));
  if (kind == "elementwise_product") return net.mul(through("layer1"), through("layer2"));
  if (kind == "hedgehog") {
    const Var u = through("layer");
    format::SoftmaxAttrsT attrs;
    attrs.scale = 2;
    return net.op("softmax", {net.concat({u, neg(u)}, 2).name}, x.axis, {x.dims[0], 2 * x.dims[1]}, {}, attrs);
  }
  if (kind == "dpfp") {
    const Var y = net.concat({relu(x), relu(neg(x))}, 2);
    std::vector<Var> parts;
    for (int64_t by = 1; by <= 4; ++by) parts.push_back(net.mul(y, rolled(net, y, by)));
    return net.concat(parts, 2);
  }
  f.refuse("feature_map", "is \"" + printable(kind) + "\", a map that is not supported");
}

// x / (sum of x + eps) over the last axis.
Var sum_norm(Net& net, const Var& x, float eps) {
  format::ReduceAttrsT attrs;
  attrs.kind = format::ReduceKind::sum;
  attrs.axis = 2;
  Var sum = net.reshape(net.op("reduce", {x.name}, x.axis, {x.dims[0]}, {}, attrs), {x.dims[0], 1});
  if (eps != 0) sum = net.binary(BinaryKind::add, sum, net.constant("attn.sum_eps", {eps}, {1}));
  return net.binary(BinaryKind::div, x, sum);
}

}  // namespace

Var fla_retnet(Net& net, const Facts& f, const FlaLayer& layer, const Var& x) {
  Heads h = heads_of(net, f, x);
  apply_map(net, f, h);
  const std::string rope = net.constant("attn.rope", rope_frequencies(10000, h.q.dims[1]), {-1});
  std::vector<float> decay;
  for (int64_t i = 0; i < h.q.dims[0]; ++i) decay.push_back(float(std::log1p(-std::pow(2.0, -5.0 - double(i)))));
  const Var y = additive(net, net.rope(h.q, rope), net.rope(h.k, rope), h.v, net.constant("attn.decay", decay, {-1}));
  return gated_output(net, f, layer, y, x);
}

Var fla_gla(Net& net, const Facts& f, const FlaLayer& layer, const Var& x) {
  Heads h = heads_of(net, f, x);
  apply_map(net, f, h);
  const Var low = net.linear(x, {"attn.gk_proj.0", {fla_rows(net, "attn.gk_proj.0.weight")}});
  Var decay = net.scale(log_sigmoid(net, net.linear(low, {"attn.gk_proj.1", h.k.dims})),
                        1 / f.number("gate_logit_normalizer", 16));
  if (f.has("clamp_min"))
    decay = net.binary(BinaryKind::max, decay, net.constant("attn.clamp_min", {float(f.number("clamp_min"))}, {1}));
  const int64_t heads = h.q.dims[0];
  // Each gate serves as many neighbouring heads as its key does.
  if (h.kv != heads) decay = net.reshape(net.concat(std::vector<Var>(size_t(heads / h.kv), decay), 2), h.q.dims);
  return gated_output(net, f, layer, additive(net, h.q, h.k, h.v, decay.name), x);
}

Var fla_linear_attn(Net& net, const Facts& f, const FlaLayer& layer, const Var& x) {
  Heads h = heads_of(net, f, x);
  h.q = feature_map(net, f, "q", h.q);
  h.k = feature_map(net, f, "k", h.k);
  if (f.boolean("norm_q", false)) h.q = sum_norm(net, h.q, 1e-4f);
  if (f.boolean("norm_k", false)) h.k = sum_norm(net, h.k, 1e-4f);
  return fla_output(net, layer, additive(net, h.q, h.k, h.v, "", f.boolean("norm_feature_map", false)), {}, "norm");
}

Var fla_hgrn(Net& net, const Facts&, const FlaLayer& layer, const Var& x) {
  const std::vector<Var> in = fla_streams(net, x, {"i", "f"}, UnaryKind::none, UnaryKind::none);
  const Forget forget = forget_gate(net, layer, in[1]);
  const Var entering = net.glu(UnaryKind::silu, in[0], forget.rest);
  const std::string state = net.state("attn.state", in[0].dims);
  const Var y = net.op("scan", {forget.a.name, entering.name, state}, "T", in[0].dims, {state}, format::ScanAttrsT{});
  return fla_output(net, layer, y, fla_gate(net, x), "g_norm");
}

Var fla_hgrn2(Net& net, const Facts& f, const FlaLayer& layer, const Var& x) {
  const std::vector<Var> in = fla_streams(net, x, {"q", "f", "i"}, UnaryKind::none, UnaryKind::none);
  const int64_t key = f.has("expand_ratio") ? f.integer("expand_ratio", 1, 65536)
                                            : layer.hidden / f.integer("num_heads", 1, layer.hidden);
  const int64_t heads = divided(net, in[1].dims[0], key, "channels of a head");
  const Forget forget = forget_gate(net, layer, in[1]);
  const Var decay = layer.lower_bound.empty() ? log_sigmoid(net, in[1]) : net.unary(UnaryKind::log, forget.a);
  const Var q = net.unary(UnaryKind::silu, in[0]);
  const auto split = [&](const Var& v) { return net.reshape(v, {heads, divided(net, v.dims[0], heads, "heads")}); };
  const Var y = additive(net, split(q), split(forget.rest), split(in[2]), split(decay).name);
  FlaLayer own = layer;
  own.eps = 1e-5;  // of the fused norm, whatever the configuration says
  return fla_output(net, own, net.reshape(y, {y.width()}), {}, "g_norm");
}

Var fla_lightnet(Net& net, const Facts& f, const FlaLayer& layer, const Var& x) {
  const std::vector<Var> in = fla_streams(net, x, {"q", "k", "v"}, UnaryKind::none, UnaryKind::none);
  const int64_t key = f.has("expand_ratio") ? f.integer("expand_ratio", 1, 65536)
                                            : layer.hidden / f.integer("num_heads", 1, layer.hidden);
  const int64_t heads = divided(net, in[0].dims[0], key, "channels of a head"),
                value = divided(net, in[2].dims[0], heads, "heads");
  // Means of v with weights e^k, which the query reads: the memory is a mean for each pair of a key's and a value's
  // channel.
  const Var ones = net.unary(UnaryKind::exp, net.scale(net.reshape(in[1], {heads, key, 1}), 0));
  const Var v = net.reshape(net.mul(ones, net.reshape(in[2], {heads, 1, value})), {heads * key, value});
  const std::string state = net.state("attn.sums", {3, heads * key, value});
  format::ScanAttrsT attrs;
  attrs.kind = format::ScanKind::log_sum;
  const Var means =
      net.op("scan", {"", net.reshape(in[1], {heads * key, 1}).name, v.name, "", state}, "T", v.dims, {state}, attrs);
  const Var q = net.scale(net.unary(UnaryKind::silu, in[0]), 1 / std::sqrt(double(key)));
  format::ReduceAttrsT sum;
  sum.kind = format::ReduceKind::sum;
  sum.axis = 2;
  const Var y =
      net.op("reduce", {net.mul(net.reshape(means, {heads, key, value}), net.reshape(q, {heads, key, 1})).name}, "T",
             {heads, value}, {}, sum);
  const Var low = net.linear(x, {"attn.g_proj.0", {fla_rows(net, "attn.g_proj.0.weight")}});
  const Var gate = net.linear(low, {"attn.g_proj.1", {y.width()}});
  FlaLayer own = layer;
  own.eps = 1e-6;  // of the fused norm, whatever the configuration says
  return fla_output(net, own, net.reshape(y, {y.width()}), gate, "g_norm");
}

Var fla_delta_net(Net& net, const Facts& f, const FlaLayer& layer, const Var& x) {
  const std::string kind = f.text("qk_activation", "silu"), norm = f.text("qk_norm", "l2");
  const bool is_silu = kind == "silu";
  std::vector<Var> in = fla_streams(net, x, {"q", "k"}, is_silu ? UnaryKind::silu : UnaryKind::none,
                                    is_silu ? UnaryKind::silu : UnaryKind::none);
  in.push_back(fla_streams(net, x, {"v"}, UnaryKind::silu, UnaryKind::silu)[0]);
  const int64_t heads = f.integer("num_heads", 1, 65536);
  DeltaSizes s{heads, heads, divided(net, in[0].dims[0], heads, "heads"), divided(net, in[2].dims[0], heads, "heads")};
  const auto mapped = [&](const Var& v) {
    Var y = net.reshape(v, {heads, s.key_dim});
    if (kind == "relu") y = net.unary(UnaryKind::relu, y);
    else if (kind == "elu")
      y = net.add(net.unary(UnaryKind::exp,
                            net.unary(UnaryKind::neg, net.unary(UnaryKind::relu, net.unary(UnaryKind::neg, y)))),
                  net.unary(UnaryKind::relu, y));
    else if (!is_silu && kind != "identity")
      f.refuse("qk_activation", "is \"" + printable(kind) + "\", which is not supported");
    if (norm == "l2") return unit_length(net, y);
    if (norm != "sum") f.refuse("qk_norm", "is \"" + printable(norm) + "\", which is not supported");
    return sum_norm(net, y, 0);
  };
  const DeltaInput qkv{mapped(in[0]), mapped(in[1]), net.reshape(in[2], {heads, s.value_dim})};
  const double factor = f.boolean("allow_neg_eigval", false) ? 2 : 1;
  Var beta;
  if (net.has("attn.b_proj.weight"))
    beta = net.scale(net.unary(UnaryKind::sigmoid, net.linear(x, {"attn.b_proj", {heads}})), factor);
  else if (factor != 1)
    beta = net.binary(BinaryKind::add, net.scale(net.slice(in[0], 1, 0, heads), 0), net.constant("attn.two", {2}, {1}));
  return fla_output(net, layer, delta_rule(net, s, qkv, {}, beta, "attn."), fla_gate(net, x), "o_norm");
}

namespace {

// What Gated DeltaNet and Gated DeltaProduct share: `steps` keys, values and betas a token.
Var gated_delta(Net& net, const Facts& f, const FlaLayer& layer, const Var& x, int64_t steps) {
  const std::vector<Var> in = fla_streams(net, x, {"q", "k", "v"}, UnaryKind::silu, UnaryKind::silu);
  const int64_t key_heads = f.integer("num_heads", 1, 65536), heads = f.integer("num_v_heads", 1, 65536, key_heads);
  divided(net, heads, key_heads, "heads of keys");
  const DeltaSizes s{key_heads, heads, divided(net, in[0].dims[0], key_heads, "heads"),
                     divided(net, in[2].dims[0], heads * steps, "heads")};
  const std::string rows = steps == 1 ? "T" : "T*" + std::to_string(steps);
  // Steps of a token follow one another.
  const auto stepped = [&](const Var& v, std::vector<int64_t> dims) {
    return steps == 1 ? net.reshape(v, dims) : net.op("reshape", {v.name}, rows, dims);
  };
  const DeltaInput qkv{unit_length(net, net.reshape(in[0], {key_heads, s.key_dim})),
                       unit_length(net, stepped(in[1], {key_heads, s.key_dim})), stepped(in[2], {heads, s.value_dim})};
  Var beta = net.unary(UnaryKind::sigmoid, net.linear(x, {"attn.b_proj", {heads * steps}}));
  if (f.boolean("allow_neg_eigval", false)) beta = net.scale(beta, 2);
  Var decay;
  if (net.has("attn.a_proj.weight"))
    decay = delta_decay(net, net.linear(x, {"attn.a_proj", {heads}}), "attn.", {heads});
  const Var y = delta_rule(net, s, qkv, decay, stepped(beta, {heads}), "attn.", steps);
  const UnaryKind activation = activation_named(f, "output_gate_activation", "swish");
  return fla_output(net, layer, y, fla_gate(net, x), "o_norm", activation);
}

}  // namespace

Var fla_gated_deltanet(Net& net, const Facts& f, const FlaLayer& layer, const Var& x) {
  return gated_delta(net, f, layer, x, 1);
}
Var fla_gated_deltaproduct(Net& net, const Facts& f, const FlaLayer& layer, const Var& x) {
  return gated_delta(net, f, layer, x, f.integer("num_householder", 1, 64, 1));
}

Var fla_kda(Net& net, const Facts& f, const FlaLayer& layer, const Var& x) {
  const std::vector<Var> in = fla_streams(net, x, {"q", "k", "v"}, UnaryKind::silu, UnaryKind::silu);
  const int64_t key_heads = f.integer("num_heads", 1, 65536), heads = f.integer("num_v_heads", 1, 65536, key_heads);
  divided(net, heads, key_heads, "heads of keys");
  const DeltaSizes s{key_heads, heads, divided(net, in[0].dims[0], key_heads, "heads"),
                     divided(net, in[2].dims[0], heads, "heads")};
  const auto through = [&](const char* name, const std::vector<int64_t>& dims) {
    const std::string p = std::string("attn.") + name + ".";
    const Var low = net.linear(x, {p + "0", {fla_rows(net, p + "0.weight")}});
    return net.linear(low, {p + "1", dims});
  };
  const Var forget = through("f_proj", {heads, s.key_dim});
  if (f.boolean("safe_gate", false) && !f.has("lower_bound")) f.refuse("safe_gate", "is true without a lower_bound");
  const Var decay = f.has("lower_bound") ? bounded_delta_decay(net, forget, "attn.", {heads}, f.number("lower_bound"))
                                         : delta_decay(net, forget, "attn.", {heads});
  Var beta = net.unary(UnaryKind::sigmoid, net.linear(x, {"attn.b_proj", {heads}}));
  if (f.boolean("allow_neg_eigval", false)) beta = net.scale(beta, 2);
  const DeltaInput qkv{unit_length(net, net.reshape(in[0], {key_heads, s.key_dim})),
                       unit_length(net, net.reshape(in[1], {key_heads, s.key_dim})),
                       net.reshape(in[2], {heads, s.value_dim})};
  const Var y = delta_rule(net, s, qkv, decay, beta, "attn.");
  return fla_output(net, layer, y, through("g_proj", {s.value_width()}), "o_norm", UnaryKind::sigmoid);
}

}  // namespace runnel::convert
