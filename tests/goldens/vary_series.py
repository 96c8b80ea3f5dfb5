#!/usr/bin/env python3
"""Converts models of time series and of sound with random shapes and options that transformers saves, and compares all
outputs.

  OMP_NUM_THREADS=1 python3 tests/goldens/vary_series.py build/release/bin [--rounds 3] [--backend vulkan] [name ...]

Packages and names are those of make_tiny_series.py. Every class of a family once a round, with one input and with two
side by side. Prints one line a family and round; ends with 1 when an output is further from the float64 run than 1e-4
of its largest value (or ten times float32's own distance).
"""

import torch
import transformers
from make_tiny_series import FAMILIES, make, trial
from vary_kit import Mismatch, reference, vary


def check_one(kit, family, rng, options):
    worst = 0.0
    for task in FAMILIES[family].tasks:
        config = FAMILIES[family].draw(rng)
        for batch in (1, 2):
            generator = torch.Generator().manual_seed(rng.randrange(1 << 30))
            transformers.set_seed(rng.randrange(1 << 30))
            model = make(family, task, config, generator)
            t = trial(family, task, model, batch, rng, generator)
            kit.tried = f"{task}, batch {batch}, {config}"
            wanted, difference = reference(model, t.run)
            kit.convert(model)
            try:
                worst = max(worst, kit.check(t.inputs, wanted, difference, *t.options))
            except Mismatch as e:
                shapes = {k: tuple(v.shape) for k, v in t.inputs.items()}
                raise Mismatch(f"{e} {shapes}") from None
    return worst, ", ".join(FAMILIES[family].tasks)


if __name__ == "__main__":
    vary(__doc__, FAMILIES, check_one)
