#include "converter/recipes/latent.h"

#include <cmath>
#include <cstring>

#include "converter/recipes/blocks.h"

namespace runnel::convert {

Latent read_latent(const Facts& f) {
  Latent l;
  l.heads = f.integer("num_attention_heads", 1, 65536);
  l.q_rank = f.integer("q_lora_rank", 0, 65536, 0);
  l.kv_rank = f.integer("kv_lora_rank", 1, 65536);
  l.still = f.integer("qk_nope_head_dim", 1, 65536);
  l.turning = f.integer("qk_rope_head_dim", 1, 65536);
  l.value = f.integer("v_head_dim", 1, 65536, f.integer("hidden_size") / l.heads);
  l.scale = 1 / std::sqrt(double(l.still + l.turning));
  return l;
}

namespace {

// What unfolds keys and values, where a GGUF has two tensors for it: keys [heads, rank, still], values [heads, value,
// rank].
std::string split_keys(Net& net, const Latent& l) {
  const std::string name = "self_attn.k_b_proj.weight";
  const std::vector<float> given = net.values(name, {l.heads, l.kv_rank, l.still});
  std::vector<float> turned(given.size());
  for (int64_t h = 0, at = 0; h < l.heads; ++h)
    for (int64_t r = 0; r < l.kv_rank; ++r)
      for (int64_t i = 0; i < l.still; ++i) turned[size_t((h * l.still + i) * l.kv_rank + r)] = given[size_t(at++)];
  std::vector<uint8_t> bytes(turned.size() * sizeof(float));
  std::memcpy(bytes.data(), turned.data(), bytes.size());
  SourceTensor t{net.own_name(name), SourceType::kF32, as_shape({l.heads * l.still, l.kv_rank}), nullptr, 0};
  return net.matrix(name, net.derived(std::move(t), std::move(bytes)));
}

std::string split_values(Net& net, const Latent& l) {
  const std::string name = "self_attn.v_b_proj.weight";
  SourceTensor t = net.take(name, {l.heads, l.value, l.kv_rank});
  t.shape = as_shape({l.heads * l.value, l.kv_rank});
  return net.matrix(name, net.rows_of(t, 0, l.heads * l.value));
}

}  // namespace

Var latent_attention(Net& net, const Latent& l, const Var& x) {
  const std::string p = "self_attn.";
  // Channels first .. of each head as a matrix of its own.
  const auto part = [&](const std::string& name, int64_t rank, int64_t all, const char* own, int64_t first,
                        int64_t count) {
    std::vector<int64_t> rows;
    for (int64_t h = 0; h < l.heads; ++h)
      for (int64_t i = 0; i < count; ++i) rows.push_back(h * all + first + i);
    return Net::Weight{net.matrix(name + own, net.reordered(net.take(name + ".weight", {l.heads * all, rank}), rows)),
                       {l.heads, count}};
  };
  const auto turned = [&](const Var& v) { return net.rope(v, l.rope, l.is_interleaved, l.rope_scale); };
  Var from = x;
  if (l.q_rank)
    from = net.rms_norm(net.linear(x, {p + "q_a_proj", {l.q_rank}}), net.plain(p + "q_a_layernorm.weight", {l.q_rank}),
                        l.eps);
  const std::string unfold = p + (l.q_rank ? "q_b_proj" : "q_proj");
  const int64_t width = l.still + l.turning;
  Var q;
  if (l.rope.empty()) {
    q = net.linear(from, {unfold, {l.heads, width}});
  } else {
    const int64_t rank = from.dims.back();
    const std::vector<Var> parts = net.products(from, {part(unfold, rank, width, "[still]", 0, l.still),
                                                       part(unfold, rank, width, "[turning]", l.still, l.turning)});
    q = net.concat({parts[0], turned(parts[1])}, 2);
  }
  const std::string down = p + "kv_a_proj_with_mqa";
  const std::vector<Var> kv = net.linears(x, {{down, {l.kv_rank}, 0, l.kv_rank + l.turning},
                                              {down, {l.turning}, l.kv_rank, l.kv_rank + l.turning}});
  const Var row = net.rms_norm(kv[0], net.plain(p + "kv_a_layernorm.weight", {l.kv_rank}), l.eps);
  const std::string both = p + "kv_b_proj";
  const std::vector<Var> up = net.products(
      row, net.has(p + "k_b_proj.weight")
               ? std::vector<Net::Weight>{{split_keys(net, l), {l.heads, l.still}},
                                          {split_values(net, l), {l.heads, l.value}}}
               : std::vector<Net::Weight>{part(both, l.kv_rank, l.still + l.value, "[k]", 0, l.still),
                                          part(both, l.kv_rank, l.still + l.value, "[v]", l.still, l.value)});
  Var shared = net.reshape(kv[1], {1, l.turning});
  if (!l.rope.empty()) shared = turned(shared);
  const Var k = net.concat({up[0], net.concat(std::vector<Var>(size_t(l.heads), shared), 1)}, 2);
  const Var y = attend(net, {l.scale, 0, 0}, q, k, up[1]);
  return net.linear(net.wanted(y), {p + "o_proj", {x.dims[0]}});
}

}  // namespace runnel::convert
