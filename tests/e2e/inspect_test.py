"""inspect --dump and --compare, and adapters, as a person uses them."""

import array
import json
import math
import os
import unittest

from support import GOLDENS, Case, golden, read_safetensors, run, write_ids, write_safetensors

KINDS = {"f": "F32", "i": "I32"}


class Inspect(Case):
    def ids(self, name):
        path = self.path(name + "-ids.safetensors")
        write_ids(path, list(golden(name, "ids.safetensors")["ids"][1]))
        return path

    def dump(self, name, *options, model=None):
        out = self.path("dump.safetensors")
        run("runnel", "inspect", model or self.model(name), "--in", self.ids(name), "--dump", out, *options)
        return out

    def changed(self, dump, change):
        """The dump with its tensors as `change` left them: {name: (shape, values)}."""
        tensors = read_safetensors(dump)
        change(tensors)
        path = self.path("changed.safetensors")
        write_safetensors(path, {n: (KINDS[v.typecode], shape, v) for n, (shape, v) in tensors.items()})
        return path

    def compare(self, model, reference, *options, code=0):
        return json.loads(run("runnel", "inspect", model, "--compare", reference, "--json", *options, code=code).stdout)

    def test_values_are_called_like_the_modules(self):
        tensors = read_safetensors(self.dump("tiny_llama"))
        hidden = golden("tiny_llama", "ids.safetensors")["ids"][0][0]
        for name in (
            "embed_tokens",
            "layers.0.input_layernorm",
            "layers.0.self_attn.q_proj",
            "layers.0.self_attn.q_proj.rope",
            "layers.0.self_attn.attention",
            "layers.0.self_attn.o_proj",
            "layers.0.post_attention_layernorm",
            "layers.0.mlp.glu",
            "layers.0.mlp.down_proj",
            "layers.0",
            "layers.1",
            "norm",
            "logits",
        ):
            self.assertIn(name, tensors)
        self.assertEqual(tensors["layers.0"][0], [hidden, 48])
        self.assertEqual(tensors["layers.1"][0], [hidden, 48])

    def test_a_dump_holds_what_eval_gives_and_agrees_with_every_split(self):
        for name in ("tiny_llama", "tiny_gemma3", "tiny_mamba2", "tiny_qwen3_moe", "tiny_qwen3_next"):
            with self.subTest(name=name):
                model = self.model(name)
                dump = self.dump(name)
                run("runnel", "eval", model, "--in", self.ids(name), "--out", self.path("logits.safetensors"))
                self.assertEqual(
                    read_safetensors(dump)["logits"], read_safetensors(self.path("logits.safetensors"))["logits"]
                )
                for chunk in (1, 7):
                    result = self.compare(model, dump, "--chunk", chunk)
                    self.assertTrue(result["agrees"])
                    self.assertGreater(len(result["values"]), 20)
                    self.assertEqual(len(result["values"]), len(read_safetensors(dump)) - 1)

    def test_the_first_operator_that_differs(self):
        model = self.model("tiny_llama")

        def spoil(tensors):
            for name in ("layers.1.self_attn.k_proj", "layers.1.mlp.glu"):
                tensors[name][1][5 * len(tensors[name][1]) // tensors[name][0][0] + 3] += 9
            del tensors["layers.1.self_attn.k_proj.rope"]

        changed = self.changed(self.dump("tiny_llama"), spoil)
        result = self.compare(model, changed, "--chunk", 4, code=1)
        self.assertEqual(
            [v["name"] for v in result["values"] if not v["agrees"]], ["layers.1.self_attn.k_proj", "layers.1.mlp.glu"]
        )
        self.assertEqual([v["first_row"] for v in result["values"] if not v["agrees"]], [5, 5])
        text = run("runnel", "inspect", model, "--compare", changed, code=1)
        self.assertRegex(
            text.stderr.decode(),
            r'operator \d+ \(matmul\) is the first that differs: "layers.1.self_attn.k_proj" is off by .* first row that differs: 5',
        )
        self.assertIn("layers.1.input_layernorm: agrees", text.stdout.decode())
        self.assertEqual(self.compare(model, changed, "--tol", 1e3)["agrees"], True)

    def test_what_is_not_known_of_the_inputs(self):
        def keep(tensors):
            for name in list(tensors):
                if name not in ("ids", "layers.0", "layers.1.mlp.down_proj"):
                    del tensors[name]
            tensors["layers.1.mlp.down_proj"][1][0] += 9

        text = run(
            "runnel",
            "inspect",
            self.model("tiny_llama"),
            "--compare",
            self.changed(self.dump("tiny_llama"), keep),
            code=1,
        ).stdout.decode()
        self.assertRegex(text, r"layers.1.mlp.glu: not in the reference: made by operators .* from layers.0 \(agrees\)")

    def test_names_and_shapes_of_the_original_code(self):
        def as_hooks_give_them(tensors):
            shape, values = tensors.pop("layers.0.self_attn.q_proj")
            tensors["model.layers.0.self_attn.q_proj"] = ([1, shape[0], shape[1] * shape[2]], values)
            (tokens, heads, channels), values = tensors["layers.1.self_attn.k_proj"]
            by_head = [
                values[(t * heads + h) * channels + c]
                for h in range(heads)
                for t in range(tokens)
                for c in range(channels)
            ]
            tensors["layers.1.self_attn.k_proj"] = ([1, heads, tokens, channels], array.array("f", by_head))

        self.assertTrue(
            self.compare(self.model("tiny_llama"), self.changed(self.dump("tiny_llama"), as_hooks_give_them))["agrees"]
        )

    def test_nan(self):
        def some(tensors):
            tensors["layers.0.mlp.glu"][1][2] = math.nan

        result = self.compare(self.model("tiny_llama"), self.changed(self.dump("tiny_llama"), some), code=1)
        self.assertEqual([v["name"] for v in result["values"] if not v["agrees"]], ["layers.0.mlp.glu"])

    def test_other_weights(self):
        """A dump of the f32 file shows what quantising changes."""
        dump = self.dump("tiny_llama")
        result = self.compare(self.model("tiny_llama", "q8"), dump, "--kv", "f32", code=1)
        first = next(v for v in result["values"] if not v["agrees"])
        self.assertEqual((first["name"], first["op"]), ("embed_tokens", "embedding"))
        self.assertTrue(self.compare(self.model("tiny_llama", "q8"), dump, "--kv", "f32", "--tol", 0.2)["agrees"])

    def test_bad_references(self):
        model, dump = self.model("tiny_llama"), self.dump("tiny_llama")

        def refused(change, says, *options):
            self.refused("runnel", "inspect", model, "--compare", self.changed(dump, change), *options, says=says)

        refused(lambda t: t.update(nonsense=t["norm"]), r'has no value "nonsense"')
        refused(
            lambda t: t.update(norm=([48, t["norm"][0][0]], t["norm"][1])),
            r'"norm" is \[48, \d+\] where the value "norm" is \[\d+, 48\]',
        )
        refused(lambda t: t.update({"model.norm": t["norm"]}), "are both the value")
        refused(lambda t: t.pop("ids"), 'input "ids" is missing')
        refused(lambda t: [t.pop(n) for n in list(t) if n != "ids"], "inputs alone")
        refused(lambda t: None, "--backend vulkan", "--backend", "vulkan")
        refused(lambda t: None, 'no program "other"', "--program", "other")
        self.refused("runnel", "inspect", model, "--in", dump, "--dump", self.path("x"), says="has no input")
        for usage in (["--dump", "x"], ["--in", "x"], ["--tol", "1"], ["--compare", "x", "--dump", "y", "--in", "z"]):
            run("runnel", "inspect", model, *usage, code=2)


class Adapters(Case):
    def test_commands(self):
        model, adapter = self.model("tiny_llama"), self.path("adapter.rnl")
        run(
            "runnel-convert",
            os.path.join(GOLDENS, "tiny_llama"),
            "--adapter",
            os.path.join(GOLDENS, "tiny_lora"),
            "-o",
            adapter,
        )
        write_ids(self.path("ids"), list(golden("tiny_llama", "ids.safetensors")["ids"][1]))
        run("runnel", "eval", model, "--adapter", adapter, "--in", self.path("ids"), "--out", self.path("out"))
        got, want = read_safetensors(self.path("out"))["logits"][1], golden("tiny_lora")["logits"][1]
        self.assertLessEqual(max(abs(a - b) for a, b in zip(got, want)), 1e-4 * max(map(abs, want)))
        self.assertIn(
            "layers.0.self_attn.q_proj.lora_A",
            run("runnel", "inspect", model, "--adapter", adapter, "--verify").stdout.decode(),
        )
        # A saved stream belongs to model and adapter together.
        self.refused("runnel", "run", adapter, "-p", "x", says="an adapter and no model")
        # Half of it, and none of it.
        halved = self.path("halved.rnl")
        run(
            "runnel-convert",
            os.path.join(GOLDENS, "tiny_llama"),
            "--adapter",
            os.path.join(GOLDENS, "tiny_lora"),
            "--lora-scale",
            0,
            "-o",
            halved,
        )
        run("runnel", "eval", model, "--adapter", halved, "--in", self.path("ids"), "--out", self.path("none"))
        run("runnel", "eval", model, "--in", self.path("ids"), "--out", self.path("base"))
        self.assertEqual(read_safetensors(self.path("none"))["logits"], read_safetensors(self.path("base"))["logits"])


if __name__ == "__main__":
    unittest.main()
