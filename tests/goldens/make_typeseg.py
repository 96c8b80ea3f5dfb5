"""A random network of typeseg's shape and what typeseg's own NumPy code computes from it: tests/goldens/typeseg.

python make_typeseg.py        (typeseg 0.2.7 and numpy; the network is written by examples/typeseg/export.py)
"""

import os
import sys

import numpy as np
from typeseg._mamba_kernel import mamba_forward

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "examples", "typeseg"))
from export import export, write_safetensors  # noqa: E402

LAYERS, WIDTH, STATE, RANK, CLASSES = 2, 24, 7, 3, 5


def main():
    rng = np.random.default_rng(3)
    draw = lambda *shape, scale=1.0: (rng.standard_normal(shape) * scale).astype(np.float32)
    p = {
        "Embed_0__embedding": draw(130, WIDTH),
        "LayerNorm_0__scale": 1 + draw(WIDTH, scale=0.2),
        "LayerNorm_0__bias": draw(WIDTH, scale=0.2),
        "Dense_0__kernel": draw(WIDTH, CLASSES, scale=0.3),
        "Dense_0__bias": draw(CLASSES),
    }
    for i in range(LAYERS):
        q = f"CheckpointMambaBlock1D_{i}__"
        p |= {
            q + "LayerNorm_0__scale": 1 + draw(WIDTH, scale=0.2),
            q + "LayerNorm_0__bias": draw(WIDTH, scale=0.2),
            q + "A_log": draw(WIDTH, STATE, scale=0.5),
            q + "D": draw(WIDTH),
            q + "Conv_0__kernel": draw(4, 1, WIDTH, scale=0.5),
            q + "Conv_0__bias": draw(WIDTH, scale=0.2),
        }
        for k, (rows, columns) in enumerate(
            [(WIDTH, 2 * WIDTH), (WIDTH, RANK + 2 * STATE), (RANK, WIDTH), (WIDTH, WIDTH)]
        ):
            p[q + f"Dense_{k}__kernel"], p[q + f"Dense_{k}__bias"] = (
                draw(rows, columns, scale=rows**-0.5),
                draw(columns, scale=0.2),
            )
    folder = os.path.join(HERE, "typeseg")
    export(p, [f"kind{i}" for i in range(CLASSES)], folder)
    os.remove(os.path.join(folder, "labels.txt"))
    weights = {k.replace("__", "/"): v for k, v in p.items()}
    io = {}
    for length in (1, 2, 3, 4, 97):
        ids = rng.integers(0, 256, length)
        io[f"bytes.{length}"] = ids.astype(np.float32)  # whole numbers
        io[f"logits.{length}"] = np.asarray(
            mamba_forward(np, weights, ids, n_layers=LAYERS, d_state=STATE, dt_rank=RANK), np.float32
        )
    write_safetensors(os.path.join(folder, "io.safetensors"), io)


if __name__ == "__main__":
    main()
