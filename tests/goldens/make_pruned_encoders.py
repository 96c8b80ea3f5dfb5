#!/usr/bin/env python3
"""Writes tests/goldens/encoders/bert/tome.safetensors: what the tiny BERT of make_tiny_encoders.py gives when tokens that are alike are merged behind each attention
(ToMe, Bolya et al. 2023: bipartite soft matching by the keys' mean over heads, means weighted by size, attention weighted by size), in float64 by the paper's formulas
around transformers' modules (5.23.0, torch 2.15.0, safetensors 0.8.0). Two calls as in calls.safetensors there, `plain.*` and `full.*`, and `masked.*`: its inputs, with an
attention_mask that makes tokens of size 0, stand beside its outputs.

  OMP_NUM_THREADS=1 python3 tests/goldens/make_pruned_encoders.py
"""

import math
import os

import torch
import transformers
from safetensors.torch import load_file, save_file

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "encoders", "bert")
R, KEEP = 3, 1


def groups_of(metric, merge, keep):
    """The group of each token: tokens at even places that stay, in their order, then those at odd places with what joined them."""
    tokens = len(metric)
    merge = min(merge, max(tokens - keep, 0) // 2)
    unit = metric / metric.norm(dim=-1, keepdim=True)
    scores = unit[::2] @ unit[1::2].T
    protected_even, protected_odd = (keep + 1) // 2, keep // 2
    scores[:protected_even] = -math.inf
    scores[:, :protected_odd] = -math.inf
    best, with_ = scores.max(dim=-1)
    order = best.argsort(descending=True, stable=True)
    joined = set(order[:merge].tolist())
    groups, at = [0] * tokens, 0
    for a in range(len(best)):
        if a not in joined:
            groups[2 * a], at = at, at + 1
    for b in range(tokens // 2):
        groups[2 * b + 1] = at + b
    for a in joined:
        groups[2 * a] = at + int(with_[a])
    return torch.tensor(groups)


def merged(x, size, groups):
    rows = int(groups.max()) + 1
    total = torch.zeros(rows, dtype=x.dtype).index_add(0, groups, size)
    sums = torch.zeros(rows, x.shape[1], dtype=x.dtype).index_add(0, groups, x * size[:, None])
    return torch.where(total[:, None] > 0, sums / total.clamp(min=1e-300)[:, None], 0.0), total


def run(model, ids, types, mask):
    x = model.embeddings(input_ids=ids[None].long(), token_type_ids=types[None].long())[0]
    size, where = mask.double(), None
    for layer in model.encoder.layer:
        own = layer.attention.self
        q, k, v = (
            f(x).unflatten(-1, (own.num_attention_heads, -1)).transpose(0, 1) for f in (own.query, own.key, own.value)
        )
        scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1]) + size.log()
        y = layer.attention.output.dense((scores.softmax(-1) @ v).transpose(0, 1).flatten(1))
        groups = groups_of(k.mean(0), R, KEEP)
        x, size = merged(x + y, size, groups)
        where = groups if where is None else groups[where]
        x = layer.attention.output.LayerNorm(x)
        x = layer.output.LayerNorm(x + layer.output.dense(layer.intermediate(x)))
    x = x[where]
    return x, model.pooler(x[None])[0]


def main():
    model = transformers.AutoModel.from_pretrained(FOLDER, attn_implementation="eager").eval().double()
    given = load_file(os.path.join(FOLDER, "calls.safetensors"))
    tensors = {}
    masked = {
        "masked.ids": given["plain.ids"],
        "masked.attention_mask": (torch.arange(len(given["plain.ids"])) < 13).to(torch.int32),
    }
    given.update(masked)
    tensors.update(masked)
    for call in ("plain", "full", "masked"):
        ids = given[f"{call}.ids"]
        types = given.get(f"{call}.token_type_ids", torch.zeros_like(ids))
        mask = given.get(f"{call}.attention_mask", torch.ones_like(ids))
        with torch.no_grad():
            hidden, pooled = run(model, ids, types, mask)
        tensors[f"{call}.last_hidden_state"], tensors[f"{call}.pooler_output"] = (
            hidden.float().contiguous(),
            pooled.float()[None].contiguous(),
        )
    save_file(tensors, os.path.join(FOLDER, "tome.safetensors"))


if __name__ == "__main__":
    main()
