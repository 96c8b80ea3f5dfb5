#!/usr/bin/env python3
"""Writes GGUF files of real shapes with random weights, for benchmarks: speed does not depend on what a model knows.

  python3 tests/bench/make_random_ggufs.py FOLDER q8_0|q4_0 [NAME ...]       (package gguf 0.19.0)

Matrices are drawn small and quantised; norms, decays and other vectors are float32. Shapes are those of the published models.
"""

import os
import sys

import gguf
import numpy as np

RNG = np.random.default_rng(20261123)


class File:
    def __init__(self, path, arch, kind):
        self.w = gguf.GGUFWriter(path, arch)
        self.kind = {"q8_0": gguf.GGMLQuantizationType.Q8_0, "q4_0": gguf.GGMLQuantizationType.Q4_0}[kind]
        self.arch = arch
        self.w.add_string("general.licence", "none: random weights")
        self.w.add_string("tokenizer.ggml.model", "no_vocab")

    def key(self, name, value):
        name = f"{self.arch}.{name}"
        if isinstance(value, bool):
            self.w.add_bool(name, value)
        elif isinstance(value, float):
            self.w.add_float32(name, value)
        elif isinstance(value, list):
            self.w.add_array(name, value)
        else:
            self.w.add_uint32(name, value)

    def matrix(self, name, rows, columns):
        # No two rows are equal: equal logits would be a work of their own for who looks for the highest.
        data = RNG.standard_normal((rows, columns), dtype=np.float32) / np.float32(np.sqrt(columns))
        self.w.add_tensor(name, gguf.quants.quantize(data, self.kind), raw_dtype=self.kind)

    def plain(self, name, *shape, low=0.9, high=1.1):
        self.w.add_tensor(name, RNG.uniform(low, high, shape).astype(np.float32))

    def close(self):
        self.w.write_header_to_file()
        self.w.write_kv_data_to_file()
        self.w.write_tensors_to_file()
        self.w.close()


def common(f, context, hidden, layers, vocab, eps=1e-5, ffn=0, heads=0, kv=0):
    f.key("context_length", context)
    f.key("embedding_length", hidden)
    f.key("block_count", layers)
    f.key("feed_forward_length", ffn)
    f.key("attention.head_count", heads)
    f.key("attention.head_count_kv", kv)
    f.key("attention.layer_norm_rms_epsilon", eps)
    f.key("vocab_size", vocab)
    f.matrix("token_embd.weight", vocab, hidden)


def feed_forward(f, p, hidden, width):
    f.matrix(p + "ffn_gate.weight", width, hidden)
    f.matrix(p + "ffn_up.weight", width, hidden)
    f.matrix(p + "ffn_down.weight", hidden, width)


def ssm2(f, p, hidden, heads, head, state, groups, taps):
    inner = heads * head
    conv = inner + 2 * groups * state
    f.matrix(p + "ssm_in.weight", 2 * inner + 2 * groups * state + heads, hidden)
    f.plain(p + "ssm_conv1d.weight", conv, taps, low=-0.5, high=0.5)
    f.plain(p + "ssm_conv1d.bias", conv, low=-0.1, high=0.1)
    f.plain(p + "ssm_dt.bias", heads, low=-4.0, high=-2.0)
    f.plain(p + "ssm_a", heads, 1, low=-8.0, high=-1.0)
    f.plain(p + "ssm_d", heads, 1)
    f.plain(p + "ssm_norm.weight", groups, inner // groups)
    f.matrix(p + "ssm_out.weight", hidden, inner)


def mamba_130m(f):
    hidden, inner, state, rank = 768, 1536, 16, 48
    common(f, 1 << 20, hidden, 24, 50280)
    for k, v in {"conv_kernel": 4, "inner_size": inner, "state_size": state, "time_step_rank": rank}.items():
        f.key("ssm." + k, v)
    for i in range(24):
        p = f"blk.{i}."
        f.plain(p + "attn_norm.weight", hidden)
        f.matrix(p + "ssm_in.weight", 2 * inner, hidden)
        f.plain(p + "ssm_conv1d.weight", inner, 4, low=-0.5, high=0.5)
        f.plain(p + "ssm_conv1d.bias", inner, low=-0.1, high=0.1)
        f.matrix(p + "ssm_x.weight", rank + 2 * state, inner)
        f.plain(p + "ssm_dt.weight", inner, rank, low=-0.1, high=0.1)
        f.plain(p + "ssm_dt.bias", inner, low=-4.0, high=-2.0)
        f.plain(p + "ssm_a", inner, state, low=-16.0, high=-1.0)
        f.plain(p + "ssm_d", inner)
        f.matrix(p + "ssm_out.weight", hidden, inner)
    f.plain("output_norm.weight", hidden)


def mamba2_130m(f):
    common(f, 1 << 20, 768, 24, 50288)
    for k, v in {
        "conv_kernel": 4,
        "inner_size": 1536,
        "state_size": 128,
        "time_step_rank": 24,
        "group_count": 1,
    }.items():
        f.key("ssm." + k, v)
    for i in range(24):
        p = f"blk.{i}."
        f.plain(p + "attn_norm.weight", 768)
        ssm2(f, p, 768, 24, 64, 128, 1, 4)
    f.plain("output_norm.weight", 768)


def granite_h_350m(f):
    attention = [10, 13, 17, 27]
    common(f, 32768, 768, 32, 100352, ffn=2048, heads=12, kv=[4 if i in attention else 0 for i in range(32)])
    for k, v in {
        "conv_kernel": 4,
        "inner_size": 1536,
        "state_size": 128,
        "time_step_rank": 48,
        "group_count": 1,
    }.items():
        f.key("ssm." + k, v)
    for k, v in {
        "logit_scale": 3.0,
        "residual_scale": 0.246,
        "embedding_scale": 12.0,
        "attention.scale": 0.015625,
    }.items():
        f.key(k, v)
    f.key("rope.dimension_count", 64)
    f.key("rope.freq_base", 10000.0)
    f.key("rope.scaling.finetuned", False)
    for i in range(32):
        p = f"blk.{i}."
        f.plain(p + "attn_norm.weight", 768)
        f.plain(p + "ffn_norm.weight", 768)
        feed_forward(f, p, 768, 2048)
        if i in attention:
            for name, rows in (("q", 768), ("k", 256), ("v", 256), ("output", 768)):
                f.matrix(f"{p}attn_{name}.weight", rows, 768)
        else:
            ssm2(f, p, 768, 48, 32, 128, 1, 4)
    f.plain("output_norm.weight", 768)


def lfm2_350m(f):
    attention = [2, 5, 8, 10, 12, 14]
    common(f, 128000, 1024, 16, 65536, ffn=4608, heads=16, kv=[8 if i in attention else 0 for i in range(16)])
    f.key("shortconv.l_cache", 3)
    f.key("rope.freq_base", 1000000.0)
    for i in range(16):
        p = f"blk.{i}."
        f.plain(p + "attn_norm.weight", 1024)
        f.plain(p + "ffn_norm.weight", 1024)
        feed_forward(f, p, 1024, 4608)
        if i in attention:
            for name, rows in (("q", 1024), ("k", 512), ("v", 512), ("output", 1024)):
                f.matrix(f"{p}attn_{name}.weight", rows, 1024)
            for name in "qk":
                f.plain(f"{p}attn_{name}_norm.weight", 64)
        else:
            f.matrix(p + "shortconv.in_proj.weight", 3072, 1024)
            f.matrix(p + "shortconv.out_proj.weight", 1024, 1024)
            f.plain(p + "shortconv.conv.weight", 1024, 3, low=-0.5, high=0.5)
    f.plain("token_embd_norm.weight", 1024)


def qwen35_08b(f):
    common(f, 262144, 1024, 24, 248320, eps=1e-6, ffn=3584, heads=8, kv=2)
    for k, v in {
        "conv_kernel": 4,
        "inner_size": 2048,
        "state_size": 128,
        "time_step_rank": 16,
        "group_count": 16,
    }.items():
        f.key("ssm." + k, v)
    f.key("attention.key_length", 256)
    f.key("attention.value_length", 256)
    f.key("full_attention_interval", 4)
    f.key("rope.dimension_count", 64)
    f.key("rope.dimension_sections", [11, 11, 10, 0])
    f.key("rope.freq_base", 10000000.0)
    for i in range(24):
        p = f"blk.{i}."
        f.plain(p + "attn_norm.weight", 1024)
        f.plain(p + "post_attention_norm.weight", 1024)
        feed_forward(f, p, 1024, 3584)
        if i % 4 == 3:
            for name, rows, columns in (("q", 4096, 1024), ("k", 512, 1024), ("v", 512, 1024), ("output", 1024, 2048)):
                f.matrix(f"{p}attn_{name}.weight", rows, columns)
            for name in "qk":
                f.plain(f"{p}attn_{name}_norm.weight", 256)
        else:
            f.matrix(p + "attn_qkv.weight", 6144, 1024)
            f.matrix(p + "attn_gate.weight", 2048, 1024)
            f.matrix(p + "ssm_beta.weight", 16, 1024)
            f.matrix(p + "ssm_alpha.weight", 16, 1024)
            f.plain(p + "ssm_conv1d.weight", 6144, 4, low=-0.5, high=0.5)
            f.plain(p + "ssm_dt.bias", 16, low=-4.0, high=-2.0)
            f.plain(p + "ssm_a", 16, low=-8.0, high=-1.0)
            f.plain(p + "ssm_norm.weight", 128)
            f.matrix(p + "ssm_out.weight", 1024, 2048)
    f.plain("output_norm.weight", 1024)


def rwkv7_02b(f):
    hidden, layers, ffn, decay, rate, value, gate = 768, 12, 3072, 64, 64, 32, 128
    f.key("context_length", 1 << 20)
    f.key("embedding_length", hidden)
    f.key("block_count", layers)
    f.key("feed_forward_length", ffn)
    f.key("attention.layer_norm_epsilon", 1e-5)
    f.key("attention.head_count", 0)
    f.key("wkv.head_size", 64)
    f.key("attention.decay_lora_rank", decay)
    f.key("attention.iclr_lora_rank", rate)
    f.key("attention.value_residual_mix_lora_rank", value)
    f.key("attention.gate_lora_rank", gate)
    f.key("vocab_size", 65536)
    f.matrix("token_embd.weight", 65536, hidden)
    f.matrix("output.weight", 65536, hidden)
    norms = ["token_embd_norm", "output_norm"] + [
        f"blk.{i}.{n}" for i in range(layers) for n in ("attn_norm", "attn_norm_2", "time_mix_ln")
    ]
    for n in norms:
        f.plain(n + ".weight", hidden)
        f.plain(n + ".bias", hidden, low=-0.1, high=0.1)
    for i in range(layers):
        p = f"blk.{i}.time_mix_"
        for name, rank in (("w", decay), ("a", rate), ("v", rate if i == 0 else value)):
            f.plain(f"{p}{name}0.weight", hidden, low=-1.0, high=0.0)
            f.plain(f"{p}{name}1.weight", rank, hidden, low=-0.05, high=0.05)
            f.plain(f"{p}{name}2.weight", hidden, rank, low=-0.05, high=0.05)
        f.plain(p + "g1.weight", gate, hidden, low=-0.05, high=0.05)
        f.plain(p + "g2.weight", hidden, gate, low=-0.05, high=0.05)
        f.plain(p + "lerp_fused.weight", 6, 1, 1, hidden, low=0.0, high=1.0)
        for name in ("k_k", "k_a", "r_k"):
            f.plain(f"{p}{name}.weight", hidden, low=0.0, high=1.0)
        for name in ("key", "value", "receptance", "output"):
            f.matrix(f"{p}{name}.weight", hidden, hidden)
        f.plain(f"blk.{i}.channel_mix_lerp_k.weight", 1, 1, hidden, low=0.0, high=1.0)
        f.matrix(f"blk.{i}.channel_mix_key.weight", ffn, hidden)
        f.matrix(f"blk.{i}.channel_mix_value.weight", hidden, ffn)


MODELS = {
    "mamba-130m": ("mamba", mamba_130m),
    "mamba2-130m": ("mamba2", mamba2_130m),
    "rwkv7-0.2b": ("rwkv7", rwkv7_02b),
    "lfm2-350m": ("lfm2", lfm2_350m),
    "qwen3.5-0.8b": ("qwen35", qwen35_08b),
    "granite-4-h-350m": ("granitehybrid", granite_h_350m),
}


def make(folder, kind, name):
    path = os.path.join(folder, f"{name}-{kind}.gguf")
    if os.path.exists(path):
        return
    arch, build = MODELS[name]
    f = File(path + ".partial", arch, kind)
    build(f)
    f.close()
    os.rename(path + ".partial", path)
    print(f"{path}: {os.path.getsize(path) / 1e6:.1f} MB", file=sys.stderr)


def main():
    if len(sys.argv) < 3 or sys.argv[2] not in ("q8_0", "q4_0"):
        sys.exit(__doc__)
    os.makedirs(sys.argv[1], exist_ok=True)
    for name in sys.argv[3:] or MODELS:
        make(sys.argv[1], sys.argv[2], name)


if __name__ == "__main__":
    main()
