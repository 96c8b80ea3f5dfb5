// The GPT line: GPT-2 with an embedding of positions and matrices stored as [inputs, outputs], GPT-NeoX (Pythia) with
// rotary positions, both halves of a layer beside each other and q, k and v head by head.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/layer_types.h"
#include "converter/recipes/recipe.h"

namespace runnel::convert {
namespace {

// In a GGUF matrices stand as everywhere, and the rows of q, k and v one after the other.
void build_gguf(Checkpoint& c, bool has_table, ModelBuilder& b) {
  Decoder d;
  const Facts f = read_gguf_basics(c, d);
  d.is_layer_norm = true;
  d.is_parallel = !has_table && f.boolean("use_parallel_residual", true);
  d.attention.qkv = "qkv_proj";
  d.ffn.is_gated = false;
  d.ffn.activation = has_table ? format::UnaryKind::gelu_tanh : format::UnaryKind::gelu;
  d.naming.gguf.insert({{"self_attn.qkv_proj", "attn_qkv"}, {"wpe", "position_embd"}});
  if (has_table) {
    d.position_table = "wpe";
    for (Layer& layer : d.layers) layer.rope = -1;
  }
  build_decoder(c, d, b);
}

void build_gpt2(Checkpoint& c, ModelBuilder& b) {
  if (c.is_gguf()) return build_gguf(c, true, b);
  Decoder d;
  const Facts own = config_facts(c);
  for (const char* option : {"scale_attn_by_inverse_layer_idx", "add_cross_attention"})
    if (own.boolean(option, false)) own.refuse(option, "is true, which is not supported");
  Json plain = c.meta["config"];  // under the names that others have
  static const std::map<std::string, std::string> kOthers = {{"n_embd", "hidden_size"},
                                                             {"n_head", "num_attention_heads"},
                                                             {"n_layer", "num_hidden_layers"},
                                                             {"n_positions", "max_position_embeddings"},
                                                             {"activation_function", "hidden_act"},
                                                             {"n_inner", "intermediate_size"}};
  for (const auto& [name, other] : kOthers)
    if (own.has(name)) plain[other] = *own.find(name);
  if (!own.has("n_inner")) plain["intermediate_size"] = 4 * own.integer("n_embd");
  const Facts f = own.with(plain);
  read_config_basics(f, d);
  d.is_layer_norm = true;
  d.attention.qkv = "qkv_proj";
  if (!f.boolean("scale_attn_weights", true)) d.attention.scale = 1;
  d.ffn.is_gated = false;
  d.ffn.activation = activation_named(f, "hidden_act", "gelu_new");
  d.is_tied = f.boolean("tie_word_embeddings", true);
  d.position_table = "wpe";
  for (Layer& layer : d.layers) layer.rope = -1;
  // The first releases lack the root and have masks as tensors.
  d.naming = {c.has("wte.weight") ? "" : "transformer.", "h.", {}, {}, true};
  d.naming.renamed = {{"embed_tokens", "wte"},
                      {"norm", "ln_f"},
                      {"input_layernorm", "ln_1"},
                      {"post_attention_layernorm", "ln_2"},
                      {"self_attn.qkv_proj", "attn.c_attn"},
                      {"self_attn.o_proj", "attn.c_proj"},
                      {"mlp.up_proj", "mlp.c_fc"},
                      {"mlp.down_proj", "mlp.c_proj"}};
  for (const char* mask : {".attn.bias", ".attn.masked_bias"}) c.ignore_containing(mask);
  build_decoder(c, d, b);
}

void build_gpt_neox(Checkpoint& c, ModelBuilder& b) {
  if (c.is_gguf()) return build_gguf(c, false, b);
  Decoder d;
  const Facts f = config_facts(c);
  read_config_basics(f, d);
  d.is_layer_norm = true;
  d.is_parallel = f.boolean("use_parallel_residual", true);
  d.attention.prefix = "attention.";
  d.attention.kv_heads = d.attention.heads;
  d.attention.qkv = "query_key_value";
  d.attention.qkv_is_by_head = true;
  d.attention.o = "dense";
  d.ffn.is_gated = false;
  d.ffn.up = "dense_h_to_4h", d.ffn.down = "dense_4h_to_h";
  d.ffn.activation = activation_named(f, "hidden_act", "gelu");
  d.naming = {"gpt_neox.", "layers.", {}};
  expect_biases(f, "attention_bias", {"query_key_value", "dense"}, d.naming);
  d.naming.renamed = {{"embed_tokens", "embed_in"}, {"norm", "final_layer_norm"}};
  if (c.has("embed_out.weight")) d.naming.renamed["/lm_head"] = "/embed_out";
  d.ropes.push_back(config_rope(f, "", 10000, d.attention.head_dim, 0.25));
  for (const char* mask : {".attention.bias", ".attention.masked_bias"}) c.ignore_containing(mask);
  build_decoder(c, d, b);
}

}  // namespace

extern const Recipe gpt2_recipe, gpt_neox_recipe;
const Recipe gpt2_recipe = {"gpt2", {"gpt2"}, {"gpt2"}, build_gpt2};
const Recipe gpt_neox_recipe = {"gpt_neox", {"gptneox"}, {"gpt_neox"}, build_gpt_neox};

}  // namespace runnel::convert
