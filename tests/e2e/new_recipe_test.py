"""A new architecture needs a recipe alone: a converter with one more recipe converts it, the runtime as it was runs it."""

import json
import math
import os
import random
import subprocess
import tempfile
import unittest

from support import BIN, read_safetensors, run, write_ids, write_safetensors

CONVERT = os.environ["RUNNEL_CONVERT_MORE"]  # runnel-convert built with tests/e2e/new_recipe/min_gru.cpp
HIDDEN, VOCAB, GRU, INNER, LAYERS = 12, 33, 20, 28, 2


def product(w, x, width):
    return [sum(w[r * width + i] * x[i] for i in range(width)) for r in range(len(w) // width)]


def rms(x, weight):
    scale = 1 / math.sqrt(sum(v * v for v in x) / len(x) + 1e-6)
    return [v * scale * w for v, w in zip(x, weight)]


def sigmoid(v):
    return 1 / (1 + math.exp(-v))


def formula(w, ids):
    """Logits of every position, in double."""
    states, rows = [[0.0] * GRU for _ in range(LAYERS)], []
    for token in ids:
        x = list(w["embed.weight"][token * HIDDEN : (token + 1) * HIDDEN])
        for layer in range(LAYERS):
            p = f"layers.{layer}."
            h = rms(x, w[p + "norm1.weight"])
            z = [sigmoid(v) for v in product(w[p + "to_z.weight"], h, HIDDEN)]
            states[layer] = [
                (1 - a) * s + a * c for a, s, c in zip(z, states[layer], product(w[p + "to_h.weight"], h, HIDDEN))
            ]
            x = [a + b for a, b in zip(x, product(w[p + "to_out.weight"], states[layer], GRU))]
            h = rms(x, w[p + "norm2.weight"])
            u = [max(v, 0) ** 2 for v in product(w[p + "up.weight"], h, HIDDEN)]
            x = [a + b for a, b in zip(x, product(w[p + "down.weight"], u, INNER))]
        rows.append(product(w["embed.weight"], rms(x, w["norm.weight"]), HIDDEN))
    return rows


class NewRecipe(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        rng = random.Random(5)
        shapes = {"embed.weight": [VOCAB, HIDDEN], "norm.weight": [HIDDEN]}
        for layer in range(LAYERS):
            for name, shape in {
                "norm1": [HIDDEN],
                "to_z": [GRU, HIDDEN],
                "to_h": [GRU, HIDDEN],
                "to_out": [HIDDEN, GRU],
                "norm2": [HIDDEN],
                "up": [INNER, HIDDEN],
                "down": [HIDDEN, INNER],
            }.items():
                shapes[f"layers.{layer}.{name}.weight"] = shape
        tensors = {
            n: ("F32", s, [rng.gauss(0, 1) / math.sqrt(s[-1]) + (len(s) == 1) for _ in range(math.prod(s))])
            for n, s in shapes.items()
        }
        self.model = os.path.join(self.folder.name, "source")
        os.mkdir(self.model)
        write_safetensors(os.path.join(self.model, "model.safetensors"), tensors)
        self.weights = {
            n: list(v) for n, (_, v) in read_safetensors(os.path.join(self.model, "model.safetensors")).items()
        }
        with open(os.path.join(self.model, "config.json"), "w") as f:
            json.dump(
                {
                    "model_type": "min_gru",
                    "hidden_size": HIDDEN,
                    "vocab_size": VOCAB,
                    "gru_size": GRU,
                    "intermediate_size": INNER,
                    "num_hidden_layers": LAYERS,
                },
                f,
            )
        self.file = os.path.join(self.folder.name, "m.rnl")

    def test_a_recipe_alone_brings_an_architecture(self):
        refused = run("runnel-convert", self.model, "-o", self.file, code=1)
        self.assertIn(b'"min_gru" is not known', refused.stderr)
        self.assertFalse(os.path.exists(self.file))
        subprocess.run(
            [CONVERT, self.model, "-o", self.file], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        with open(os.path.join(BIN, "runnel"), "rb") as f:
            self.assertNotIn(b"min_gru", f.read())
        ids = [(i * 7 + i // 5) % VOCAB for i in range(40)]
        want = [v for row in formula(self.weights, ids) for v in row]
        source, target = (
            os.path.join(self.folder.name, "ids.safetensors"),
            os.path.join(self.folder.name, "y.safetensors"),
        )
        write_ids(source, ids)
        for chunk in (1, 7, 64):
            run("runnel", "eval", self.file, "--in", source, "--out", target, "--chunk", chunk)
            _, got = read_safetensors(target)["logits"]
            largest = max(abs(v) for v in want)
            self.assertLessEqual(max(abs(a - b) for a, b in zip(got, want)), 1e-4 * largest, f"chunk {chunk}")


if __name__ == "__main__":
    unittest.main()
