"""Tokenizers through the programs: a folder with a SentencePiece model, converted, gives sentencepiece's own ids."""

import json
import os
import shutil
import unittest

from support import GOLDENS, Case, run, write_llama


class Tokenizer(Case):
    def folder_model(self, name, files, *options):
        """A small Llama converted from a folder that also holds `files` ({name: bytes}); the model and what the converter said."""
        folder, target = self.path(name), self.path(name + ".rnl")
        write_llama(folder, 700)
        for file, content in files.items():
            with open(os.path.join(folder, file), "wb") as f:
                f.write(content)
        done = run("runnel-convert", folder, "-o", target, *options)
        return target, (done.stdout + done.stderr).decode()

    def tokenize(self, model, lines, *options):
        given, got = self.path("in.jsonl"), self.path("out.jsonl")
        with open(given, "w") as f:
            f.write("".join(json.dumps(line) + "\n" for line in lines))
        run("runnel", "tokenize", model, "--in", given, "--out", got, *options)
        with open(got) as f:
            return [json.loads(line) for line in f]

    def test_sentencepiece_model(self):
        with open(os.path.join(GOLDENS, "spm_small.model"), "rb") as f:
            proto = f.read()
        model, _ = self.folder_model("spm", {"tokenizer.model": proto})
        with open(os.path.join(GOLDENS, "spm_small.jsonl")) as f:
            golden = [json.loads(line) for line in f]
        self.assertGreater(len(golden), 200)
        bos = 1
        for want, got in zip(
            golden, self.tokenize(model, [{"bytes_hex": line["bytes_hex"]} for line in golden]), strict=True
        ):
            self.assertEqual(got, {"ids": [bos] + want["ids"], "text": want["text"]}, want["bytes_hex"])
        texts = [line["text"] for line in golden]
        again = self.tokenize(model, [{"text": text} for text in texts])
        self.assertEqual([line["text"] for line in again], texts)

        (plain,) = self.tokenize(model, [{"text": "<turn>step</turn>"}])
        (special,) = self.tokenize(model, [{"text": "<turn>step</turn>"}], "--special")
        self.assertLess(len(special["ids"]), len(plain["ids"]))
        self.assertEqual(plain["text"], "<turn>step</turn>")
        run("runnel", "inspect", model, "--verify")

    def test_kinds_that_are_not_known_are_named(self):
        files = {"tokenizer.json": json.dumps({"model": {"type": "WordPiece", "vocab": {"a": 0}}}).encode()}
        with self.assertRaisesRegex(AssertionError, "WordPiece.*--without-tokenizer"):
            self.folder_model("wordpiece", files)
        model, _ = self.folder_model("wordpiece", files, "--without-tokenizer")
        self.refused("runnel", "run", model, "-p", "text", says="tokenizer")

    def test_broken_tokenizer_files_are_refused(self):
        for name, content in (
            ("tokenizer.model", b"\x0a\xff\xff"),
            ("tokenizer.json", b"{"),
            ("tokenizer.json", b'{"model": {"type": "BPE", "byte_fallback": true}}'),
        ):
            folder = self.path("broken")
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(os.path.join(GOLDENS, "tiny_llama"), folder, ignore=shutil.ignore_patterns("*.gguf"))
            with open(os.path.join(folder, name), "wb") as f:
                f.write(content)
            target = self.path("broken.rnl")
            self.refused("runnel-convert", folder, "-o", target, says="SentencePiece|tokenizer.json")
            self.assertFalse(os.path.exists(target))

    def test_lines_that_are_not_asked_for(self):
        with open(os.path.join(GOLDENS, "spm_small.model"), "rb") as f:
            model, _ = self.folder_model("lines", {"tokenizer.model": f.read()})
        given = self.path("bad.jsonl")
        for line in (
            "nonsense",
            '{"a":' * 100000,
            "[" * 100 + "]" * 100,
            '{"other": 1}',
            '{"bytes_hex": "0"}',
            '{"bytes_hex": "zz"}',
            '{"text": 5}',
        ):
            with open(given, "w") as f:
                f.write(line + "\n")
            self.refused("runnel", "tokenize", model, "--in", given, "--out", self.path("none.jsonl"), says="line 1")
            self.assertFalse(os.path.exists(self.path("none.jsonl")))


if __name__ == "__main__":
    unittest.main()
