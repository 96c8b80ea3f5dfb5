#include "converter/recipes/routed.h"

#include <algorithm>

namespace runnel::convert {

void set_expert_layers(const Facts& f, Decoder& d) {
  const int64_t step = f.integer("decoder_sparse_step", 1, 4096, 1);
  const Json* dense = f.find("mlp_only_layers");
  for (size_t i = 0; i < d.layers.size(); ++i) {
    const bool is_dense =
        dense && dense->is_array() && std::find(dense->begin(), dense->end(), Json(i)) != dense->end();
    d.layers[i].has_experts = d.experts.count > 0 && !is_dense && (int64_t(i) + 1) % step == 0;
  }
}

void set_sparse_layers(const Facts& f, int64_t dense, Decoder& d) {
  const char* key = "mlp_layer_types";
  const Json* kinds = f.find(key);
  if (kinds && (!kinds->is_array() || kinds->size() != d.layers.size()))
    f.refuse(key, "does not name one kind for each of the " + std::to_string(d.layers.size()) + " layers");
  const int64_t first = f.integer("first_k_dense_replace", 0, 4096, dense);
  for (size_t i = 0; i < d.layers.size(); ++i) {
    if (kinds && (*kinds)[i] != "dense" && (*kinds)[i] != "sparse")
      f.refuse(key, "holds " + printable((*kinds)[i].dump()) + "; dense and sparse are supported");
    d.layers[i].has_experts = kinds ? (*kinds)[i] == "sparse" : int64_t(i) >= first;
  }
}

void read_sigmoid_experts(const Facts& f, int64_t dense, Decoder& d) {
  const auto either = [&](const char* key, const char* other) { return f.has(key) ? key : other; };
  f.expect("scoring_func", "sigmoid");
  f.expect("topk_method", "noaux_tc");
  f.expect("expert_gating_func", 2);
  Experts& e = d.experts;
  e.count = f.integer(either("n_routed_experts", either("num_experts", "num_local_experts")), 1, 65536);
  e.chosen = f.integer("num_experts_per_tok", 1, e.count);
  e.width = f.integer(either("moe_intermediate_size", "intermediate_size"));
  e.choice_bias = "gate.e_score_correction_bias";
  e.activation = d.ffn.activation;
  read_sigmoid_route(f, e.route);
  e.route.groups = uint32_t(f.integer("n_group", 1, 65536, 1));
  e.route.top_groups = uint32_t(f.integer("topk_group", 1, 65536, 1));
  add_shared_experts(e.width * f.integer(either("n_shared_experts", "num_shared_experts"), 0, 65536, 0), d);
  set_sparse_layers(f, dense, d);
}

void name_routed_gguf(Naming& n) {
  n.gguf.insert({{"mlp.gate.e_score_correction_bias", "exp_probs_b.bias"},
                 {"mlp.shared_experts.gate_proj", "ffn_gate_shexp"},
                 {"mlp.shared_experts.up_proj", "ffn_up_shexp"},
                 {"mlp.shared_experts.down_proj", "ffn_down_shexp"}});
}

}  // namespace runnel::convert
