#!/usr/bin/env python3
"""Writes GGUF files for the reader tests with the gguf package (0.19.0, numpy 2.4.6).

tiny_<family>/model-f32.gguf for the families of TWINS
    the checkpoints of make_tiny_models.py with the names of the gguf package, the folded norms (1 + w of Gemma) and the
    permuted rows of q and k (Llama) that GGUF files have; logits.safetensors beside them serves both forms
gguf_types/every_type.gguf, gguf_types/expected.safetensors
    one tensor [3, 512] for each type F32 F16 BF16 Q4_0 .. Q6_K, IQ4_NL, MXFP4, IQ2_XXS .. IQ4_XS, TQ1_0, TQ2_0, NVFP4 and Q8_K; the expected values are
    the package's dequantisation, which has no Q8_K: that is its definition in numpy. The package can quantise to the Q*_0, Q*_1, TQ and MXFP4 types; the
    blocks of the others are random bytes with tame scales, among them such as f16 holds only coarsely when they are divided by 8.

python3 tests/goldens/make_tiny_ggufs.py [name folder | types]      with a name: that twin alone, into the folder; types: gguf_types alone
"""

import json
import os
import re
import statistics
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from safetensors.numpy import load_file, save_file

SEED = 20261122
HERE = os.path.dirname(os.path.abspath(__file__))

# Architecture of the GGUF and whether its rows of q and k are reordered.
TWINS = {
    "tiny_gemma3": ("gemma3", False),
    "tiny_llama": ("llama", True),
    "tiny_granite": ("granite", True),
    "tiny_gemma3n": ("gemma3n", False),
    "tiny_gemma4_moe": ("gemma4", False),
    "tiny_phi3": ("phi3", False),
    "tiny_mixtral": ("llama", True),
    "tiny_starcoder2": ("starcoder2", False),
    "tiny_phi3_long": ("phi3", False),
    "tiny_gpt_oss_mxfp4": ("gpt-oss", False),
    "tiny_qwen3": ("qwen3", False),
}
# Not kept: the names and keys of further families, to compare by hand.
MORE = {
    "tiny_gemma4": ("gemma4", False),
    "tiny_qwen2": ("qwen2", False),
    "tiny_olmo2": ("olmo2", False),
    "tiny_cohere2": ("cohere2", False),
    "tiny_gemma2": ("gemma2", False),
    "tiny_mistral": ("llama", True),
    "tiny_olmo3": ("olmo2", False),
    "tiny_ministral3": ("mistral3", True),
    "tiny_qwen2_moe": ("qwen2moe", False),
    "tiny_smollm3": ("smollm3", True),
    "tiny_exaone4": ("exaone4", False),
    "tiny_qwen3_moe": ("qwen3moe", False),
}
EXPERT = re.compile(r"(.*\.experts)\.(\d+)\.(.*)\.weight")


def interleave(rows, heads):
    """Half-split rotary rows become neighbouring pairs, as GGUF's llama wants them."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def add_vocabulary(writer, size):
    """A SentencePiece vocabulary of pieces that nothing else uses: the checkpoints are about logits, not text."""
    tokens = [b"<pad>", b"</s>", b"<s>", b"<unk>"] + [f"t{i}".encode() for i in range(4, size)]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * 4 + [-float(i) for i in range(4, size)])
    writer.add_token_types([3, 3, 3, 2] + [1] * (size - 4))
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(3)
    writer.add_pad_token_id(0)


def with_stacked_experts(weights):
    """One tensor [experts, rows, columns] in place of a matrix for each expert."""
    out, parts = {}, {}
    for name, tensor in weights.items():
        expert = EXPERT.fullmatch(name)
        if expert:
            parts.setdefault(f"{expert[1]}.{expert[3]}.weight", {})[int(expert[2])] = tensor
        else:
            out[name] = tensor
    for name, tensors in parts.items():
        out[name] = np.stack([tensors[i] for i in range(len(tensors))])
    return out


def with_separate_experts(weights):
    """gpt-oss: one tensor each for gate and up, rows and columns as elsewhere; MXFP4 blocks in the order that GGUF has."""
    out = {}
    for name, tensor in weights.items():
        stem = name.split("_proj")[0]
        if name.endswith("_proj_blocks"):
            scales = weights[name.replace("_blocks", "_scales")]
            nibbles = np.stack([tensor & 15, tensor >> 4], -1).reshape(*tensor.shape[:-1], 32)
            bytes_ = np.concatenate([scales[..., None], nibbles[..., :16] | nibbles[..., 16:] << 4], -1)
            tensor = bytes_.reshape(*tensor.shape[:2], -1)
            kind = ".weight"
        elif name.endswith("_proj_scales"):
            continue
        elif name.endswith(("experts.gate_up_proj", "experts.down_proj")):
            tensor, kind = tensor.swapaxes(1, 2), ".weight"
        elif name.endswith("_proj_bias"):
            kind = ".bias"
        elif name.endswith(".sinks"):
            out[name + ".weight"] = tensor
            continue
        else:
            out[name] = tensor
            continue
        if stem.endswith("gate_up"):
            out[stem[:-7] + "gate_proj" + kind], out[stem[:-7] + "up_proj" + kind] = tensor[:, 0::2], tensor[:, 1::2]
        else:
            out[stem + "_proj" + kind] = tensor
    return out


def add_rope(writer, arch, rope, config, head_dim):
    """Base, channels and scaling; the tensors of longrope's divisors."""
    writer.add_rope_freq_base(rope["rope_theta"])
    channels = int(head_dim * rope.get("partial_rotary_factor", 1))
    if arch != "gemma3":
        writer.add_rope_dimension_count(channels)
    original = config.get("original_max_position_embeddings", rope.get("original_max_position_embeddings"))
    if rope.get("rope_type") == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(original)
        if rope.get("mscale_all_dim"):
            writer.add_rope_scaling_yarn_log_mul(rope["mscale_all_dim"])
        if arch == "mistral3":
            writer.add_attn_temperature_scale(rope["llama_4_scaling_beta"])
    if rope.get("rope_type") == "longrope":
        writer.add_rope_scaling_orig_ctx_len(original)
        factor = config["max_position_embeddings"] / original
        writer.add_rope_scaling_attn_factors(float(np.sqrt(1 + np.log(factor) / np.log(original))))
        writer.add_tensor("rope_factors_long.weight", np.array(rope["long_factor"], np.float32))
        writer.add_tensor("rope_factors_short.weight", np.array(rope["short_factor"], np.float32))


def with_gemma_names(weights, config):
    """Gemma 3n: its square matrices stacked; Gemma 4: divisors for the dimensions that do not turn. Names end in .weight or .scale."""
    out, parts = {}, {}
    for name, tensor in weights.items():
        stacked = re.fullmatch(r"(model\.altup_(?:unembed_)?projections)\.(\d+)\.weight", name)
        if stacked:
            parts.setdefault(stacked[1] + ".weight", {})[int(stacked[2])] = tensor
        else:
            out[
                name if name.endswith((".weight", ".bias", "router.scale", "per_expert_scale")) else name + ".weight"
            ] = tensor
    for name, tensors in parts.items():
        out[name] = np.stack([tensors[i] for i in range(len(tensors))])
    rope = config["rope_parameters"]["full_attention"]
    if rope["rope_type"] == "proportional":
        size = full_layer(config)["head_dim"]
        turning = int(size * rope["partial_rotary_factor"] / 2)
        out["rope_freqs.weight"] = np.array([1.0] * turning + [1e30] * (size // 2 - turning), np.float32)
    return out


def full_layer(config):
    """What per_layer_config says of the layers that see everything."""
    own = config.get("per_layer_config", {}).values()
    return {
        "head_dim": config["head_dim"],
        "num_key_value_heads": config["num_key_value_heads"],
        **(list(own)[0] if own else {}),
    }


def add_gemma_sizes(writer, arch, config):
    has_window = [kind == "sliding_attention" for kind in config["layer_types"]]
    shared = config["num_kv_shared_layers"]
    full = full_layer(config)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["full_attention"]["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_sliding_window(config["sliding_window"])
    writer.add_sliding_window_pattern(has_window)
    writer.add_shared_kv_layers(shared)
    writer.add_embedding_length_per_layer_input(config["hidden_size_per_layer_input"])
    writer.add_key_length(full["head_dim"])
    writer.add_value_length(full["head_dim"])
    if config.get("final_logit_softcapping"):
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    if arch == "gemma3n":
        writer.add_feed_forward_length(config["intermediate_size"])
        writer.add_head_count_kv(config["num_key_value_heads"])
        writer.add_altup_active_idx(config["altup_active_idx"])
        writer.add_altup_num_inputs(config["altup_num_inputs"])
        writer.add_activation_sparsity_scale(
            [statistics.NormalDist().inv_cdf(s) if s else float("-inf") for s in config["activation_sparsity_pattern"]]
        )
        return
    wide = config["intermediate_size"] * (2 if config["use_double_wide_mlp"] else 1)
    writer.add_feed_forward_length([config["intermediate_size"]] * (len(has_window) - shared) + [wide] * shared)
    writer.add_head_count_kv([config["num_key_value_heads"] if w else full["num_key_value_heads"] for w in has_window])
    writer.add_key_length_swa(config["head_dim"])
    writer.add_value_length_swa(config["head_dim"])
    writer.add_rope_dimension_count(full["head_dim"])
    writer.add_rope_dimension_count_swa(config["head_dim"])
    if config["enable_moe_block"]:
        writer.add_expert_count(config["num_experts"])
        writer.add_expert_used_count(config["top_k_experts"])
        writer.add_expert_feed_forward_length(config["moe_intermediate_size"])


def add_sizes(writer, arch, config):
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    for key in ("layer_norm_eps", "norm_epsilon"):
        if key in config:
            writer.add_layer_norm_eps(config[key])
    if "rms_norm_eps" in config:
        writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    rope = config["rope_parameters"]
    rope = rope.get("full_attention", rope)
    add_rope(writer, arch, rope, config, head_dim)
    if arch != "gemma3":
        writer.add_vocab_size(config["vocab_size"])
    if config.get("sliding_window") and arch in (
        "gemma2",
        "gemma3",
        "phi3",
        "cohere2",
        "starcoder2",
        "exaone4",
        "llama",
        "gpt-oss",
        "olmo2",
        "mistral3",
    ):
        writer.add_sliding_window(config["sliding_window"])
    experts = config.get("num_local_experts", config.get("num_experts"))
    if experts:
        writer.add_expert_count(experts)
        writer.add_expert_used_count(config["num_experts_per_tok"])
        if "moe_intermediate_size" in config:
            writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    if arch == "granite":
        writer.add_attention_scale(config["attention_multiplier"])
        writer.add_embedding_scale(config["embedding_multiplier"])
        writer.add_residual_scale(config["residual_multiplier"])
        writer.add_logit_scale(config["logits_scaling"])
    if arch == "gemma2":
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    if arch == "qwen2moe":
        writer.add_expert_shared_feed_forward_length(config["shared_expert_intermediate_size"])
    if arch == "cohere2":
        writer.add_logit_scale(config["logit_scale"])


def write_checkpoint(name, arch, is_reordered, to):
    folder = os.path.join(HERE, name)
    config = json.load(open(os.path.join(folder, "config.json")))
    names = gguf.get_tensor_name_map(
        next(k for k, v in gguf.MODEL_ARCH_NAMES.items() if v == arch), config["num_hidden_layers"]
    )
    writer = gguf.GGUFWriter(os.path.join(to, "model-f32.gguf"), arch)
    writer.add_name(name)
    is_per_layer = arch in ("gemma3n", "gemma4")
    (add_gemma_sizes if is_per_layer else add_sizes)(writer, arch, config)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    add_vocabulary(writer, config["vocab_size"])
    weights = load_file(os.path.join(folder, "model.safetensors"))
    weights = with_gemma_names(weights, config) if is_per_layer else with_stacked_experts(weights)
    if arch == "gpt-oss":
        weights = with_separate_experts(weights)
    for source, tensor in sorted(weights.items()):
        if arch in ("gemma2", "gemma3") and tensor.ndim == 1:
            tensor = tensor + np.float32(1)
        if is_reordered and ".q_proj." in source:
            tensor = interleave(tensor, config["num_attention_heads"])
        if is_reordered and ".k_proj." in source:
            tensor = interleave(tensor, config["num_key_value_heads"])
        found = names.get_name(source, try_suffixes=(".weight", ".bias"))
        if source.endswith(("router.scale", "per_expert_scale")):
            found = f"blk.{source.split('.')[2]}.{'ffn_gate_inp' if source.endswith('router.scale') else 'ffn_down_exps'}.scale"
        if source == "rope_freqs.weight":
            found = source
        if found is None:
            sys.exit(f"{name}: the gguf package has no name for {source}")
        writer.add_tensor(
            found, np.ascontiguousarray(tensor), raw_dtype=Type.MXFP4 if tensor.dtype == np.uint8 else None
        )
    finish(writer)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tame(blocks, offset, least=1):
    """Puts a finite f16 scale of modest size at a byte offset of every random block, the last one `least` times as large."""
    scales = np.random.default_rng(SEED + offset).uniform(-0.01, 0.01, blocks.shape[0])
    scales = (scales * np.geomspace(1, least, blocks.shape[0])).astype(np.float16)
    blocks[:, offset : offset + 2] = scales.view(np.uint8).reshape(-1, 2)


# Byte offsets of the f16 super-scales within a block.
K_SCALES = {Type.Q2_K: (80, 82), Type.Q3_K: (108,), Type.Q4_K: (0, 2), Type.Q5_K: (0, 2), Type.Q6_K: (208,)}
IQ_TYPES = (Type.IQ2_XXS, Type.IQ2_XS, Type.IQ2_S, Type.IQ3_XXS, Type.IQ3_S, Type.IQ4_XS)


def write_types():
    folder = os.path.join(HERE, "gguf_types")
    os.makedirs(folder, exist_ok=True)
    writer = gguf.GGUFWriter(os.path.join(folder, "every_type.gguf"), "llama")
    rng = np.random.default_rng(SEED)
    expected = {}
    for kind in (
        Type.F32,
        Type.F16,
        Type.BF16,
        Type.Q4_0,
        Type.Q4_1,
        Type.Q5_0,
        Type.Q5_1,
        Type.Q8_0,
        *K_SCALES,
        Type.IQ4_NL,
        Type.MXFP4,
        *IQ_TYPES,
        Type.TQ1_0,
        Type.TQ2_0,
        Type.NVFP4,
        Type.Q8_K,
    ):
        name = kind.name.lower()
        values = rng.standard_normal((3, 512)).astype(np.float32)
        if kind in K_SCALES:
            block_values, block_bytes = gguf.GGML_QUANT_SIZES[kind]
            blocks = rng.integers(0, 256, (values.size // block_values, block_bytes), dtype=np.uint8)
            for offset in K_SCALES[kind]:
                tame(blocks, offset)
            data = blocks.reshape(3, -1)
        elif kind == Type.IQ4_NL:  # an f16 scale, then 16 bytes
            blocks = rng.integers(0, 256, (values.size // 32, 18), dtype=np.uint8)
            tame(blocks, 0)
            data = blocks.reshape(3, -1)
        elif kind in IQ_TYPES:
            blocks = rng.integers(0, 256, (values.size // 256, gguf.GGML_QUANT_SIZES[kind][1]), dtype=np.uint8)
            tame(blocks, 0, 1e-4)
            data = blocks.reshape(3, -1)
        elif kind == Type.NVFP4:  # four 8-bit scales, then four times 8 bytes
            data = rng.integers(0, 256, (3, 512 // 64 * 36), dtype=np.uint8)
        elif kind == Type.Q8_K:  # an f32 scale, 256 signed bytes, sums of 16 of them each
            blocks = rng.integers(0, 256, (values.size // 256, 292), dtype=np.uint8)
            scales = rng.uniform(-0.01, 0.01, blocks.shape[0]).astype(np.float32)
            blocks[:, :4] = scales.view(np.uint8).reshape(-1, 4)
            data = blocks.reshape(3, -1)
        else:
            data = gguf.quants.quantize(values, kind)
        if kind == Type.Q8_K:
            expected[name] = (scales[:, None] * blocks[:, 4:260].view(np.int8).astype(np.float32)).reshape(3, 512)
        else:
            expected[name] = np.ascontiguousarray(gguf.quants.dequantize(data, kind), dtype=np.float32)
        assert np.isfinite(expected[name]).all() and expected[name].shape == (3, 512)
        if kind in (Type.F32, Type.F16):
            writer.add_tensor(name, data)
        else:
            writer.add_tensor(name, data.view(np.uint8), raw_dtype=kind)
    finish(writer)
    save_file(expected, os.path.join(folder, "expected.safetensors"))


def main():
    import importlib.metadata

    have = importlib.metadata.version("gguf")
    if have != "0.19.0":
        sys.exit(f"gguf 0.19.0 makes these files, found {have}")
    if len(sys.argv) > 2:
        write_checkpoint(sys.argv[1], *{**TWINS, **MORE}[sys.argv[1]], sys.argv[2])
        return
    if sys.argv[1:] == ["types"]:
        write_types()
        return
    for name, form in TWINS.items():
        write_checkpoint(name, *form, os.path.join(HERE, name))
    write_types()


if __name__ == "__main__":
    main()
