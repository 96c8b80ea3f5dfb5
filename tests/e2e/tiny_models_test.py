"""Tiny random checkpoints of the original modelling code: every position of every form of the input gives its logits."""

import json
import os
import shutil
import unittest

from support import GOLDENS, Case, golden, read_safetensors, run, write_ids, write_safetensors

NAMES = ("tiny_gemma2", "tiny_gemma3", "tiny_mistral", "tiny_llama")
TOLERANCE = 1e-4


class TinyModels(Case):
    def logits(self, model, ids, *options):
        write_ids(self.path("ids.safetensors"), ids)
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
        return read_safetensors(self.path("out.safetensors"))["logits"]

    def check(self, name, model, *options):
        """Every position within the tolerance, and the greedy continuation as the original has it (fed back, so each
        choice sees the same stream)."""
        ids = list(golden(name, "ids.safetensors")["ids"][1])
        want_shape, want = golden(name)["logits"]
        greedy = list(golden(name)["greedy"][1])
        own_difference = golden(name)["float32_difference"][1][0]
        shape, got = self.logits(model, ids + greedy, *options)
        vocabulary = want_shape[1]
        self.assertEqual(shape, [len(ids) + len(greedy), vocabulary])
        bound = max(TOLERANCE * max(map(abs, want)), 10 * own_difference)
        worst, at = max((abs(g - w), i) for i, (g, w) in enumerate(zip(got, want)))
        self.assertLessEqual(worst, bound, f"{name} {options}: position {at // vocabulary}, token {at % vocabulary}")
        for step, token in enumerate(greedy):
            row = got[(len(ids) - 1 + step) * vocabulary :][:vocabulary]
            self.assertEqual(row.index(max(row)), token, f"{name} {options}: step {step} of the greedy continuation")

    def test_dry_run(self):
        """The plan names what the file would hold, and nothing is written."""
        before = sorted(os.listdir(self.folder))
        plan = run(
            "runnel-convert", os.path.join(GOLDENS, "tiny_gpt_oss"), "--dry-run", "--weights", "q8"
        ).stdout.decode()
        for line in (
            "architecture gpt_oss",
            "  attention 2",
            "  routed_matmul 4",
            "state layers.0.kv.v [2, ",
            "memory at context ",
            "nothing was written",
        ):
            self.assertIn(line, plan)
        self.assertIn("tensor embed_tokens.weight [131, 32] F32 -> 8 bits, blocks of 32, scales f16", plan)
        self.assertEqual(sorted(os.listdir(self.folder)), before)

    def test_every_chunk_size(self):
        for name in NAMES:
            for chunk in (1, 7, 64, None):
                with self.subTest(name=name, chunk=chunk):
                    self.check(name, self.model(name), *([] if chunk is None else ["--chunk", chunk]))

    def test_threads_change_no_bit(self):
        for name in NAMES:
            ids = list(golden(name, "ids.safetensors")["ids"][1])
            one = self.logits(self.model(name), ids, "--threads", 1)
            for threads in (2, 3):
                with self.subTest(name=name, threads=threads):
                    self.assertEqual(self.logits(self.model(name), ids, "--threads", threads), one)

    def test_f16_keys_and_values_stay_close(self):
        for name in NAMES:
            ids = list(golden(name, "ids.safetensors")["ids"][1])
            want = golden(name)["logits"][1]
            got = self.logits(self.model(name), ids, "--kv", "f16")[1]
            worst = max(abs(g - w) for g, w in zip(got, want))
            self.assertLessEqual(worst, 2e-2 * max(map(abs, want)), name)
            self.assertNotEqual(got, self.logits(self.model(name), ids)[1], name)

    def test_gguf_of_the_same_checkpoint(self):
        for name in ("tiny_gemma3", "tiny_llama"):
            with self.subTest(name=name):
                self.check(name, self.model(f"{name}/model-f32.gguf", "f32"))
                self.check(name, self.model(f"{name}/model-f32.gguf", "keep"), "--kv", "f32")

    def copy(self, name, new):
        folder = self.path(new)
        shutil.rmtree(folder, ignore_errors=True)
        os.mkdir(folder)
        for file in ("config.json", "model.safetensors"):
            shutil.copy(os.path.join(GOLDENS, name, file), folder)
        return folder

    def convert(self, folder):
        run("runnel-convert", folder, "-o", folder + ".rnl", "--weights", "f32")
        return folder + ".rnl"

    def test_config_in_the_older_style(self):
        """Published checkpoints have rope_theta, torch_dtype and sliding_window_pattern instead of the newer keys."""
        for name in NAMES:
            with self.subTest(name=name):
                folder = self.copy(name, name + "-older")
                path = os.path.join(folder, "config.json")
                with open(path) as f:
                    config = json.load(f)
                config["torch_dtype"] = config.pop("dtype")
                rope = config.pop("rope_parameters")
                config["rope_theta"] = rope.get("full_attention", rope)["rope_theta"]
                layers = config.pop("layer_types", None)
                if name == "tiny_gemma3":
                    config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
                    config["rope_scaling"] = None
                    config["sliding_window_pattern"] = config.pop("_sliding_window_pattern")
                if name == "tiny_gemma2":
                    self.assertEqual(layers, ["sliding_attention", "full_attention"] * 2)
                with open(path, "w") as f:
                    json.dump(config, f)
                self.check(name, self.convert(folder))

    def test_sharded_checkpoint(self):
        folder = self.copy("tiny_mistral", "sharded")
        tensors = read_safetensors(os.path.join(folder, "model.safetensors"))
        os.remove(os.path.join(folder, "model.safetensors"))
        where = {}
        for part in (0, 1):
            file = f"model-0000{part + 1}-of-00002.safetensors"
            names = sorted(tensors)[part::2]
            write_safetensors(os.path.join(folder, file), {n: ("F32", *tensors[n]) for n in names})
            where |= dict.fromkeys(names, file)
        with open(os.path.join(folder, "model.safetensors.index.json"), "w") as f:
            json.dump({"metadata": {}, "weight_map": where}, f)
        self.check("tiny_mistral", self.convert(folder))

    def test_int64_ids(self):
        ids = list(golden("tiny_llama", "ids.safetensors")["ids"][1])
        write_safetensors(self.path("wide.safetensors"), {"ids": ("I64", [len(ids)], ids)})
        run(
            "runnel",
            "eval",
            self.model("tiny_llama"),
            "--in",
            self.path("wide.safetensors"),
            "--out",
            self.path("out.safetensors"),
        )
        self.assertEqual(
            read_safetensors(self.path("out.safetensors"))["logits"], self.logits(self.model("tiny_llama"), ids)
        )


if __name__ == "__main__":
    unittest.main()
