// BEiT and data2vec's vision model: a bias by the relative places of patches on the scores, shared or of each layer.
#include "converter/recipes/vision_encoder.h"

namespace runnel::convert {
namespace {

// table [(2 rows - 1)(2 columns - 1) + 3, heads] by relative place as [heads, n, n]; the last three rows are for the
// first token to patches, patches to it, and itself.
std::string relative_bias(VisionNet& net, const VisionEncoder& e, const std::string& name) {
  const int64_t rows = e.rows(), columns = e.columns(), n = rows * columns + 1,
                count = (2 * rows - 1) * (2 * columns - 1) + 3;
  const std::vector<float> table = net.values(name, {count, e.heads});
  std::vector<float> bias(size_t(e.heads * n * n));
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j) {
      int64_t row = count - (i == 0 && j == 0 ? 1 : i == 0 ? 3 : 2);
      if (i > 0 && j > 0) {
        const int64_t down = (i - 1) / columns - (j - 1) / columns, right = (i - 1) % columns - (j - 1) % columns;
        row = (down + rows - 1) * (2 * columns - 1) + right + columns - 1;
      }
      for (int64_t h = 0; h < e.heads; ++h) bias[size_t((h * n + i) * n + j)] = table[size_t(row * e.heads + h)];
    }
  return net.constant(name, bias, {e.heads, n, n});
}

void build_beit(Checkpoint& c, ModelBuilder& b) {
  const Facts f = config_facts(c);
  const bool is_beit = f.text("model_type", "beit") == "beit";
  VisionEncoder e = vit_like(c, f, is_beit ? "beit." : "data2vec_vision.");
  e.tokens = {"embeddings.cls_token"};
  if (!f.boolean("use_absolute_position_embeddings", false)) e.positions.clear();
  const bool is_mean = f.boolean("use_mean_pooling", true),
             is_shared = f.boolean("use_shared_relative_position_bias", false),
             is_own = f.boolean("use_relative_position_bias", false);
  if ((is_shared || is_own) && e.rows() != e.columns())
    f.refuse("image_size", "is not square, for which the biases of relative places would have to be stretched");
  if (is_mean) e.last_norm.clear();
  if (f.number("layer_scale_init_value", 0.1) > 0) e.attn_scale = "lambda_1", e.ffn_scale = "lambda_2";
  const std::string table = "relative_position_bias.relative_position_bias_table";
  if (is_shared || is_own)
    e.biases = [&](VisionNet& net, int64_t layer) {
      std::vector<VisionNet::Bias> out;
      const std::string own = e.layer + std::to_string(layer) + ".attention.attention." + table;
      if (is_own) out.push_back({relative_bias(net, e, own)});
      if (is_shared) out.push_back({relative_bias(net, e, "encoder." + table)});
      return out;
    };
  f.pass_over({"use_mask_token", "pool_scales", "use_auxiliary_head", "auxiliary_channels", "auxiliary_num_convs",
               "auxiliary_concat_input", "auxiliary_loss_weight", "out_features", "out_indices", "stage_names",
               "add_fpn", "reshape_hidden_states", "semantic_loss_ignore_index"});
  const std::string name = class_of(c, is_beit ? "Beit" : "Data2VecVision");
  e.naming.renamed["masked_norm"] = "/layernorm";
  VisionNet net(c, b, e.naming);
  const Var x = encode_image(net, e), patches = net.slice(x, 1, 1, x.dims[0] - 1);
  const auto pooled = [&] {
    return is_mean ? net.norm(net.mean(patches, 1), "pooler.layernorm", e.eps) : net.token(x, 0);
  };
  if (name == "Model") {
    net.give(x, "last_hidden_state");
    if (is_beit || net.has("pooler.layernorm.weight")) net.give(pooled(), "pooler_output");
  } else if (name == "ForImageClassification") {
    net.give(net.linear(pooled(), "/classifier"), "logits");
  } else if (is_beit && name == "ForMaskedImageModeling") {
    net.give(net.linear(net.norm(patches, "masked_norm", e.eps), "/lm_head"), "logits");
  } else {
    refuse_class(f, name);
  }
  for (const char* part : {"mask_token", "relative_position_index"}) c.ignore_containing(part);
}

}  // namespace

extern const Recipe beit_recipe;
const Recipe beit_recipe = {"beit", {}, {"beit", "data2vec-vision"}, build_beit};

}  // namespace runnel::convert
