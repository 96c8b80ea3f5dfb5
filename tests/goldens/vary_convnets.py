#!/usr/bin/env python3
"""Converts networks of convolutions of random shapes and options that transformers saves, and compares all outputs for
one image and for two, each of a size of its own with odd sides among them.

  OMP_NUM_THREADS=1 python3 tests/goldens/vary_convnets.py build/release/bin [--rounds 3] [--seed 1]
      [--backend vulkan] [name ...]

Prints one line a family and round; ends with 1 when an output is further from the float64 run than 1e-4 of its largest
value (or ten times float32's own distance).
"""

import torch
import transformers
from make_tiny_vision import redraw
from transformers import AutoConfig
from vary_kit import draw, outputs_of, reference, vary

OUTPUTS = ("last_hidden_state", "pooler_output", "logits")
PLAIN = ("Model", "ForImageClassification")
STAGES = {
    "embedding_size": (8, 12),
    "hidden_sizes": ([16, 24], [16, 16, 32]),
    "hidden_act": ("relu", "gelu", "silu"),
    "num_channels": (1, 3),
    "downsample_in_first_stage": (True, False),
}
MOBILE = {
    "depth_multiplier": (0.25, 0.35),
    "min_depth": (4, 8),
    "hidden_act": ("relu6", "relu"),
    "tf_padding": (True, False),
    "num_channels": (1, 3),
}
NEXT = {
    "hidden_sizes": ([8, 16], [12, 12, 24]),
    "hidden_act": ("relu", "gelu"),
    "num_channels": (1, 3),
    "patch_size": (2, 4, 5),
    "layer_norm_eps": (1e-12, 1e-5),
}
# Model type, what the names of its classes begin with, their endings, options.
FAMILIES = {
    "resnet": (
        "resnet",
        "ResNet",
        PLAIN,
        {**STAGES, "layer_type": ("basic", "bottleneck"), "downsample_in_bottleneck": (True, False)},
    ),
    "regnet": ("regnet", "RegNet", PLAIN, {**STAGES, "layer_type": ("x", "y"), "groups_width": (4, 8)}),
    "mobilenet_v1": ("mobilenet_v1", "MobileNetV1", PLAIN, MOBILE),
    "mobilenet_v2": (
        "mobilenet_v2",
        "MobileNetV2",
        (*PLAIN, "ForSemanticSegmentation"),
        {
            **MOBILE,
            "output_stride": (8, 16, 32),
            "first_layer_is_expansion": (True, False),
            "finegrained_output": (True, False),
            "expand_ratio": (2.0, 6.0),
        },
    ),
    "efficientnet": (
        "efficientnet",
        "EfficientNet",
        PLAIN,
        {
            "width_coefficient": (0.25, 0.5),
            "depth_coefficient": (0.5, 1.2),
            "hidden_act": ("swish", "relu"),
            "pooling_type": ("mean", "max"),
            "depthwise_padding": ([], [1]),
            "kernel_sizes": ([3, 3, 5, 3, 5, 5, 3],),
        },
    ),
    "convnext": ("convnext", "ConvNext", PLAIN, {**NEXT, "layer_scale_init_value": (1e-6, 0.0)}),
    "convnextv2": ("convnextv2", "ConvNextV2", PLAIN, NEXT),
    "poolformer": (
        "poolformer",
        "PoolFormer",
        PLAIN,
        {
            "hidden_sizes": ([8, 12, 16, 16],),
            "depths": ([1, 2, 1, 1], [2, 1, 1, 1]),
            "pool_size": (3, 5),
            "patch_sizes": ([7, 3, 3, 3], [5, 3, 2, 3]),
            "hidden_act": ("gelu", "relu"),
            "use_layer_scale": (True, False),
            "num_channels": (1, 3),
        },
    ),
    "swiftformer": (
        "swiftformer",
        "SwiftFormer",
        PLAIN,
        {
            "embed_dims": ([8, 12, 16], [8, 16, 16]),
            "depths": ([1, 2, 2], [2, 1, 3]),
            "downsamples": ([True, True, True], [True, False, True]),
            "hidden_act": ("gelu", "relu"),
            "mlp_ratio": (2, 4),
            "use_layer_scale": (True, False),
            "batch_norm_eps": (1e-5, 1e-3),
            "num_channels": (1, 3),
        },
    ),
    "focalnet": (
        "focalnet",
        "FocalNet",
        PLAIN,
        {
            "embed_dim": (8, 12),
            "depths": ([1, 2], [2, 1, 1]),
            "focal_levels": ([2, 1, 3],),
            "focal_windows": ([3, 5, 3],),
            "patch_size": (4,),
            "use_conv_embed": (True, False),
            "hidden_act": ("gelu", "relu"),
            "mlp_ratio": (2.0, 4.0),
            "use_layerscale": (True, False),
            "use_post_layernorm": (True, False),
            "use_post_layernorm_in_modulation": (True, False),
            "normalize_modulator": (True, False),
            "num_channels": (1, 3),
        },
    ),
    "dinov3_convnext": (
        "dinov3_convnext",
        "DINOv3ConvNext",
        ("Model",),
        {
            "hidden_sizes": ([8, 16], [12, 12, 24]),
            "hidden_act": ("gelu", "relu"),
            "layer_norm_eps": (1e-6, 1e-5),
            "num_channels": (1, 3),
        },
    ),
    "bit": (
        "bit",
        "Bit",
        PLAIN,
        {
            "embedding_size": (8, 16),
            "hidden_sizes": ([16, 32], [16, 24, 32]),
            "num_groups": (2, 4),
            "layer_type": ("preactivation", "bottleneck"),
            "hidden_act": ("relu", "gelu"),
            "output_stride": (32, 4),
            "num_channels": (1, 3),
        },
    ),
}
SIDES = ((32, 32), (37, 50), (64, 41), (45, 45))


def one_round(kit, family, rng, _):
    """Every class of the family."""
    model_type, prefix, endings, table = FAMILIES[family]
    options, worst = draw(rng, table), 0.0
    if "hidden_sizes" in options and "depths" not in options:
        options["depths"] = [rng.choice((1, 2)) for _ in options["hidden_sizes"]]
        if family in ("convnext", "convnextv2"):
            options["num_stages"] = len(options["depths"])
    if family == "focalnet":
        for key in ("focal_levels", "focal_windows"):
            options[key] = options[key][: len(options["depths"])]
    if family == "efficientnet":
        options["hidden_dim"] = {0.25: 320, 0.5: 640}[options["width_coefficient"]]
    for ending in endings:
        kit.tried = f"{ending} {options}"
        config = AutoConfig.for_model(model_type, num_labels=3, **options)
        generator = torch.Generator().manual_seed(rng.randrange(1 << 30))
        model = getattr(transformers, prefix + ending)(config).eval()
        redraw(model, generator)
        kit.convert(model)
        for batch in (1, 2):
            sides = rng.choice(SIDES)
            kit.tried = f"{ending} {options} {sides}"
            inputs = {"pixel_values": torch.randn(batch, config.num_channels, *sides, generator=generator)}
            wanted, difference = reference(model, lambda m, given=inputs: outputs_of(m, OUTPUTS, **given))
            worst = max(worst, kit.check(inputs, wanted, difference))
    return worst, f"{options}"


if __name__ == "__main__":
    vary(__doc__, FAMILIES, one_round)
