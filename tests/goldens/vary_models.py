#!/usr/bin/env python3
"""Converts checkpoints of random shapes and options that transformers saves, and compares all logits: more than the kept goldens can show.

  OMP_NUM_THREADS=1 python3 tests/goldens/vary_models.py build/release/bin [--rounds 3] [--seed 1] [name ...]

Packages and names are those of make_tiny_models.py, whose configurations are changed at random: heads and their ratios, groups, biases, tied and
untied output matrices, widths, taps. Prints one line a model; ends with exit code 1 when one is beyond the tolerance or does not convert.
"""

import argparse
import copy
import os
import random
import subprocess
import sys
import tempfile

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from make_tiny_models import COMMON, DECODERS, LINEAR, PER_LAYER, WINDOW, logits_of, redraw_linear

BOTH = (True, False)
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
    "qwen2": {"max_window_layers": (0, 1, 3), "use_sliding_window": BOTH},
    "qwen3": {"attention_bias": BOTH, "rope_parameters": ({"rope_type": "default", "rope_theta": 5000.0}, {"rope_type": "linear", "rope_theta": 5000.0, "factor": 3.0}, {
        "rope_type": "yarn", "rope_theta": 5000.0, "factor": 4.0, "original_max_position_embeddings": 16}, {
        "rope_type": "llama3", "rope_theta": 5000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 16})},
    "qwen3_moe": {"norm_topk_prob": BOTH, "decoder_sparse_step": (1, 2), "mlp_only_layers": ([], [0]), "attention_bias": BOTH},
    "mixtral": {"sliding_window": (None, WINDOW), "num_local_experts": (3, 4)},
    "ministral": {"layer_types": (None, ["full_attention", "sliding_attention"])},
    "phi3": {"sliding_window": (None, WINDOW), "partial_rotary_factor": (1.0, 0.5)},
    "smollm3": {"attention_bias": BOTH, "mlp_bias": BOTH, "use_sliding_window": BOTH, "sliding_window": (WINDOW,), "no_rope_layers": (None, [1, 0, 0, 1])},
    "granite": {"attention_bias": BOTH, "mlp_bias": BOTH, "attention_multiplier": (0.1, 0.3)},
    "olmo2": {"attention_bias": BOTH},
    "olmo3": {"attention_bias": BOTH, "rope_parameters": (None, {"sliding_attention": {"rope_type": "default", "rope_theta": 8000.0}, "full_attention": {
        "rope_type": "yarn", "rope_theta": 8000.0, "factor": 4.0, "attention_factor": 1.3, "original_max_position_embeddings": 16, "beta_fast": 8.0}})},
    "exaone4": {"sliding_window": (None, WINDOW), "sliding_window_pattern": (2, 4)},
    "cohere2": {"attention_bias": BOTH, "logit_scale": (0.1, 1.0)},
    "starcoder2": {"use_bias": BOTH, "sliding_window": (None, WINDOW)},
    "gpt_oss": {"num_experts_per_tok": (1, 3), "swiglu_limit": (0.7, 7.0), "attention_bias": BOTH, "rope_parameters": (None, {"rope_type": "default", "rope_theta": 9000.0})},
    "gemma3n": {"altup_num_inputs": (1, 2, 4), "laurel_rank": (3, 8), "altup_correct_scale": BOTH, "vocab_size_per_layer_input": (60, 97), "hidden_size_per_layer_input": (4, 6, 17),
                "final_logit_softcapping": (None, 12.0, 30.0), "attention_bias": BOTH, "hidden_activation": ("gelu_pytorch_tanh", "silu"), "rope_parameters": (None, {
                    "sliding_attention": {"rope_type": "default", "rope_theta": 5000.0}, "full_attention": {"rope_type": "linear", "rope_theta": 9000.0, "factor": 3.0}})},
    "gemma4": {"hidden_size_per_layer_input": (0, 4, 6, 17), "use_double_wide_mlp": BOTH, "attention_k_eq_v": BOTH, "num_global_key_value_heads": (None, 1, 2), "global_head_dim": (8, 20, 36),
               "enable_moe_block": BOTH, "num_experts": (3, 5), "top_k_experts": (1, 2, 3), "moe_intermediate_size": (8, 20), "final_logit_softcapping": (None, 12.0), "attention_bias": BOTH,
               "vocab_size_per_layer_input": (200,), "use_bidirectional_attention": (None, "vision"), "rope_parameters": (None, {
                   "sliding_attention": {"rope_type": "default", "rope_theta": 5000.0},
                   "full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.5, "factor": 2.0, "rope_theta": 9000.0}})},
    "rwkv": {"rescale_every": (0, 2, 6), "attention_hidden_size": (24, 32), "num_hidden_layers": (2, 5)},
    "xlstm": {"num_heads": (2, 4), "use_bias": BOTH, "qk_dim_factor": (0.5, 1.0), "gate_soft_cap": (15.0, 5.0), "output_logit_soft_cap": (30.0, 10.0)},
}
OWN_HEAD_SIZE = ("qwen3", "qwen3_moe", "ministral", "gpt_oss", "qwen3_next", "qwen3_5", "lfm3", "minimax", "falcon_h1", "nemotron_h", "gemma3n", "gemma4")


def varied(rng, name):
    kind, options = {**DECODERS, **PER_LAYER, **LINEAR}["tiny_" + name]
    o = {**COMMON, **copy.deepcopy(options), "vocab_size": rng.choice((97, 131, 200)), "tie_word_embeddings": rng.choice(BOTH)}
    if "num_attention_heads" in o and name not in ("recurrent_gemma", "zamba2", "kimi_linear"):
        o["num_key_value_heads"] = rng.choice((1, 2, 3))
        o["num_attention_heads"] = o["num_key_value_heads"] * rng.choice((1, 2, 3, 4))
        if name in OWN_HEAD_SIZE:
            o["head_dim"] = rng.choice((8, 12, 16, 20))
        else:
            o["hidden_size"] = o["num_attention_heads"] * rng.choice((4, 8, 12))
    o.update({option: rng.choice(values) for option, values in OPTIONS[name].items()})
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


def check(folder, rng, name):
    """True when all is well."""
    kind, options = varied(rng, name)
    generator = torch.Generator().manual_seed(rng.randrange(1 << 30))
    model = transformers.AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **options), dtype=torch.float32, attn_implementation="eager")
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")
    redraw_linear(model, generator)
    model.eval()
    ids = torch.randint(0, options["vocab_size"], (40,), generator=generator)
    with tempfile.TemporaryDirectory() as scratch:
        model.save_pretrained(scratch + "/model")  # before it runs: RWKV rescales its weights then
        exact, single = logits_of(copy.deepcopy(model).double(), ids), logits_of(model, ids)
        save_file({"ids": ids.int()}, scratch + "/in")
        runs = [[f"{folder}/runnel-convert", scratch + "/model", "-o", scratch + "/m.rnl"]]
        runs += [[f"{folder}/runnel", "eval", scratch + "/m.rnl", "--in", scratch + "/in", "--out", f"{scratch}/out{chunk}", "--chunk", str(chunk)] for chunk in (1, 7, 64)]
        for run in runs:
            done = subprocess.run(run, capture_output=True, text=True)
            if done.returncode:
                print(f"FAILED {name}: {done.stderr.strip()[-300:]} {options}", flush=True)
                return False
        worst = max(float((load_file(f"{scratch}/out{chunk}")["logits"] - exact).abs().max()) for chunk in (1, 7, 64))
    largest, noise = float(exact.abs().max()), float((single - exact).abs().max())
    is_close = worst <= max(1e-4 * largest, 10 * noise)
    print(f"{'ok' if is_close else 'FAILED'} {name}: off by {worst:.1e} of {largest:.1f}, float32 by {noise:.1e}{'' if is_close else f' {options}'}", flush=True)
    return is_close


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder")
    p.add_argument("names", nargs="*")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seed", type=int, default=1)
    o = p.parse_args()
    transformers.logging.set_verbosity_error()
    os.environ.setdefault("TQDM_DISABLE", "1")
    rng = random.Random(o.seed)
    results = [check(o.folder, rng, name) for _ in range(o.rounds) for name in o.names or OPTIONS]
    print(f"{sum(results)} of {len(results)} as they should be")
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
