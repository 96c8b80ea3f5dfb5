#!/usr/bin/env python3
"""Writes tests/goldens/vision_pruned: a tiny random ViT of 24 patches (transformers 5.23.0, torch 2.15.0, safetensors
0.8.0) and calls.safetensors, what it gives with fewer tokens, in float64 by the papers' formulas: `in.pixel_values`,
and for each of METHODS below `NAME.last_hidden_state` and `NAME.pooler_output`.

  tome   ToMe (Bolya et al. 2023): bipartite soft matching by the keys' mean over heads
  mctf   MCTF's score and weighted mean (Lee et al. 2024) in the same matching, with the attention of the layer itself
  evit   EViT (Liang et al. 2022): ceil(keep (N - 1)) tokens, the others summed by the class token's attention
  topk   the same, the others dropped; in last_hidden_state they are what they were then
  centre as topk, but by greedy k-centre over cosines from the token on that the class token sees most
  spatten  SpAtten's cascade (Wang et al. 2021): tokens by the attention that all layers so far gave them, heads by the
         sum of what they gave so far; the others are dropped

vit.onnx is the same model as torch's exporters write it (onnx 1.23.2), with attention spelt out.

  OMP_NUM_THREADS=1 python3 tests/goldens/make_pruned_vision.py
"""

import math
import os

import torch
import transformers
from make_pruned_encoders import groups_of, merged
from safetensors.torch import load_file, save_file

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "vision_pruned")
LAYERS, HEADS, WIDTH, EPS = 4, 2, 16, 1e-12
METHODS = {
    "whole": {},
    "tome": {"r": 3},
    "half": {"r": 100},  # more than may be merged: half of them are
    "mctf": {"r": 3, "info": 0.05, "size": 0.025},
    "evit": {"keep": 0.7, "layers": (1, 3)},
    "topk": {"keep": 0.7, "layers": (1, 3)},
    "centre": {"keep": 0.4, "layers": (1, 3)},
    "spatten": {"keep": 0.7, "heads": 0.5, "layers": (1, 3)},
    "evit_one": {"keep": 0.01, "layers": (0, 1, 2, 3)},
    "topk_one": {"keep": 0.01, "layers": (0, 1, 2, 3)},
}


def mctf_groups(metric, factor, merge, keep):
    """groups_of with MCTF's score in the place of the cosine."""
    tokens = len(metric)
    merge = min(merge, max(tokens - keep, 0) // 2)
    unit = metric / metric.norm(dim=-1, keepdim=True)
    scores = (1 + unit[::2] @ unit[1::2].T) / 2 * factor[::2, None] * factor[None, 1::2]
    scores[: (keep + 1) // 2] = -math.inf
    scores[:, : keep // 2] = -math.inf
    best, partner = scores.max(dim=-1)
    joined = best.argsort(descending=True, stable=True)[:merge].tolist()
    groups, stay = torch.zeros(tokens, dtype=torch.long), [a for a in range(len(best)) if a not in joined]
    for at, a in enumerate(stay):
        groups[2 * a] = at
    for b in range(tokens // 2):
        groups[2 * b + 1] = len(stay) + b
    for a in joined:
        groups[2 * a] = len(stay) + int(partner[a])
    return groups


def centres(tokens, first, count):
    """Places of `count` tokens: `first`, then always the one whose cosine to the nearest chosen one is least."""
    unit = tokens / tokens.norm(dim=-1, keepdim=True)
    chosen = [first]
    while len(chosen) < count:
        nearest = (unit @ unit[chosen].T).max(dim=1).values
        nearest[chosen] = math.inf
        best = nearest.sort().values
        assert best[1] - best[0] > 1e-5, "a choice by rounding"
        chosen.append(int(nearest.argmin()))
    return torch.tensor(chosen)


def run(w, pixels, name, r=0, keep=1.0, layers=(), info=0.0, size=0.0, heads=1.0):
    method = name.split("_")[0]

    def linear(x, at):
        return x @ w[at + ".weight"].T + w[at + ".bias"]

    def norm(x, at):
        return torch.nn.functional.layer_norm(x, (WIDTH,), w[at + ".weight"], w[at + ".bias"], EPS)

    patches = torch.nn.functional.conv2d(
        pixels, w["embeddings.patch_embeddings.projection.weight"], w["embeddings.patch_embeddings.projection.bias"], 8
    )
    x = torch.cat([w["embeddings.cls_token"][0], patches[0].flatten(1).T]) + w["embeddings.position_embeddings"][0]
    n = len(x)
    sizes, where = torch.ones(n, dtype=x.dtype), torch.arange(n)
    places, whole = torch.arange(n), x.clone()
    left, loud, so_far = list(range(HEADS)), torch.zeros(HEADS, dtype=x.dtype), torch.zeros(n, dtype=x.dtype)
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}."
        y = norm(x, at + "layernorm_before")
        q, k, v = (
            linear(y, f"{at}attention.attention.{part}").unflatten(-1, (HEADS, -1)).transpose(0, 1)
            for part in ("query", "key", "value")
        )
        weights = (q @ k.transpose(1, 2) / math.sqrt(q.shape[-1]) + sizes.log()).softmax(-1)
        given = weights @ v
        given[[h for h in range(HEADS) if h not in left]] = 0
        loud += given.abs().sum((1, 2))
        if method == "spatten":
            so_far = so_far + weights[left].sum((0, 1))
        x = x + linear(given.transpose(0, 1).flatten(1), at + "attention.output.dense")
        if r:
            if method == "mctf":
                seen = weights.mean((0, 1))
                groups = mctf_groups(k.mean(0), seen**-info * sizes**-size, r, 1)
                x, _ = merged(x, sizes * seen, groups)
                sizes = torch.zeros(len(x), dtype=x.dtype).index_add(0, groups, sizes)
            else:
                groups = groups_of(k.mean(0), r, 1)
                x, sizes = merged(x, sizes, groups)
            where = groups[where]
        elif layer in layers:
            count = math.ceil(keep * (len(x) - 1))
            seen = so_far[1:] if method == "spatten" else weights[:, 0, 1:].mean(0)
            left = sorted(left, key=lambda h: -loud[h])[: math.ceil(heads * len(left))]
            order = seen.argsort(descending=True, stable=True)
            kept, rest = order[:count] + 1, order[count:] + 1
            if method == "centre":
                kept = centres(x[1:], int(order[0]), count) + 1
            if len(rest):
                assert method == "centre" or seen[kept[-1] - 1] - seen[rest[0] - 1] > 1e-5, "a choice by rounding"
                if method in ("topk", "centre", "spatten"):
                    so_far = torch.cat([so_far[:1], so_far[kept]])
                    whole[places] = x
                    places = torch.cat([places[:1], places[kept]])
                    x = torch.cat([x[:1], x[kept]])
                else:
                    groups = torch.full((len(x),), 1 + count)
                    groups[0] = 0
                    groups[kept] = torch.arange(count) + 1
                    x = torch.cat([x[:1], x[kept], seen[rest - 1][None] @ x[rest]])
                    sizes, where = torch.ones(len(x), dtype=x.dtype), groups[where]
        if len(sizes) != len(x):
            sizes = torch.ones(len(x), dtype=x.dtype)
        up = torch.nn.functional.gelu(linear(norm(x, at + "layernorm_after"), at + "intermediate.dense"))
        x = x + linear(up, at + "output.dense")
    whole[places] = x if method in ("topk", "centre", "spatten") else x[where]
    x = norm(whole, "layernorm")
    return x[None], linear(x[:1], "pooler.dense").tanh()


class Outputs(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixel_values):
        y = self.model(pixel_values=pixel_values)
        return y.last_hidden_state, y.pooler_output


def export():
    model = transformers.ViTModel.from_pretrained(FOLDER, attn_implementation="eager").eval()
    torch.onnx.export(
        Outputs(model),
        (torch.randn(1, 3, 32, 48),),
        os.path.join(FOLDER, "vit.onnx"),
        dynamo=False,
        opset_version=14,
        input_names=["pixel_values"],
        output_names=["last_hidden_state", "pooler_output"],
    )


def main():
    torch.manual_seed(7)
    config = transformers.ViTConfig(
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=24,
        image_size=[32, 48],
        patch_size=8,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        attn_implementation="eager",
    )
    model = transformers.ViTModel(config).eval()
    with torch.no_grad():
        for p in model.parameters():  # wide enough that tokens differ in what they see
            p.copy_(torch.randn_like(p) * (0.5 if p.ndim > 1 else 0.1) + (1.0 if p.ndim == 1 else 0.0))
    model.save_pretrained(FOLDER)
    pixels = torch.randn(1, 3, 32, 48)
    weights = {k: v.double() for k, v in load_file(os.path.join(FOLDER, "model.safetensors")).items()}
    tensors = {"in.pixel_values": pixels}
    with torch.no_grad():
        original = model.double()(pixel_values=pixels.double())
        for name, options in METHODS.items():
            hidden, pooled = run(weights, pixels.double(), name, **options)
            tensors[f"{name}.last_hidden_state"], tensors[f"{name}.pooler_output"] = hidden.float(), pooled.float()
            print(name, float((hidden - original.last_hidden_state).abs().max()))
    assert torch.allclose(tensors["whole.last_hidden_state"].double(), original.last_hidden_state, atol=1e-6)
    assert torch.allclose(tensors["whole.pooler_output"].double(), original.pooler_output, atol=1e-6)
    save_file({k: v.contiguous() for k, v in tensors.items()}, os.path.join(FOLDER, "calls.safetensors"))
    export()


if __name__ == "__main__":
    main()
