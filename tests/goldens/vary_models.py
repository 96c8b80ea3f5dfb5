#!/usr/bin/env python3
"""Converts checkpoints of random shapes and options that transformers saves, and compares all logits: more than the kept goldens can show.

  OMP_NUM_THREADS=1 python3 tests/goldens/vary_models.py build/release/bin [--rounds 3] [--seed 1] [--gguf LLAMA_CPP [--keep FOLDER]] [name ...]

Packages and names are those of make_tiny_models.py, whose configurations are changed at random: heads and their ratios, groups, biases, tied and
untied output matrices, widths, taps, rotary scalings, the older style of config.json, 16-bit weights, shards. `decoders` stands for all names of
transformers without recurrent layers. Chunks of 1, 7 and 64 tokens; the greedy continuation must be the original's. Prints one line a model; ends
with exit code 1 when one is beyond the tolerance or does not convert. With --gguf the checkpoints first become GGUF files by llama.cpp's own
convert_hf_to_gguf.py; LLAMA_CPP is a folder of its sources (tests/bench/peer.sh gets them). --keep draws small models and leaves the
smallest file of each family that was as it should be in FOLDER, with ids and logits; tests/goldens/gguf_decoders was made so:

  OMP_NUM_THREADS=1 python3 tests/goldens/vary_models.py build/release/bin --gguf LLAMA_CPP --keep tests/goldens/gguf_decoders --rounds 1 --seed 41 NAME ...
"""

import argparse
import copy
import itertools
import json
import logging
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from make_tiny_models import ATTENTION, COMMON, DECODERS, EXPERTS, LATENT, LINEAR, PER_LAYER, WINDOW, greedy, logits_of, redraw_linear

BOTH = (True, False)
PLAIN = {**ATTENTION, "intermediate_size": 40, "num_hidden_layers": 2}
GEMMA = {**ATTENTION, "head_dim": 12, "intermediate_size": 40, "num_hidden_layers": 4, "sliding_window": WINDOW, "query_pre_attn_scalar": 12}
# Families without a kept golden: model type and configuration.
MORE = {
    "llama": ("llama", PLAIN), "mistral": ("mistral", {**PLAIN, "sliding_window": WINDOW}), "ministral3": ("ministral3", {**PLAIN, "rope_parameters": {
        "rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 16, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.3}}),
    "gemma2": ("gemma2", GEMMA), "gemma3": ("gemma3_text", {**GEMMA, "num_hidden_layers": 6}), "gemma": ("gemma", {**PLAIN, "head_dim": 12}), "vaultgemma": ("vaultgemma", GEMMA),
    "glm": ("glm", PLAIN), "glm4": ("glm4", PLAIN), "helium": ("helium", {**PLAIN, "hidden_size": 48, "head_dim": 12}), "ernie4_5": ("ernie4_5", PLAIN), "seed_oss": ("seed_oss", PLAIN),
    "internlm3": ("internlm3", PLAIN), "arcee": ("arcee", PLAIN), "hunyuan": ("hunyuan_v1_dense", PLAIN), "olmo": ("olmo", PLAIN), "nemotron": ("nemotron", PLAIN),
    "stablelm": ("stablelm", PLAIN), "phi": ("phi", PLAIN), "cohere": ("cohere", PLAIN),
    "gpt2": ("gpt2", {"n_embd": 36, "n_head": 3, "n_layer": 2, "n_positions": 64}), "gpt_neox": ("gpt_neox", {"num_attention_heads": 3, "intermediate_size": 40, "num_hidden_layers": 2}),
    "qwen2_moe": ("qwen2_moe", {**PLAIN, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 20, "shared_expert_intermediate_size": 24}),
    "olmoe": ("olmoe", {**PLAIN, "num_experts": 4, "num_experts_per_tok": 2}), "granite_moe": ("granitemoe", {**PLAIN, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "granite_moe_shared": ("granitemoeshared", {**PLAIN, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "granite_swa": ("granite_swa", {**PLAIN, "num_hidden_layers": 5, "sliding_window": WINDOW}),
    "granite_moe_swa": ("granitemoe_swa", {**PLAIN, "num_hidden_layers": 5, "sliding_window": WINDOW, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "hyperclovax": ("hyperclovax", PLAIN), "cwm": ("cwm", {**PLAIN, "num_hidden_layers": 5, "sliding_window": WINDOW}), "jais2": ("jais2", PLAIN), "nanochat": ("nanochat", PLAIN),
    "diffllama": ("diffllama", PLAIN), "gpt_neo": ("gpt_neo", {"hidden_size": 36, "num_heads": 3, "num_layers": 4, "max_position_embeddings": 64, "attention_types": [[["global", "local"], 2]],
        "window_size": WINDOW}),
    "llama4": ("llama4_text", {**PLAIN, "head_dim": 12, "intermediate_size": 20, "intermediate_size_mlp": 36, "num_hidden_layers": 4, "num_local_experts": 4, "attention_chunk_size": WINDOW,
        "floor_scale": 5}),
    **{name: (name, {**PLAIN, **EXPERTS, "head_dim": 12, "num_hidden_layers": 5, "sliding_window": WINDOW}) for name in ("exaone_moe", "afmoe", "mellum", "laguna", "flint")},
    "mimo_v2_flash": ("mimo_v2_flash", {**PLAIN, "head_dim": 12, "v_head_dim": 8, "num_hidden_layers": 5, "sliding_window": WINDOW, "n_routed_experts": 6, "num_experts_per_tok": 2,
        "moe_intermediate_size": 20}),
    **{name: (name, {**PLAIN, **EXPERTS, "n_routed_experts": 6, "head_dim": 12, "num_hidden_layers": 3}) for name in ("dots1", "glm4_moe", "solar_open", "hy_v3")},
    "minimax_m2": ("minimax_m2", {**PLAIN, "head_dim": 12, "num_local_experts": 6, "num_experts_per_tok": 2}),
    "ernie4_5_moe": ("ernie4_5_moe", {**PLAIN, "num_hidden_layers": 3, "moe_num_experts": 6, "moe_k": 2, "moe_intermediate_size": 20}),
    "hunyuan_moe": ("hunyuan_v1_moe", {**PLAIN, "num_experts": 4}), "flex_olmo": ("flex_olmo", {**PLAIN, "num_experts": 4, "num_experts_per_tok": 2}),
    "cohere2_moe": ("cohere2_moe", {**PLAIN, "head_dim": 12, "num_hidden_layers": 5, "sliding_window": WINDOW, "num_experts": 4, "num_experts_per_tok": 2, "prefix_dense_intermediate_size": 28}),
    "iquestcoder": ("iquestcoder", PLAIN), "gptj": ("gptj", {"n_embd": 36, "n_head": 3, "n_layer": 2, "n_positions": 64, "rotary_dim": 8}),
    "gpt_bigcode": ("gpt_bigcode", {"n_embd": 36, "n_head": 3, "n_layer": 2, "n_positions": 64}),
    "kolibri1": ("kolibri1", {**ATTENTION, **EXPERTS, "head_dim": 12, "num_hidden_layers": 5, "sliding_window": WINDOW, "shared_expert_intermediate_size": 12}),
    "glm4_moe_lite": ("glm4_moe_lite", {**PLAIN, **LATENT, "num_hidden_layers": 3, "n_routed_experts": 8, "moe_intermediate_size": 20}),
    "zaya": ("zaya", {**ATTENTION, "head_dim": 8, "num_hidden_layers": 3, "sliding_window": WINDOW, "num_experts": 4, "moe_intermediate_size": 20, "router_hidden_size": 12}),
    "youtu": ("youtu", {**PLAIN, **LATENT}), "minicpm3": ("minicpm3", {**PLAIN, **LATENT}), "deepseek_v2": ("deepseek_v2", {**PLAIN, **LATENT, "num_hidden_layers": 3, "n_routed_experts": 8, "moe_intermediate_size": 20}), "deepseek": ("deepseek_v3", {**PLAIN, **LATENT, "num_hidden_layers": 3, "n_routed_experts": 8,
        "moe_intermediate_size": 20}),
}
GRANITE = {"attention_bias": BOTH, "attention_multiplier": (0.1, 0.3), "logits_scaling": (1.0, 3.0), "embedding_multiplier": (1.0, 2.5), "residual_multiplier": (1.0, 0.6)}
LATENTS = {"attention_bias": BOTH, "q_lora_rank": (None, 10, 17), "kv_lora_rank": (8, 12, 33), "qk_nope_head_dim": (4, 12, 16), "qk_rope_head_dim": (4, 8), "v_head_dim": (8, 12, 20)}
SIGMOID = {"n_group": (1, 2, 3), "topk_group": (1,), "norm_topk_prob": BOTH, "routed_scaling_factor": (1.0, 2.5), "first_k_dense_replace": (0, 1, 2)}
TYPES = (None, ["sliding_attention", "full_attention", "sliding_attention", "sliding_attention", "full_attention"])
BASES = (None, [0, 5000.0, 9000.0, 5000.0, 0])
# name -> option -> values to choose from.
OPTIONS = {
    "mamba": {"use_conv_bias": BOTH, "use_bias": BOTH, "conv_kernel": (2, 3, 4), "state_size": (4, 16, 17), "intermediate_size": (24, 40, 64), "time_step_rank": (1, 5), "hidden_size": (20, 36)},
    "falcon_mamba": {"use_conv_bias": BOTH, "use_bias": BOTH, "state_size": (8, 16), "hidden_size": (20, 32)},
    "mamba2": {"state_size": (8, 12, 20), "use_bias": BOTH, "use_conv_bias": BOTH, "conv_kernel": (3, 4), "time_step_limit": ((0.0, float("inf")), (0.05, 0.3))},
    "jamba": {"mamba_conv_bias": BOTH, "mamba_proj_bias": BOTH, "mamba_d_state": (8, 16), "mamba_d_conv": (3, 4), "num_experts": (2, 4), "attn_layer_period": (2, 4), "attn_layer_offset": (1,),
              "expert_layer_offset": (0, 1)},
    "bamba": {"mamba_conv_bias": BOTH, "mamba_proj_bias": BOTH, "mamba_d_state": (8, 12), "mamba_d_conv": (3, 4), "attention_bias": BOTH, "mlp_bias": BOTH},
    "granite_hybrid": {"mamba_conv_bias": BOTH, "mamba_proj_bias": BOTH, "mamba_d_state": (8, 12), "mamba_d_conv": (3, 4), "attention_bias": BOTH, "position_embedding_type": ("nope", "rope"),
                       "num_local_experts": (0, 4)},
    "falcon_h1": {"mamba_n_groups": (1, 2, 3), "mamba_conv_bias": BOTH, "mamba_proj_bias": BOTH, "projectors_bias": BOTH, "mlp_bias": BOTH, "attention_bias": BOTH, "mamba_rms_norm": BOTH,
                  "mamba_norm_before_gate": BOTH, "mamba_d_conv": (3, 4)},
    "nemotron_h": {"use_bias": BOTH, "mlp_bias": BOTH, "attention_bias": BOTH, "use_conv_bias": BOTH, "n_groups": (1, 2, 4), "norm_topk_prob": BOTH, "routed_scaling_factor": (1.0, 2.5)},
    "zamba2": {"use_shared_attention_adapter": BOTH, "use_mem_rope": BOTH, "num_mem_blocks": (1, 2), "mamba_ngroups": (1, 2), "add_bias_linear": BOTH},
    "lfm2": {"conv_L_cache": (2, 3, 4), "conv_bias": BOTH, "intermediate_size": (24, 48), "block_auto_adjust_ff_dim": BOTH},
    "lfm2_moe": {"conv_L_cache": (3, 4), "conv_bias": BOTH, "use_expert_bias": BOTH, "norm_topk_prob": BOTH},
    "lfm3": {"conv_bias": BOTH},
    "recurrent_gemma": {"attention_bias": BOTH, "conv1d_width": (3, 4), "tie_word_embeddings": (True,)},
    "qwen3_next": {"linear_key_head_dim": (4, 8, 12), "linear_value_head_dim": (8, 12), "linear_conv_kernel_dim": (2, 4), "attention_bias": BOTH, "norm_topk_prob": BOTH, "decoder_sparse_step": (1, 2),
                   "mlp_only_layers": ([], [1])},
    "qwen3_5": {"linear_key_head_dim": (4, 8, 12), "linear_value_head_dim": (8, 12), "linear_conv_kernel_dim": (2, 4), "attention_bias": BOTH},
    "olmo_hybrid": {"linear_allow_neg_eigval": BOTH, "attention_bias": BOTH},
    "kimi_linear": {"q_lora_rank": (None, 10), "qk_nope_head_dim": (8, 12), "qk_rope_head_dim": (4, 8), "v_head_dim": (8, 12), "moe_renormalize": BOTH, "routed_scaling_factor": (1.0, 2.4),
                    "num_shared_experts": (1, 2)},
    "minimax": {"full_attn_alpha_factor": (1, 1.3), "full_attn_beta_factor": (1, 0.8), "linear_attn_alpha_factor": (1, 1.2), "linear_attn_beta_factor": (1, 0.9), "mlp_alpha_factor": (1, 1.1),
                "mlp_beta_factor": (1, 0.7), "tie_word_embeddings": (False,)},
    "phi4flash": {"num_hidden_layers": (4, 8, 12), "sliding_window": (1, 5, WINDOW, 64), "mamba_d_state": (4, 16), "mamba_d_conv": (2, 4), "mamba_expand": (1, 2), "intermediate_size": (20, 44)},
    "qwen2": {"max_window_layers": (0, 1, 3), "use_sliding_window": BOTH},
    "qwen3": {"attention_bias": BOTH, "rope_parameters": ({"rope_type": "default", "rope_theta": 5000.0}, {"rope_type": "linear", "rope_theta": 5000.0, "factor": 3.0}, {
        "rope_type": "yarn", "rope_theta": 5000.0, "factor": 4.0, "original_max_position_embeddings": 16}, {
        "rope_type": "llama3", "rope_theta": 5000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16})},
    "qwen3_moe": {"norm_topk_prob": BOTH, "decoder_sparse_step": (1, 2), "mlp_only_layers": ([], [0]), "attention_bias": BOTH},
    "mixtral": {"sliding_window": (None, WINDOW), "num_local_experts": (3, 4)},
    "ministral": {"layer_types": (None, ["full_attention", "sliding_attention"])},
    "phi3": {"sliding_window": (None, WINDOW), "partial_rotary_factor": (1.0, 0.5)},
    "smollm3": {"attention_bias": BOTH, "mlp_bias": BOTH, "use_sliding_window": BOTH, "sliding_window": (WINDOW,), "no_rope_layers": (None, [1, 0, 0, 1])},
    "granite": {**GRANITE, "mlp_bias": BOTH},
    "olmo2": {"attention_bias": BOTH},
    "olmo3": {"attention_bias": BOTH, "rope_parameters": (None, {"sliding_attention": {"rope_type": "default", "rope_theta": 8000.0}, "full_attention": {
        "rope_type": "yarn", "rope_theta": 8000.0, "factor": 4.0, "attention_factor": 1.3, "original_max_position_embeddings": 16, "beta_fast": 8.0}})},
    "exaone4": {"sliding_window": (None, WINDOW), "sliding_window_pattern": (2, 4)},
    "cohere2": {"attention_bias": BOTH, "logit_scale": (0.1, 1.0)},
    "starcoder2": {"use_bias": BOTH, "sliding_window": (None, WINDOW)},
    "gpt_oss": {"num_experts_per_tok": (1, 3), "swiglu_limit": (0.7, 7.0), "attention_bias": BOTH, "rope_parameters": (None, {"rope_type": "default", "rope_theta": 9000.0})},
    "llama": {"attention_bias": BOTH, "mlp_bias": BOTH},
    "mistral": {"sliding_window": (None, WINDOW, 23)},
    "ministral3": {"sliding_window": (None, WINDOW)},
    "gemma2": {"attn_logit_softcapping": (None, 5.0), "final_logit_softcapping": (None, 12.0), "query_pre_attn_scalar": (12, 30)},
    "vaultgemma": {"attn_logit_softcapping": (None, 5.0), "final_logit_softcapping": (None, 12.0), "query_pre_attn_scalar": (12, 30), "attention_bias": BOTH},
    "gemma3": {"query_pre_attn_scalar": (12, 30), "final_logit_softcapping": (None, 12.0)},
    "gemma": {"attention_bias": BOTH},
    "glm": {"attention_bias": BOTH},
    "glm4": {"attention_bias": BOTH},
    "helium": {"attention_bias": BOTH, "mlp_bias": BOTH},
    "ernie4_5": {"use_bias": BOTH},
    "seed_oss": {"attention_bias": BOTH, "attention_out_bias": BOTH, "mlp_bias": BOTH},
    "internlm3": {"attention_bias": BOTH, "mlp_bias": BOTH},
    "arcee": {"attention_bias": BOTH, "mlp_bias": BOTH},
    "hunyuan": {"attention_bias": BOTH},
    "olmo": {"attention_bias": BOTH, "clip_qkv": (None, 0.8)},
    "nemotron": {"attention_bias": BOTH, "mlp_bias": BOTH},
    "stablelm": {"use_qkv_bias": BOTH, "use_parallel_residual": BOTH},
    "phi": {},
    "cohere": {"attention_bias": BOTH, "use_qk_norm": BOTH, "logit_scale": (0.1, 1.0)},
    "gpt2": {"n_inner": (None, 50), "scale_attn_weights": BOTH},
    "gpt_neox": {"attention_bias": BOTH, "use_parallel_residual": BOTH},
    "qwen2_moe": {"norm_topk_prob": BOTH, "decoder_sparse_step": (1, 2), "mlp_only_layers": ([], [0]), "qkv_bias": BOTH},
    "olmoe": {"norm_topk_prob": BOTH, "clip_qkv": (None, 0.8), "attention_bias": BOTH},
    "granite_moe": GRANITE,
    "granite_moe_shared": {**GRANITE, "shared_intermediate_size": (0, 12)},
    "granite_swa": {**GRANITE, "mlp_bias": BOTH, "layer_rope_theta": BASES},
    "granite_moe_swa": {**GRANITE, "shared_intermediate_size": (0, 12), "layer_rope_theta": BASES},
    "hyperclovax": {**GRANITE, "attention_multiplier": (None, 0.3), "mlp_bias": BOTH, "use_post_norm": BOTH},
    "cwm": {"layer_types": (None, ["sliding_attention", "full_attention", "full_attention", "sliding_attention", "sliding_attention"])},
    "jais2": {"attention_bias": BOTH, "mlp_bias": BOTH},
    "diffllama": {"attention_bias": BOTH},
    "gpt_neo": {"intermediate_size": (None, 50), "attention_types": ([[["global", "local"], 2]], [[["local"], 3], [["global"], 1]])},
    "llama4": {"attention_bias": BOTH, "num_experts_per_tok": (1, 2), "interleave_moe_layer_step": (1, 2), "no_rope_layer_interval": (2, 4), "use_qk_norm": BOTH, "attn_temperature_tuning": BOTH,
               "attention_chunk_size": (5, WINDOW, 16), "attn_scale": (0.1, 0.4)},
    "exaone_moe": {**SIGMOID, "num_shared_experts": (1, 2), "sliding_window_pattern": (2, 4)},
    "afmoe": {"attention_bias": BOTH, "num_dense_layers": (0, 1, 2), "num_shared_experts": (1, 2), "route_scale": (1.0, 2.5), "global_attn_every_n_layers": (2, 4), "mup_enabled": BOTH},
    "mimo_v2_flash": {**SIGMOID, "attention_bias": BOTH, "v_head_dim": (8, 12, 20), "attention_value_scale": (None, 0.707), "layer_types": TYPES, "n_group": (1, 2, 3)},
    "laguna": {"attention_bias": BOTH, "gating": (True, "per-head", "per-element"), "moe_routed_scaling_factor": (1.0, 2.5), "moe_router_logit_softcapping": (0.0, 2.0), "layer_types": TYPES,
               "mlp_layer_types": (None, ["sparse", "dense", "sparse", "sparse", "dense"]), "shared_expert_intermediate_size": (12, 20)},
    "mellum": {"attention_bias": BOTH, "norm_topk_prob": BOTH, "layer_types": TYPES, "mlp_layer_types": (None, ["sparse", "dense", "sparse", "sparse", "dense"])},
    "flint": {"attention_bias": BOTH, "norm_topk_prob": BOTH, "layer_types": TYPES, "mlp_only_layers": (None, [], [1]), "decoder_sparse_step": (1, 2), "shared_expert_intermediate_size": (12, 20)},
    "dots1": {**SIGMOID, "attention_bias": BOTH, "n_shared_experts": (1, 2), "sliding_window": (None, WINDOW), "max_window_layers": (0, 1, 3)},
    "glm4_moe": {**SIGMOID, "attention_bias": BOTH, "n_shared_experts": (1, 2), "use_qk_norm": BOTH},
    "solar_open": {**SIGMOID, "first_k_dense_replace": (0,), "attention_bias": BOTH, "n_shared_experts": (1, 2)},
    "hy_v3": {"attention_bias": BOTH, "mlp_bias": BOTH, "num_shared_experts": (1, 2), "router_scaling_factor": (1.0, 2.5), "mlp_layer_types": (None, ["sparse", "dense", "sparse"])},
    "minimax_m2": {},
    "ernie4_5_moe": {"use_bias": BOTH, "moe_num_shared_experts": (0, 1, 2), "moe_layer_start_index": (0, 1), "moe_layer_end_index": (-1, 1), "moe_layer_interval": (1, 2)},
    "hunyuan_moe": {"attention_bias": BOTH, "moe_topk": (1, 2)},
    "flex_olmo": {"attention_bias": BOTH, "norm_topk_prob": BOTH},
    "cohere2_moe": {"attention_bias": BOTH, "norm_topk_prob": BOTH, "num_shared_experts": (0, 1, 2), "shared_expert_combination_strategy": ("average", "sum"), "expert_selection_fn": ("softmax", "sigmoid"),
                    "rms_norm_eps": (None, 1e-5), "first_k_dense_replace": (0, 2), "prefix_dense_sliding_window_pattern": (1, 2), "sliding_window_pattern": (2, 4), "logit_scale": (0.1, 1.0)},
    "iquestcoder": {"attention_bias": BOTH, "mlp_bias": BOTH}, "gptj": {"n_inner": (None, 50), "rotary_dim": (4, 8, 12)}, "gpt_bigcode": {"n_inner": (None, 50), "scale_attn_weights": BOTH},
    "kolibri1": {"norm_topk_prob": BOTH, "layer_types": TYPES},
    "glm4_moe_lite": {**LATENTS, "rope_interleave": BOTH, "n_group": (1, 2, 4), "topk_group": (1,), "norm_topk_prob": BOTH, "num_experts_per_tok": (1, 2)},
    "zaya": {"attention_bias": BOTH, "cca_time0": (2, 3), "cca_time1": (2, 3), "layer_types": (None, ["hybrid", "hybrid_sliding", "hybrid"])},
    "youtu": {**LATENTS, "rope_interleave": BOTH},
    "minicpm3": {**LATENTS, "mlp_bias": BOTH, "scale_emb": (1, 2.5), "scale_depth": (None, 0.9), "dim_model_base": (None, 16)},
    "deepseek": {**LATENTS, "rope_interleave": BOTH, "first_k_dense_replace": (0, 1, 2), "n_group": (1, 2, 4), "topk_group": (1,), "norm_topk_prob": BOTH, "routed_scaling_factor": (1.0, 2.5),
                 "n_shared_experts": (1, 2), "num_experts_per_tok": (1, 2)},
    "deepseek_v2": {**LATENTS, "kv_lora_rank": (8, 12, 32), "first_k_dense_replace": (0, 1, 2), "topk_method": ("greedy", "group_limited_greedy"), "n_group": (1, 2, 4), "topk_group": (1, 2), "routed_scaling_factor": (1.0, 2.5),
                    "n_shared_experts": (1, 2), "num_experts_per_tok": (1, 2)},
    "nanochat": {"attention_bias": BOTH, "final_logit_softcapping": (None, 12.0)},
    "gemma3n": {"altup_num_inputs": (1, 2, 4), "laurel_rank": (3, 8), "altup_correct_scale": BOTH, "vocab_size_per_layer_input": (60, 97), "hidden_size_per_layer_input": (4, 6, 17),
                "final_logit_softcapping": (12.0, 30.0), "attention_bias": BOTH, "hidden_activation": ("gelu_pytorch_tanh", "silu"), "rope_parameters": (None, {
                    "sliding_attention": {"rope_type": "default", "rope_theta": 5000.0}, "full_attention": {"rope_type": "linear", "rope_theta": 9000.0, "factor": 3.0}})},
    "gemma4": {"hidden_size_per_layer_input": (0, 4, 6, 17), "use_double_wide_mlp": BOTH, "attention_k_eq_v": BOTH, "num_global_key_value_heads": (None, 1, 2), "global_head_dim": (8, 20, 36),
               "enable_moe_block": BOTH, "num_experts": (3, 5), "top_k_experts": (1, 2, 3), "moe_intermediate_size": (8, 20), "final_logit_softcapping": (None, 12.0), "attention_bias": BOTH,
               "vocab_size_per_layer_input": (200,), "use_bidirectional_attention": (None, "vision"), "rope_parameters": (None, {
                   "sliding_attention": {"rope_type": "default", "rope_theta": 5000.0},
                   "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.5, "factor": 2.0, "rope_theta": 9000.0}})},
    "rwkv": {"rescale_every": (0, 2, 6), "attention_hidden_size": (24, 32), "num_hidden_layers": (2, 5)},
    "xlstm": {"num_heads": (2, 4), "use_bias": BOTH, "qk_dim_factor": (0.5, 1.0), "gate_soft_cap": (15.0, 5.0), "output_logit_soft_cap": (30.0, 10.0)},
}
OWN_HEAD_SIZE = ("qwen3", "qwen3_moe", "ministral", "gpt_oss", "qwen3_next", "qwen3_5", "lfm3", "minimax", "falcon_h1", "nemotron_h",
                 "llama", "mistral", "ministral3", "gemma2", "gemma3", "gemma", "glm", "glm4", "ernie4_5", "seed_oss", "internlm3", "arcee", "hunyuan", "nemotron", "mixtral", "vaultgemma", "gemma3n", "gemma4", "hyperclovax", "cwm", "jais2",
                 "llama4", "exaone_moe", "afmoe", "mimo_v2_flash", "laguna", "mellum", "flint",
                 "dots1", "glm4_moe", "solar_open", "hy_v3", "minimax_m2", "cohere2_moe", "hunyuan_moe", "ernie4_5_moe", "zaya", "iquestcoder", "kolibri1")
# What llama.cpp's converter leaves out of a family's GGUF, or has one value for.
LOST_IN_GGUF = {
    "granite_swa": {"layer_rope_theta": None}, "granite_moe_swa": {"layer_rope_theta": None},
    "qwen2": {"use_sliding_window": False}, "mistral": {"sliding_window": None}, "mixtral": {"sliding_window": None}, "starcoder2": {"sliding_window": None},
    "smollm3": {"use_sliding_window": False, "no_rope_layers": None}, "gpt_oss": {"swiglu_limit": 7.0}, "cohere2": {"tie_word_embeddings": True, "attention_bias": False},
    **{name: {"attention_bias": False, "rope_interleave": True} for name in ("deepseek", "deepseek_v2", "youtu")}, "minicpm3": {"attention_bias": False, "scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 256, "q_lora_rank": 10},
    "exaone_moe": {"first_k_dense_replace": 1, "n_group": 1}, "afmoe": {"attention_bias": False, "global_attn_every_n_layers": 4, "mup_enabled": True},
    "cohere": {"tie_word_embeddings": True}, "gemma": {"tie_word_embeddings": True}, "gpt2": {"n_inner": None, "scale_attn_weights": True}, "olmoe": {"norm_topk_prob": False, "clip_qkv": None},
    "qwen2_moe": {"decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": False}, "qwen3_moe": {"decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": True},
    "granite_moe": {"attention_bias": False}, "glm": {"rms_norm_eps": 1e-5}, "olmo": {"attention_bias": False}, "olmo3": {"rope_parameters": None},
    "bamba": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 1.0}, "mlp_bias": False},
    "gemma3": {"tie_word_embeddings": True}, "gemma2": {"tie_word_embeddings": True, "attn_logit_softcapping": 5.0, "final_logit_softcapping": 12.0},
}
NO_ROPE_IN_GGUF = ("minicpm3", "gemma", "gemma2", "glm", "stablelm", "phi", "gpt_neox")  # but for how many channels turn
NO_SCALING_IN_GGUF = (*NO_ROPE_IN_GGUF, "cohere", "cohere2", "minicpm3", "exaone_moe", "afmoe")
# And what it wants to find in config.json beyond what transformers writes.
WANTED_FOR_GGUF = {**{name: {"scoring_func": "sigmoid", "score_func": "sigmoid", "route_norm": True} for name in ("exaone_moe", "afmoe")}, "deepseek": {"scoring_func": "sigmoid"}, "gpt2": {"n_ctx": 64}, "cohere2": {"rotary_pct": 1.0}}
DECODER_NAMES = [*(name[5:] for name in DECODERS if name[5:] in OPTIONS and name[5:] not in MORE), *MORE]
# Rotary scalings of their own, or the parts of a head that turn.
OWN_ROPE = ("olmo3", "gemma3", "ministral3", "gpt2", "gpt_neo", "gptj", "gpt_bigcode", "phi3", "mimo_v2_flash", "laguna", "mellum", "zaya", "phi4flash")
PARTIAL = {"phi": (0.5, 1.0), "stablelm": (0.25, 0.5), "nemotron": (0.5,), "glm": (0.5,), "glm4": (0.5, 1.0), "gpt_neox": (0.25, 0.5), "glm4_moe": (0.5, 1.0), "minimax_m2": (0.5, 1.0)}


def scaling(rng, channels, kinds, gguf):
    """Rotary parameters and the longest text that the model was made for."""
    kind = rng.choice(kinds)
    o = {"rope_type": kind, "rope_theta": rng.choice((1e4, 5e3, 1e6))}
    longest = rng.choice((16, 128))
    if kind == "linear":
        o["factor"] = 3.0
    elif kind == "dynamic":
        o["factor"] = rng.choice((2.0, 4.0))
    elif kind == "llama3":
        o.update(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)
    elif kind == "yarn":
        o.update(factor=4.0, original_max_position_embeddings=16)
        o.update({"mscale": 0.7, "mscale_all_dim": 0.7} if gguf else rng.choice(({}, {"mscale": 0.7, "mscale_all_dim": 1.2}, {"truncate": False}, {"attention_factor": 1.2, "beta_fast": 8.0, "beta_slow": 2.0})))
    elif kind == "longrope":
        half = channels // 2
        o.update(original_max_position_embeddings=rng.choice((16, 60)), short_factor=[1 + 0.1 * i for i in range(half)], long_factor=[2 + 0.7 * i for i in range(half)])
        o.update(rng.choice(({"factor": 4.0}, {"factor": 8.0, "attention_factor": 1.3})))
        longest = 128
    return o, longest


def with_rope(rng, name, o, gguf):
    if "linear_attn_config" in o or name in OWN_ROPE and name != "phi3":
        return
    head_dim = o.get("qk_rope_head_dim") or o.get("head_dim") or o["hidden_size"] // o["num_attention_heads"]
    partial = rng.choice(PARTIAL.get(name, (1.0,)))
    if name == "phi3":
        partial = o["partial_rotary_factor"]
    channels = int(head_dim * partial)
    if channels % 2:
        partial, channels = 1.0, head_dim
    kinds = ("default", "longrope") if name == "phi3" else ("default", "linear", "dynamic", "llama3", "yarn", "longrope")
    if gguf:
        lasting = ("default",) if name in NO_SCALING_IN_GGUF else ("default", "linear", "llama3") if name == "llama" else ("default", "longrope") if name == "phi3" else ("default", "linear", "yarn") if "kv_lora_rank" in o else ("default", "linear")
        kinds = tuple(kind for kind in kinds if kind in lasting)
    if channels == 2:
        kinds = tuple(kind for kind in kinds if kind != "dynamic")  # transformers divides by channels - 2
    o["rope_parameters"], o["max_position_embeddings"] = scaling(rng, channels, kinds, gguf)
    if gguf and name in NO_ROPE_IN_GGUF:
        o["rope_parameters"]["rope_theta"] = 1e4
    if name == "phi3" and gguf and o["rope_parameters"]["rope_type"] == "longrope":
        for key in ("factor", "attention_factor"):
            o["rope_parameters"].pop(key, None)
    if name == "phi3" and o["rope_parameters"]["rope_type"] == "longrope":
        o["original_max_position_embeddings"] = o["rope_parameters"]["original_max_position_embeddings"]
    if partial != 1 or name in PARTIAL or name == "phi3":
        o["rope_parameters"]["partial_rotary_factor"] = partial


def make_older(folder):
    """The style of config.json before rope_parameters."""
    path = folder + "/config.json"
    config = json.load(open(path))
    rope = config.pop("rope_parameters", None)
    if rope is None or any(isinstance(v, dict) for v in rope.values()):
        return
    config["torch_dtype"] = config.pop("dtype", "float32")
    config["rope_theta"] = rope.pop("rope_theta")
    if "partial_rotary_factor" in rope:
        config["partial_rotary_factor"] = rope.pop("partial_rotary_factor")
    kind = rope.pop("rope_type", "default")
    config["rope_scaling"] = None if kind == "default" else {"type": kind, **rope}
    json.dump(config, open(path, "w"))


def varied(rng, name, gguf):
    kind, options = MORE[name] if name in MORE else {**DECODERS, **PER_LAYER, **LINEAR}["tiny_" + name]
    o = {**COMMON, **copy.deepcopy(options), "vocab_size": rng.choice((97, 131, 200)), "tie_word_embeddings": rng.choice(BOTH)}
    if "num_attention_heads" in o and name not in ("recurrent_gemma", "zamba2", "kimi_linear"):
        o["num_key_value_heads"] = rng.choice((1, 2, 3))
        o["num_attention_heads"] = o["num_key_value_heads"] * rng.choice((1, 2, 3, 4))
        if name in OWN_HEAD_SIZE:
            o["head_dim"] = rng.choice((8, 12, 16, 20, 24, 40, 80, 96))
            if name in DECODER_NAMES:
                o["hidden_size"] = o["num_attention_heads"] * rng.choice((4, 8, 12))
        else:
            o["hidden_size"] = o["num_attention_heads"] * rng.choice((4, 8, 12, 20))
    if "kv_lora_rank" in o and name in DECODER_NAMES:
        o["num_key_value_heads"] = o["num_attention_heads"]
    if name == "helium":
        o["hidden_size"] = o["num_attention_heads"] * o["head_dim"]
    if name in ("gpt2", "gptj", "gpt_bigcode"):
        del o["hidden_size"]
    if name in ("diffllama", "phi4flash"):
        o["num_key_value_heads"] *= 2
        o["num_attention_heads"] *= 2
        o["hidden_size"] *= 2
    if name == "mimo_v2_flash":
        o["num_attention_heads"] *= 2  # layers with a window have twice the heads of keys
    if name == "laguna":
        o["num_attention_heads_per_layer"] = rng.choice((None, [o["num_key_value_heads"] * rng.choice((1, 2, 4)) for _ in range(o["num_hidden_layers"])]))
    if name == "gpt_neox":
        o["hidden_size"] = o["num_attention_heads"] * rng.choice((8, 24))
    o.update({option: rng.choice(values) for option, values in OPTIONS[name].items()})
    if name == "deepseek_v2":
        if gguf and o["topk_method"] == "greedy":
            o["n_group"] = 1  # such files do not tell the method
        o["topk_group"] = min(o["topk_group"], o["n_group"])
    if gguf:
        o.update(LOST_IN_GGUF.get(name, {}))
        if name == "phi":
            o.update(num_key_value_heads=o["num_attention_heads"], intermediate_size=4 * o["hidden_size"])
        if name in ("gemma2", "gemma3"):
            o["query_pre_attn_scalar"] = o["head_dim"]
        if name in ("nemotron", "glm"):
            o["hidden_size"] = o["num_attention_heads"] * o["head_dim"]
    if name == "internlm3":
        o["mlp_bias"] = o["attention_bias"]
    if name in DECODER_NAMES:
        with_rope(rng, name, o, gguf)
    if name == "exaone4" and o["sliding_window"] is None:
        o["layer_types"] = ["full_attention"] * o["num_hidden_layers"]
    if name == "mamba2":
        groups, size = rng.choice((1, 2, 3)), rng.choice((4, 8, 12))
        o.update(n_groups=groups, num_heads=groups * rng.choice((1, 2, 4)), head_dim=size, expand=2)
        o["hidden_size"] = o["num_heads"] * size // 2
    if name in ("bamba", "granite_hybrid"):
        size = rng.choice((4, 8))
        heads = 2 * o["hidden_size"] // size
        o.update(mamba_n_heads=heads, mamba_d_head=size, mamba_n_groups=rng.choice((1, 2)) if heads % 2 == 0 else 1)
    if name == "recurrent_gemma":
        heads = rng.choice((2, 4))
        o.update(num_attention_heads=heads, num_key_value_heads=1, hidden_size=heads * rng.choice((8, 12)), lru_width=heads * rng.choice((6, 10)))
    if name in ("qwen3_next", "qwen3_5", "olmo_hybrid"):
        o["linear_num_key_heads"] = rng.choice((1, 2, 3))
        o["linear_num_value_heads"] = o["linear_num_key_heads"] * rng.choice((1, 2) if name == "olmo_hybrid" else (1, 2, 3))
    if name == "kimi_linear":
        o["num_attention_heads"] = o["num_key_value_heads"] = rng.choice((2, 4))
        o["linear_attn_config"].update(num_heads=rng.choice((2, 3)), head_dim=rng.choice((8, 12)), short_conv_kernel_size=rng.choice((3, 4)))
    if name in ("gemma3n", "gemma4"):
        vary_shared(rng, name, o)
    return kind, o


def vary_shared(rng, name, o):
    """Layer patterns, and how many layers read the keys and values of others; each kind of layer must have one with its own."""
    own = rng.randrange(1, 5)
    types = [rng.choice(("sliding_attention", "full_attention")) for _ in range(own)]
    if name == "gemma4":
        types[-1] = "full_attention"  # the last layer must be
    shared = [rng.choice(types) for _ in range(rng.choice((0, 1, 2, 4)))]
    if name == "gemma4" and shared:
        shared[-1] = "full_attention"
    layers = len(types) + len(shared)
    o.update(layer_types=types + shared, num_hidden_layers=layers, num_kv_shared_layers=len(shared), sliding_window=rng.choice((1, 3, WINDOW, 16)))
    if name == "gemma3n":
        o.update(altup_active_idx=rng.randrange(o["altup_num_inputs"]), activation_sparsity_pattern=[rng.choice((0.0, 0.2, 0.5, 0.95)) for _ in range(layers)],
                 intermediate_size=[rng.choice((20, 28, 36)) for _ in range(layers)], hidden_size=o["num_attention_heads"] * rng.choice((4, 6, 8)))
        return
    if shared and not o["hidden_size_per_layer_input"]:
        o["hidden_size_per_layer_input"] = 5  # without, the original slices what is not there
    if o["num_global_key_value_heads"]:
        o["num_attention_heads"] = o["num_key_value_heads"] * o["num_global_key_value_heads"] * rng.choice((1, 3))


def to_gguf(sources, model, out, more):
    """By llama.cpp's converter, but for the vocabulary, which the checkpoint does not have. more: keys of config.json. Gives why it does not convert, if so."""
    sys.path.insert(0, sources)
    import conversion
    from make_tiny_ggufs import add_vocabulary
    logging.disable(logging.WARNING)
    hparams = {**json.load(open(model + "/config.json")), **more}
    with open(model + "/tokenizer.json", "w") as f:  # Gemma 3's counts its pieces
        json.dump({"model": {"vocab": {str(i): i for i in range(hparams.get("text_config", hparams)["vocab_size"])}}, "added_tokens": []}, f)
    conversion.ModelBase.load_hparams = staticmethod(lambda *_, **__: copy.deepcopy(hparams))
    try:
        kind = conversion.get_model_class(conversion.get_model_architecture(hparams, conversion.ModelType.TEXT))
    except NotImplementedError as error:
        return f"no such family: {error}"
    kind = type(kind.__name__, (kind,), {"set_vocab": lambda self: add_vocabulary(self.gguf_writer, hparams.get("text_config", hparams)["vocab_size"]), "model_arch": kind.model_arch})
    try:
        with torch.inference_mode():
            kind(Path(model), conversion.base.gguf.LlamaFileType.ALL_F32, Path(out), sentence_transformers_dense_modules=os.path.exists(model + "/modules.json")).write()
    except Exception as error:  # whatever it says
        return str(error)
    return None


def keep(folder, name, gguf, ids, logits, noise):
    kept = os.path.join(folder, name + ".gguf")
    if os.path.exists(kept) and os.path.getsize(kept) <= os.path.getsize(gguf):
        return
    shutil.copyfile(gguf, kept)
    save_file({"ids": ids.int(), "logits": logits.float().contiguous(), "float32_difference": torch.tensor([noise])}, os.path.join(folder, name + ".safetensors"))


def check(folder, rng, name, gguf, kept):
    """True when all is well; None when llama.cpp's converter does not take it."""
    for most in itertools.count(10000, 200):  # weights of a file to keep
        kind, options = varied(rng, name, gguf)
        model = transformers.AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **options), dtype=torch.float32, attn_implementation="eager")
        if not kept or sum(p.numel() for p in model.parameters()) <= most:
            break
    generator = torch.Generator().manual_seed(rng.randrange(1 << 30))
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")
    redraw_linear(model, generator)
    model.eval()
    stored = rng.choice((torch.float32, torch.float32, torch.float16, torch.bfloat16)) if name in DECODER_NAMES and not gguf else torch.float32
    with torch.no_grad():  # what is saved: rotary frequencies are float32 whatever the weights are
        for tensor in model.state_dict().values():
            tensor.copy_(tensor.to(stored))
    ids = torch.randint(0, options["vocab_size"], (40,), generator=generator)
    with tempfile.TemporaryDirectory() as scratch:
        # Saved before it runs: RWKV rescales its weights then.
        copy.deepcopy(model).to(stored).save_pretrained(scratch + "/model", **({"max_shard_size": "30KB"} if name in DECODER_NAMES and rng.choice(BOTH) else {}))
        is_older = name in DECODER_NAMES and rng.choice(BOTH) and not gguf
        if is_older:
            make_older(scratch + "/model")
        source = scratch + ("/m.gguf" if gguf else "/model")
        more = dict(WANTED_FOR_GGUF.get(name, {}))
        if name == "gpt_neox":
            more["rotary_pct"] = options["rope_parameters"]["partial_rotary_factor"]
        if gguf and (why := to_gguf(gguf, scratch + "/model", source, more)):
            print(f"left out {name}: {why} {options}", flush=True)
            return None
        wide = copy.deepcopy(model).double()
        exact, single = logits_of(wide, ids), logits_of(model, ids)
        save_file({"ids": ids.int()}, scratch + "/in")
        # What a text's length decides is decided by the prompt's here, and by each longer text's there.
        is_steady = (options.get("rope_parameters") or {}).get("rope_type") not in ("dynamic", "longrope")
        has_greedy = is_steady and name in DECODER_NAMES
        if has_greedy:
            more, _ = greedy(wide, ids, 12)
            save_file({"ids": torch.cat([ids, more]).int()}, scratch + "/in_more")
        runs = [[f"{folder}/runnel-convert", source, "-o", scratch + "/m.rnl", *(() if stored == torch.float32 else ("--weights", "f32"))]]
        runs += [[f"{folder}/runnel", "eval", scratch + "/m.rnl", "--in", scratch + "/in", "--out", f"{scratch}/out{chunk}", "--chunk", str(chunk)] for chunk in (1, 7, 64)]
        if has_greedy:
            runs.append([f"{folder}/runnel", "eval", scratch + "/m.rnl", "--in", scratch + "/in_more", "--out", scratch + "/out_more"])
        for run in runs:
            done = subprocess.run(run, capture_output=True, text=True)
            if done.returncode:
                print(f"FAILED {name}: {done.stderr.strip()[-300:]} {options}", flush=True)
                return False
        worst = max(float((load_file(f"{scratch}/out{chunk}")["logits"] - exact).abs().max()) for chunk in (1, 7, 64))
        same = not has_greedy or bool((load_file(scratch + "/out_more")["logits"][len(ids) - 1:-1].argmax(-1) == more).all())
        largest, noise = float(exact.abs().max()), float((single - exact).abs().max())
        is_close = same and worst <= max(1e-4 * largest, 10 * noise)
        if kept and is_close and is_steady:
            keep(kept, name, source, ids, exact, noise)
    more_text = "" if is_close else f" greedy {'same' if same else 'DIFFERS'} older {is_older} {stored} {options}"
    print(f"{'ok' if is_close else 'FAILED'} {name}: off by {worst:.1e} of {largest:.1f}, float32 by {noise:.1e}{more_text}", flush=True)
    return is_close


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder")
    p.add_argument("names", nargs="*")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--gguf", metavar="LLAMA_CPP")
    p.add_argument("--keep", metavar="FOLDER")
    o = p.parse_intermixed_args()
    if o.keep and not o.gguf:
        p.error("--keep needs --gguf")
    transformers.logging.set_verbosity_error()
    os.environ.setdefault("TQDM_DISABLE", "1")
    rng = random.Random(o.seed)
    names = [n for name in o.names or OPTIONS for n in (DECODER_NAMES if name == "decoders" else [name])]
    results = [check(o.folder, rng, name, o.gguf, o.keep) for _ in range(o.rounds) for name in names]
    tried = [r for r in results if r is not None]
    print(f"{sum(tried)} of {len(tried)} as they should be")
    sys.exit(0 if all(tried) and tried else 1)


if __name__ == "__main__":
    main()
