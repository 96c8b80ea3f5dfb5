// Llama 4's text part: layers that see the own chunk of positions with rotation, between them layers without positions
// that see everything and whose queries grow with their position; experts, beside a feed-forward for every token, in
// some layers.
#include <algorithm>
#include <cmath>

#include "converter/recipes/decoder.h"
#include "converter/recipes/layer_types.h"
#include "converter/recipes/recipe.h"
#include "converter/recipes/routed.h"
#include "converter/recipes/text_config.h"

namespace runnel::convert {
namespace {

const std::string kFeedForward = "feed_forward.";

void read_llama4_experts(const Facts& f, Decoder& d) {
  Experts& e = d.experts;
  e.prefix = kFeedForward;
  e.router = "router";
  e.gate_up = "experts.gate_up_proj", e.gate = "experts.gate_proj", e.up = "experts.up_proj",
  e.down = "experts.down_proj";
  e.is_turned = true;
  e.count = f.integer("num_local_experts", 1, 65536, 16);
  e.chosen = f.integer("num_experts_per_tok", 1, e.count, 1);
  e.width = f.integer("intermediate_size");
  e.activation = d.ffn.activation;
  e.route.scoring = format::RouteScoring::sigmoid;
  e.weighs_input = true;
  d.ffn.prefix = kFeedForward;
  add_shared_experts(e.width, d, "feed_forward.shared_expert.");
  d.ffn.width = f.integer("intermediate_size_mlp", 1, int64_t(1) << 30, 16384);
  const int64_t step = f.integer("interleave_moe_layer_step", 1, 4096, 1);
  const Json* list = f.find("moe_layers");
  if (list && !list->is_array()) f.refuse("moe_layers", "is not a list");
  for (size_t i = 0; i < d.layers.size(); ++i)
    d.layers[i].has_experts =
        list ? std::find(list->begin(), list->end(), Json(i)) != list->end() : (int64_t(i) + 1) % step == 0;
}

// Which layers turn, and which of them see a chunk alone.
std::vector<int64_t> read_llama4_layers(const Facts& f, Decoder& d) {
  const Json* turning = f.find("no_rope_layers");  // 1: with positions
  if (turning && turning->is_array() && turning->empty()) turning = nullptr;
  if (turning && (!turning->is_array() || turning->size() != d.layers.size()))
    f.refuse("no_rope_layers", "does not have a value for each layer");
  const int64_t interval = f.integer("no_rope_layer_interval", 1, 4096, 4),
                chunk = f.integer("attention_chunk_size", 1, 1 << 30, 0);
  std::vector<int64_t> chunks(d.layers.size());
  for (size_t i = 0; i < d.layers.size(); ++i) {
    const bool turns = turning ? (*turning)[i] != 0 : (int64_t(i) + 1) % interval != 0;
    d.layers[i].rope = turns ? 0 : -1;
    chunks[i] = turns ? chunk : 0;
  }
  if (!f.has("layer_types")) return chunks;
  const std::vector<std::string> types = layer_types(f, d.layers.size(), "");
  for (size_t i = 0; i < types.size(); ++i) {
    if (types[i] != "chunked_attention" && types[i] != "full_attention")
      f.refuse("layer_types",
               "holds \"" + printable(types[i]) + "\"; chunked_attention and full_attention are supported");
    chunks[i] = types[i] == "full_attention" ? 0 : chunk;
  }
  return chunks;
}

void build(Checkpoint& c, ModelBuilder& b) {
  Decoder d;
  const Facts f = text_facts(c, d.naming, {{"tie_word_embeddings", false}});
  read_basics(f, d);
  d.attention.is_interleaved = true;
  const bool has_norms = f.boolean("use_qk_norm", true);
  d.attention.norms_have_weights = false;
  d.attention.norm_is_late = true;
  read_llama4_experts(f, d);
  const std::vector<int64_t> chunks = read_llama4_layers(f, d);
  f.pass_over({"attn_scale", "floor_scale", "for_llm_compressor"});
  if (f.boolean("attn_temperature_tuning", true)) {
    d.query_beta = f.number("attn_scale", 0.1);
    d.query_original = f.integer("floor_scale", 1, 1 << 30, 8192);
    d.query_first = 1;
  }
  d.ropes.push_back(config_rope(f, "", 500000, d.attention.head_dim));
  d.own_attention = [&](size_t i, Attention& a) {
    a.chunk = chunks[i];
    if (d.layers[i].rope < 0) return;
    a.query_scale = {};
    if (has_norms) a.q_norm = "q_norm", a.k_norm = "k_norm";
  };
  build_decoder(c, d, b);
}

}  // namespace

extern const Recipe llama4_recipe;
const Recipe llama4_recipe = {"llama4", {}, {"llama4_text", "llama4"}, build};

}  // namespace runnel::convert
