"""Tiny random GGUFs of linear-time architectures with the logits that llama.cpp computes from them: tests/goldens/gguf_linear.

    bash -c 'source tests/bench/peer.sh'           gets and builds llama.cpp (llama-cpp-python 0.3.36)
    g++ -O1 tests/goldens/peer_logits.cpp -I.../include -I.../ggml/include -o peer_logits <libllama.a and the libggml*.a of build/peer> -fopenmp
    python tests/goldens/make_linear_ggufs.py ./peer_logits        (gguf 0.19.0, numpy 2.4.6, safetensors 0.8.0)

Matrices are float32, so both sides compute with the same numbers; shapes have several groups and more value heads than key heads.
"""

import os
import subprocess
import sys
import tempfile

import numpy as np
from safetensors.numpy import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "bench"))
import make_random_ggufs as shapes  # noqa: E402

FOLDER = os.path.join(HERE, "gguf_linear")
VOCAB, TOKENS = 111, 40


class File(shapes.File):
    def matrix(self, name, rows, columns):
        self.w.add_tensor(name, (shapes.RNG.standard_normal((rows, columns)) / np.sqrt(columns)).astype(np.float32))


def keys(f, prefix="", **values):
    for k, v in values.items():
        f.key(prefix + k, v)


def ssm_keys(f, taps, inner, state, rank, groups=None):
    keys(f, "ssm.", conv_kernel=taps, inner_size=inner, state_size=state, time_step_rank=rank)
    if groups:
        f.key("ssm.group_count", groups)


def mamba(f):
    hidden, inner, state, rank = 40, 80, 12, 3
    shapes.common(f, 4096, hidden, 2, VOCAB)
    ssm_keys(f, 4, inner, state, rank)
    for i in range(2):
        p = f"blk.{i}."
        f.plain(p + "attn_norm.weight", hidden)
        f.matrix(p + "ssm_in.weight", 2 * inner, hidden)
        f.plain(p + "ssm_conv1d.weight", inner, 4, low=-0.5, high=0.5)
        f.plain(p + "ssm_conv1d.bias", inner, low=-0.1, high=0.1)
        f.matrix(p + "ssm_x.weight", rank + 2 * state, inner)
        f.plain(p + "ssm_dt.weight", inner, rank, low=-0.5, high=0.5)
        f.plain(p + "ssm_dt.bias", inner, low=-4.0, high=-2.0)
        f.plain(p + "ssm_a", inner, state, low=-16.0, high=-1.0)
        f.plain(p + "ssm_d", inner)
        f.matrix(p + "ssm_out.weight", hidden, inner)
    f.plain("output_norm.weight", hidden)


def mamba2(f):
    hidden, heads, head, state, groups = 40, 6, 12, 16, 2
    shapes.common(f, 4096, hidden, 2, VOCAB)
    ssm_keys(f, 4, heads * head, state, heads, groups)
    for i in range(2):
        f.plain(f"blk.{i}.attn_norm.weight", hidden)
        shapes.ssm2(f, f"blk.{i}.", hidden, heads, head, state, groups, 4)
    f.plain("output_norm.weight", hidden)


def attention(f, p, hidden, heads, kv, dim, norms=False):
    for name, rows, columns in (
        ("q", heads * dim, hidden),
        ("k", kv * dim, hidden),
        ("v", kv * dim, hidden),
        ("output", hidden, heads * dim),
    ):
        f.matrix(f"{p}attn_{name}.weight", rows, columns)
    for name in "qk" if norms else "":
        f.plain(f"{p}attn_{name}_norm.weight", dim)


def hybrid(f, layers, hidden, ffn, heads, kv, attention_at, mixer, **more):
    """Layers of attention or of a mixer, each followed by a gated feed-forward part."""
    shapes.common(
        f, 4096, hidden, layers, VOCAB, ffn=ffn, heads=heads, kv=[kv if i in attention_at else 0 for i in range(layers)]
    )
    for i in range(layers):
        p = f"blk.{i}."
        f.plain(p + "attn_norm.weight", hidden)
        f.plain(p + "ffn_norm.weight", hidden)
        shapes.feed_forward(f, p, hidden, ffn)
        if i in attention_at:
            attention(f, p, hidden, heads, kv, hidden // heads, **more)
        else:
            mixer(p)


def granite(f):
    keys(f, logit_scale=3.0, residual_scale=0.246, embedding_scale=12.0)
    keys(f, "attention.", scale=0.0625)
    keys(f, "rope.", dimension_count=12, freq_base=10000.0)
    f.key("rope.scaling.finetuned", False)
    ssm_keys(f, 4, 96, 24, 8, 2)
    hybrid(f, 3, 48, 56, 4, 2, [1], lambda p: shapes.ssm2(f, p, 48, 8, 12, 24, 2, 4))
    f.plain("output_norm.weight", 48)


def lfm2(f):
    def mixer(p):
        f.matrix(p + "shortconv.in_proj.weight", 144, 48)
        f.matrix(p + "shortconv.out_proj.weight", 48, 48)
        f.plain(p + "shortconv.conv.weight", 48, 3, low=-0.5, high=0.5)

    keys(f, **{"shortconv.l_cache": 3, "rope.freq_base": 1000000.0})
    hybrid(f, 3, 48, 56, 4, 2, [1], mixer, norms=True)
    f.plain("token_embd_norm.weight", 48)


def qwen35(value_heads):
    def build(f):
        hidden, dim, key_heads, ffn = 40, 12, 2, 52
        shapes.common(f, 4096, hidden, 4, VOCAB, eps=1e-6, ffn=ffn, heads=4, kv=2)
        ssm_keys(f, 4, value_heads * dim, dim, value_heads, key_heads)
        keys(f, "attention.", key_length=24, value_length=24)
        keys(f, full_attention_interval=4)
        keys(f, "rope.", dimension_count=8, dimension_sections=[2, 1, 1, 0], freq_base=10000000.0)
        mixed = (2 * key_heads + value_heads) * dim
        for i in range(4):
            p = f"blk.{i}."
            f.plain(p + "attn_norm.weight", hidden)
            f.plain(p + "post_attention_norm.weight", hidden)
            shapes.feed_forward(f, p, hidden, ffn)
            if i == 3:
                for name, rows, columns in (
                    ("q", 192, hidden),
                    ("k", 48, hidden),
                    ("v", 48, hidden),
                    ("output", hidden, 96),
                ):
                    f.matrix(f"{p}attn_{name}.weight", rows, columns)
                for name in "qk":
                    f.plain(f"{p}attn_{name}_norm.weight", 24)
                continue
            f.matrix(p + "attn_qkv.weight", mixed, hidden)
            f.matrix(p + "attn_gate.weight", value_heads * dim, hidden)
            f.matrix(p + "ssm_beta.weight", value_heads, hidden)
            f.matrix(p + "ssm_alpha.weight", value_heads, hidden)
            f.plain(p + "ssm_conv1d.weight", mixed, 4, low=-0.5, high=0.5)
            f.plain(p + "ssm_dt.bias", value_heads, low=-4.0, high=-2.0)
            f.plain(p + "ssm_a", value_heads, low=-8.0, high=-1.0)
            f.plain(p + "ssm_norm.weight", dim)
            f.matrix(p + "ssm_out.weight", hidden, value_heads * dim)
        f.plain("output_norm.weight", hidden)

    return build


MODELS = {
    "mamba": ("mamba", mamba),
    "mamba2": ("mamba2", mamba2),
    "granite": ("granitehybrid", granite),
    "lfm2": ("lfm2", lfm2),
    "qwen35": ("qwen35", qwen35(2)),
    "qwen35_wide": ("qwen35", qwen35(6)),
}


def main():
    os.makedirs(FOLDER, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        ids = shapes.RNG.integers(0, VOCAB, TOKENS).astype(np.int32)
        ids.tofile(scratch + "/ids")
        for name, (arch, build) in MODELS.items():
            path = os.path.join(FOLDER, name + ".gguf")
            f = File(path, arch, "q8_0")
            build(f)
            f.close()
            subprocess.run([sys.argv[1], path, scratch + "/ids", scratch + "/y"], check=True)
            y = np.fromfile(scratch + "/y", np.float32).reshape(TOKENS, VOCAB)
            save_file({"ids": ids, "logits": y}, os.path.join(FOLDER, name + ".safetensors"))
            print(f"{name}: {os.path.getsize(path) / 1024:.0f} KiB, logits up to {np.abs(y).max():.2f}")


if __name__ == "__main__":
    main()
