// The GPT line: GPT-2 with an embedding of positions and matrices stored as [inputs, outputs], GPT-NeoX (Pythia) with
// rotary positions, both halves of a layer beside each other and q, k and v head by head.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/layer_types.h"
#include "converter/recipes/recipe.h"

namespace runnel::convert {
namespace {

void build_gpt2(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts own = source_facts(c);
  for (const char* option : {"scale_attn_by_inverse_layer_idx", "add_cross_attention"})
    if (own.boolean(option, false)) own.refuse(option, "is true, which is not supported");
  Json plain = own.tree();  // under the names that others have
  static const std::map<std::string, std::string> kOthers = {{"n_embd", "hidden_size"},
                                                             {"n_head", "num_attention_heads"},
                                                             {"n_layer", "num_hidden_layers"},
                                                             {"n_positions", "max_position_embeddings"},
                                                             {"activation_function", "hidden_act"},
                                                             {"n_inner", "intermediate_size"}};
  for (const auto& [name, other] : kOthers)
    if (own.has(name)) plain[other] = *own.find(name);
  if (!plain.contains("intermediate_size")) plain["intermediate_size"] = 4 * own.integer("n_embd");
  const Facts f = own.with(plain);
  read_basics(f, d);
  d.is_layer_norm = true;
  d.attention.qkv = "qkv_proj";
  if (!f.boolean("scale_attn_weights", true)) d.attention.scale = 1;
  d.ffn.is_gated = false;
  d.ffn.activation = activation_named(f, "hidden_act", "gelu_new");
  d.is_tied = f.boolean("tie_word_embeddings", true);
  d.position_table = "wpe";
  for (Layer& layer : d.layers) layer.rope = -1;
  // The first releases lack the root and have masks as tensors; in a GGUF matrices stand as everywhere.
  d.naming.root = c.has("wte.weight") ? "" : "transformer.";
  d.naming.layer = "h.";
  d.naming.is_turned = true;
  d.naming.gguf.insert({{"self_attn.qkv_proj", "attn_qkv"}, {"wpe", "position_embd"}});
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

// Files of GPT-NeoX hold the rows of q, k and v head by head, its GGUFs one after the other.
const GgufForm kGptNeox = {{}, {{"gguf.has_qkv_in_turn", true}}};

void build_gpt_neox(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = source_facts(c, kGptNeox);
  read_basics(f, d);
  d.is_layer_norm = true;
  d.is_parallel = f.boolean("use_parallel_residual", true);
  d.attention.prefix = "attention.";
  d.attention.kv_heads = d.attention.heads;
  d.attention.qkv = "query_key_value";
  d.attention.qkv_is_by_head = !f.boolean("gguf.has_qkv_in_turn", false);
  d.attention.o = "dense";
  d.ffn.is_gated = false;
  d.ffn.up = "dense_h_to_4h", d.ffn.down = "dense_4h_to_h";
  d.ffn.activation = activation_named(f, "hidden_act", "gelu");
  d.naming.root = "gpt_neox.";
  d.naming.biases.clear();
  expect_biases(f, "attention_bias", {"query_key_value", "dense"}, d.naming);
  d.naming.gguf.insert({{"attention.query_key_value", "attn_qkv"},
                        {"attention.dense", "attn_output"},
                        {"mlp.dense_h_to_4h", "ffn_up"},
                        {"mlp.dense_4h_to_h", "ffn_down"}});
  d.naming.renamed = {{"embed_tokens", "embed_in"}, {"norm", "final_layer_norm"}};
  if (c.has("embed_out.weight")) d.naming.renamed["/lm_head"] = "/embed_out";
  d.ropes.push_back(read_rope(c, f, "", 10000, d.attention.head_dim, 0.25));
  for (const char* mask : {".attention.bias", ".attention.masked_bias"}) c.ignore_containing(mask);
  build_decoder(c, d, b);
}

}  // namespace

extern const Recipe gpt2_recipe, gpt_neox_recipe;
const Recipe gpt2_recipe = {"gpt2", {"gpt2"}, {"gpt2"}, build_gpt2};
const Recipe gpt_neox_recipe = {"gpt_neox", {"gptneox"}, {"gpt_neox"}, build_gpt_neox};

}  // namespace runnel::convert
