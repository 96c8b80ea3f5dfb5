#!/usr/bin/env python3
"""Writes what embeddings are compared with, by the original modelling code (transformers 5.23.0, torch 2.15.0, safetensors 0.8.0):

tiny_*/hidden.safetensors     of some checkpoints of make_tiny_models.py: last_hidden_state float32 [tokens, width] of their ids, from a float64 run
tiny_embedding_gemma/         a checkpoint of a model without a head whose attention goes both ways, and beside it sentence-transformers' files: modules.json,
                              1_Pooling (mean), 2_Dense and 3_Dense, 4_Normalize. hidden.safetensors also has the embedding: pooled, dense layers, length 1.
                              model-f32.gguf is what llama.cpp's converter makes of it, which leaves biases and activations of dense layers out.

OMP_NUM_THREADS=1 python3 tests/goldens/make_tiny_embeddings.py LLAMA_CPP      a folder of llama.cpp's sources (tests/bench/peer.sh gets them)
"""

import json
import os
import shutil
import sys
import tempfile

import torch
import transformers
from make_tiny_models import PINNED, SEED, redraw
from safetensors.torch import load_file, save_file
from transformers import AutoModel, Gemma3TextConfig, Gemma3TextModel
from vary_models import to_gguf

HERE = os.path.dirname(os.path.abspath(__file__))
CHECKPOINTS = ("tiny_qwen3", "tiny_gemma3", "tiny_mamba2", "tiny_granite", "tiny_recurrent_gemma")
DENSE = ((40, "torch.nn.modules.activation.Tanh", True), (20, "torch.nn.modules.linear.Identity", False))


def hidden_of(model, ids):
    with torch.no_grad():
        return model.double()(input_ids=ids.long()[None], use_cache=False).last_hidden_state[0]


def write_json(path, value):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as f:
        json.dump(value, f, indent=2)
        f.write("\n")


def make_embedding_gemma(folder):
    generator = torch.Generator().manual_seed(SEED)
    transformers.set_seed(SEED)
    config = Gemma3TextConfig(
        vocab_size=67,
        hidden_size=24,
        intermediate_size=28,
        num_hidden_layers=6,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=12,
        query_pre_attn_scalar=12,
        sliding_window=8,
        max_position_embeddings=128,
        use_bidirectional_attention=True,
        attn_implementation="eager",
    )
    model = Gemma3TextModel(config).eval()
    redraw(model, generator)
    model.save_pretrained(folder)
    ids = torch.randint(0, config.vocab_size, (40,), generator=generator)
    hidden = hidden_of(model, ids)
    x = hidden.mean(0)
    modules = ["models.Transformer", "models.Pooling", *["models.Dense"] * len(DENSE), "models.Normalize"]
    paths = ["", "1_Pooling", "2_Dense", "3_Dense", "4_Normalize"]
    write_json(
        os.path.join(folder, "modules.json"),
        [
            {"idx": i, "name": str(i), "path": p, "type": "sentence_transformers." + m}
            for i, (m, p) in enumerate(zip(modules, paths))
        ],
    )
    write_json(
        os.path.join(folder, "1_Pooling/config.json"),
        {
            "word_embedding_dimension": 24,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
            "include_prompt": True,
        },
    )
    for i, (out, activation, bias) in enumerate(DENSE):
        layer = torch.nn.Linear(len(x), out, bias=bias)
        with torch.no_grad():
            for p in layer.parameters():
                p.copy_(torch.randn(p.shape, generator=generator) / len(x) ** 0.5)
            x = layer.double()(x)
            x = torch.tanh(x) if activation.endswith("Tanh") else x
        path = os.path.join(folder, f"{i + 2}_Dense")
        write_json(
            os.path.join(path, "config.json"),
            {"in_features": layer.in_features, "out_features": out, "bias": bias, "activation_function": activation},
        )
        save_file(
            {"linear." + k: v.float() for k, v in layer.state_dict().items()}, os.path.join(path, "model.safetensors")
        )
    save_file({"ids": ids.to(torch.int32)}, os.path.join(folder, "ids.safetensors"))
    save_file(
        {
            "last_hidden_state": hidden.float().contiguous(),
            "embedding": torch.nn.functional.normalize(x, dim=0).float(),
        },
        os.path.join(folder, "hidden.safetensors"),
    )


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    for package, version in PINNED.items():
        have = {"transformers": transformers, "torch": torch}[package].__version__.split("+")[0]
        if have != version:
            sys.exit(f"{package} {version} makes these files, found {have}")
    for name in CHECKPOINTS:
        folder = os.path.join(HERE, name)
        model = AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
        ids = load_file(os.path.join(folder, "ids.safetensors"))["ids"]
        save_file(
            {"last_hidden_state": hidden_of(model, ids).float().contiguous()},
            os.path.join(folder, "hidden.safetensors"),
        )
    encoder = os.path.join(HERE, "tiny_embedding_gemma")
    make_embedding_gemma(encoder)
    with tempfile.TemporaryDirectory() as scratch:
        copy = shutil.copytree(encoder, scratch + "/model")
        if why := to_gguf(sys.argv[1], copy, encoder + "/model-f32.gguf", {}):
            sys.exit(why)


if __name__ == "__main__":
    main()
