// AIMv2's tower for images (arXiv 2411.14402): RMS norms, gated feed-forward, and one learned query that pools all
// patches.
#include <cmath>

#include "converter/recipes/vision_encoder.h"

namespace runnel::convert {
namespace {

// Sines and cosines of the column, then of the row, as the native checkpoints have them.
std::vector<float> places_of(const VisionEncoder& e) {
  const int64_t quarter = e.hidden / 4;
  std::vector<float> all;
  for (int64_t i = 0; i < e.rows(); ++i)
    for (int64_t j = 0; j < e.columns(); ++j)
      for (int64_t k = 0; k < 4 * quarter; ++k) {
        const double angle = double(k < 2 * quarter ? j : i) / std::pow(10000.0, double(k % quarter) / double(quarter));
        all.push_back(float(k / quarter % 2 ? std::cos(angle) : std::sin(angle)));
      }
  return all;
}

Var pooled(VisionNet& net, const VisionEncoder& e, const Var& x) {
  const int64_t d = e.hidden / e.heads;
  const Var q =
      net.op("expand", {net.constant("head.query", net.numbers("head.cls_token", e.hidden), {1, 1, e.heads, d})},
             x.axis, {1, e.heads, d});
  std::vector<Var> kv = net.linears(x, {"head.k_proj", "head.v_proj"});
  for (Var& part : kv) part = net.reshape(part, {x.dims[0], e.heads, d});
  const Var y = net.reshape(net.attend(q, kv[0], kv[1], 1 / std::sqrt(double(d))), {e.hidden});
  return net.linear(y, "head.output_proj");
}

void build(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c).with_defaults({{"hidden_size", 1024},
                                                 {"num_hidden_layers", 24},
                                                 {"num_attention_heads", 8},
                                                 {"image_size", 224},
                                                 {"patch_size", 14},
                                                 {"hidden_act", "silu"}});
  VisionEncoder e = vit_like(c, f, "");
  e.is_rms = true, e.eps = f.number("rms_norm_eps", 1e-5);
  e.patches = "embeddings.patch_embed", e.patch_norm = "embeddings.rms_norm";
  e.positions = "embeddings.position_embedding.weight", e.tokens_with_position = 0;
  if (f.boolean("is_native", false)) {
    if (e.hidden % 4) f.refuse("hidden_size", "is no multiple of 4, as sines and cosines of two axes need it");
    e.positions.clear(), e.places = places_of(e);
  }
  e.layer = "encoder.layers.", e.attn_norm = "rms_norm1", e.ffn_norm = "rms_norm2", e.last_norm = "rms_norm";
  e.q = "attention.q_proj", e.k = "attention.k_proj", e.v = "attention.v_proj", e.o = "attention.out_proj";
  e.gate = "ffn.gate_proj", e.up = "ffn.up_proj", e.down = "ffn.down_proj";
  f.pass_over({"mlp_bias"});
  const std::string name = class_of(c, "Aimv2");
  if (name != "VisionModel" && name != "Model") refuse_class(f, name);
  VisionNet net(c, b, e.naming);
  const Var x = encode_image(net, e);
  net.give(x, "last_hidden_state");
  if (f.boolean("use_head", true)) net.give(pooled(net, e, x), "pooler_output");
}

}  // namespace

extern const Recipe aimv2_recipe;
const Recipe aimv2_recipe = {"aimv2", {}, {"aimv2_vision_model"}, build};

}  // namespace runnel::convert
