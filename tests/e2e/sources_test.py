"""What people bring to the converter: split files, other tokenizers, stand-ins for files, adapters with whole modules; and where it writes."""

import json
import os
import shutil
import signal
import stat
import struct
import subprocess
import time
import unittest

from gguf import STRING, Gguf
from support import BIN, GOLDENS, Case, read_safetensors, run, write_ids, write_safetensors

LLAMA = os.path.join(GOLDENS, "tiny_llama")
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 123456789\n"


def put(path, data):
    with open(path, "wb") as f:
        f.write(data)
    return path


def get(path):
    with open(path, "rb") as f:
        return f.read()


class Sources(Case):
    def setUp(self):
        self.target = self.path("new.rnl")
        if os.path.lexists(self.target):
            os.remove(self.target)

    def tearDown(self):
        self.assertEqual(
            [f for f in os.listdir(self.folder) if f.endswith(".tmp")], [], "a temporary file was left behind"
        )

    def convert(self, source, *options):
        return run("runnel-convert", source, "-o", self.target, *options).stderr.decode()

    def not_converted(self, source, *options, says):
        message = self.refused("runnel-convert", source, "-o", self.target, *options, says=says)
        self.assertFalse(os.path.exists(self.target), "an output was written")
        return message

    def copied(self, name, source=LLAMA):
        folder = self.path(name)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, folder)
        return folder

    def logits(self, model):
        write_ids(self.path("ids.safetensors"), [3, 1, 4, 1, 5, 9])
        run("runnel", "eval", model, "--in", self.path("ids.safetensors"), "--out", self.path("y.safetensors"))
        return read_safetensors(self.path("y.safetensors"))["logits"]


class SplitGgufs(Sources):
    def setUp(self):
        super().setUp()
        self.gguf = Gguf(os.path.join(LLAMA, "model-f32.gguf"))
        self.parts = self.gguf.split(self.path("split"), 3)

    def test_any_part_stands_for_all(self):
        whole = self.logits(self.model("tiny_llama/model-f32.gguf", "keep"))
        written = set()
        for part in self.parts:
            self.convert(part)
            self.assertEqual(self.logits(self.target), whole)
            info = json.loads(run("runnel", "inspect", self.target, "--json").stdout)
            written.add(info["provenance"]["source_sha256"])
        self.assertEqual(len(written), 1)

    def test_a_missing_part_is_named(self):
        os.remove(self.parts[1])
        self.not_converted(self.parts[0], says="part 2 of 3 is missing.*split-00002-of-00003.gguf")
        self.not_converted(self.parts[2], says="split-00002-of-00003.gguf")

    def test_parts_that_do_not_belong_together(self):
        swapped = get(self.parts[1])
        shutil.copy(self.parts[2], self.parts[1])
        self.not_converted(self.parts[0], says="split.no")
        put(self.parts[1], swapped)
        other = Gguf(os.path.join(GOLDENS, "tiny_gemma3", "model-f32.gguf")).split(self.path("other"), 3)
        shutil.copy(other[1], self.parts[1])
        self.not_converted(self.parts[0], says="different models")
        one = Gguf(self.parts[0])
        put(self.parts[1], swapped)
        one.keys["split.count"] = (2, 4)
        one.write(self.parts[0])
        self.not_converted(self.parts[0], says="split.count is 4")
        self.not_converted(self.parts[1], says="split.count")

    def test_a_part_by_another_name(self):
        name = self.path("part.gguf")
        shutil.copy(self.parts[0], name)
        self.not_converted(name, says="NAME-00001-of")

    def test_a_lone_part_of_safetensors(self):
        shutil.copy(os.path.join(LLAMA, "model.safetensors"), self.path("model-00001-of-00002.safetensors"))
        self.not_converted(self.path("model-00001-of-00002.safetensors"), says="give the directory")


class Tokenizers(Sources):
    TOKENIZER = {
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "ab": 3, "Ġ": 4}, "merges": [["a", "b"]]},
        "added_tokens": [{"id": 5, "content": "<end>", "special": True}],
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        "decoder": {"type": "ByteLevel"},
    }

    def ids(self, text):
        with open(self.path("lines.jsonl"), "w") as f:
            f.write(json.dumps({"text": text}) + "\n")
        run("runnel", "tokenize", self.target, "--in", self.path("lines.jsonl"), "--out", self.path("out.jsonl"))
        with open(self.path("out.jsonl")) as f:
            return json.loads(f.readline())["ids"]

    def byte_level(self, pre):
        """tiny_llama with a byte-level BPE vocabulary and this pre-tokenizer's name; null: none."""
        g = Gguf(os.path.join(LLAMA, "model-f32.gguf"))
        tokens = [chr(c) for c in range(0x21, 0x7F)] + ["Ġ", "11", "111", "ab"]
        tokens += [f"<{i}>" for i in range(131 - len(tokens))]
        for key in [k for k in g.keys if k.startswith("tokenizer.")]:
            del g.keys[key]
        g.keys.update(
            {
                "tokenizer.ggml.model": (STRING, "gpt2"),
                "tokenizer.ggml.tokens": (9, (STRING, tokens)),
                "tokenizer.ggml.token_type": (9, (5, [1] * 98 + [3] * 33)),
                "tokenizer.ggml.merges": (9, (STRING, ["1 1", "11 1", "a b"])),
                "tokenizer.ggml.eos_token_id": (4, 100),
            }
        )
        if pre is not None:
            g.keys["tokenizer.ggml.pre"] = (STRING, pre)
        return g.write(self.path("bpe.gguf"))

    def test_an_unknown_pre_tokenizer(self):
        message = self.not_converted(self.byte_level("monad-xyz"), says="--tokenizer FILE")
        self.assertIn("monad-xyz", message)
        self.assertIn("--without-tokenizer", message)
        self.assertLess(len(self.not_converted(self.byte_level("x" * 5000), says="xxx")), 1000)
        self.convert(self.path("bpe.gguf"), "--without-tokenizer")
        self.refused("runnel", "run", self.target, "-p", "x", says="no tokenizer")

    def test_the_default_pre_tokenizer(self):
        for pre in ("default", None):
            self.assertIn("--tokenizer", self.convert(self.byte_level(pre)))
            # Punctuation by itself, numbers in threes.
            a, b, one, eleven, many = (ord("a") - 0x21), (ord("b") - 0x21), ord("1") - 0x21, 95, 96
            self.assertEqual(self.ids("ab11111"), [97, many, eleven])
            self.assertEqual(self.ids("a$b1"), [a, ord("$") - 0x21, b, one])

    def test_another_tokenizer(self):
        gguf = self.byte_level("monad-xyz")
        folder = self.path("tokenizer")
        os.makedirs(folder, exist_ok=True)
        file = os.path.join(folder, "tokenizer.json")
        with open(file, "w") as f:
            json.dump(self.TOKENIZER, f)
        for choice in (file, folder):
            self.assertIn("6 pieces", self.convert(gguf, "--tokenizer", choice))
            self.assertEqual(self.ids("cab ab"), [2, 3, 4, 3])
        self.convert(LLAMA, "--tokenizer", file)
        self.assertEqual(self.ids("cab"), [2, 3])
        # More pieces than the model has rows.
        big = dict(
            self.TOKENIZER, added_tokens=[{"id": 5 + i, "content": f"<{i}>", "special": True} for i in range(200)]
        )
        with open(file, "w") as f:
            json.dump(big, f)
        os.remove(self.target)
        self.not_converted(gguf, "--tokenizer", file, says="205 pieces and the model 131 rows")
        self.not_converted(gguf, "--tokenizer", self.path("nothing"), says="nothing")
        os.remove(file)
        self.not_converted(gguf, "--tokenizer", folder, says="no tokenizer in this directory")
        run("runnel-convert", gguf, "-o", self.target, "--tokenizer", file, "--without-tokenizer", code=2)

    def test_a_tokenizer_that_is_not_understood(self):
        folder = self.copied("strange")
        for name, text in (
            ("tokenizer.json", '{"model": {"type": "Strange"}}'),
            ("vocab.json", "{}"),
            ("spiece.model", "x"),
        ):
            put(os.path.join(folder, name), text.encode())
            self.not_converted(folder, says="--without-tokenizer")
            self.convert(folder, "--without-tokenizer")
            os.remove(self.target)
            os.remove(os.path.join(folder, name))
        self.assertIn("no vocabulary", self.convert(folder))

    def test_sentence_piece_without_an_unknown_token(self):
        g = Gguf(os.path.join(LLAMA, "model-f32.gguf"))
        del g.keys["tokenizer.ggml.unknown_token_id"]
        self.convert(g.write(self.path("no_unk.gguf")))
        self.assertIn(3, self.ids("\u4f60"))  # the piece that the file marks as unknown
        kinds = g.keys["tokenizer.ggml.token_type"][1][1]
        kinds[3] = 1
        self.convert(g.write(self.path("no_unk.gguf")))
        self.assertIn(0, self.ids("\u4f60"))

    def test_names_in_messages_are_short(self):
        folder = self.copied("long")
        with open(os.path.join(folder, "tokenizer.json"), "w") as f:
            json.dump(dict(self.TOKENIZER, model={"type": "BPE", "vocab": {"y" * 9000: -1}, "merges": []}), f)
        self.assertLess(len(self.not_converted(folder, says="yyy")), 800)
        put(os.path.join(folder, "tokenizer.json"), b'{"model": [1, 2')
        for message in (self.not_converted(folder, says="tokenizer"),):
            self.assertNotRegex(message, "json.exception|parse_error")
        os.remove(os.path.join(folder, "tokenizer.json"))
        put(os.path.join(folder, "config.json"), b'{"model_type": "llama",\n  "hidden_size": }')
        message = self.not_converted(folder, says=r"config.json: not valid JSON: line 2, byte 18")
        self.assertNotRegex(message, "json.exception|parse_error")


class StandIns(Sources):
    def test_git_lfs_pointers(self):
        weights = self.path("pointer.safetensors")
        self.not_converted(put(weights, POINTER), says="pointer.safetensors: a Git LFS pointer.*git lfs pull")
        self.not_converted(put(self.path("pointer.gguf"), POINTER), says="Git LFS pointer")
        for name in (
            "config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer.model",
            "generation_config.json",
            "tokenizer_config.json",
        ):
            folder = self.copied("pointers")
            if name == "tokenizer_config.json":
                with open(os.path.join(folder, "tokenizer.json"), "w") as f:
                    json.dump(Tokenizers.TOKENIZER, f)
            put(os.path.join(folder, name), POINTER)
            self.not_converted(folder, says=f"{name}: a Git LFS pointer")
        self.not_converted(
            put(self.path("graph.json"), POINTER),
            "--weights-file",
            os.path.join(LLAMA, "model.safetensors"),
            says="Git LFS pointer",
        )
        adapter = self.copied("adapter", os.path.join(GOLDENS, "tiny_lora"))
        put(os.path.join(adapter, "adapter_model.safetensors"), POINTER)
        self.not_converted(LLAMA, "--lora", adapter, says="Git LFS pointer")

    def test_web_pages(self):
        folder = self.copied("pages")
        put(os.path.join(folder, "config.json"), b"\n<!DOCTYPE html>\n<html><body>Sign in</body></html>")
        self.not_converted(folder, says="config.json: a web page")
        self.not_converted(put(self.path("page.gguf"), b"<html><head></head></html>"), says="a web page")

    def test_pickles(self):
        folder = self.copied("pickle")
        for name in os.listdir(folder):
            if name.endswith(".safetensors"):
                os.remove(os.path.join(folder, name))
        put(os.path.join(folder, "training_args.bin"), b"PK\x03\x04\0\0\x08\x08\0\0")
        self.not_converted(folder, says="no .*safetensors")
        put(os.path.join(folder, "pytorch_model.bin"), b"PK\x03\x04\0\0\x08\x08\0\0")
        self.not_converted(folder, says="pytorch_model.bin: .*pickle.*safetensors")
        self.not_converted(os.path.join(folder, "pytorch_model.bin"), says="pickle.*save_file")
        os.rename(os.path.join(folder, "pytorch_model.bin"), os.path.join(folder, "consolidated.00.pth"))
        self.not_converted(folder, says="consolidated.00.pth: .*pickle")
        adapter = self.copied("adapter", os.path.join(GOLDENS, "tiny_lora"))
        os.rename(os.path.join(adapter, "adapter_model.safetensors"), os.path.join(adapter, "adapter_model.bin"))
        self.not_converted(LLAMA, "--lora", adapter, says="adapter_model.bin: .*pickle")
        self.not_converted(put(self.path("model.ckpt"), b"\x80\x02}q\0X\x01"), says="pickle")
        self.not_converted(put(self.path("weights.bin"), b"\x80\x02}q\0X\x01\0\0"), says="pickle")

    def test_fifos_and_devices_are_not_waited_for(self):
        for name in (
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer.model",
            "vocab.txt",
            "README.md",
        ):
            folder = self.copied("fifos")
            path = os.path.join(folder, name)
            if os.path.exists(path):
                os.remove(path)
            os.mkfifo(path)
            done = subprocess.run(
                [os.path.join(BIN, "runnel-convert"), folder, "-o", self.target], capture_output=True, timeout=60
            )
            if name != "README.md":  # that one says no more than the licence
                self.assertEqual(done.returncode, 1, name)
                self.assertIn(f"{name}: not a regular file", done.stderr.decode())
        os.remove(self.target)
        os.mkfifo(self.path("fifo.gguf"))
        for source in (self.path("fifo.gguf"), "/dev/zero"):
            self.not_converted(source, says="not a regular file")
        self.not_converted(
            self.path("fifo.gguf"),
            "--weights-file",
            os.path.join(LLAMA, "model.safetensors"),
            says="fifo.gguf: not a regular file",
        )


class Adapters(Sources):
    """modules_to_save: what stands in the adapter whole takes the base's place. The same model is made by hand to compare."""

    def adapter(self, wholes, modules, prefix="base_model.model."):
        folder = self.path("adapter")
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)
        with open(os.path.join(GOLDENS, "tiny_lora", "adapter_config.json")) as f:
            config = json.load(f)
        config["modules_to_save"] = modules
        with open(os.path.join(folder, "adapter_config.json"), "w") as f:
            json.dump(config, f)
        tensors = {
            name: ("F32", *t)
            for name, t in read_safetensors(os.path.join(GOLDENS, "tiny_lora", "adapter_model.safetensors")).items()
        }
        tensors.update({prefix + name: ("F32", shape, values) for name, (shape, values) in wholes.items()})
        write_safetensors(os.path.join(folder, "adapter_model.safetensors"), tensors)
        return folder

    def base(self, tensors, tied):
        folder = self.copied("base")
        with open(os.path.join(folder, "config.json")) as f:
            config = json.load(f)
        config["tie_word_embeddings"] = tied
        with open(os.path.join(folder, "config.json"), "w") as f:
            json.dump(config, f)
        write_safetensors(os.path.join(folder, "model.safetensors"), {name: ("F32", *t) for name, t in tensors.items()})
        return folder

    def test_whole_modules(self):
        tensors = read_safetensors(os.path.join(LLAMA, "model.safetensors"))
        embedding, head = "model.embed_tokens.weight", "lm_head.weight"
        shape, values = tensors[embedding]
        tied = {k: t for k, t in tensors.items() if k != head}
        untied = dict(tied, **{head: (shape, [v * 0.5 + 0.01 for v in values])})
        new = (shape, [0.3 - v for v in values])
        norm = "model.norm.weight"
        new_norm = (tensors[norm][0], [v + 0.25 for v in tensors[norm][1]])
        plain = self.adapter({}, None)
        cases = [
            (untied, False, {head: new}, ["lm_head"], dict(untied, **{head: new})),
            (
                untied,
                False,
                {embedding: new, norm: new_norm},
                ["embed_tokens", "norm"],
                dict(untied, **{embedding: new, norm: new_norm}),
            ),
            (tied, True, {head: new}, ["lm_head"], dict(tied, **{head: new})),
            (tied, True, {embedding: new}, ["embed_tokens"], dict(tied, **{embedding: new, head: tensors[embedding]})),
            (
                tied,
                True,
                {embedding: new, head: new},
                ["embed_tokens", "lm_head"],
                dict(tied, **{embedding: new, head: new}),
            ),
            (tied, True, {norm: new_norm}, ["model.norm"], dict(tied, **{norm: new_norm})),
        ]
        for before, is_tied, wholes, modules, after in cases:
            with self.subTest(modules=modules, tied=is_tied):
                shutil.rmtree(plain, ignore_errors=True)
                still_tied = is_tied and head not in after
                plain = self.adapter({}, None)
                self.convert(self.base(after, still_tied), "--lora", plain)
                want = self.logits(self.target)
                adapter = self.adapter(wholes, modules)
                self.convert(self.base(before, is_tied), "--lora", adapter)
                self.assertEqual(self.logits(self.target), want)
        # As older versions of peft name them.
        names = {
            name.replace("norm.weight", "norm.modules_to_save.default.weight"): t
            for name, t in {norm: new_norm}.items()
        }
        self.convert(self.base(tied, True), "--lora", self.adapter(names, ["norm"]))
        self.assertEqual(self.logits(self.target), want)

    def test_what_does_not_fit(self):
        base = self.copied("base")
        shape, values = read_safetensors(os.path.join(LLAMA, "model.safetensors"))["model.norm.weight"]
        self.not_converted(base, "--lora", self.adapter({}, ["lm_head"]), says='modules_to_save names "lm_head"')
        self.not_converted(
            base,
            "--lora",
            self.adapter({"model.norm.weight": (shape, values)}, ["lm_head"]),
            says='tensor ".*norm.weight" is no half',
        )
        self.not_converted(
            base, "--lora", self.adapter({"model.norm.weight": ([1], [1])}, ["norm"]), says="cannot take the place"
        )
        self.not_converted(
            base, "--lora", self.adapter({"score.weight": (shape, values)}, ["score"]), says='no tensor "score.weight"'
        )
        self.not_converted(
            base,
            "--adapter",
            self.adapter({"model.norm.weight": (shape, values)}, ["norm"]),
            says="norm.weight.*modules_to_save.*--lora",
        )


class Outputs(Sources):
    def test_never_onto_its_own_source(self):
        gguf = self.path("own.gguf")
        shutil.copy(os.path.join(LLAMA, "model-f32.gguf"), gguf)
        before = get(gguf)
        os.symlink(gguf, self.path("link.rnl"))
        os.link(gguf, self.path("hard.rnl"))
        os.makedirs(self.path("sub"), exist_ok=True)
        for name in ("own.gguf", "link.rnl", "hard.rnl", "sub/../own.gguf"):
            self.refused("runnel-convert", gguf, "-o", self.path(name), says="own source")
        folder = self.copied("own")
        shutil.copy(os.path.join(GOLDENS, "tiny_lora", "adapter_config.json"), folder)
        os.link(os.path.join(folder, "model.safetensors"), self.path("hard2.rnl"))
        for name in ("config.json", "model.safetensors", "../own/config.json", "../hard2.rnl"):
            self.refused("runnel-convert", folder, "-o", os.path.join(folder, name), says="own source")
        self.assertEqual(get(gguf), before)
        parts = Gguf(gguf).split(self.path("own"), 2)
        self.refused("runnel-convert", parts[0], "-o", parts[1], says="own source")
        adapter = self.copied("adapter", os.path.join(GOLDENS, "tiny_lora"))
        self.refused(
            "runnel-convert",
            LLAMA,
            "--lora",
            adapter,
            "-o",
            os.path.join(adapter, "adapter_model.safetensors"),
            says="own source",
        )
        # A model beside its source may be written again.
        for _ in range(2):
            run("runnel-convert", folder, "-o", os.path.join(folder, "model.rnl"))

    def test_what_is_no_regular_file_stays(self):
        os.mkfifo(self.path("fifo"))
        places = [self.path("fifo"), self.folder]
        if os.getuid() == 0:
            os.mknod(self.path("null"), 0o666 | stat.S_IFCHR, os.makedev(1, 3))
            places.append(self.path("null"))
        for place in places:
            kind = stat.S_IFMT(os.lstat(place).st_mode)
            self.refused("runnel-convert", LLAMA, "-o", place, says="regular file")
            self.assertEqual(stat.S_IFMT(os.lstat(place).st_mode), kind)

    def test_links_are_followed_and_modes_kept(self):
        real = put(self.path("real.rnl"), b"old")
        os.chmod(real, 0o600)
        os.symlink("real.rnl", self.path("to_real.rnl"))
        run("runnel-convert", LLAMA, "-o", self.path("to_real.rnl"))
        self.assertTrue(os.path.islink(self.path("to_real.rnl")))
        self.assertGreater(os.path.getsize(real), 1000)
        self.assertEqual(stat.S_IMODE(os.stat(real).st_mode), 0o600)

    def test_interrupted(self):
        """Whenever it is stopped, nothing is left and an older file stays."""
        graph = {
            "symbols": [{"name": "N", "kind": "axis", "bound": "8"}],
            "programs": [
                {
                    "name": "main",
                    "inputs": [{"name": "x", "shape": ["N", "4096"]}],
                    "outputs": ["y"],
                    "values": [{"name": "y", "shape": ["N", "4096"]}],
                    "ops": [{"name": "matmul", "inputs": ["x", "w"], "outputs": ["y"]}],
                }
            ],
        }
        with open(self.path("graph.json"), "w") as f:
            json.dump(graph, f)
        size = 4096 * 4096 * 4
        header = json.dumps({"w": {"dtype": "F32", "shape": [4096, 4096], "data_offsets": [0, size]}}).encode()
        weights = put(self.path("weights.safetensors"), struct.pack("<Q", len(header)) + header)
        os.truncate(weights, 8 + len(header) + size)
        command = [
            os.path.join(BIN, "runnel-convert"),
            self.path("graph.json"),
            "--weights-file",
            weights,
            "-o",
            self.target,
            "--weights",
            "q8",
        ]
        begin = time.monotonic()
        run("runnel-convert", *command[1:])
        whole, size = time.monotonic() - begin, os.path.getsize(self.target)
        put(self.target, b"an older file")
        names = set(os.listdir(self.folder))
        stopped = 0
        for i in range(16):
            threads = "1" if i % 2 else "4"
            process = subprocess.Popen(
                [*command, "--threads", threads], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
            time.sleep(whole * (i + 0.5) / 20)
            process.send_signal(signal.SIGTERM if i % 4 < 2 else signal.SIGINT)
            code = process.wait(timeout=60)
            self.assertEqual(set(os.listdir(self.folder)), names, f"left after {i}")
            if code == 0:
                put(self.target, b"an older file")
                continue
            self.assertIn(code, (-signal.SIGTERM, -signal.SIGINT))
            if os.path.getsize(self.target) != size:  # stopped after the file had got its name
                self.assertEqual(get(self.target), b"an older file")
            put(self.target, b"an older file")
            stopped += 1
        self.assertGreater(stopped, 4)


if __name__ == "__main__":
    unittest.main()
