// What mixtures of experts share: which layers have one, and the routing of DeepSeek-V3, which many families took over.
#pragma once

#include "converter/recipes/decoder.h"

namespace runnel::convert {

// Each decoder_sparse_step'th layer, but none of mlp_only_layers.
void set_expert_layers(const Facts& facts, Decoder& decoder);
// As mlp_layer_types says ("dense", "sparse"), else all but the first first_k_dense_replace (or `dense`) layers.
void set_sparse_layers(const Facts& facts, int64_t dense, Decoder& decoder);
// Experts chosen by sigmoid scores and a bias, in groups, beside a feed-forward that every token sees where there is
// one; in the layers of set_sparse_layers. The keys have two spellings each.
void read_sigmoid_experts(const Facts& facts, int64_t dense, Decoder& decoder);
// Names that GGUFs give to these parts.
void name_routed_gguf(Naming& naming);

}  // namespace runnel::convert
