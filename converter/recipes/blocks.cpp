#include "converter/recipes/blocks.h"

namespace runnel::convert {
namespace {

Var head_norm(Net& net, const Attention& a, const Var& x, const std::string& weight) {
  if (weight.empty()) return x;
  if (!a.norm_is_whole) return net.rms_norm(x, net.plain(a.prefix + weight + ".weight", {a.head_dim}, a.norm_offset), a.eps);
  const Var flat = net.rms_norm(net.reshape(x, {x.width()}), net.plain(a.prefix + weight + ".weight", {x.width()}, a.norm_offset), a.eps);
  return net.reshape(flat, x.dims);
}

}  // namespace

Var attention(Net& net, const Attention& a, const Var& x) {
  if (a.kv_heads < 1 || a.heads % a.kv_heads)
    fail("%s: %lld attention heads cannot share %lld key/value heads", net.checkpoint().path.c_str(), static_cast<long long>(a.heads), static_cast<long long>(a.kv_heads));
  std::vector<Product> products = {{a.prefix + a.q, {a.heads, a.head_dim}}, {a.prefix + a.k, {a.kv_heads, a.head_dim}}, {a.prefix + a.v, {a.kv_heads, a.head_dim}}};
  if (!a.gate.empty()) products.push_back({a.prefix + a.gate, {a.gate_is_per_head ? a.heads : a.heads * a.head_dim}});
  const std::vector<Var> qkv = net.linears(x, products);
  Var q = head_norm(net, a, qkv[0], a.q_norm), k = head_norm(net, a, qkv[1], a.k_norm);
  if (!a.rope.empty()) {
    q = net.rope(q, a.rope, a.is_interleaved, a.rope_scale);
    k = net.rope(k, a.rope, a.is_interleaved, a.rope_scale);
  }
  const Var y = attend(net, {a.scale, a.softcap, a.window}, q, k, qkv[2]);
  Var out = net.wanted(y);
  if (!a.gate.empty()) {
    Var gate = net.unary(format::UnaryKind::sigmoid, net.wanted(qkv[3]));
    if (a.gate_is_per_head) gate = net.reshape(gate, {a.heads, 1}), out = net.reshape(out, {a.heads, a.head_dim});
    out = net.reshape(net.mul(out, gate), {a.heads * a.head_dim});
  }
  return net.linear(out, {a.prefix + a.o, {x.dims.back()}});
}

Var attend(Net& net, const Softmax& s, const Var& q, const Var& k, const Var& v, const std::string& sinks, const std::string& name) {
  net.attention_states(name, s.window, k.dims[0], k.dims[1], v.dims[1]);
  format::AttentionAttrsT attrs;
  attrs.scale = float(s.scale);
  attrs.window = uint32_t(s.window);
  attrs.softcap = float(s.softcap);
  Names inputs = {q.name, k.name, v.name, net.state_name(name + ".k"), net.state_name(name + ".v")};
  if (!sinks.empty()) inputs.push_back(sinks);
  return net.op("attention", inputs, "T", {q.dims[0] * v.dims[1]}, {}, attrs);
}

Var gated_feed_forward(Net& net, const FeedForward& f, const Var& x) {
  const std::vector<Var> h = net.linears(x, {{f.prefix + f.gate, {f.width}}, {f.prefix + f.up, {f.width}}});
  return net.linear(net.glu(f.activation, h[0], h[1]), {f.prefix + f.down, {x.dims.back()}});
}

namespace {

// Rows [first, first + rows) of every expert's matrix [all, columns], stacked.
std::string expert_matrix(Net& net, const Experts& e, const std::string& pattern, int64_t first, int64_t rows, int64_t all, int64_t columns, const std::string& part) {
  std::vector<const SourceTensor*> parts;
  const size_t hole = pattern.find("{}");
  if (hole == std::string::npos) {
    const std::string name = e.prefix + pattern + (net.has(e.prefix + pattern) ? "" : ".weight");
    SourceTensor flat = net.take(name, {e.count, all, columns});
    flat.shape = {uint64_t(e.count * all), uint64_t(columns)};
    for (int64_t i = 0; i < e.count; ++i) parts.push_back(&net.rows_of(flat, i * all + first, rows));
  } else {
    for (int64_t i = 0; i < e.count; ++i)
      parts.push_back(&net.rows_of(net.take(e.prefix + pattern.substr(0, hole) + std::to_string(i) + pattern.substr(hole + 2) + ".weight", {all, columns}), first, rows));
  }
  return net.matrix(e.prefix + "experts." + part, net.stacked(parts));
}

}  // namespace

void read_sigmoid_route(const Facts& f, format::RouteAttrsT& route) {
  route.scoring = format::RouteScoring::sigmoid;
  route.renormalise = f.boolean(f.has("moe_renormalize") ? "moe_renormalize" : "norm_topk_prob", true);
  route.scale = float(f.number("routed_scaling_factor", 1));
  route.eps = 1e-20f;
  route.group_score = format::GroupScore::top2;
}

Var experts(Net& net, const Experts& e, const Var& x) {
  const Var in = e.latent ? net.linear(x, {e.prefix + e.latent_in, {e.latent}}) : x;
  const int64_t hidden = in.dims.back();
  const Var logits = net.linear(x, {e.prefix + e.router, {e.count}});
  const Var ids = net.make(e.prefix + "ids", x.axis, {e.chosen}, true, format::DType::i32);
  Names route_inputs = {logits.name};
  if (!e.choice_bias.empty()) route_inputs.push_back(net.plain(e.prefix + e.choice_bias, {e.count}));
  const Var weights = net.op("route", route_inputs, x.axis, {e.chosen}, {ids.name}, e.route);
  const bool is_gated = !e.gate.empty() || !e.gate_up.empty();
  Names inputs = {in.name, ids.name};
  if (!e.gate_up.empty()) {
    inputs.push_back(expert_matrix(net, e, e.gate_up, 0, e.width, 2 * e.width, hidden, "gate"));
    inputs.push_back(expert_matrix(net, e, e.gate_up, e.width, e.width, 2 * e.width, hidden, "up"));
  } else {
    if (is_gated) inputs.push_back(expert_matrix(net, e, e.gate, 0, e.width, e.width, hidden, "gate"));
    inputs.push_back(expert_matrix(net, e, e.up, 0, e.width, e.width, hidden, "up"));
  }
  Var h;
  if (is_gated) {
    const Var up = net.make(e.prefix + "up", x.axis, {e.chosen, e.width}, true);
    const Var gate = net.op("routed_matmul", inputs, x.axis, {e.chosen, e.width}, {up.name});
    h = net.glu(e.activation, gate, up);
  } else {
    h = net.unary(e.activation, net.op("routed_matmul", inputs, x.axis, {e.chosen, e.width}));
  }
  const Var each = net.op("routed_matmul", {h.name, ids.name, expert_matrix(net, e, e.down, 0, hidden, hidden, e.width, "down")}, x.axis, {e.chosen, hidden});
  format::ReduceAttrsT sum;
  sum.kind = format::ReduceKind::sum;
  sum.axis = 1;
  const Var y = net.op("reduce", {net.mul(each, net.reshape(weights, {e.chosen, 1})).name}, x.axis, {hidden}, {}, sum);
  return e.latent ? net.linear(y, {e.prefix + e.latent_out, {x.dims.back()}}) : y;
}

}  // namespace runnel::convert
