// Decoders with layer norms. Cohere 2 (Command R7B): both halves of a layer see the same normed input, positions only
// in layers with a window. StarCoder 2: biases everywhere, a feed-forward without a gate.
#include "converter/recipes/decoder.h"
#include "converter/recipes/layer_types.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/routed.h"

namespace runnel::convert {
namespace {

void build_cohere2(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  d.is_layer_norm = d.is_parallel = true;
  d.ffn_norm = nullptr;
  const Facts f = source_facts(c, {{}, {{"logit_scale", 1}}});
  read_basics(f, d);
  d.attention.is_interleaved = true;
  d.is_tied = f.boolean("tie_word_embeddings", true);
  d.logit_factor = float(f.number("logit_scale", 0.0625));
  for (const char* key : {"use_embedding_sharing", "use_gated_activation", "use_parallel_block"}) f.expect(key, true);
  f.expect("order_of_interleaved_layers", "local_attn_first");
  f.expect("position_embedding_type", "rope_gptj");
  f.pass_over({"use_parallel_embedding"});
  d.ropes.push_back(read_rope(c, f, "", 10000, d.attention.head_dim));
  f.stated_in_gguf({"sliding_window"});
  set_window_layers(f, 4, d.layers);
  for (Layer& layer : d.layers) layer.rope = layer.window ? 0 : -1;
  build_decoder(c, d, b);
}

// Layers that see everything and the first layers, which have no experts, as a configuration counts them where it names
// no types.
std::vector<Layer> cohere2_moe_layers(const Facts& f, Decoder& d) {
  const int64_t dense = f.integer("first_k_dense_replace", 0, int64_t(d.layers.size()), 0),
                first = f.integer("prefix_dense_sliding_window_pattern", 1, 4096, 1),
                rest = f.integer("sliding_window_pattern", 1, 4096, 4),
                window = f.integer("sliding_window", 1, 1 << 30, 0);
  std::vector<Layer> layers = d.layers;
  if (f.has("layer_types")) set_window_layers(f, 0, layers);
  for (size_t i = 0; !f.has("layer_types") && i < layers.size(); ++i) {
    const bool is_first = int64_t(i) < dense;
    const int64_t at = int64_t(i) - (is_first ? 0 : dense) + 1;
    layers[i].window = at % (is_first ? first : rest) ? window : 0;
  }
  for (Layer& layer : layers) layer.rope = layer.window || (first == 1 && !layer.has_experts) ? 0 : -1;
  return layers;
}

// Command A+: experts, the first layers without; RMS norms where the configuration has their eps.
void build_cohere2_moe(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts given = config_facts(c);
  Json plain = given.tree();
  if (given.is_null("rms_norm_eps")) plain.erase("rms_norm_eps");
  const Facts f = given.with(plain);
  read_basics(f, d);
  d.is_parallel = true;
  d.is_layer_norm = !f.has("rms_norm_eps");
  if (!d.is_layer_norm) d.eps = f.number("rms_norm_eps");
  d.ffn_norm = nullptr;
  d.attention.is_interleaved = true;
  d.is_tied = f.boolean("tie_word_embeddings", true);
  d.logit_factor = float(f.number("logit_scale", 0.0625));
  read_experts(f, d);
  format::RouteAttrsT& route = d.experts.route;
  const std::string selection = f.text("expert_selection_fn", "softmax");
  if (selection != "softmax" && selection != "sigmoid")
    f.refuse("expert_selection_fn", "is \"" + printable(selection) + "\"; softmax and sigmoid are supported");
  route.select_first = selection == "softmax";
  if (selection == "sigmoid") route.scoring = format::RouteScoring::sigmoid;
  const bool renormalises = f.boolean("norm_topk_prob", true);
  route.renormalise = renormalises && !route.select_first;
  d.experts.width = d.ffn.width;
  add_shared_experts(d.ffn.width * f.integer("num_shared_experts", 0, 65536, 0), d);
  const std::string how = f.text("shared_expert_combination_strategy", "average");
  if (how != "average" && how != "sum") f.refuse("shared_expert_combination_strategy", "is not \"average\" or \"sum\"");
  if (how == "average") d.experts_factor = 0.5f;
  d.ffn.width = f.integer("prefix_dense_intermediate_size", 1, 1 << 30, d.ffn.width);
  set_sparse_layers(f, 0, d);
  d.layers = cohere2_moe_layers(f, d);
  d.ropes.push_back(read_rope(c, f, "", 10000, d.attention.head_dim));
  build_decoder(c, d, b);
}

void build_starcoder2(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = source_facts(c);
  read_basics(f, d);
  d.is_layer_norm = true;
  d.is_tied = f.boolean("tie_word_embeddings", true);
  d.ffn.is_gated = false;
  d.ffn.activation = activation_named(f, "hidden_act", "gelu_pytorch_tanh");
  d.ffn.up = "c_fc", d.ffn.down = "c_proj";
  d.naming.gguf.insert({{"mlp.c_fc", "ffn_up"}, {"mlp.c_proj", "ffn_down"}});
  f.expect("mlp_type", "default");
  f.expect("norm_type", "layer_norm");
  expect_biases(f, "use_bias", {"q_proj", "k_proj", "v_proj", "o_proj", "c_fc", "c_proj"}, d.naming);
  d.ropes.push_back(read_rope(c, f, "", 10000, d.attention.head_dim));
  set_window_layers(f, 0, d.layers);
  build_decoder(c, d, b);
}

}  // namespace

extern const Recipe cohere2_recipe, cohere2_moe_recipe, starcoder2_recipe;
const Recipe cohere2_recipe = {"cohere2", {"cohere2"}, {"cohere2"}, build_cohere2};
const Recipe cohere2_moe_recipe = {"cohere2_moe", {}, {"cohere2_moe"}, build_cohere2_moe};
const Recipe starcoder2_recipe = {"starcoder2", {"starcoder2"}, {"starcoder2"}, build_starcoder2};

}  // namespace runnel::convert
