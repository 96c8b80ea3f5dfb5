#!/usr/bin/env python3
"""Writes the tiny random checkpoints tests/goldens/tiny_*.

The checkpoints are saved by the original modelling code (transformers 5.23.0, torch 2.15.0, safetensors 0.8.0) and each
comes with what that code computes:

  config.json, model.safetensors   as save_pretrained writes them, float32
  ids.safetensors                  ids int32 [tokens]
  logits.safetensors               logits float32 [tokens, vocab], from a float64 run with eager attention
                                   greedy int32 [32]: the greedy continuation of the ids, also from the float64 run
                                   float32_difference float32 [1]: largest |float32 run - float64 run| of the logits

Of models whose tokens stand on several axes, ids.safetensors also holds positions int32 [tokens, 3], as a picture among text
has them, and logits.safetensors what they give: on_axes float32 [tokens, vocab].

Sizes are chosen to sit at the edges: head sizes that are odd multiples of 4, every ratio of query to key heads, a window
shorter than the input, layers with and without a window, a vocabulary that no tile divides. Parameters are drawn much
wider than a fresh model's, so that the logits are not flat and an error anywhere shows.

  OMP_NUM_THREADS=1 python3 tests/goldens/make_tiny_models.py [name ...]
"""

import copy
import json
import os
import sys

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, Gemma2Config, Gemma3TextConfig, LlamaConfig, MistralConfig

import checkpoint_code  # noqa: F401 - registers what transformers does not have

PINNED = {"transformers": "5.23.0", "torch": "2.15.0"}
SEED = 20261122
TOKENS = 40
CONTINUATION = 32
WINDOW = 8
VOCAB = 131

MODELS = {
    # Window and full layers alternate; soft caps on scores and logits; 3 query heads to a key head.
    "tiny_gemma2": Gemma2Config(
        vocab_size=VOCAB, hidden_size=48, intermediate_size=52, num_hidden_layers=4, num_attention_heads=3,
        num_key_value_heads=1, head_dim=20, query_pre_attn_scalar=20, sliding_window=WINDOW, attn_logit_softcapping=5.0,
        final_logit_softcapping=12.0, max_position_embeddings=128, tie_word_embeddings=True),
    # Five window layers, one full, with two rotary bases and norms of queries and keys; 4 query heads to a key head.
    "tiny_gemma3": Gemma3TextConfig(
        vocab_size=VOCAB, hidden_size=44, intermediate_size=44, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=1, head_dim=12, query_pre_attn_scalar=12, sliding_window=WINDOW,
        max_position_embeddings=128, tie_word_embeddings=True),
    # A window in every layer, an output matrix of its own; 3 query heads to a key head, 2 key heads.
    "tiny_mistral": MistralConfig(
        vocab_size=VOCAB, hidden_size=54, intermediate_size=58, num_hidden_layers=3, num_attention_heads=6,
        num_key_value_heads=2, head_dim=12, sliding_window=WINDOW, max_position_embeddings=128,
        tie_word_embeddings=False),
    # No window; as many key heads as query heads.
    "tiny_llama": LlamaConfig(
        vocab_size=VOCAB, hidden_size=48, intermediate_size=76, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=2, head_dim=28, max_position_embeddings=128, tie_word_embeddings=True),
}


COMMON = {"vocab_size": VOCAB, "hidden_size": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
ATTENTION = {"num_attention_heads": 4, "num_key_value_heads": 2}
SSM2 = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_expand": 2, "mamba_chunk_size": 16}
DELTA = {"head_dim": 16, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 12}
EXPERTS = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 20}

# Transformers: model type and configuration. Ratios 1, 3 and 4 of query to key heads, tied and untied, with and without biases.
DECODERS = {
    "tiny_qwen2": ("qwen2", {"hidden_size": 36, "intermediate_size": 44, "num_hidden_layers": 3, "num_attention_heads": 3, "num_key_value_heads": 1,
                             "use_sliding_window": True, "sliding_window": WINDOW, "max_window_layers": 1, "tie_word_embeddings": True}),
    "tiny_qwen3": ("qwen3", {**ATTENTION, "head_dim": 12, "intermediate_size": 40, "num_hidden_layers": 2, "attention_bias": True}),
    "tiny_qwen3_moe": ("qwen3_moe", {**ATTENTION, **EXPERTS, "head_dim": 12, "intermediate_size": 40, "num_hidden_layers": 3, "mlp_only_layers": [1],
                                     "norm_topk_prob": True}),
    "tiny_mixtral": ("mixtral", {**ATTENTION, "intermediate_size": 24, "num_hidden_layers": 2, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "tiny_ministral": ("ministral", {"num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 12, "intermediate_size": 40, "num_hidden_layers": 2,
                                     "sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}),
    "tiny_phi3": ("phi3", {"hidden_size": 36, "num_attention_heads": 3, "num_key_value_heads": 3, "intermediate_size": 40, "num_hidden_layers": 2,
                           "sliding_window": WINDOW, "partial_rotary_factor": 0.5}),
    "tiny_smollm3": ("smollm3", {**ATTENTION, "intermediate_size": 40, "num_hidden_layers": 4, "attention_bias": True, "mlp_bias": True}),
    "tiny_granite": ("granite", {**ATTENTION, "intermediate_size": 40, "num_hidden_layers": 2, "embedding_multiplier": 3.0, "logits_scaling": 2.0,
                                 "residual_multiplier": 0.7, "attention_multiplier": 0.2}),
    "tiny_olmo2": ("olmo2", {**ATTENTION, "intermediate_size": 40, "num_hidden_layers": 2}),
    "tiny_olmo3": ("olmo3", {**ATTENTION, "intermediate_size": 40, "num_hidden_layers": 4, "sliding_window": WINDOW, "rope_parameters": {
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
        "full_attention": {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16}}}),
    "tiny_exaone4": ("exaone4", {**ATTENTION, "intermediate_size": 40, "num_hidden_layers": 4, "sliding_window": WINDOW}),
    "tiny_cohere2": ("cohere2", {"hidden_size": 48, "num_attention_heads": 4, "num_key_value_heads": 1, "intermediate_size": 40, "num_hidden_layers": 4,
                                 "sliding_window": WINDOW, "attention_bias": True, "tie_word_embeddings": True}),
    "tiny_starcoder2": ("starcoder2", {**ATTENTION, "intermediate_size": 40, "num_hidden_layers": 2, "sliding_window": WINDOW, "tie_word_embeddings": True}),
    "tiny_gpt_oss": ("gpt_oss", {**ATTENTION, "head_dim": 12, "intermediate_size": 24, "num_hidden_layers": 2, "num_local_experts": 4,
                                 "num_experts_per_tok": 2, "sliding_window": WINDOW, "swiglu_limit": 1.5}),
}

LATENT = {"kv_lora_rank": 12, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 12}
# The same of further families, smaller still.
SMALL = {"vocab_size": 67, "hidden_size": 24, "intermediate_size": 28, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 128}
DECODERS.update({
    # Queries scaled by position; yarn whose two magnitudes differ.
    "tiny_ministral3": ("ministral3", {**SMALL, "num_key_value_heads": 1, "head_dim": 16, "sliding_window": WINDOW, "rope_parameters": {
        "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16, "mscale": 1.0, "mscale_all_dim": 0.5, "llama_4_scaling_beta": 0.3}}),
    # A text longer than the original context.
    "tiny_phi3_long": ("phi3", {**SMALL, "original_max_position_embeddings": 16, "rope_parameters": {
        "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0, 1.1, 1.2, 1.3, 1.5, 1.8], "long_factor": [1.5, 2.0, 3.0, 5.0, 8.0, 12.0]}}),
    "tiny_gpt_oss_mxfp4": ("gpt_oss", {**SMALL, "hidden_size": 32, "intermediate_size": 32, "head_dim": 8, "num_local_experts": 3, "num_experts_per_tok": 2, "sliding_window": WINDOW}),
    "tiny_gpt2": ("gpt2", {"vocab_size": 67, "n_embd": 24, "n_head": 2, "n_layer": 2, "n_positions": 80}),
    "tiny_gpt_neox": ("gpt_neox", {**SMALL, "num_attention_heads": 3}),
    "tiny_olmo": ("olmo", {**SMALL, "clip_qkv": 0.8}),
    "tiny_cohere": ("cohere", {**SMALL, "num_key_value_heads": 1, "use_qk_norm": True, "logit_scale": 0.5}),
    "tiny_qwen2_moe": ("qwen2_moe", {**SMALL, "num_experts": 3, "num_experts_per_tok": 2, "moe_intermediate_size": 12, "shared_expert_intermediate_size": 20}),
    # Experts beside a feed-forward, sinks, a window in most layers, a rotary base of each layer's own or none.
    "tiny_granite_moe_swa": ("granitemoe_swa", {**SMALL, "num_hidden_layers": 3, "num_local_experts": 3, "num_experts_per_tok": 2, "shared_intermediate_size": 12, "sliding_window": WINDOW,
                                                "layer_rope_theta": [0, 5000.0, 9000.0], "attention_multiplier": 0.3, "residual_multiplier": 0.7, "logits_scaling": 2.0, "embedding_multiplier": 3.0}),
    "tiny_hyperclovax": ("hyperclovax", {**SMALL, "num_key_value_heads": 1, "residual_multiplier": 0.7, "logits_scaling": 3.0, "attention_multiplier": 0.3}),
    "tiny_nanochat": ("nanochat", {**SMALL, "final_logit_softcapping": 12.0}),
    # Latent attention with positions: experts in groups behind the first layer; constant factors.
    "tiny_deepseek": ("deepseek_v3", {**SMALL, **LATENT, "num_hidden_layers": 2, "q_lora_rank": 10, "n_routed_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 12, "n_group": 3,
                                      "topk_group": 2, "first_k_dense_replace": 1, "attention_bias": True, "rope_parameters": {
                                          "rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 16, "mscale": 1.0, "mscale_all_dim": 0.8}}),
    "tiny_minicpm3": ("minicpm3", {**SMALL, **LATENT, "q_lora_rank": None, "tie_word_embeddings": False, "scale_emb": 0.7, "scale_depth": 2.0, "dim_model_base": 16}),
    # Pairs of heads, one taken from the other.
    "tiny_diffllama": ("diffllama", {**SMALL, "num_attention_heads": 4, "head_dim": 8, "attention_bias": True}),
    "tiny_gpt_neo": ("gpt_neo", {"vocab_size": 67, "hidden_size": 24, "num_heads": 2, "num_layers": 2, "attention_types": [[["global", "local"], 1]], "window_size": WINDOW,
                                 "max_position_embeddings": 80, "intermediate_size": 28}),
    # Chunks shorter than the input, then a layer without positions whose queries grow; experts in every second layer.
    "tiny_llama4": ("llama4_text", {**SMALL, "num_key_value_heads": 1, "head_dim": 12, "intermediate_size": 12, "intermediate_size_mlp": 28, "num_local_experts": 3, "num_experts_per_tok": 2,
                                    "interleave_moe_layer_step": 2, "no_rope_layer_interval": 2, "attention_chunk_size": 9, "floor_scale": 5}),
    "tiny_exaone_moe": ("exaone_moe", {**SMALL, "num_key_value_heads": 1, "head_dim": 12, "sliding_window": WINDOW, "sliding_window_pattern": 2, "num_experts": 4, "num_experts_per_tok": 2, "n_group": 2,
                                       "topk_group": 1, "moe_intermediate_size": 12}),
    "tiny_afmoe": ("afmoe", {**SMALL, "num_key_value_heads": 1, "head_dim": 12, "sliding_window": WINDOW, "global_attn_every_n_layers": 2, "num_experts": 4, "num_experts_per_tok": 2,
                             "num_shared_experts": 1, "moe_intermediate_size": 12, "route_scale": 1.5, "mup_enabled": True}),
    # Values narrower than keys, twice the heads of keys in layers with a window.
    "tiny_mimo_v2_flash": ("mimo_v2_flash", {**SMALL, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 12, "v_head_dim": 8, "sliding_window": WINDOW, "n_routed_experts": 4,
                                             "num_experts_per_tok": 2, "moe_intermediate_size": 12, "layer_types": ["full_attention", "sliding_attention"]}),
    # Layers with different numbers of heads.
    "tiny_laguna": ("laguna", {**SMALL, "num_key_value_heads": 1, "head_dim": 8, "num_attention_heads_per_layer": [2, 3], "sliding_window": WINDOW, "num_experts": 4, "num_experts_per_tok": 2,
                               "moe_intermediate_size": 12, "shared_expert_intermediate_size": 12, "moe_router_logit_softcapping": 2.0, "layer_types": ["full_attention", "sliding_attention"]}),
    "tiny_mellum": ("mellum", {**SMALL, "num_key_value_heads": 1, "head_dim": 8, "sliding_window": WINDOW, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 12,
                               "layer_types": ["full_attention", "sliding_attention"]}),
    "tiny_flint": ("flint", {**SMALL, "num_key_value_heads": 1, "head_dim": 8, "sliding_window": WINDOW, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 12,
                             "shared_expert_intermediate_size": 12, "mlp_only_layers": [0], "layer_types": ["full_attention", "sliding_attention"]}),
    "tiny_zaya": ("zaya", {"vocab_size": 67, "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128,
                           "num_experts": 3, "moe_intermediate_size": 12, "router_hidden_size": 10, "cca_time0": 3, "sliding_window": WINDOW, "layer_types": ["hybrid_sliding", "hybrid"]}),
    # One layer of each kind on both sides of the middle; more heads than pairs of keys.
    "tiny_phi4flash": ("phi4flash", {"vocab_size": 67, "hidden_size": 24, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 20, "num_hidden_layers": 8,
                                     "sliding_window": WINDOW, "mamba_d_state": 6}),
    "tiny_hunyuan": ("hunyuan_v1_dense", {**SMALL, "head_dim": 12, "rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "alpha": 50.0, "factor": 1.0}}),
})

# Gemma 3n and 4: inputs for each layer, shared keys and values, a table of per-layer inputs smaller than the vocabulary; a mixture with keys that are values.
PER_LAYER = {
    "tiny_gemma3n": ("gemma3n_text", {"hidden_size": 24, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 12, "intermediate_size": [28, 28, 20, 28, 36],
                                      "num_hidden_layers": 5, "num_kv_shared_layers": 2, "sliding_window": WINDOW, "vocab_size_per_layer_input": 120,
                                      "hidden_size_per_layer_input": 6, "altup_num_inputs": 3, "altup_active_idx": 1, "laurel_rank": 5,
                                      "activation_sparsity_pattern": [0.8, 0.0, 0.3, 0.0, 0.0], "max_position_embeddings": 128, "final_logit_softcapping": 12.0,
                                      "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention", "sliding_attention"]}),
    "tiny_gemma4": ("gemma4_text", {**ATTENTION, "hidden_size": 24, "head_dim": 12, "global_head_dim": 20, "intermediate_size": 28, "num_hidden_layers": 5, "num_kv_shared_layers": 2,
                                    "use_double_wide_mlp": True, "sliding_window": WINDOW, "vocab_size_per_layer_input": VOCAB, "hidden_size_per_layer_input": 6,
                                    "max_position_embeddings": 128, "final_logit_softcapping": 12.0,
                                    "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "sliding_attention", "full_attention"]}),
    "tiny_gemma4_moe": ("gemma4_text", {"hidden_size": 24, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 12, "global_head_dim": 20, "num_global_key_value_heads": 1,
                                        "attention_k_eq_v": True, "intermediate_size": 28, "num_hidden_layers": 3, "sliding_window": WINDOW,
                                        "hidden_size_per_layer_input": 0, "enable_moe_block": True, "num_experts": 5, "top_k_experts": 2, "moe_intermediate_size": 12,
                                        "max_position_embeddings": 128, "layer_types": ["sliding_attention", "sliding_attention", "full_attention"]}),
}

# Linear-time layers: model type and configuration. Groups of 1 and more, head ratios, tied and untied, biases, experts.
LINEAR = {
    "tiny_mamba": ("mamba", {"hidden_size": 20, "state_size": 16, "num_hidden_layers": 2, "conv_kernel": 3, "use_conv_bias": False,
                             "use_bias": True, "tie_word_embeddings": False, "intermediate_size": 40, "time_step_rank": 5}),
    "tiny_falcon_mamba": ("falcon_mamba", {"hidden_size": 24, "num_hidden_layers": 2, "time_step_rank": 4}),
    "tiny_mamba2": ("mamba2", {"num_heads": 8, "head_dim": 8, "state_size": 12, "n_groups": 2, "num_hidden_layers": 2, "chunk_size": 16,
                               "tie_word_embeddings": False, "time_step_limit": (0.05, 0.3)}),
    "tiny_jamba": ("jamba", {**ATTENTION, "intermediate_size": 24, "num_hidden_layers": 4, "attn_layer_period": 4, "attn_layer_offset": 2,
                             "expert_layer_period": 2, "num_experts": 3, "num_experts_per_tok": 2, "mamba_d_state": 8, "mamba_dt_rank": 4}),
    "tiny_bamba": ("bamba", {**ATTENTION, **SSM2, "intermediate_size": 40, "num_hidden_layers": 3, "attn_layer_indices": [1], "mamba_n_groups": 2,
                             "mamba_d_state": 12}),
    "tiny_zamba2": ("zamba2", {"intermediate_size": 24, "num_hidden_layers": 4, "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
                               "num_attention_heads": 4, "num_key_value_heads": 4, "mamba_d_state": 8, "mamba_ngroups": 2, "n_mamba_heads": 8,
                               "num_mem_blocks": 2, "adapter_rank": 4, "use_shared_attention_adapter": True, "use_mem_rope": True,
                               "chunk_size": 16, "attention_hidden_size": 64, "attention_head_dim": 16}),
    "tiny_granite_hybrid": ("granitemoehybrid", {**ATTENTION, **SSM2, "intermediate_size": 24, "shared_intermediate_size": 20, "num_hidden_layers": 2,
                                                 "layer_types": ["mamba", "attention"], "num_local_experts": 4, "num_experts_per_tok": 2,
                                                 "mamba_n_groups": 1, "mamba_d_state": 16, "embedding_multiplier": 3.0, "logits_scaling": 2.0,
                                                 "residual_multiplier": 0.7, "attention_multiplier": 0.2, "position_embedding_type": "nope",
                                                 "tie_word_embeddings": True}),
    "tiny_falcon_h1": ("falcon_h1", {**ATTENTION, "intermediate_size": 40, "num_hidden_layers": 2, "head_dim": 12, "mamba_d_ssm": 48,
                                     "mamba_n_heads": 6, "mamba_d_head": 8, "mamba_n_groups": 2, "mamba_d_state": 12, "mamba_chunk_size": 16,
                                     "embedding_multiplier": 1.5, "lm_head_multiplier": 0.7, "key_multiplier": 0.8, "attention_in_multiplier": 1.1,
                                     "attention_out_multiplier": 0.9, "ssm_in_multiplier": 1.2, "ssm_out_multiplier": 0.6,
                                     "mlp_multipliers": [0.9, 1.3], "ssm_multipliers": [0.8, 1.1, 0.9, 1.2, 0.7]}),
    "tiny_nemotron_h": ("nemotron_h", {**ATTENTION, "intermediate_size": 40, "layers_block_type": ["mamba", "mlp", "attention", "moe"],
                                       "num_hidden_layers": 4, "head_dim": 12, "mamba_num_heads": 8, "mamba_head_dim": 8, "n_groups": 2,
                                       "ssm_state_size": 12, "chunk_size": 16, "n_routed_experts": 4, "num_experts_per_tok": 2,
                                       "moe_intermediate_size": 24, "moe_shared_expert_intermediate_size": 20, "n_group": 1, "topk_group": 1}),
    "tiny_lfm2": ("lfm2", {"hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3, "num_key_value_heads": 1,
                           "conv_L_cache": 4, "conv_bias": True, "layer_types": ["conv", "conv", "full_attention"], "block_multiple_of": 8}),
    "tiny_lfm2_moe": ("lfm2_moe", {**ATTENTION, **EXPERTS, "intermediate_size": 48, "num_hidden_layers": 2, "layer_types": ["conv", "full_attention"],
                                   "num_dense_layers": 1, "use_expert_bias": True, "routed_scaling_factor": 1.3}),
    "tiny_lfm3": ("lfm3", {**ATTENTION, "head_dim": 16, "intermediate_size": 40, "num_hidden_layers": 3, "sliding_window": WINDOW,
                           "layer_types": ["conv", "full_attention", "sliding_attention"]}),
    "tiny_recurrent_gemma": ("recurrent_gemma", {"intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 1,
                                                 "lru_width": 40, "attention_window_size": WINDOW}),
    "tiny_qwen3_next": ("qwen3_next", {**ATTENTION, **DELTA, **EXPERTS, "intermediate_size": 48, "num_hidden_layers": 4,
                                       "shared_expert_intermediate_size": 24, "mlp_only_layers": [1], "partial_rotary_factor": 0.25}),
    "tiny_qwen3_5": ("qwen3_5_text", {**ATTENTION, **DELTA, "intermediate_size": 48, "num_hidden_layers": 4}),
    "tiny_olmo_hybrid": ("olmo_hybrid", {**ATTENTION, "intermediate_size": 48, "num_hidden_layers": 4, "linear_num_key_heads": 2,
                                         "linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 16}),
    "tiny_kimi_linear": ("kimi_linear", {"intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 4,
                                         "kv_lora_rank": 12, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 12, "num_experts": 6,
                                         "num_experts_per_token": 2, "moe_intermediate_size": 20, "first_k_dense_replace": 1,
                                         "linear_attn_config": {"num_heads": 3, "head_dim": 8, "short_conv_kernel_size": 4, "kda_layers": [1, 2, 3],
                                                                "full_attn_layers": [4]}}),
    "tiny_minimax": ("minimax", {**ATTENTION, "intermediate_size": 24, "num_hidden_layers": 2, "head_dim": 12, "num_local_experts": 4,
                                 "num_experts_per_tok": 2, "block_size": 8, "layer_types": ["linear_attention", "full_attention"]}),
    # Halves its stream twice; a time mix wider than the stream.
    "tiny_rwkv": ("rwkv", {"hidden_size": 24, "attention_hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 5, "rescale_every": 2,
                           "use_cache": False}),
    "tiny_xlstm": ("xlstm", {"num_hidden_layers": 2, "num_blocks": 2, "num_heads": 2, "embedding_dim": 32, "chunk_size": 16, "mode": "inference",
                             "return_last_states": False, "chunkwise_kernel": "chunkwise--native_autograd", "ffn_round_up_to_multiple_of": 8,
                             "sequence_kernel": "native_sequence__native", "step_kernel": "native"}),
}

# Text parts of models that also see, whose tokens stand on three axes: sections of a head one behind the other, or in turn.
TOWER = {"depth": 1, "hidden_size": 16, "embed_dim": 16, "intermediate_size": 16, "num_heads": 2, "num_position_embeddings": 16,
         "out_hidden_size": 32, "deepstack_visual_indexes": [0], "fullatt_block_indexes": [0]}
SEEN = {**ATTENTION, "intermediate_size": 40, "num_hidden_layers": 2, "max_position_embeddings": 128}
SEEING = {
    "tiny_qwen2_vl": ("qwen2_vl", {"vision_config": TOWER, "text_config": {
        **SEEN, "rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "mrope_section": [1, 1, 2]}}}),
    "tiny_qwen2_5_vl": ("qwen2_5_vl", {"vision_config": TOWER, "tie_word_embeddings": True, "text_config": {
        **SEEN, "num_attention_heads": 2, "num_key_value_heads": 1, "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "mrope_section": [2, 3, 3]}}}),
    "tiny_qwen3_vl": ("qwen3_vl", {"vision_config": TOWER, "text_config": {
        **SEEN, "head_dim": 20, "rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "mrope_section": [4, 3, 2],
                                                    "mrope_interleaved": True}}}),
    "tiny_glm4v": ("glm4v", {"vision_config": TOWER, "text_config": {
        **SEEN, "num_attention_heads": 2, "rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.5,
                                                              "mrope_section": [1, 1, 2]}}}),
    "tiny_qwen3_5_axes": ("qwen3_5_text", {
        **ATTENTION, **DELTA, "head_dim": 24, "intermediate_size": 48, "num_hidden_layers": 4,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100.0, "partial_rotary_factor": 0.5, "mrope_section": [2, 2, 2],
                            "mrope_interleaved": True}}),
}


def redraw_linear(model, generator):
    """Wide random parameters; decays, steps and skips stay near what the model starts with, norms and biases near theirs."""
    is_gemma4 = "Gemma4" in type(model).__name__
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith(("A_log", "dt_bias", ".D")):
                parameter.copy_(parameter + 0.3 * noise)
            elif parameter.dim() == 1:
                start = parameter if parameter.abs().sum() > 0 else torch.full_like(parameter, 1.0 if "norm" in name.lower() else 0.0)
                # Gemma 4 scales its embedding by sqrt(hidden), as redraw() says.
                start = start * 8 if is_gemma4 and name == "model.norm.weight" else start
                parameter.copy_(start + 0.3 * noise)
            elif "embed" in name:
                parameter.copy_((0.08 if is_gemma4 and "per_layer" not in name else 0.5) * noise)
            else:
                parameter.copy_(1.2 * noise / parameter.shape[-1] ** 0.5)
        for name, buffer in model.named_buffers():
            if name.endswith("layer_scalar"):
                buffer.copy_(1 + 0.2 * torch.randn(buffer.shape, generator=generator))
            if name.endswith(("correction_bias", "expert_bias")):
                buffer.copy_(0.2 * torch.randn(buffer.shape, generator=generator))


def redraw(model, generator):
    """Wide random parameters: matrices at 1.6 / sqrt(inputs), norms around what they mean for the model.

    Gemma scales its embedding by sqrt(hidden); it is drawn smaller and the last norm larger, else a token would only
    predict itself."""
    gemma = "Gemma" in type(model).__name__
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1:
                # Gemma multiplies by 1 + weight, the others by the weight.
                centre = 0.0 if gemma else 1.0
                if gemma and name == "model.norm.weight":
                    centre = 12.0
                parameter.copy_(centre + 0.3 * noise)
            elif "embed_tokens" in name:
                parameter.copy_((0.045 if gemma else 0.5) * noise)
            else:
                parameter.copy_(1.6 * noise / parameter.shape[1] ** 0.5)


def draw_mxfp4(model, generator):
    """Experts of four-bit values, and the tensors in which such a model is published: blocks and scales in place of the matrices."""
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors
    packed = {}
    for name, parameter in model.named_parameters():
        if not name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            continue
        experts, columns, rows = parameter.shape
        blocks = torch.randint(0, 256, (experts, rows, columns // 32, 16), generator=generator, dtype=torch.uint8)
        scales = torch.randint(122, 125, (experts, rows, columns // 32), generator=generator, dtype=torch.uint8)
        with torch.no_grad():
            parameter.copy_(convert_moe_packed_tensors(blocks, scales, dtype=torch.float32))
        packed[name + "_blocks"], packed[name + "_scales"] = blocks, scales
    return packed


def publish_mxfp4(folder, packed):
    path = os.path.join(folder, "model.safetensors")
    kept = {k: v for k, v in load_file(path).items() if k + "_blocks" not in packed}
    save_file({**kept, **packed}, path, metadata={"format": "pt"})
    path = os.path.join(folder, "config.json")
    config = json.load(open(path))
    config["quantization_config"] = {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]}
    with open(path, "w") as f:
        json.dump(config, f, indent=2)
        f.write("\n")


def logits_of(model, ids, positions=None):
    given = {} if positions is None else {"position_ids": positions.T[:, None]}
    with torch.no_grad():
        return model(input_ids=ids[None], use_cache=False, **given).logits[0]


def picture_positions():
    """9 tokens of text, 4 rows of 5 patches, and text behind the largest position."""
    text = [[i] * 3 for i in range(9)]
    patches = [[9, 9 + row, 9 + column] for row in range(4) for column in range(5)]
    return torch.tensor(text + patches + [[14 + i] * 3 for i in range(TOKENS - 29)])


def leave_out_tower(folder):
    """Only the text part is read; the tower would make the file several times larger."""
    path = os.path.join(folder, "model.safetensors")
    save_file({k: v for k, v in load_file(path).items() if "visual." not in k}, path, metadata={"format": "pt"})


def greedy(model, ids, count):
    smallest = float("inf")
    for _ in range(count):
        row = logits_of(model, ids)[-1]
        best = torch.topk(row, 2)
        smallest = min(smallest, float(best.values[0] - best.values[1]))
        ids = torch.cat([ids, best.indices[:1]])
    return ids[-count:], smallest


def make(name, folder):
    generator = torch.Generator().manual_seed(SEED)
    transformers.set_seed(SEED)
    if name in MODELS:
        config = MODELS[name]
    else:
        kind, options = {**DECODERS, **PER_LAYER, **LINEAR, **SEEING}[name]
        if "vision_config" in options:
            options = {**options, "text_config": {**COMMON, **options["text_config"]}}
        else:
            options = {**COMMON, **options}
        config = AutoConfig.for_model(kind, **options)
    sees = hasattr(config, "vision_config")
    of_class = transformers.AutoModelForImageTextToText if sees else transformers.AutoModelForCausalLM
    model = of_class.from_config(config, dtype=torch.float32, attn_implementation="eager")
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")
    (redraw if name in MODELS else redraw_linear)(model, generator)
    packed = draw_mxfp4(model, generator) if name.endswith("mxfp4") else None
    model.eval()
    model.save_pretrained(folder)
    if packed:
        publish_mxfp4(folder, packed)
    if sees:
        leave_out_tower(folder)
    generation = os.path.join(folder, "generation_config.json")
    if os.path.exists(generation):
        os.remove(generation)

    ids = torch.randint(0, config.get_text_config().vocab_size, (TOKENS,), generator=generator)
    wide = copy.deepcopy(model).double()
    exact = logits_of(wide, ids)
    difference = (logits_of(model, ids).double() - exact).abs().max()
    continuation, margin = greedy(wide, ids, CONTINUATION)
    inputs, outputs = {"ids": ids.to(torch.int32)}, {"logits": exact.float().contiguous(), "greedy": continuation.to(torch.int32)}
    if name in SEEING:
        positions = picture_positions()
        on_axes = logits_of(wide, ids, positions)
        difference = max(difference, (logits_of(model, ids, positions).double() - on_axes).abs().max())
        inputs["positions"], outputs["on_axes"] = positions.to(torch.int32).contiguous(), on_axes.float().contiguous()
    save_file(inputs, os.path.join(folder, "ids.safetensors"))
    save_file({**outputs, "float32_difference": difference.float().reshape(1)}, os.path.join(folder, "logits.safetensors"))
    sizes = {f: os.path.getsize(os.path.join(folder, f)) for f in sorted(os.listdir(folder))}
    print(f"{name}: logits {exact.min():.2f} .. {exact.max():.2f}, std {exact.std():.2f}, float32 off by {difference:.1e}, "
          f"smallest greedy margin {margin:.3f}, distinct greedy ids {len(set(continuation.tolist()))}, {sizes}")


def main():
    for package, version in PINNED.items():
        have = {"transformers": transformers, "torch": torch}[package].__version__.split("+")[0]
        if have != version:
            sys.exit(f"{package} {version} makes these files, found {have}")
    here = os.path.dirname(os.path.abspath(__file__))
    for name in sys.argv[1:] or [*MODELS, *DECODERS, *PER_LAYER, *LINEAR, *SEEING]:
        make(name, os.path.join(here, name))


if __name__ == "__main__":
    main()
