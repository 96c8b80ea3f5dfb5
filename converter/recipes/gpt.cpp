// The GPT line: GPT-2 with an embedding of positions and matrices stored as [inputs, outputs], GPT-Neo with layers that
// see a window, GPT-J, StarCoder 1, GPT-NeoX (Pythia) with rotary positions, both halves of a layer beside each other
// and q, k and v head by head.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/layer_types.h"
#include "converter/recipes/recipe.h"

namespace runnel::convert {
namespace {

// Names of GPT-2, which GPT-Neo took over but for its attention's. The first releases lack the root and have masks as
// tensors.
void name_gpt(Checkpoint& c, const char* attention, Decoder& d) {
  d.position_table = "wpe";
  for (Layer& layer : d.layers) layer.rope = -1;
  d.naming.root = c.has("wte.weight") ? "" : "transformer.";
  d.naming.layer = "h.";
  d.naming.renamed = {{"embed_tokens", "wte"},     {"norm", "ln_f"},
                      {"input_layernorm", "ln_1"}, {"post_attention_layernorm", "ln_2"},
                      {"mlp.up_proj", "mlp.c_fc"}, {"mlp.down_proj", "mlp.c_proj"}};
  for (const char* mask : {"bias", "masked_bias"}) c.ignore_containing("." + std::string(attention) + "." + mask);
}

const std::map<std::string, std::string> kGpt2Keys = {{"n_embd", "hidden_size"},
                                                      {"n_head", "num_attention_heads"},
                                                      {"n_layer", "num_hidden_layers"},
                                                      {"n_positions", "max_position_embeddings"},
                                                      {"activation_function", "hidden_act"},
                                                      {"n_inner", "intermediate_size"}};
Facts plain_facts(const Facts& own) {
  const Facts named = own.renamed(kGpt2Keys);
  return named.with_defaults({{"intermediate_size", 4 * named.integer("hidden_size")}});
}

void build_gpt2(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts own = source_facts(c);
  for (const char* option : {"scale_attn_by_inverse_layer_idx", "add_cross_attention"})
    if (own.boolean(option, false)) own.refuse(option, "is true, which is not supported");
  const Facts f = plain_facts(own);
  read_basics(f, d);
  d.is_layer_norm = true;
  d.attention.qkv = "qkv_proj";
  if (!f.boolean("scale_attn_weights", true)) d.attention.scale = 1;
  d.ffn.is_gated = false;
  d.ffn.activation = activation_named(f, "hidden_act", "gelu_new");
  d.is_tied = f.boolean("tie_word_embeddings", true);
  // In a GGUF matrices stand as everywhere.
  d.naming.is_turned = true;
  d.naming.gguf.insert({{"self_attn.qkv_proj", "attn_qkv"}, {"wpe", "position_embd"}});
  name_gpt(c, "attn", d);
  d.naming.renamed.insert({{"self_attn.qkv_proj", "attn.c_attn"}, {"self_attn.o_proj", "attn.c_proj"}});
  build_decoder(c, d, b);
}

// GPT-J: neighbouring channels of a head's first rotary_dim turn, both halves of a layer see the same normed input.
void build_gptj(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = plain_facts(config_facts(c));
  read_basics(f, d);
  d.is_layer_norm = d.is_parallel = true;
  d.ffn_norm = nullptr;
  d.attention.prefix = "attn.";
  d.attention.o = "out_proj";
  d.attention.is_interleaved = true;
  d.ffn.is_gated = false;
  d.ffn.activation = activation_named(f, "hidden_act", "gelu_new");
  d.ffn.up = "fc_in", d.ffn.down = "fc_out";
  name_gpt(c, "attn", d);
  d.position_table = nullptr;
  for (Layer& layer : d.layers) layer.rope = 0;
  const int64_t dims = f.integer("rotary_dim", 2, d.attention.head_dim, d.attention.head_dim);
  d.ropes.push_back({rope_frequencies(10000, dims)});
  build_decoder(c, d, b);
}

// StarCoder 1 and SantaCoder: GPT-2 whose heads share one of keys and values.
void build_gpt_bigcode(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = plain_facts(config_facts(c));
  read_basics(f, d);
  if (f.boolean("add_cross_attention", false)) f.refuse("add_cross_attention", "is true, which is not supported");
  if (!f.boolean("multi_query", true)) f.refuse("multi_query", "is false: q, k and v head by head are not supported");
  f.pass_over({"scale_attention_softmax_in_fp32", "attention_softmax_in_fp32", "num_key_value_heads"});
  d.is_layer_norm = true;
  d.attention.qkv = "qkv_proj";
  d.attention.kv_heads = 1;
  if (!f.boolean("scale_attn_weights", true)) d.attention.scale = 1;
  d.ffn.is_gated = false;
  d.ffn.activation = activation_named(f, "hidden_act", "gelu_pytorch_tanh");
  d.is_tied = f.boolean("tie_word_embeddings", true);
  name_gpt(c, "attn", d);
  d.naming.renamed.insert({{"self_attn.qkv_proj", "attn.c_attn"}, {"self_attn.o_proj", "attn.c_proj"}});
  build_decoder(c, d, b);
}

// attention_layers names each layer's kind; attention_types says the same by repetition: [[["global", "local"], 6]].
void read_local_layers(const Facts& f, Decoder& d) {
  std::vector<Json> kinds;
  if (const Json* list = f.find("attention_layers"); list && list->is_array()) kinds.assign(list->begin(), list->end());
  const Json* types = f.find("attention_types");
  if (types && kinds.empty() && types->is_array())
    for (const Json& part : *types) {
      if (!part.is_array() || part.size() != 2 || !part[0].is_array() || !part[1].is_number_unsigned() ||
          part[1].get<size_t>() > d.layers.size())
        f.refuse("attention_types", "is no list of kinds and how often they come");
      for (size_t i = 0; i < part[1].get<size_t>(); ++i) kinds.insert(kinds.end(), part[0].begin(), part[0].end());
    }
  if (kinds.size() != d.layers.size()) f.refuse("attention_layers", "does not name one kind for each layer");
  const int64_t window = f.integer("window_size", 1, 1 << 30, 256);
  for (size_t i = 0; i < kinds.size(); ++i) {
    if (kinds[i] != "global" && kinds[i] != "local")
      f.refuse("attention_layers", "holds " + printable(kinds[i].dump()));
    d.layers[i].window = kinds[i] == "local" ? window : 0;
  }
}

// Layers that see everything and layers with a window in turn; scores are not scaled.
void build_gpt_neo(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts own = config_facts(c);
  const Facts f = own.renamed({{"num_heads", "num_attention_heads"},
                               {"num_layers", "num_hidden_layers"},
                               {"activation_function", "hidden_act"}})
                      .with_defaults({{"intermediate_size", 4 * own.integer("hidden_size")}});
  read_basics(f, d);
  d.is_layer_norm = true;
  d.attention.prefix = "attn.attention.";
  d.attention.o = "out_proj";
  d.attention.scale = 1;
  d.ffn.is_gated = false;
  d.ffn.activation = activation_named(f, "hidden_act", "gelu_new");
  d.is_tied = f.boolean("tie_word_embeddings", true);
  name_gpt(c, "attn.attention", d);
  read_local_layers(f, d);
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

extern const Recipe gpt2_recipe, gptj_recipe, gpt_bigcode_recipe, gpt_neo_recipe, gpt_neox_recipe;
const Recipe gpt2_recipe = {"gpt2", {"gpt2"}, {"gpt2"}, build_gpt2};
const Recipe gptj_recipe = {"gptj", {}, {"gptj"}, build_gptj};
const Recipe gpt_bigcode_recipe = {"gpt_bigcode", {}, {"gpt_bigcode"}, build_gpt_bigcode};
const Recipe gpt_neo_recipe = {"gpt_neo", {}, {"gpt_neo"}, build_gpt_neo};
const Recipe gpt_neox_recipe = {"gpt_neox", {"gptneox"}, {"gpt_neox"}, build_gpt_neox};

}  // namespace runnel::convert
