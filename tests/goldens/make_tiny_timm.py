#!/usr/bin/env python3
"""Writes the tiny random checkpoints of timm's networks (timm 1.0.31) among tests/goldens/vision/NAME, as
make_tiny_convnets.py does it for others; all but the depth and the kernels is a thirty-second of what the name stands
for.

  OMP_NUM_THREADS=1 python3 tests/goldens/make_tiny_timm.py [name ...]
"""

import timm
import timm.models.efficientnet as efficientnet
import timm.models.mobilenetv3 as mobilenetv3
import torch
import transformers
from make_tiny_vision import redraw, write_all

FAMILIES = {"mobilenetv3": "mobilenetv3_small_050", "mobilenetv4": "mobilenetv4_conv_small"}


def narrow_channels(channels, multiplier=1.0, **_):
    return max(4, int(channels * multiplier) // 16 // 2 * 2)


def narrow_head(kind):
    """The widths of the head are no factor of a name, so the constructor is given others."""
    wide = kind.__init__
    kind.__init__ = lambda self, *args, num_features=0, **options: wide(self, *args, num_features=24, **options)


for module, kind in ((mobilenetv3, mobilenetv3.MobileNetV3), (efficientnet, efficientnet.EfficientNet)):
    module.round_channels = narrow_channels
    narrow_head(kind)


def make(architecture, ending, generator):
    """A model with parameters drawn wide, in float32."""
    config = transformers.TimmWrapperConfig(architecture=architecture, num_labels=3)
    model = getattr(transformers, "TimmWrapper" + ending)(config).eval()
    redraw(model, generator)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if ".query." in name:  # else softmax follows a single key, and rounding decides which
                p.mul_(0.01)
    return model


def draw(family, generator):
    model = make(FAMILIES[family], "ForImageClassification", generator)
    return model, {"pixel_values": torch.randn(2, 3, 21, 26, generator=generator)}


if __name__ == "__main__":
    write_all(FAMILIES, draw, [(timm, "1.0.31")])
