#!/usr/bin/env python3
"""Converts encoders of random shapes and options that transformers saves, and compares all outputs: more than the kept goldens can show.

  OMP_NUM_THREADS=1 python3 tests/goldens/vary_encoders.py build/release/bin [--rounds 3] [--seed 1] [--backend vulkan] [name ...]

Packages and names are those of make_tiny_encoders.py, whose configurations are changed at random; every task of a family once a round. Prints one
line a family and round; ends with 1 when an output is further from the float64 run than 1e-4 of its largest value (or ten times float32's own
distance).
"""

import random

import torch
from make_tiny_encoders import FAMILIES, calls, compute, make
from vary_kit import draw, vary

SIZES = (
    {"hidden_size": 24, "num_attention_heads": 2},
    {"hidden_size": 36, "num_attention_heads": 3},
    {"hidden_size": 64, "num_attention_heads": 4},
    {"hidden_size": 40, "num_attention_heads": 1},
)
COMMON = {
    "vocab_size": (67, 131, 96),
    "intermediate_size": (28, 40, 96),
    "num_hidden_layers": (1, 2, 3),
    "max_position_embeddings": (48, 72),
    "type_vocab_size": (1, 2, 4),
    "layer_norm_eps": (1e-12, 1e-5),
}
OPTIONS = {
    "bert": {"hidden_act": ("gelu", "relu", "gelu_new", "silu")},
    "electra": {"embedding_size": (16, 36, 24), "hidden_act": ("gelu", "relu")},
    "albert": {
        "embedding_size": (16, 48),
        "num_hidden_layers": (2, 4),
        "num_hidden_groups": (1, 2),
        "hidden_act": ("gelu_new", "gelu"),
    },
    "distilbert": {"activation": ("gelu", "relu"), "type_vocab_size": (None,), "layer_norm_eps": (None,)},
    "rembert": {"input_embedding_size": (16, 40), "output_embedding_size": (20, 64)},
    "modernbert": {
        "num_hidden_layers": (2, 5),
        "local_attention": (4, 10),
        "attention_bias": (True, False),
        "mlp_bias": (True, False),
        "norm_bias": (True, False),
        "decoder_bias": (True, False),
        "classifier_bias": (True, False),
        "classifier_pooling": ("cls", "mean"),
        "classifier_activation": ("gelu", "silu"),
        "tie_word_embeddings": (True, False),
        "norm_eps": (1e-5, 1e-6),
        "layer_norm_eps": (None,),
        "type_vocab_size": (None,),
        "layer_types": (None,),
    },
    "roformer": {"embedding_size": (16, 36, 24), "hidden_act": ("gelu", "relu")},
    "megatron_bert": {"hidden_act": ("gelu", "gelu_new")},
    **dict.fromkeys(
        ("t5", "umt5"),
        {
            "feed_forward_proj": ("relu", "gated-gelu", "gated-silu"),
            "d_kv": (6, 8, 16),
            "d_model": (24, 40),
            "d_ff": (28, 96),
            "num_heads": (1, 3),
            "num_layers": (1, 3),
            "relative_attention_num_buckets": (4, 8, 32),
            "relative_attention_max_distance": (12, 128),
            "layer_norm_epsilon": (1e-6, 1e-5),
            **dict.fromkeys(
                (
                    "intermediate_size",
                    "num_hidden_layers",
                    "max_position_embeddings",
                    "type_vocab_size",
                    "layer_norm_eps",
                ),
                (None,),
            ),
        },
    ),
    "mpnet": {"hidden_act": ("gelu", "relu"), "type_vocab_size": (None,), "max_position_embeddings": (48, 300)},
    "nystromformer": {
        "segment_means_seq_len": (48,),
        "num_landmarks": (2, 8, 48),
        "conv_kernel_size": (3, 9),
        "hidden_act": ("gelu_new", "gelu"),
    },
    "longformer": {"attention_window": (4, 6, 16), "layer_norm_eps": (1e-5,)},
    "big_bird": {
        "attention_type": ("original_full", "block_sparse"),
        "block_size": (16,),
        "num_random_blocks": (1, 3),
        "rescale_embeddings": (True, False),
        "use_bias": (True, False),
        "hidden_act": ("gelu_new", "relu"),
    },
    **dict.fromkeys(("jina_v2", "jina_v2_norms"), {"feed_forward_type": ("geglu", "reglu")}),
    "deberta": {
        "type_vocab_size": (0, 2),
        "relative_attention": (True, True, False),
        "max_relative_positions": (-1, 12, 100),
        "pos_att_type": ("p2c|c2p", ["c2p"], ["p2c"], ["c2p", "p2c"]),
        "position_biased_input": (True, False),
        "hidden_act": ("gelu", "gelu_new", "relu"),
        "pooler_hidden_act": ("gelu", "tanh"),
        "legacy": (True, False),
    },
    "deberta_v2": {
        "type_vocab_size": (0, 2),
        "relative_attention": (True, True, False),
        "position_buckets": (-1, 4, 8, 16, 32),
        "max_relative_positions": (-1, 12, 100),
        "norm_rel_ebd": ("layer_norm", "none"),
        "share_att_key": (True, False),
        "pos_att_type": ("p2c|c2p", ["c2p"], ["p2c"], ["c2p", "p2c"]),
        "position_biased_input": (True, False),
        "conv_kernel_size": (0, 0, 3, 5),
        "conv_act": ("gelu", "tanh"),
        "hidden_act": ("gelu", "gelu_new", "relu"),
        "pooler_hidden_act": ("gelu", "tanh"),
        "legacy": (True, False),
    },
    "fnet": {"hidden_act": ("gelu_new", "gelu"), "layer_norm_eps": (1e-12,)},
    "gte": {"type_vocab_size": (0, 1, 2)},
    "nomic_bert": {"hidden_act": ("silu", "gelu")},
    "eurobert": {
        "num_key_value_heads": (1,),
        "classifier_pooling": ("bos", "mean", "late"),
        "attention_bias": (True, False),
        "mlp_bias": (True, False),
        "tie_word_embeddings": (True, False),
        "layer_norm_eps": (None,),
        "type_vocab_size": (None,),
    },
}


def options_of(rng, family):
    o = {**rng.choice(SIZES), **draw(rng, {**COMMON, **OPTIONS.get(family, {})})}
    if family in ("t5", "umt5"):
        o.update(hidden_size=None, num_attention_heads=None)
    if family == "distilbert":
        o.update(
            dim=o["hidden_size"],
            n_heads=o["num_attention_heads"],
            hidden_dim=o["intermediate_size"],
            n_layers=o["num_hidden_layers"],
        )
        for key in ("hidden_size", "num_attention_heads", "intermediate_size", "num_hidden_layers"):
            o[key] = None
    return o


def check(kit, family, task, options, tokens, seed):
    generator, rng = torch.Generator().manual_seed(seed), random.Random(seed)
    model = make(family, task, options, generator)
    given = calls(model, tokens, generator, rng)
    kit.convert(model)
    wanted, difference = compute(model, given)
    worst = 0.0
    for call, inputs in given.items():
        outputs = {k.split(".", 1)[1]: v for k, v in wanted.items() if k.startswith(call + ".")}
        if task != "base":
            outputs = {k: v for k, v in outputs.items() if k not in ("last_hidden_state", "pooler_output")}
        worst = max(worst, kit.check(inputs, outputs, difference))
    return worst


def one_round(kit, family, rng, _):
    """Every task of the family."""
    options, tokens, worst = options_of(rng, family), rng.choice((1, 2, 7, 19, 30, 40)), 0.0
    for task in FAMILIES[family][2]:
        kit.tried = f"{task} {options} {tokens} tokens"
        worst = max(worst, check(kit, family, task, options, tokens, rng.randrange(1 << 30)))
    return worst, f"{tokens} tokens"


if __name__ == "__main__":
    vary(__doc__, FAMILIES, one_round)
