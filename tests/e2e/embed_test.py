"""Embeddings: hidden states of the original modelling code, pooled in every way, for every split of the text; models without a head."""

import json
import math
import os
import shutil
import unittest

from support import GOLDENS, Case, golden, read_safetensors, run, write_ids, write_safetensors

LANGUAGE_MODELS = ("tiny_qwen3", "tiny_gemma3", "tiny_mamba2", "tiny_granite", "tiny_recurrent_gemma")
ENCODER = "tiny_embedding_gemma"
TOLERANCE = 1e-4
BACKEND = os.environ.get("RUNNEL_TEST_BACKEND", "cpu")
CHUNKS = (1, 7, 39, 64) if BACKEND == "cpu" else (7,)


def rows_of(name):
    shape, values = golden(name, "hidden.safetensors")["last_hidden_state"]
    return [list(values[i * shape[1] : (i + 1) * shape[1]]) for i in range(shape[0])]


def pooled(rows, how):
    if how == "mean":
        return [sum(column) / len(rows) for column in zip(*rows)]
    return rows[0] if how == "first" else rows[-1]


def normalised(x):
    length = math.sqrt(sum(v * v for v in x))
    return [v / length for v in x]


class Embed(Case):
    def embed(self, model, lines, *options):
        with open(self.path("lines.jsonl"), "w") as f:
            f.write("".join(json.dumps(line) + "\n" for line in lines))
        run(
            "runnel",
            "embed",
            model,
            "--in",
            self.path("lines.jsonl"),
            "--out",
            self.path("embeddings.safetensors"),
            "--backend",
            BACKEND,
            *options,
        )
        shape, values = read_safetensors(self.path("embeddings.safetensors"))["embeddings"]
        self.assertEqual(shape[0], len(lines))
        return [list(values[i * shape[1] : (i + 1) * shape[1]]) for i in range(shape[0])]

    def close(self, got, want, what=""):
        self.assertEqual(len(got), len(want), what)
        self.assertLessEqual(max(abs(g - w) for g, w in zip(got, want)), TOLERANCE * max(map(abs, want)), what)

    def ids(self, name):
        return list(golden(name, "ids.safetensors")["ids"][1])

    def test_an_encoder_of_word_pieces(self):
        folder = self.path("bert")
        shutil.copytree(os.path.join(GOLDENS, "encoders/bert"), folder)
        pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "cat", "mat", "##s", "sits", "on", "."]
        with open(os.path.join(folder, "vocab.txt"), "w") as f:
            f.write("".join(p + "\n" for p in pieces + [f"[unused{i}]" for i in range(67 - len(pieces))]))
        os.mkdir(os.path.join(folder, "1_Pooling"))
        for name, value in (
            (
                "modules.json",
                [
                    {"idx": i, "path": p, "type": "sentence_transformers.models." + t}
                    for i, (p, t) in enumerate(
                        (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"))
                    )
                ],
            ),
            ("1_Pooling/config.json", {"word_embedding_dimension": 24, "pooling_mode_mean_tokens": True}),
        ):
            with open(os.path.join(folder, name), "w") as f:
                json.dump(value, f)
        run("runnel-convert", folder, "-o", self.path("m.rnl"))
        ids = [2, 4, 5, 7, 8, 9, 4, 6, 10, 3]  # [CLS] a cat ##s sits on a mat . [SEP]
        write_ids(self.path("ids.safetensors"), ids)
        run(
            "runnel",
            "eval",
            self.path("m.rnl"),
            "--in",
            self.path("ids.safetensors"),
            "--out",
            self.path("out.safetensors"),
            "--backend",
            BACKEND,
        )
        shape, values = read_safetensors(self.path("out.safetensors"))["last_hidden_state"]
        want = normalised(pooled([list(values[i * 24 : (i + 1) * 24]) for i in range(shape[0])], "mean"))
        self.close(self.embed(self.path("m.rnl"), [{"text": "A cats sits on a mat."}])[0], want)
        got = json.loads(
            run("runnel", "embed", self.path("m.rnl"), "-p", "a CATS sits on a mat.", "--backend", BACKEND).stdout
        )
        self.close(got, want)

    def test_hidden_states(self):
        for name in (*LANGUAGE_MODELS, ENCODER):
            want = [v for row in rows_of(name) for v in row]
            for chunk in (1, 7, 64):
                with self.subTest(name=name, chunk=chunk):
                    write_ids(self.path("ids.safetensors"), self.ids(name))
                    run(
                        "runnel",
                        "eval",
                        self.model(name),
                        "--in",
                        self.path("ids.safetensors"),
                        "--out",
                        self.path("out.safetensors"),
                        "--chunk",
                        chunk,
                        "--output",
                        "last_hidden_state",
                        "--backend",
                        BACKEND,
                    )
                    out = read_safetensors(self.path("out.safetensors"))
                    self.assertEqual(list(out), ["last_hidden_state"])
                    self.assertEqual(out["last_hidden_state"][0], [len(rows_of(name)), len(rows_of(name)[0])])
                    self.close(list(out["last_hidden_state"][1]), want)

    def test_eval_gives_logits_alone_unless_asked(self):
        write_ids(self.path("ids.safetensors"), self.ids("tiny_qwen3"))
        call = (
            "eval",
            self.model("tiny_qwen3"),
            "--in",
            self.path("ids.safetensors"),
            "--out",
            self.path("out.safetensors"),
        )
        run("runnel", *call)
        logits = read_safetensors(self.path("out.safetensors"))
        self.assertEqual(list(logits), ["logits"])
        run("runnel", *call, "--output", "last_hidden_state", "--output", "logits")
        both = read_safetensors(self.path("out.safetensors"))
        self.assertEqual(sorted(both), ["last_hidden_state", "logits"])
        self.assertEqual(both["logits"], logits["logits"])
        self.refused("runnel", *call, "--output", "hidden", says='no output "hidden"; it has logits, last_hidden_state')

    def test_every_pooling_and_every_split(self):
        for name in LANGUAGE_MODELS:
            ids, rows = self.ids(name), rows_of(name)
            for how in ("last", "mean", "first"):
                for chunk in CHUNKS:
                    with self.subTest(name=name, how=how, chunk=chunk):
                        # A line that is shorter than the others, and the same text twice: no text leaves anything behind.
                        lines = [{"ids": ids}, {"ids": ids[:1]}, {"ids": ids}]
                        got = self.embed(self.model(name), lines, "--pooling", how, "--chunk", chunk)
                        self.assertEqual(got[0], got[2])
                        self.close(got[0], normalised(pooled(rows, how)))
                        self.close(got[1], normalised(rows[0]))
                        plain = self.embed(
                            self.model(name), lines[:1], "--pooling", how, "--chunk", chunk, "--no-normalize"
                        )
                        self.close(plain[0], pooled(rows, how))

    def test_sentence_transformers_files(self):
        """Pooling, dense layers and normalisation as the folder says; attention goes both ways, so chunks are of no effect."""
        ids, rows = self.ids(ENCODER), rows_of(ENCODER)
        want = list(golden(ENCODER, "hidden.safetensors")["embedding"][1])
        for chunk in (1, 64):
            got = self.embed(self.model(ENCODER), [{"ids": ids}, {"ids": ids[:5]}, {"ids": ids}], "--chunk", chunk)
            self.close(got[0], want)
            self.assertEqual(got[0], got[2])
            self.assertNotEqual(got[0], got[1])
        self.close(normalised(self.embed(self.model(ENCODER), [{"ids": ids}], "--no-normalize")[0]), want)
        self.assertEqual(len(rows), len(ids))

    def test_what_a_gguf_says(self):
        """Its key says mean; its dense layers are matrices alone."""
        source, rows = ENCODER + "/model-f32.gguf", rows_of(ENCODER)
        write_ids(self.path("ids.safetensors"), self.ids(ENCODER))
        run(
            "runnel",
            "eval",
            self.model(source),
            "--in",
            self.path("ids.safetensors"),
            "--out",
            self.path("out.safetensors"),
            "--backend",
            BACKEND,
        )
        self.close(
            list(read_safetensors(self.path("out.safetensors"))["last_hidden_state"][1]),
            [v for row in rows for v in row],
        )
        want = pooled(rows, "mean")
        for dense in ("2_Dense", "3_Dense"):
            (height, width), w = golden(ENCODER, dense + "/model.safetensors")["linear.weight"]
            want = [sum(w[i * width + j] * want[j] for j in range(width)) for i in range(height)]
        self.close(self.embed(self.model(source), [{"ids": self.ids(ENCODER)}])[0], normalised(want))

    def test_a_language_model_is_no_encoder(self):
        self.refused("runnel", "bench", self.model(ENCODER), "--prompt", 4, "--gen", 2)

    def headless(self, name, modules=None):
        """The checkpoint as the class without a head saves it: names without the root, no lm_head."""
        folder = self.path(name + "-headless")
        shutil.rmtree(folder, ignore_errors=True)
        os.mkdir(folder)
        with open(os.path.join(GOLDENS, name, "config.json")) as f:
            config = json.load(f)
        config["architectures"] = ["Qwen3Model"]
        with open(os.path.join(folder, "config.json"), "w") as f:
            json.dump(config, f)
        tensors = read_safetensors(os.path.join(GOLDENS, name, "model.safetensors"))
        write_safetensors(
            os.path.join(folder, "model.safetensors"),
            {k.removeprefix("model."): ("F32", *v) for k, v in tensors.items() if k != "lm_head.weight"},
        )
        if modules is not None:
            pooling, kinds = modules
            os.mkdir(os.path.join(folder, "1_Pooling"))
            with open(os.path.join(folder, "1_Pooling", "config.json"), "w") as f:
                json.dump(pooling, f)
            with open(os.path.join(folder, "modules.json"), "w") as f:
                json.dump(
                    [
                        {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
                        *[
                            {"idx": i + 1, "path": f"{i + 1}_{kind}", "type": "sentence_transformers.models." + kind}
                            for i, kind in enumerate(kinds)
                        ],
                    ],
                    f,
                )
        return folder

    def convert(self, folder, **options):
        target = self.path("headless.rnl")
        run("runnel-convert", folder, "-o", target, **options)
        return target

    def test_models_without_a_head(self):
        ids, rows = self.ids("tiny_qwen3"), rows_of("tiny_qwen3")
        target = self.convert(self.headless("tiny_qwen3"))
        write_ids(self.path("ids.safetensors"), ids)
        run("runnel", "eval", target, "--in", self.path("ids.safetensors"), "--out", self.path("out.safetensors"))
        out = read_safetensors(self.path("out.safetensors"))
        self.assertEqual(list(out), ["last_hidden_state"])
        self.close(list(out["last_hidden_state"][1]), [v for row in rows for v in row])
        self.close(self.embed(target, [{"ids": ids}])[0], normalised(rows[-1]))
        self.refused("runnel", "run", target, "-p", "x")

    def test_pooling_of_the_folder(self):
        ids, rows = self.ids("tiny_qwen3"), rows_of("tiny_qwen3")
        for pooling, how in (
            ({"pooling_mode_lasttoken": True}, "last"),
            ({"pooling_mode_cls_token": True}, "first"),
            ({"pooling_mode": "mean"}, "mean"),
            ({}, "mean"),
        ):
            for kinds, finish in ((["Pooling", "Normalize"], normalised), (["Pooling"], list)):
                with self.subTest(how=how, kinds=kinds):
                    target = self.convert(self.headless("tiny_qwen3", (pooling, kinds)))
                    self.close(self.embed(target, [{"ids": ids}])[0], finish(pooled(rows, how)))
        for pooling, kinds, says in (
            ({"pooling_mode_max_tokens": True}, ["Pooling"], '"max"; cls, mean and lasttoken'),
            ({"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": True}, ["Pooling"], "several at once"),
            ({}, ["Pooling", "LayerNorm"], "LayerNorm.*not supported"),
            ({}, ["Pooling", "Dense"], "2_Dense: no model.safetensors"),
            ({}, [], "no pooling"),
        ):
            with self.subTest(says=says):
                self.refused(
                    "runnel-convert", self.headless("tiny_qwen3", (pooling, kinds)), "-o", self.path("x.rnl"), says=says
                )

    def test_bad_input(self):
        model = self.model("tiny_qwen3")
        lines = self.path("bad.jsonl")
        for text, says in (
            ('{"ids": [1, -2]}', 'line 1: ids holds "?-2'),
            ('{"ids": []}', "line 1 has no tokens"),
            ('{"ids": 3}', "line 1: ids is no array"),
            ("[]", "line 1 is no JSON object"),
            ('{"ids": [1]}\n{"words": 1}', "line 2 is neither"),
            ("", "no lines"),
            ('{"ids": [100000]}', "100000"),
        ):
            with self.subTest(text=text):
                with open(lines, "w") as f:
                    f.write(text + "\n")
                self.refused("runnel", "embed", model, "--in", lines, "--out", self.path("x.safetensors"), says=says)
                self.assertFalse(os.path.exists(self.path("x.safetensors")))
        self.refused("runnel", "embed", model, "-p", "x", says="tokenizer|vocabulary")
        self.refused(
            "runnel",
            "embed",
            model,
            "--in",
            self.path("none.jsonl"),
            "--out",
            self.path("x.safetensors"),
            says="cannot open",
        )
        with open(lines, "w") as f:
            f.write('{"ids": [1, 2, 3]}\n')
        self.refused(
            "runnel", "embed", model, "--in", lines, "--out", self.path("x.safetensors"), "--context", 2, says="context"
        )
        self.refused(
            "runnel",
            "embed",
            self.model(ENCODER),
            "--in",
            lines,
            "--out",
            self.path("x.safetensors"),
            "--context",
            2,
            says="at most 2",
        )
        for wrong in ([], ["--in", lines], ["-p", "x", "--in", lines, "--out", "y"], ["-p", "x", "--pooling", "max"]):
            run("runnel", "embed", model, *wrong, code=2)


if __name__ == "__main__":
    unittest.main()
