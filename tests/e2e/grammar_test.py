"""Answers under a grammar and a JSON Schema, log-probabilities and stop texts, as `runnel run` gives them."""

import json
import math
import os
import random
import re
import shutil
import unittest

from support import GOLDENS, Case, read_safetensors, run, write_ids, write_safetensors

SCHEMA = {
    "title": "An order",
    "type": "object",
    "properties": {
        "id": {"type": "integer", "minimum": 1, "maximum": 250},
        "kind": {"enum": ["new", "old", None]},
        "note": {"type": "string", "maxLength": 6},
        "on": {"type": "string", "format": "date"},
        "code": {"type": "string", "pattern": "^[A-F]{2}-\\d{1,3}$"},
        "share": {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
        "tags": {"type": "array", "items": {"$ref": "#/$defs/tag"}, "minItems": 1, "maxItems": 3},
        "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/leaf"}]},
    },
    "required": ["id", "kind", "tags"],
    "additionalProperties": False,
    "$defs": {
        "tag": {"type": "string", "minLength": 1, "maxLength": 4},
        "leaf": {
            "type": "object",
            "properties": {"leaf": {"anyOf": [{"$ref": "#/$defs/leaf"}, {"type": "boolean"}]}},
            "required": ["leaf"],
        },
    },
}


def leaf(value):
    return isinstance(value, bool) or (isinstance(value, dict) and list(value) == ["leaf"] and leaf(value["leaf"]))


def fits(v):
    """What SCHEMA says, by hand."""
    names = {"id", "kind", "note", "on", "code", "share", "tags", "next"}
    return (
        isinstance(v, dict)
        and set(v) <= names
        and {"id", "kind", "tags"} <= set(v)
        and isinstance(v["id"], int)
        and 1 <= v["id"] <= 250
        and v["kind"] in ("new", "old", None)
        and len(v.get("note", "")) <= 6
        and re.fullmatch(r"\d{4}-\d\d-\d\d", v.get("on", "2000-01-01")) is not None
        and re.fullmatch(r"[A-F]{2}-\d{1,3}", v.get("code", "AB-1")) is not None
        and 0 <= v.get("share", 0) < 1
        and 1 <= len(v["tags"]) <= 3
        and all(isinstance(t, str) and 1 <= len(t) <= 4 for t in v["tags"])
        and (v.get("next") is None or (isinstance(v["next"], dict) and leaf(v["next"])))
    )


def normal(count, rng):
    return [rng.gauss(0, 0.25) for _ in range(count)]


class Grammar(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # A Llama of random weights that has the pieces of a small vocabulary.
        rng = random.Random(4)
        source = cls.path("source")
        os.mkdir(source)
        shapes = {
            "model.embed_tokens.weight": (600, 32),
            "model.layers.0.mlp.gate_proj.weight": (64, 32),
            "model.layers.0.mlp.up_proj.weight": (64, 32),
            "model.layers.0.mlp.down_proj.weight": (32, 64),
            **{f"model.layers.0.self_attn.{n}_proj.weight": (32, 32) for n in "qkvo"},
        }
        tensors = {name: ("F32", list(shape), normal(shape[0] * shape[1], rng)) for name, shape in shapes.items()}
        for name in ("model.norm", "model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm"):
            tensors[name + ".weight"] = ("F32", [32], [1.0] * 32)
        write_safetensors(os.path.join(source, "model.safetensors"), tensors)
        shutil.copy(os.path.join(GOLDENS, "spm_small.model"), os.path.join(source, "tokenizer.model"))
        with open(os.path.join(source, "config.json"), "w") as f:
            json.dump(
                {
                    "model_type": "llama",
                    "architectures": ["LlamaForCausalLM"],
                    "hidden_size": 32,
                    "intermediate_size": 64,
                    "num_attention_heads": 2,
                    "num_key_value_heads": 2,
                    "num_hidden_layers": 1,
                    "vocab_size": 600,
                    "max_position_embeddings": 4096,
                    "rms_norm_eps": 1e-6,
                    "rope_theta": 10000.0,
                    "hidden_act": "silu",
                    "tie_word_embeddings": True,
                    "bos_token_id": 1,
                    "eos_token_id": 2,
                },
                f,
            )
        cls.target = cls.path("model.rnl")
        run("runnel-convert", source, "-o", cls.target, "--weights", "f32")
        cls.schema = cls.path("schema.json")
        with open(cls.schema, "w") as f:
            json.dump(SCHEMA, f)

    def text(self, *options):
        return run("runnel", "run", self.target, "-p", "the list", *options).stdout.decode().removesuffix("\n")

    def test_every_document_fits_its_schema(self):
        for seed in range(60):
            sampling = [
                ["--temp", 1],
                ["--temp", 0.8, "--top-k", 8],
                ["--temp", 1.5, "--top-p", 0.9],
                ["--temp", 1, "--repetition-penalty", 1.1],
            ][seed % 4]
            text = self.text("--json-schema", self.schema, "-n", 1500, "--seed", seed, *sampling)
            self.assertTrue(fits(json.loads(text)), text)

    def test_greedy_document(self):
        self.assertTrue(fits(json.loads(self.text("--json-schema", self.schema, "-n", 3000))))

    def test_any_json(self):
        whole = 0
        for seed in range(20):
            text = self.text("--json-output", "-n", 300, "--temp", 1, "--seed", seed)
            try:
                json.loads(text)
                whole += 1
            except ValueError:
                self.assertGreater(len(text), 150, text)  # only what -n cut
        self.assertGreater(whole, 5)

    def test_a_cut_answer_goes_on_in_another_process(self):
        state = self.path("state")
        options = ["--json-schema", self.schema, "--temp", 1, "--seed", 3]
        whole = self.text("-n", 1500, *options)
        first = self.text("-n", 9, "--save-state", state, *options)
        rest = (
            run("runnel", "run", self.target, "--load-state", state, "-n", 1500, *options)
            .stdout.decode()
            .removesuffix("\n")
        )
        self.assertEqual(first + rest, whole)

    def test_grammar_as_text_and_as_file(self):
        grammar = 'root ::= "yes" | "no" # one word\n'
        with open(self.path("answer.gbnf"), "w") as f:
            f.write(grammar)
        self.assertIn(self.text("--grammar", grammar), ("yes", "no"))
        self.assertEqual(self.text("--grammar", self.path("answer.gbnf")), self.text("--grammar", grammar))
        self.refused(
            "runnel", "run", self.target, "-p", "x", "--grammar", "root ::= a", says='line 1: rule "a" is not defined'
        )
        self.refused("runnel", "run", self.target, "-p", "x", "--grammar", self.path("none"), says="cannot read")
        run("runnel", "run", self.target, "-p", "x", "--grammar", grammar, "--json-output", code=2)

    def test_what_a_schema_cannot_ask_for(self):
        for schema, says in (
            ({"type": "array", "contains": {"type": "null"}}, "#/contains"),
            ({"not": {"required": ["a"]}}, "#/not"),
            (
                {"properties": {"a": {"properties": {"b": {}}, "patternProperties": {"^b": {"type": "null"}}}}},
                "#/properties/a/patternProperties",
            ),
            ({"type": "string", "pattern": "a(?=a)"}, '#/pattern: pattern "a(?=a)": only plain groups'),
            ({"$ref": "#/$defs/none"}, "leads nowhere"),
            ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "may both match"),
            ({"type": "number", "multipleOf": 0.1}, "multipleOf"),
            ({"$ref": "#"}, "no text matches"),
            (False, "no value matches"),
            ({"type": "unknown"}, "unknown type"),
            ({"allOf": [{"$ref": "#"}, {"type": "string"}]}, "more than 200 deep"),
            ({"properties": {"a": {"enum": [str(i) * 12 for i in range(9000)]}}}, "#/properties/a/enum"),
        ):
            with self.subTest(schema=schema):
                with open(self.path("bad.json"), "w") as f:
                    json.dump(schema, f)
                self.refused(
                    "runnel",
                    "run",
                    self.target,
                    "-p",
                    "x",
                    "--json-schema",
                    self.path("bad.json"),
                    says=re.escape(says),
                )

    def test_what_is_not_enforced_is_said(self):
        with open(self.path("unique.json"), "w") as f:
            json.dump(
                {
                    "type": "array",
                    "items": {"type": "string", "maxLength": 3},
                    "uniqueItems": True,
                    "maxItems": 4,
                    "x-order": 1,
                },
                f,
            )
        done = run("runnel", "run", self.target, "-p", "x", "--json-schema", self.path("unique.json"), "-n", 200)
        self.assertLessEqual(len(json.loads(done.stdout)), 4)
        self.assertRegex(done.stderr.decode(), r"note: .*unique.json: #/uniqueItems: the grammar does not enforce it")

    def test_eight_strings_of_a_thousand(self):
        names = [f"p{i}" for i in range(8)]
        with open(self.path("eight.json"), "w") as f:
            json.dump(
                {
                    "type": "object",
                    "properties": {n: {"type": "string", "maxLength": 1000} for n in names},
                    "required": names,
                },
                f,
            )
        # A model of random weights does not come to an end.
        self.assertRegex(
            self.text("--json-schema", self.path("eight.json"), "-n", 60, "--temp", 1, "--seed", 1),
            r'^\{\s*"p0"\s*:\s*".{20,}',
        )

    def test_logprobs_are_those_of_the_logits(self):
        out = self.path("logprobs")
        text = self.text("-n", 10, "--temp", 1, "--seed", 2, "--logprobs", 3, "--logprobs-file", out)
        with open(out) as f:
            lines = [json.loads(line) for line in f]
        self.assertEqual(len(lines), 10)
        self.assertGreater(len(text), 0)
        ids_file, ids_in, ids_out, logits = (
            self.path(n) for n in ("ids.safetensors", "in.jsonl", "out.jsonl", "logits.safetensors")
        )
        with open(ids_in, "w") as f:
            f.write(json.dumps({"text": "the list"}) + "\n")
        run("runnel", "tokenize", self.target, "--in", ids_in, "--out", ids_out)
        with open(ids_out) as f:
            prompt = json.loads(f.read())["ids"]
        write_ids(ids_file, prompt + [line["id"] for line in lines])
        run("runnel", "eval", self.target, "--in", ids_file, "--out", logits)
        shape, values = read_safetensors(logits)["logits"]
        for i, line in enumerate(lines):
            row = values[(len(prompt) + i - 1) * shape[1] : (len(prompt) + i) * shape[1]]
            total = max(row) + math.log(sum(math.exp(x - max(row)) for x in row))
            best = sorted(range(shape[1]), key=lambda k: (-row[k], k))[:3]
            self.assertAlmostEqual(line["logprob"], row[line["id"]] - total, delta=1e-4)
            self.assertEqual([b["id"] for b in line["best"]], best)
            for b in line["best"]:
                self.assertAlmostEqual(b["logprob"], row[b["id"]] - total, delta=1e-4)

    def test_stop_texts(self):
        whole = self.text("-n", 40, "--temp", 1, "--seed", 5)
        stop = whole[12:15]
        self.assertEqual(
            self.text("-n", 40, "--temp", 1, "--seed", 5, "--stop", "never seen", "--stop", stop),
            whole[: whole.index(stop)],
        )


if __name__ == "__main__":
    unittest.main()
