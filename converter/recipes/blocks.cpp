#include "converter/recipes/blocks.h"

namespace runnel::convert {
namespace {

Var head_norm(Net& net, const Attention& a, const Var& x, const std::string& weight) {
  if (weight.empty()) return x;
  if (!a.norms_have_weights) return net.rms_norm(x, "", a.eps);
  const std::string name = a.prefix + weight + ".weight";
  if (a.norm_is_layer && a.norm_is_whole) {
    const std::string bias = net.plain(a.prefix + weight + ".bias", {x.width()});
    return net.reshape(net.layer_norm(net.reshape(x, {x.width()}), net.plain(name, {x.width()}), bias, a.eps), x.dims);
  }
  if (a.norm_is_layer)
    return net.binary(format::BinaryKind::mul, net.layer_norm(x, "", "", a.eps), net.plain(name, x.dims));
  if (!a.norm_is_whole) return net.rms_norm(x, net.plain(name, {a.head_dim}, a.norm_offset), a.eps);
  const Var flat = net.rms_norm(net.reshape(x, {x.width()}), net.plain(name, {x.width()}, a.norm_offset), a.eps);
  return net.reshape(flat, x.dims);
}

// q, k or v (part 0, 1 or 2) of a matrix with rows [heads, 3, head_dim].
Var part_of_heads(Net& net, const Attention& a, const Var& x, int64_t part) {
  const std::string name = a.prefix + a.qkv, own = name + "[" + std::to_string(part) + "]";
  const int64_t all = 3 * a.heads * a.head_dim;
  std::vector<int64_t> rows;
  for (int64_t i = 0; i < a.heads * a.head_dim; ++i)
    rows.push_back((i / a.head_dim * 3 + part) * a.head_dim + i % a.head_dim);
  const std::string matrix =
      net.matrix(own + ".weight", net.reordered(net.take(name + ".weight", {all, x.dims.back()}), rows));
  std::string bias;
  if (net.has_bias(name)) {
    const std::vector<float> values = net.values(name + ".bias", {all});
    std::vector<float> chosen;
    for (int64_t r : rows) chosen.push_back(values[size_t(r)]);
    bias = net.constant(own + ".bias", chosen, {-1});
  }
  return net.times(x, matrix, bias, {a.heads, a.head_dim});
}

int64_t value_dim(const Attention& a) { return a.value_dim ? a.value_dim : a.head_dim; }

// q, k, v and, where there is one, the gate.
std::vector<Var> projections(Net& net, const Attention& a, const Var& x) {
  const bool is_joined = !a.qkv.empty() && net.has(a.prefix + a.qkv + ".weight");
  if (is_joined && a.qkv_is_by_head) {
    if (a.heads != a.kv_heads)
      fail("%s: heads that share keys cannot stand one by one in %s", net.checkpoint().path.c_str(), a.qkv.c_str());
    return {part_of_heads(net, a, x, 0), part_of_heads(net, a, x, 1), part_of_heads(net, a, x, 2)};
  }
  const int64_t value = value_dim(a);
  std::vector<Product> products = {{a.prefix + a.q, {a.heads, a.head_dim}}};
  if (a.shared.empty()) products.push_back({a.prefix + a.k, {a.kv_heads, a.head_dim}});
  if (a.shared.empty() && !a.k_is_v) products.push_back({a.prefix + a.v, {a.kv_heads, value}});
  if (is_joined) {
    const int64_t q = a.heads * a.head_dim, kv = a.kv_heads * a.head_dim;
    for (size_t i = 0; i < 3; ++i)
      products[i].source = a.prefix + a.qkv, products[i].first = i == 0 ? 0 : q + int64_t(i - 1) * kv,
      products[i].rows_in_all = q + 2 * kv;
  }
  if (!a.gate.empty()) products.push_back({a.prefix + a.gate, {a.gate_is_per_head ? a.heads : a.heads * value}});
  return net.linears(x, products);
}

Var within(Net& net, const Var& x, double limit) {
  const std::string most = net.constant("/clip", {float(limit)}, {1}),
                    least = net.constant("/clip_least", {float(-limit)}, {1});
  return net.binary(format::BinaryKind::max, net.binary(format::BinaryKind::min, x, most), least);
}

}  // namespace

Var attention(Net& net, const Attention& a, const Var& x) {
  if (a.kv_heads < 1 || a.heads % a.kv_heads)
    fail("%s: %lld attention heads cannot share %lld key/value heads", net.checkpoint().path.c_str(),
         static_cast<long long>(a.heads), static_cast<long long>(a.kv_heads));
  const std::vector<Var> qkv = projections(net, a, x);
  const auto ready = [&](Var v, const std::string& norm) {
    if (!a.norm_is_late) v = head_norm(net, a, v, norm);
    if (a.clip > 0) v = within(net, v, a.clip);
    if (!a.rope.empty()) v = net.rope(v, a.rope, a.is_interleaved, a.rope_scale);
    return a.norm_is_late ? head_norm(net, a, v, norm) : v;
  };
  const std::string sinks = a.sinks.empty() ? "" : net.plain(a.prefix + a.sinks, {a.heads});
  const Softmax softmax = {a.scale, a.softcap, a.window, a.chunk, a.bias};
  const int64_t value = value_dim(a);
  Var q = ready(qkv[0], a.q_norm);
  if (!a.query_scale.name.empty()) q = net.mul(q, a.query_scale);
  Var y;
  if (a.shared.empty()) {
    const Var k = ready(qkv[1], a.k_norm);
    Var v = qkv[a.k_is_v ? 1 : 2];
    if (a.clip > 0) v = within(net, v, a.clip);
    v = net.scale(v, a.value_scale);
    y = attend(net, softmax, q, k, a.v_norm ? net.rms_norm(v, "", a.eps) : v, sinks);
  } else {
    y = attend_shared(net, softmax, q, a.shared, value, sinks);
  }
  Var out = net.wanted(y);
  if (!a.gate.empty()) {
    Var gate = net.unary(a.gate_activation, net.wanted(qkv.back()));
    if (a.gate_is_per_head) gate = net.reshape(gate, {a.heads, 1}), out = net.reshape(out, {a.heads, value});
    out = net.reshape(net.mul(out, gate), {a.heads * value});
  }
  return net.linear(out, {a.prefix + a.o, {x.dims.back()}});
}

namespace {

// A window as wide as a chunk hides nothing of it, and the states hold no more than that.
Var attend_chunk(Net& net, const Softmax& s, const Var& q, const Var& k, const Var& v, const std::string& sinks,
                 const std::string& name) {
  if (net.is_whole() || s.window)
    fail("%s: chunks of attention are causal and without a window", net.checkpoint().path.c_str());
  net.attention_states(name, s.chunk, k.dims[0], k.dims[1], v.dims[1]);
  format::SparseAttentionAttrsT attrs;
  attrs.scale = float(s.scale);
  attrs.softcap = float(s.softcap);
  attrs.window = attrs.chunk = uint32_t(s.chunk);
  Names inputs = {q.name, k.name, v.name, net.state_name(name + ".k"), net.state_name(name + ".v")};
  if (!sinks.empty()) inputs.push_back(sinks);
  return net.op("sparse_attention", inputs, "T", {q.dims[0] * v.dims[1]}, {}, attrs);
}

}  // namespace

Var attend(Net& net, const Softmax& s, const Var& q, const Var& k, const Var& v, const std::string& sinks,
           const std::string& name) {
  if (s.chunk) return attend_chunk(net, s, q, k, v, sinks, name);
  if (!net.is_whole()) net.attention_states(name, s.window, k.dims[0], k.dims[1], v.dims[1]);
  format::AttentionAttrsT attrs;
  attrs.scale = float(s.scale);
  attrs.window = uint32_t(s.window);
  attrs.softcap = float(s.softcap);
  attrs.causal = !net.is_whole();
  Names inputs = {q.name, k.name, v.name};
  if (!net.is_whole()) inputs.insert(inputs.end(), {net.state_name(name + ".k"), net.state_name(name + ".v")});
  else if (!sinks.empty() || !s.bias.empty()) inputs.resize(5);
  if (!sinks.empty() || !s.bias.empty()) inputs.push_back(sinks);
  if (!s.bias.empty()) inputs.push_back(s.bias);
  return net.op("attention", inputs, "T", {q.dims[0] * v.dims[1]}, {}, attrs);
}

Var attend_shared(Net& net, const Softmax& s, const Var& q, const std::string& states, int64_t value_dim,
                  const std::string& sinks) {
  format::AttentionAttrsT attrs;
  attrs.scale = float(s.scale);
  attrs.window = uint32_t(s.window);
  attrs.softcap = float(s.softcap);
  Names inputs = {q.name, "", "", states + ".k", states + ".v"};
  if (!sinks.empty()) inputs.push_back(sinks);
  if (q.axis == "R") {
    inputs.resize(8);
    inputs.push_back("rows");
  }
  return net.op("attention", inputs, q.axis, {q.dims[0] * value_dim}, {}, attrs);
}

Var feed_forward(Net& net, const FeedForward& f, const Var& x) {
  if (!f.is_gated)
    return net.linear(net.unary(f.activation, net.linear(x, {f.prefix + f.up, {f.width}})),
                      {f.prefix + f.down, {x.dims.back()}});
  std::vector<Product> products = {{f.prefix + f.gate, {f.width}}, {f.prefix + f.up, {f.width}}};
  if (!f.gate_up.empty() && net.has(f.prefix + f.gate_up + ".weight"))
    for (size_t i = 0; i < 2; ++i)
      products[i] = {f.prefix + f.gate_up, {f.width}, int64_t(f.is_up_first ? 1 - i : i) * f.width, 2 * f.width};
  const std::vector<Var> h = net.linears(x, products);
  return net.linear(net.glu(f.activation, h[0], h[1]), {f.prefix + f.down, {x.dims.back()}});
}

namespace {

// Whether experts have this as one tensor.
bool has_stack(Net& net, const std::string& name) {
  return net.has(name) || net.has(name + ".weight") || net.has(name + "_blocks");
}

// Rows first, first + step, .. (`rows` of them) of every expert's matrix [all, columns], stacked.
struct ExpertRows {
  int64_t first, rows, all, step = 1;
};
std::string expert_matrix(Net& net, const Experts& e, std::string pattern, const ExpertRows& r, int64_t columns,
                          const std::string& part) {
  std::vector<const SourceTensor*> parts;
  size_t hole = pattern.find("{}.");
  if (hole != std::string::npos && has_stack(net, e.prefix + std::string(pattern).erase(hole, 3)))
    pattern.erase(hole, 3), hole = std::string::npos;
  if (hole != std::string::npos) {
    for (int64_t i = 0; i < e.count; ++i)
      parts.push_back(&net.rows_of(
          net.take(e.prefix + pattern.substr(0, hole) + std::to_string(i) + pattern.substr(hole + 2) + ".weight",
                   {r.all, columns}),
          r.first, r.rows));
    return net.matrix(e.prefix + "experts." + part, net.stacked(parts));
  }
  const bool has_blocks = net.has(e.prefix + pattern + "_blocks"), is_turned = e.is_turned && !has_blocks;
  const std::string name = e.prefix + pattern + (net.has(e.prefix + pattern) ? "" : ".weight");
  const int64_t height = is_turned ? columns : r.all, width = is_turned ? r.all : columns;
  SourceTensor flat = has_blocks ? mxfp4_rows(net, e.prefix + pattern, e.count, r.all, columns)
                                 : net.take(name, {e.count, height, width});
  flat.shape = {uint64_t(e.count * height), uint64_t(width)};
  std::vector<int64_t> rows;
  for (int64_t i = 0; i < r.rows; ++i) rows.push_back(r.first + i * r.step);
  for (int64_t i = 0; i < e.count; ++i) {
    const SourceTensor& own = net.rows_of(flat, i * height, height);
    if (is_turned || r.step != 1) parts.push_back(&net.reordered(is_turned ? net.transposed(own) : own, rows));
    else parts.push_back(&net.rows_of(own, r.first, r.rows));
  }
  return net.matrix(e.prefix + "experts." + part, net.stacked(parts));
}

// The same rows of a bias [experts, all].
std::string expert_bias(Net& net, const Experts& e, const std::string& name, const ExpertRows& r,
                        const std::string& part) {
  const std::vector<float> all = net.values(e.prefix + name + "_bias", {e.count, r.all});
  std::vector<float> out;
  for (int64_t i = 0; i < e.count; ++i)
    for (int64_t k = 0; k < r.rows; ++k) out.push_back(all[size_t(i * r.all + r.first + k * r.step)]);
  return net.constant(e.prefix + "experts." + part + "_bias", out, {e.count, r.rows});
}

Var clamped_glu(Net& net, const Experts& e, Var gate, Var up) {
  const auto number = [&](const char* name, double value) {
    return net.constant(std::string("/") + name, {float(value)}, {1});
  };
  const std::string limit = number("clamp_limit", e.clamp_limit), least = number("clamp_least", -e.clamp_limit),
                    one = number("one", 1);
  gate = net.binary(format::BinaryKind::min, gate, limit);
  up = net.binary(format::BinaryKind::max, net.binary(format::BinaryKind::min, up, limit), least);
  const Var h =
      net.glu(format::UnaryKind::silu, net.scale(gate, e.clamp_alpha), net.binary(format::BinaryKind::add, up, one));
  return net.scale(h, 1 / e.clamp_alpha);
}

// What the chosen experts make of x: [chosen, width]. shares [chosen, 1].
Var expert_hidden(Net& net, const Experts& e, const Var& in, const Var& ids, const Var& shares) {
  const int64_t columns = in.dims.back(), w = e.width;
  const bool is_joined = !e.gate_up.empty() && has_stack(net, e.prefix + e.gate_up);
  const bool is_gated = !e.gate.empty() || is_joined;
  Names inputs = {in.name, ids.name}, biases;
  if (is_joined) {
    const ExpertRows gate = e.is_clamped ? ExpertRows{0, w, 2 * w, 2} : ExpertRows{0, w, 2 * w},
                     up = e.is_clamped ? ExpertRows{1, w, 2 * w, 2} : ExpertRows{w, w, 2 * w};
    inputs.push_back(expert_matrix(net, e, e.gate_up, gate, columns, "gate"));
    inputs.push_back(expert_matrix(net, e, e.gate_up, up, columns, "up"));
    if (e.is_clamped) biases = {expert_bias(net, e, e.gate_up, gate, "gate"), expert_bias(net, e, e.gate_up, up, "up")};
  } else {
    if (is_gated) inputs.push_back(expert_matrix(net, e, e.gate, {0, w, w}, columns, "gate"));
    inputs.push_back(expert_matrix(net, e, e.up, {0, w, w}, columns, "up"));
    if (e.is_clamped)
      biases = {expert_bias(net, e, e.gate, {0, w, w}, "gate"), expert_bias(net, e, e.up, {0, w, w}, "up")};
  }
  inputs.insert(inputs.end(), biases.begin(), biases.end());
  if (!is_gated) return net.unary(e.activation, net.op("routed_matmul", inputs, in.axis, {e.chosen, w}));
  Var up = net.make(e.prefix + "up", in.axis, {e.chosen, w}, true);
  Var gate = net.op("routed_matmul", inputs, in.axis, {e.chosen, w}, {up.name});
  if (e.weighs_input) gate = net.mul(gate, shares), up = net.mul(up, shares);
  return e.is_clamped ? clamped_glu(net, e, gate, up) : net.glu(e.activation, gate, up);
}

}  // namespace

void read_sigmoid_route(const Facts& f, format::RouteAttrsT& route) {
  route.scoring = format::RouteScoring::sigmoid;
  route.renormalise = f.boolean(f.has("moe_renormalize") ? "moe_renormalize" : "norm_topk_prob", true);
  route.scale = float(f.number("routed_scaling_factor", 1));
  route.eps = 1e-20f;
  route.group_score = format::GroupScore::top2;
}

Var experts(Net& net, const Experts& e, const Var& x, const Var* scored) {
  const Var in = e.latent ? net.linear(x, {e.prefix + e.latent_in, {e.latent}}) : x;
  const int64_t hidden = in.dims.back();
  Var logits = net.linear(scored ? *scored : x, {e.prefix + e.router, {e.count}});
  if (e.router_softcap > 0) logits = net.unary(format::UnaryKind::softcap, logits, float(e.router_softcap));
  const Var ids = net.make(e.prefix + "ids", x.axis, {e.chosen}, true, format::DType::i32);
  Names route_inputs = {logits.name};
  if (!e.choice_bias.empty()) {
    const std::string bias = e.prefix + e.choice_bias;
    route_inputs.push_back(net.constant(bias, net.numbers(bias, e.count), {e.count}));
  }
  const Var weights = net.op("route", route_inputs, x.axis, {e.chosen}, {ids.name}, e.route);
  Var shares = net.reshape(weights, {e.chosen, 1});
  const Var h = expert_hidden(net, e, in, ids, shares);
  const ExpertRows all = {0, hidden, hidden};
  Names down = {h.name, ids.name, expert_matrix(net, e, e.down, all, e.width, "down")};
  if (e.is_clamped) down.push_back(expert_bias(net, e, e.down, all, "down"));
  const Var each = net.op("routed_matmul", down, x.axis, {e.chosen, hidden});
  if (!e.factors.empty())
    shares =
        net.mul(shares, net.op("embedding", {ids.name, net.plain_as(e.prefix + e.factors, {e.count}, {e.count, 1})},
                               x.axis, {e.chosen, 1}));
  format::ReduceAttrsT sum;
  sum.kind = format::ReduceKind::sum;
  sum.axis = 1;
  const Var y = net.op("reduce", {e.weighs_input ? each.name : net.mul(each, shares).name}, x.axis, {hidden}, {}, sum);
  return e.latent ? net.linear(y, {e.prefix + e.latent_out, {x.dims.back()}}) : y;
}

}  // namespace runnel::convert
