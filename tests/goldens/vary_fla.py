#!/usr/bin/env python3
"""Converts models of flash-linear-attention with random shapes and options, and compares all logits.

  OMP_NUM_THREADS=1 python3 tests/goldens/vary_fla.py FLA build/release/bin [--rounds 3] [--backend vulkan] [name ...]

FLA and the packages are those of make_tiny_fla.py, whose kernels know nothing wider than float32: their logits are the
measure, within 1e-4 of the largest. Chunks of 1, 7 and 64 tokens; the greedy continuation must be theirs. Prints one
line a family and round; ends with 1 when one is further off.
"""

import sys

import torch
from make_tiny_fla import COMMON, SOFTMAX, fla
from make_tiny_models import greedy, logits_of, redraw_linear
from transformers import set_seed
from vary_kit import Mismatch, draw, vary

TOKENS, CONTINUATION = 50, 6
BOTH = (True, False)
FAMILIES = {
    "kda": (
        "KDA",
        {
            "num_heads": (1, 2, 3),
            "num_v_heads": (None, 6, 12),
            "head_dim": (8, 10, 16),
            "expand_v": (0.5, 1.0, 1.5, 2.0),
            "hidden_size": (24, 32, 48),
            "num_hidden_layers": (1, 2, 3),
            "intermediate_size": (None, 28, 44),
            "conv_size": (2, 4),
            "use_short_conv": BOTH,
            "allow_neg_eigval": BOTH,
            "fuse_norm": BOTH,
            "tie_word_embeddings": BOTH,
            "norm_eps": (1e-6, 1e-3),
            "lower_bound": (None, -5.0, -0.5),
            "attn": (None, SOFTMAX),
        },
    ),
}


def check_one(kit, family, rng, _):
    kind, table = FAMILIES[family]
    options = {**COMMON, **draw(rng, table)}
    if options["num_hidden_layers"] == 1:
        options["attn"] = None
    if options["lower_bound"] is not None:
        options["safe_gate"] = rng.choice(BOTH)
    kit.tried = f"{options}"
    generator = torch.Generator().manual_seed(rng.randrange(1 << 30))
    set_seed(rng.randrange(1 << 30))
    config = getattr(fla.models, kind + "Config")(**options)
    model = getattr(fla.models, kind + "ForCausalLM")(config).float().eval()
    redraw_linear(model, generator)
    kit.convert(model)
    ids = torch.randint(0, options["vocab_size"], (TOKENS,), generator=generator)
    wanted = {"logits": logits_of(model, ids)}
    worst = max(kit.check({"ids": ids}, wanted, 0.0, "--chunk", str(chunk)) for chunk in (1, 7, 64))
    more, _ = greedy(model, ids, CONTINUATION)
    got = kit.evaluate({"ids": torch.cat([ids, more])}, ["logits"])["logits"][TOKENS - 1 : -1].argmax(-1)
    if not torch.equal(got.long(), more.long()):
        raise Mismatch(f"the greedy continuation is {got.tolist()}, wanted {more.tolist()}")
    return worst, kit.tried


if __name__ == "__main__":
    del sys.argv[1]
    vary(__doc__, FAMILIES, check_one)
