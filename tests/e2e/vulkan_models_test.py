"""Every tiny model through `runnel eval` on the CPU and on Vulkan: the same logits and the same greedy choices.

Called by itself it prints a line for each model: RUNNEL_BIN=build/release/bin python3 tests/e2e/vulkan_models_test.py -v
"""

import os
import unittest

from support import GOLDENS, Case, golden, read_safetensors, run, write_ids

TOLERANCE = 1e-4  # of the largest logit, as for models of f32


def sources():
    """(name, input of the converter, ids) of every golden of a language model."""
    for name in sorted(os.listdir(GOLDENS)):
        folder = os.path.join(GOLDENS, name)
        if name.startswith("tiny_") and os.path.exists(os.path.join(folder, "ids.safetensors")):
            ids = list(golden(name, "ids.safetensors")["ids"][1])
            # The authors' own files of RWKV stand alone.
            yield (
                name,
                name if os.path.exists(os.path.join(folder, "config.json")) else f"{name}/model.safetensors",
                ids,
            )
    for folder in ("gguf_linear", "gguf_decoders"):
        for file in sorted(os.listdir(os.path.join(GOLDENS, folder))):
            name, kind = os.path.splitext(file)
            if kind == ".gguf":
                yield f"gguf {name}", f"{folder}/{file}", list(golden(folder, f"{name}.safetensors")["ids"][1])


class VulkanModels(Case):
    def rows(self, model, *options):
        run(
            "runnel",
            "eval",
            model,
            "--in",
            self.path("ids.safetensors"),
            "--out",
            self.path("out.safetensors"),
            *options,
        )
        out = read_safetensors(self.path("out.safetensors"))
        return out["logits" if "logits" in out else "last_hidden_state"]

    def test_as_on_the_cpu(self):
        seen, worst_of_all = 0, 0.0
        for name, source, ids in sources():
            with self.subTest(name=name):
                model = self.model(source)
                write_ids(self.path("ids.safetensors"), ids)
                shape, want = self.rows(model)
                same_shape, got = self.rows(model, "--backend", "vulkan")
                self.assertEqual(same_shape, shape)
                vocabulary = shape[1]
                worst = max(abs(g - w) for g, w in zip(got, want)) / max(map(abs, want))
                differing = 0
                for at in range(0, len(want), vocabulary):
                    row, other = want[at : at + vocabulary], got[at : at + vocabulary]
                    differing += row.index(max(row)) != other.index(max(other))
                print(
                    f"{name:32} {worst:.1e} of the largest logit, {differing} of {len(ids)} choices differ", flush=True
                )
                self.assertLessEqual(worst, TOLERANCE)
                self.assertEqual(differing, 0)
                seen, worst_of_all = seen + 1, max(worst_of_all, worst)
        print(f"{seen} models, at most {worst_of_all:.1e}")
        self.assertGreaterEqual(seen, 70)


if __name__ == "__main__":
    unittest.main()
