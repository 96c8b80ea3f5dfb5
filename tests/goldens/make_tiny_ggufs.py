#!/usr/bin/env python3
"""Writes GGUF files for the reader tests with the gguf package (0.19.0, numpy 2.4.6).

  tiny_gemma3/model-f32.gguf, tiny_llama/model-f32.gguf
      the checkpoints of make_tiny_models.py with the names, the folded norms (1 + w of Gemma) and the permuted rows of
      q and k (Llama) that GGUF files have; logits.safetensors beside them serves both forms
  gguf_types/every_type.gguf, gguf_types/expected.safetensors
      one tensor [3, 512] for each type F32 F16 BF16 Q4_0 .. Q6_K; the expected values are the package's dequantisation.
      The package can quantise to the Q*_0 and Q*_1 types; the blocks of the K types are random bytes with tame scales.

  python3 tests/goldens/make_tiny_ggufs.py
"""

import json
import os
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from safetensors.numpy import load_file, save_file

SEED = 20261122
HERE = os.path.dirname(os.path.abspath(__file__))

BLOCK_NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
}
GEMMA_NORMS = {"post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
               "post_feedforward_layernorm": "post_ffw_norm"}
LLAMA_NORMS = {"post_attention_layernorm": "ffn_norm"}


def gguf_name(name, norms):
    name = name.removeprefix("model.")
    if name == "embed_tokens.weight":
        return "token_embd.weight"
    if name == "norm.weight":
        return "output_norm.weight"
    if name == "lm_head.weight":
        return "output.weight"
    _, layer, rest = name.split(".", 2)
    part = rest.removesuffix(".weight")
    return f"blk.{layer}.{(BLOCK_NAMES | norms)[part]}.weight"


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


def write_checkpoint(name, arch):
    folder = os.path.join(HERE, name)
    config = json.load(open(os.path.join(folder, "config.json")))
    weights = load_file(os.path.join(folder, "model.safetensors"))
    writer = gguf.GGUFWriter(os.path.join(folder, "model-f32.gguf"), arch)
    writer.add_name(name)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    rope = config["rope_parameters"]
    if arch == "gemma3":
        writer.add_sliding_window(config["sliding_window"])
        writer.add_rope_freq_base(rope["full_attention"]["rope_theta"])
    else:
        writer.add_rope_freq_base(rope["rope_theta"])
        writer.add_rope_dimension_count(config["head_dim"])
        writer.add_vocab_size(config["vocab_size"])
    add_vocabulary(writer, config["vocab_size"])
    for source, tensor in sorted(weights.items()):
        if arch == "gemma3" and tensor.ndim == 1:
            tensor = tensor + np.float32(1)
        if arch == "llama" and ".q_proj." in source:
            tensor = interleave(tensor, config["num_attention_heads"])
        if arch == "llama" and ".k_proj." in source:
            tensor = interleave(tensor, config["num_key_value_heads"])
        writer.add_tensor(gguf_name(source, GEMMA_NORMS if arch == "gemma3" else LLAMA_NORMS), np.ascontiguousarray(tensor))
    finish(writer)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tame(blocks, offset):
    """Puts a finite f16 scale of modest size at a byte offset of every random block."""
    scales = np.random.default_rng(SEED + offset).uniform(-0.01, 0.01, blocks.shape[0]).astype(np.float16)
    blocks[:, offset:offset + 2] = scales.view(np.uint8).reshape(-1, 2)


# Byte offsets of the f16 super-scales within a block.
K_SCALES = {Type.Q2_K: (80, 82), Type.Q3_K: (108,), Type.Q4_K: (0, 2), Type.Q5_K: (0, 2), Type.Q6_K: (208,)}


def write_types():
    folder = os.path.join(HERE, "gguf_types")
    os.makedirs(folder, exist_ok=True)
    writer = gguf.GGUFWriter(os.path.join(folder, "every_type.gguf"), "llama")
    rng = np.random.default_rng(SEED)
    expected = {}
    for kind in (Type.F32, Type.F16, Type.BF16, Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0, *K_SCALES):
        name = kind.name.lower()
        values = rng.standard_normal((3, 512)).astype(np.float32)
        if kind in K_SCALES:
            block_values, block_bytes = gguf.GGML_QUANT_SIZES[kind]
            blocks = rng.integers(0, 256, (values.size // block_values, block_bytes), dtype=np.uint8)
            for offset in K_SCALES[kind]:
                tame(blocks, offset)
            data = blocks.reshape(3, -1)
        else:
            data = gguf.quants.quantize(values, kind)
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
    write_checkpoint("tiny_gemma3", "gemma3")
    write_checkpoint("tiny_llama", "llama")
    write_types()


if __name__ == "__main__":
    main()
