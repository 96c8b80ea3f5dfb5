#!/usr/bin/env python3
"""Writes the tiny random checkpoints tests/goldens/tiny_*.

The checkpoints are saved by the original modelling code (transformers 5.23.0, torch 2.15.0, safetensors 0.8.0) and each
comes with what that code computes:

  config.json, model.safetensors   as save_pretrained writes them, float32
  ids.safetensors                  ids int32 [tokens]
  logits.safetensors               logits float32 [tokens, vocab], from a float64 run with eager attention
                                   greedy int32 [32]: the greedy continuation of the ids, also from the float64 run
                                   float32_difference float32 [1]: largest |float32 run - float64 run| of the logits

Sizes are chosen to sit at the edges: head sizes that are odd multiples of 4, every ratio of query to key heads, a window
shorter than the input, layers with and without a window, a vocabulary that no tile divides. Parameters are drawn much
wider than a fresh model's, so that the logits are not flat and an error anywhere shows.

  OMP_NUM_THREADS=1 python3 tests/goldens/make_tiny_models.py [name ...]
"""

import copy
import os
import sys

import torch
import transformers
from safetensors.torch import save_file
from transformers import Gemma2Config, Gemma3TextConfig, LlamaConfig, MistralConfig

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


def logits_of(model, ids):
    with torch.no_grad():
        return model(input_ids=ids[None], use_cache=False).logits[0]


def greedy(model, ids, count):
    smallest = float("inf")
    for _ in range(count):
        row = logits_of(model, ids)[-1]
        best = torch.topk(row, 2)
        smallest = min(smallest, float(best.values[0] - best.values[1]))
        ids = torch.cat([ids, best.indices[:1]])
    return ids[-count:], smallest


def make(name, config, folder):
    generator = torch.Generator().manual_seed(SEED)
    transformers.set_seed(SEED)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager")
    redraw(model, generator)
    model.eval()
    model.save_pretrained(folder)
    generation = os.path.join(folder, "generation_config.json")
    if os.path.exists(generation):
        os.remove(generation)

    ids = torch.randint(0, config.vocab_size, (TOKENS,), generator=generator)
    wide = copy.deepcopy(model).double()
    exact = logits_of(wide, ids)
    difference = (logits_of(model, ids).double() - exact).abs().max()
    continuation, margin = greedy(wide, ids, CONTINUATION)
    save_file({"ids": ids.to(torch.int32)}, os.path.join(folder, "ids.safetensors"))
    save_file({"logits": exact.float().contiguous(), "greedy": continuation.to(torch.int32),
               "float32_difference": difference.float().reshape(1)}, os.path.join(folder, "logits.safetensors"))
    sizes = {f: os.path.getsize(os.path.join(folder, f)) for f in sorted(os.listdir(folder))}
    print(f"{name}: logits {exact.min():.2f} .. {exact.max():.2f}, std {exact.std():.2f}, float32 off by {difference:.1e}, "
          f"smallest greedy margin {margin:.3f}, distinct greedy ids {len(set(continuation.tolist()))}, {sizes}")


def main():
    for package, version in PINNED.items():
        have = {"transformers": transformers, "torch": torch}[package].__version__.split("+")[0]
        if have != version:
            sys.exit(f"{package} {version} makes these files, found {have}")
    here = os.path.dirname(os.path.abspath(__file__))
    for name in sys.argv[1:] or MODELS:
        make(name, MODELS[name], os.path.join(here, name))


if __name__ == "__main__":
    main()
