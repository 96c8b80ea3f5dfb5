// Decoders with layer norms. Cohere 2 (Command R7B): both halves of a layer see the same normed input, positions only
// in layers with a window. StarCoder 2: biases everywhere, a feed-forward without a gate.
#include "converter/recipes/decoder.h"
#include "converter/recipes/layer_types.h"
#include "converter/recipes/recipe.h"

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

extern const Recipe cohere2_recipe, starcoder2_recipe;
const Recipe cohere2_recipe = {"cohere2", {"cohere2"}, {"cohere2"}, build_cohere2};
const Recipe starcoder2_recipe = {"starcoder2", {"starcoder2"}, {"starcoder2"}, build_starcoder2};

}  // namespace runnel::convert
