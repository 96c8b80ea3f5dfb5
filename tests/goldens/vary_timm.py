#!/usr/bin/env python3
"""Converts networks of timm that transformers' wrapper saves, narrow as make_tiny_timm.py makes them, and compares all
outputs for one image and for two, each of a size of its own with odd sides among them where the network takes any.

  OMP_NUM_THREADS=1 python3 tests/goldens/vary_timm.py build/release/bin [--rounds 3] [--seed 1] [--backend vulkan]
      [name ...]

Prints one line an architecture and round; ends with 1 when an output is further from the float64 run than 1e-4 of its
largest value (or ten times float32's own distance).
"""

import torch
from make_tiny_timm import make
from make_tiny_vision import OUTPUTS
from vary_kit import outputs_of, reference, vary

ARCHITECTURES = (
    "mobilenetv2_050",
    "mobilenetv2_110d",
    "mobilenetv3_small_050",
    "mobilenetv3_large_100",
    "tf_mobilenetv3_large_075",
    "tf_mobilenetv3_small_minimal_100",
    "mobilenetv4_conv_small",
    "mobilenetv4_conv_medium",
    "mobilenetv4_conv_large",
    "mobilenetv4_hybrid_medium",
    "mobilenetv4_hybrid_large",
    "efficientnet_b0",
    "tf_efficientnet_b1",
    "efficientnet_lite0",
    "tf_efficientnetv2_b0",
    "tf_efficientnetv2_s",
)
SIDES = ((32, 32), (37, 50), (64, 41), (45, 45))


def one_round(kit, name, rng, _):
    """Both classes."""
    worst = 0.0
    for ending in ("ForImageClassification", "Model"):
        generator = torch.Generator().manual_seed(rng.randrange(1 << 30))
        model = make(name, ending, generator)
        sides = rng.choice(SIDES)
        model.config.pretrained_cfg = {"input_size": [3, *sides]}
        kit.tried = f"{ending} {sides}"
        kit.convert(model)
        for batch in (1, 2):
            own = sides if "hybrid" in name else rng.choice(SIDES)
            kit.tried = f"{ending} {own}"
            inputs = {"pixel_values": torch.randn(batch, 3, *own, generator=generator)}
            wanted, difference = reference(model, lambda m, given=inputs: outputs_of(m, OUTPUTS, **given))
            worst = max(worst, kit.check(inputs, wanted, difference))
    return worst, f"{sides}"


if __name__ == "__main__":
    vary(__doc__, ARCHITECTURES, one_round)
