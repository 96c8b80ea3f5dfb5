#!/usr/bin/env python3
"""Converts models of images of random shapes and options that transformers saves, and compares all outputs for one image and for two.

  OMP_NUM_THREADS=1 python3 tests/goldens/vary_vision.py build/release/bin [--rounds 3] [--seed 1] [--backend vulkan] [name ...]

Packages and names are those of make_tiny_vision.py, whose configurations are changed at random; every class of a family once a round. Images have
sides that patches do not fill too. Prints one line a family and round; ends with 1 when an output is further from the float64 run than 1e-4 of its
largest value (or ten times float32's own distance).
"""

import torch
from make_tiny_vision import FAMILIES, OUTPUTS, inputs_of, make
from vary_kit import draw, outputs_of, reference, vary

ODD = {"image_size": (16, 21, [17, 30], [32, 19]), "patch_size": (8, 5, [4, 6])}
SQUARE = {"image_size": (16, 21, 35), "patch_size": (8, 5, 4)}
PLAIN = {
    "num_hidden_layers": (1, 2, 3),
    "intermediate_size": (20, 33, 64),
    "num_channels": (1, 3, 4),
    "hidden_act": ("gelu", "relu", "gelu_new"),
    "layer_norm_eps": (1e-12, 1e-5),
}
TEXTS = {
    "num_hidden_layers": (1, 3),
    "intermediate_size": (20, 33),
    "max_position_embeddings": (6, 10, 77),
    "hidden_act": ("gelu", "quick_gelu"),
}
WIDTHS = ({"hidden_size": 24, "num_attention_heads": 2}, {"hidden_size": 40, "num_attention_heads": 5})
SWIN = {
    "image_size": (64, 67, [71, 51], [64, 80]),
    "patch_size": (4, 2, 6),
    "depths": ([2, 2], [1, 3], [2, 1, 2]),
    "embed_dim": (12, 24),
    "qkv_bias": (True, False),
    "layer_norm_eps": (1e-5, 1e-6),
    "hidden_act": ("gelu", "relu"),
    "num_channels": (1, 3),
    "window_size": (2, 3),
    "num_heads": ([2, 3, 4],),
}
PYRAMID = {
    "image_size": (32, 45, [37, 64], [64, 43]),
    "depths": ([1, 2], [2, 1]),
    "sr_ratios": ([4, 1], [3, 2]),
    "hidden_sizes": ([8, 20], [16, 24]),
    "num_channels": (1, 3),
    "hidden_act": ("gelu", "relu"),
}
MOBILE = {"image_size": (64, 97, [71, 130], 256), "num_channels": (1, 3), "output_stride": (32, 16, 8)}
DETR = {
    "image_size": (64, [61, 96], [32, 416]),
    "activation_function": ("silu", "relu"),
    "hidden_expansion": (1.0, 0.5),
    "normalize_before": (True, False),
    "encoder_activation_function": ("gelu", "relu"),
    "decoder_activation_function": ("relu", "gelu"),
    "num_feature_levels": (3, 4),
    "decoder_layers": (2, 3),
    "num_queries": (3, 20),
    "num_denoising": (0, 4),
    "freeze_backbone_batch_norms": (True, False),
    "encode_proj_layers": ([2], [1, 2]),
    "backbone_config": (
        {},
        {"downsample_in_bottleneck": True, "hidden_sizes": [8, 8, 16, 16], "depths": [2, 1, 1, 2]},
        {
            "num_channels": 1,
            "layer_type": "basic",
            "hidden_sizes": [8, 8, 12, 12],
            "hidden_act": "gelu",
            "depths": [1, 2, 1, 1],
        },
    ),
}
OPTIONS = {
    "rt_detr": DETR,
    "rt_detr_v2": {**DETR, "decoder_offset_scale": (0.5, 0.3), "decoder_method": ("default", "discrete")},
    "vit_mae": {
        **PLAIN,
        "image_size": (16, 24, 40),
        "patch_size": (8, 4),
        "qkv_bias": (True, False),
        "mask_ratio": (0.75, 0.5, 0.0),
        "decoder_num_hidden_layers": (0, 1, 2),
    },
    "dinat": {
        "image_size": (32, [45, 61], [21, 70]),
        "depths": ([2, 1], [1, 1, 2]),
        "num_heads": ([1, 2, 4], [2, 2, 8]),
        "kernel_size": (3, 5, 7),
        "dilations": ([[1, 2], [2, 1], [1, 1]], None),
        "num_channels": (1, 3),
        "qkv_bias": (True, False),
        "hidden_act": ("gelu", "relu"),
        "layer_norm_eps": (1e-5, 1e-3),
        "layer_scale_init_value": (0.0, 0.5),
    },
    "levit": {"image_size": (48, 64, 112), "depths": ([1, 2, 1], [2, 1, 1]), "num_channels": (1, 3)},
    "cvt": {
        "image_size": (32, 45, [37, 64]),
        "cls_token": ([False, True], [False, False]),
        "stride_kv": ([2, 2], [1, 2]),
        "qkv_bias": ([True, True], [False, False]),
    },
    "hiera": {
        "image_size": ([32, 32], [64, 32], [32, 96]),
        "depths": ([1, 2], [2, 1], [1, 1, 2]),
        "num_heads": ([1, 2, 4],),
        "masked_unit_attention": ([True, True, False], [True, False, False], [False, False, False]),
        "masked_unit_size": ([4, 4], [8, 8]),
        "num_query_pool": (0, 1),
        "num_channels": (1, 3),
    },
    "vitpose": {
        "use_simple_decoder": (True, False),
        "scale_factor": (2, 3, 4),
        "backbone_config": (
            {},
            {"image_size": [26, 16], "num_channels": 1, "qkv_bias": False},
            {"image_size": [35, 19], "hidden_size": 24, "hidden_act": "relu"},
        ),
    },
    "depth_anything": {
        "reassemble_factors": ([2, 0.5], [4, 2], [1, 0.5], [2, 1]),
        "depth_estimation_type": ("relative", "metric"),
        "max_depth": (1, 20),
        "backbone_config": (
            {"image_size": 40},
            {"image_size": 27, "use_swiglu_ffn": True},
            {"image_size": 35, "num_hidden_layers": 3, "out_indices": [2, 3], "apply_layernorm": False},
        ),
    },
    "segformer": PYRAMID,
    "glpn": {**PYRAMID, "image_size": (32, 64, [64, 32]), "decoder_hidden_size": (8, 12, 20), "max_depth": (10, 80)},
    "pvt_v2": {**PYRAMID, "linear_attention": (True, False), "qkv_bias": (True, False)},
    "mobilevit": {**MOBILE, "patch_size": (2, 4), "qkv_bias": (True, False), "conv_kernel_size": (3, 5)},
    "mobilevitv2": {**MOBILE, "width_multiplier": (0.125, 0.25)},
    "swin": {**SWIN, "use_absolute_embeddings": (True, False)},
    "swinv2": {**SWIN, "pretrained_window_sizes": ([0, 0, 0], [4, 3, 0]), "window_size": (2, 3, 8)},
    "vit": {**PLAIN, **SQUARE, "qkv_bias": (True, False)},
    "deit": {**PLAIN, **ODD, "qkv_bias": (True, False)},
    "vit_msn": {**PLAIN, **ODD},
    "ijepa": {**PLAIN, **ODD},
    "dinov2": {
        **PLAIN,
        **SQUARE,
        "use_swiglu_ffn": (True, False),
        "mlp_ratio": (2, 3),
        "use_mask_token": (True, False),
    },
    "dinov2_with_registers": {**PLAIN, **SQUARE, "use_swiglu_ffn": (True, False), "num_register_tokens": (1, 4)},
    "beit": {
        **PLAIN,
        **SQUARE,
        "use_relative_position_bias": (True, False),
        "use_shared_relative_position_bias": (True, False),
        "use_absolute_position_embeddings": (True, False),
        "use_mean_pooling": (True, False),
        "layer_scale_init_value": (0.1, 0.0),
        "use_mask_token": (True, False),
    },
    "clip": {**PLAIN, **SQUARE, "text_config": ({}, {"eos_token_id": 2}, {"hidden_size": 24, "num_hidden_layers": 1})},
    "clip_vision": {**PLAIN, **SQUARE},
    "clip_text": TEXTS,
    "aimv2": {
        **SQUARE,
        "is_native": (True, False),
        "use_head": (True, False),
        "qkv_bias": (True, False),
        "mlp_bias": (True, False),
        "rms_norm_eps": (1e-5, 1e-6),
        "hidden_act": ("silu", "gelu"),
    },
    "metaclip_2": {**PLAIN, **SQUARE, "text_config": ({"eos_token_id": 2}, {}, {"hidden_size": 24})},
    "metaclip_2_text": TEXTS,
    "siglip": {**PLAIN, **SQUARE},
    "siglip_vision": {**PLAIN, **SQUARE, "vision_use_head": (True, False)},
    "siglip_text": {**TEXTS, "projection_size": (8, 31)},
    "dinov3_vit": {
        **PLAIN,
        **ODD,
        "use_gated_mlp": (True, False),
        "num_register_tokens": (0, 4),
        "key_bias": (True, False),
        "rope_theta": (100.0, 1000.0),
    },
}
OPTIONS["data2vec_vision"] = {k: v for k, v in OPTIONS["beit"].items() if k != "use_mask_token"}
WIDTHS_OF = {
    "dinat": ({}, {"embed_dim": 24}),
    "rt_detr": ({},),
    "rt_detr_v2": ({},),
    "swin": ({},),
    "swinv2": ({},),
    "segformer": ({},),
    "glpn": ({},),
    "levit": ({},),
    "cvt": ({},),
    "hiera": ({},),
    "vitpose": ({},),
    "depth_anything": ({},),
    "pvt_v2": ({},),
    "mobilevit": ({},),
    "mobilevitv2": ({},),
    "siglip": ({"hidden_size": 16, "num_attention_heads": 4},),
    "dinov3_vit": ({"hidden_size": 16, "num_attention_heads": 2}, {"hidden_size": 60, "num_attention_heads": 5}),
}


def fit(options):
    """Lists of stages as long as there are stages; a table of positions where transformers can add it."""
    if "decoder_method" in options:
        options["decoder_n_levels"] = options["num_feature_levels"]
    if "use_absolute_embeddings" in options and options["image_size"] not in (64, [64, 80]):
        options["use_absolute_embeddings"] = False
    if options.get("dilations"):
        options["dilations"] = [own[:n] for own, n in zip(options["dilations"], options["depths"])]
    elif "dilations" in options:
        options["dilations"] = [[1] * n for n in options["depths"]]
    for key in ("num_heads", "pretrained_window_sizes", "masked_unit_attention"):
        if key in options and "depths" in options:
            options[key] = options[key][: len(options["depths"])]


def with_stride(options, family):
    """What the head for masked patches needs: a square image, and how many pixels a token of the last layer stands for."""
    patch, size = options["patch_size"], options["image_size"]
    patch, size = (x if isinstance(x, int) else x[0] for x in (patch, size))
    stages = len(options["depths"]) - 1 if "swin" in family else 0
    return {**options, "patch_size": patch, "image_size": size, "encoder_stride": patch << stages}


def one_round(kit, family, rng, _):
    """Every class of the family."""
    options, worst = {**rng.choice(WIDTHS_OF.get(family, WIDTHS)), **draw(rng, OPTIONS.get(family, {}))}, 0.0
    fit(options)
    for ending in FAMILIES[family][2]:
        if ending == "ForMaskedImageModeling" and family != "beit":
            options = with_stride(options, family)
        kit.tried = f"{ending} {options}"
        generator = torch.Generator().manual_seed(rng.randrange(1 << 30))
        model = make(family, ending, options, generator)
        kit.convert(model)
        for batch in (1, 2):
            inputs = inputs_of(model, batch, generator)
            wanted, difference = reference(model, lambda m, given=inputs: outputs_of(m, OUTPUTS, **given))
            worst = max(worst, kit.check(inputs, wanted, difference))
    return worst, f"{options.get('image_size')} in {options.get('patch_size')}"


if __name__ == "__main__":
    vary(__doc__, FAMILIES, one_round)
