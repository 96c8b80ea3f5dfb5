// Llama and its relatives: norms before both halves of a layer, rotary positions, gated SiLU. Mistral and Ministral add
// a window, Qwen2 biases and a window from some layer on, Qwen3 norms on queries and keys, SmolLM3 layers without
// positions, Phi-3 matrices in one piece. A GGUF of these families may have experts: Mixtral is a Llama there,
// Qwen3-MoE a Qwen3.
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/layer_types.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/text_config.h"

namespace runnel::convert {
namespace {

// Rows of q and k are reordered in files of some families, so that neighbouring channels turn together.
const GgufForm kNeighbours = {{}, {{"gguf.has_neighbours", true}, {"norm_topk_prob", true}}};
const GgufForm kMixture = {{}, {{"norm_topk_prob", true}}};

// What GGUFs of these families may have: experts and Granite's factors. A configuration that speaks of them is another
// model's, and is refused.
void read_gguf_extras(const Facts& f, Decoder& d) {
  if (!f.is_gguf()) return;
  read_experts(f, d);
  d.experts.route.renormalise = f.boolean("norm_topk_prob", false);
  read_granite_factors(f, d.attention.scale, d);
}

// Ministral 3: queries grow with their position.
void read_query_scale(const Facts& f, Decoder& d) {
  const auto rope = rope_facts(f);
  if (rope && f.text("model_type", "") != "ministral3") return;
  d.query_beta = rope ? rope->number("llama_4_scaling_beta", 0) : f.number("attention.temperature_scale", 0);
  if (d.query_beta == 0) return;
  d.query_original =
      rope ? rope->integer("original_max_position_embeddings") : f.integer("rope.scaling.original_context_length");
}

void build_llama(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = text_facts(c, d.naming, {{"tie_word_embeddings", false}}, kNeighbours);
  read_basics(f, d);
  read_gguf_extras(f, d);
  read_query_scale(f, d);
  d.ropes.push_back(read_rope(c, f, "", 10000, d.attention.head_dim));
  if (f.text("model_type", "") == "cwm") set_window_layers_after_first(f, 4, d.layers);
  else set_window_layers(f, 0, d.layers);
  build_decoder(c, d, b);
}

// Files of this family say nothing of windows.
const GgufForm kQwen = {{{"sliding_window", ""}}};

// The text parts of Qwen2-VL, Qwen2.5-VL and Qwen3-VL are those models too, with tokens on the three axes of a picture.
bool is_second(const Facts& f) { return f.text("model_type", "").rfind("qwen2", 0) == 0; }

void build_qwen(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = text_facts(c, d.naming, {{"tie_word_embeddings", false}}, kQwen);
  read_basics(f, d);
  read_gguf_extras(f, d);
  f.pass_over({"n_deepstack_layers"});  // pictures' features that are added behind the first layers
  if (is_second(f)) {
    d.naming.biases.clear();  // q, k and v have them, whatever a configuration says
  } else {
    norm_heads(d);
    set_head_dim(f, 128, d);
  }
  d.ropes.push_back(read_rope(c, f, "", 10000, d.attention.head_dim));
  set_late_window_layers(f, d.layers);
  build_decoder(c, d, b);
}

// Some layers have no positions: each fourth one, or those with a 0 in no_rope_layers. A window, when it is used, is
// theirs.
void build_smollm3(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = source_facts(c, kNeighbours);
  read_basics(f, d);
  read_gguf_extras(f, d);
  d.is_tied = f.boolean("tie_word_embeddings", true);
  d.ropes.push_back(read_rope(c, f, "", 2000000, d.attention.head_dim));
  const Json* list = f.find("no_rope_layers");
  if (list && (!list->is_array() || list->size() < d.layers.size()))
    f.refuse("no_rope_layers", "does not have a value for each layer");
  const int64_t interval = f.integer("no_rope_layer_interval", 1, 4096, 4);
  for (size_t i = 0; i < d.layers.size(); ++i)
    if (list ? (*list)[i] == 0 : (int64_t(i) + 1) % interval == 0) d.layers[i].rope = -1;
  f.pass_over({"layer_types", "sliding_window"});
  if (f.boolean("use_sliding_window", false)) {
    set_window_layers(f, 0, d.layers);
    for (Layer& layer : d.layers)
      if (!f.has("layer_types") && layer.rope >= 0) layer.window = 0;
  }
  build_decoder(c, d, b);
}

void build_phi3(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = source_facts(c, kMixture);
  read_basics(f, d);
  read_gguf_extras(f, d);
  d.attention.qkv = "qkv_proj";
  d.ffn.gate_up = "gate_up_proj";
  d.naming.gguf["self_attn.qkv_proj"] = "attn_qkv";
  d.naming.gguf["mlp.gate_up_proj"] = "ffn_up";
  d.ropes.push_back(read_rope(c, f, "", 10000, d.attention.head_dim));
  set_window_layers(f, 0, d.layers);
  build_decoder(c, d, b);
}

}  // namespace

extern const Recipe llama_recipe, qwen_recipe, smollm3_recipe, phi3_recipe;
const Recipe llama_recipe = {"llama",
                             {"llama", "mistral3"},
                             {"llama", "mistral", "ministral", "ministral3", "mistral3", "cwm", "iquestcoder"},
                             build_llama};
const Recipe qwen_recipe = {"qwen",
                            {"qwen2", "qwen3", "qwen2vl", "qwen3vl"},
                            {"qwen2", "qwen3", "qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text", "qwen3_vl",
                             "qwen3_vl_text"},
                            build_qwen};
const Recipe smollm3_recipe = {"smollm3", {"smollm3"}, {"smollm3"}, build_smollm3};
const Recipe phi3_recipe = {"phi3", {"phi3"}, {"phi3"}, build_phi3};

}  // namespace runnel::convert
