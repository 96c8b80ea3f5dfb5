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
  if (!a.gate.empty()) products.push_back({a.prefix + a.gate, {a.heads * a.head_dim}});
  const std::vector<Var> qkv = net.linears(x, products);
  Var q = head_norm(net, a, qkv[0], a.q_norm), k = head_norm(net, a, qkv[1], a.k_norm);
  if (!a.rope.empty()) {
    q = net.rope(q, a.rope, a.is_interleaved, a.rope_scale);
    k = net.rope(k, a.rope, a.is_interleaved, a.rope_scale);
  }
  const Var y = attend(net, {a.scale, a.softcap, a.window}, q, k, qkv[2]);
  Var out = net.wanted(y);
  if (!a.gate.empty()) out = net.mul(out, net.unary(format::UnaryKind::sigmoid, net.wanted(qkv[3])));
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

}  // namespace runnel::convert
