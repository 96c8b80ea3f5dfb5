#!/usr/bin/env python3
"""Writes the tiny random checkpoints of convolutional networks among tests/goldens/vision/NAME, as make_tiny_vision.py
does it for others: two images of 21 rows and 26 columns a call.

  OMP_NUM_THREADS=1 python3 tests/goldens/make_tiny_convnets.py [name ...]
"""

import torch
import transformers
from make_tiny_models import SEED
from make_tiny_vision import redraw, write_all
from transformers import AutoConfig

TWO = {"hidden_sizes": [8, 12], "depths": [1, 2]}
# By model type: class, options.
FAMILIES = {
    "resnet": ("ResNetForImageClassification", {**TWO, "embedding_size": 8, "layer_type": "basic"}),
    "regnet": ("RegNetModel", {**TWO, "embedding_size": 8, "groups_width": 4}),
    "convnextv2": ("ConvNextV2ForImageClassification", {**TWO, "num_stages": 2}),
    "poolformer": (
        "PoolFormerForImageClassification",
        {"hidden_sizes": [8, 8, 12, 12], "depths": [1, 1, 1, 1], "mlp_ratio": 2.0},
    ),
    "swiftformer": (
        "SwiftFormerForImageClassification",
        {"embed_dims": [8, 12], "depths": [1, 2], "downsamples": [True, True], "mlp_ratio": 2},
    ),
    "focalnet": (
        "FocalNetModel",
        {"embed_dim": 8, "depths": [1, 1], "focal_levels": [2, 1], "focal_windows": [3, 5], "use_conv_embed": True},
    ),
    "dinov3_convnext": ("DINOv3ConvNextModel", TWO),
    "bit": ("BitModel", {"hidden_sizes": [8, 16], "depths": [1, 2], "embedding_size": 8, "num_groups": 4}),
}


def draw(family, generator):
    name, options = FAMILIES[family]
    transformers.set_seed(SEED)
    config = AutoConfig.for_model(family, num_labels=3, **options)
    model = getattr(transformers, name)(config).eval()
    redraw(model, generator)
    return model, {"pixel_values": torch.randn(2, 3, 21, 26, generator=generator)}


if __name__ == "__main__":
    write_all(FAMILIES, draw)
