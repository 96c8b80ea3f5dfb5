"""Inputs that are wrong or broken and machines that are full: a message, exit code 1, and nothing half-written."""

import os
import random
import resource
import struct
import subprocess
import unittest

from support import BIN, GOLDENS, Case, golden, read_safetensors, run, write_ids, write_safetensors


def put(path, data):
    with open(path, "wb") as f:
        f.write(data)
    return path


def get(path):
    with open(path, "rb") as f:
        return f.read()


class BadInputs(Case):
    def setUp(self):
        self.good = self.model("tiny_llama/model-f32.gguf", "keep")
        self.ids = self.path("ids.safetensors")
        write_ids(self.ids, [3, 1, 4, 1, 5])
        self.out = self.path("out.safetensors")
        if os.path.exists(self.out):
            os.remove(self.out)

    def tearDown(self):
        left = [f for f in os.listdir(self.folder) if "tmp" in f or "partial" in f or f.endswith("~")]
        self.assertEqual(left, [], "a temporary file was left behind")

    def eval_refused(self, model, ids=None, says=None, options=(), **more):
        message = self.refused(
            "runnel", "eval", model, "--in", ids or self.ids, "--out", self.out, *options, says=says, **more
        )
        self.assertFalse(os.path.exists(self.out), "an output was written")
        return message

    def test_truncated_model(self):
        data = get(self.good)
        cuts = {
            0,
            1,
            7,
            8,
            100,
            4096,
            16383,
            16384,
            16385,
            len(data) // 2,
            len(data) - 33,
            len(data) - 32,
            len(data) - 1,
        }
        for cut in sorted(cuts):
            with self.subTest(cut=cut):
                self.eval_refused(put(self.path("cut.rnl"), data[:cut]))

    def test_longer_model(self):
        self.eval_refused(put(self.path("longer.rnl"), get(self.good) + b"\0"))

    def test_flipped_bits(self):
        """In the description: refused when opened. Anywhere: no crash; in weights: found by inspect --verify."""
        data = get(self.good)
        header = struct.unpack("<Q", data[-24:-16])[0]
        self.assertLess(header, len(data))
        draw = random.Random(7)
        places = [draw.randrange(header) for _ in range(40)] + [len(data) - 1 - i for i in range(32)]
        for place in places:
            flipped = bytearray(data)
            flipped[place] ^= 1 << draw.randrange(8)
            with self.subTest(place=place):
                self.eval_refused(put(self.path("flipped.rnl"), flipped))
        first = -(-header // 16384) * 16384
        found = 0
        places = [draw.randrange(first, len(data) - 32) for _ in range(20)]
        for place in places:
            flipped = bytearray(data)
            flipped[place] ^= 1 << draw.randrange(8)
            put(self.path("flipped.rnl"), flipped)
            done = subprocess.run(
                [os.path.join(BIN, "runnel"), "inspect", self.path("flipped.rnl"), "--verify"], capture_output=True
            )
            self.assertIn(done.returncode, (0, 1), place)
            found += done.returncode == 1 and bool(done.stderr)
        # The rest hit the padding between segments.
        self.assertGreaterEqual(found, 12)
        run("runnel", "inspect", self.good, "--verify")

    def test_not_a_model(self):
        for data in (b"RNNL" * 64, os.urandom(70000), get(os.path.join(GOLDENS, "tiny_llama", "model.safetensors"))):
            self.eval_refused(put(self.path("other.rnl"), data))

    def test_ids_out_of_range(self):
        model = self.model("tiny_llama")
        for bad in (131, -1, 2**31 - 1):
            write_ids(self.path("bad.safetensors"), [1, 2, bad, 3])
            message = self.eval_refused(model, self.path("bad.safetensors"), str(bad))
            self.assertIn("131", message)
        write_safetensors(self.path("bad.safetensors"), {"ids": ("I64", [2], [1, 2**32 + 1])})
        self.eval_refused(model, self.path("bad.safetensors"), "4294967297")

    def test_wrong_inputs(self):
        model = self.model("tiny_llama")
        write_safetensors(self.path("bad.safetensors"), {"tokens": ("I32", [2], [1, 2])})
        self.eval_refused(model, self.path("bad.safetensors"), "tokens")
        write_safetensors(self.path("bad.safetensors"), {"ids": ("F32", [2], [1, 2])})
        self.eval_refused(model, self.path("bad.safetensors"), "ids")
        write_safetensors(self.path("bad.safetensors"), {"ids": ("I32", [2, 1], [1, 2])})
        self.eval_refused(model, self.path("bad.safetensors"), "ids")
        data = get(self.ids)
        for cut in (0, 5, 8, 30, len(data) - 1):
            self.eval_refused(model, put(self.path("bad.safetensors"), data[:cut]))
        self.eval_refused(model, put(self.path("bad.safetensors"), struct.pack("<Q", 2**63) + data[8:]))

    def test_context_full(self):
        write_ids(self.path("long.safetensors"), [1] * 40)
        self.eval_refused(self.model("tiny_llama"), self.path("long.safetensors"), "context", ["--context", "16"])
        run(
            "runnel",
            "eval",
            self.model("tiny_llama"),
            "--in",
            self.path("long.safetensors"),
            "--out",
            self.out,
            "--context",
            40,
        )

    def test_full_disk(self):
        """A limit on the size of files stands for the full disk."""
        write_ids(self.path("long.safetensors"), [1] * 40)
        full = [(resource.RLIMIT_FSIZE, 8192)]
        self.eval_refused(self.model("tiny_llama"), self.path("long.safetensors"), limits=full)
        target = self.path("full.rnl")
        self.refused("runnel-convert", os.path.join(GOLDENS, "tiny_llama"), "-o", target, limits=full)
        self.assertFalse(os.path.exists(target))
        put(target, b"an older file")
        self.refused("runnel-convert", os.path.join(GOLDENS, "tiny_llama"), "-o", target, limits=full)
        self.assertEqual(get(target), b"an older file")
        self.refused(
            "runnel",
            "run",
            self.good,
            "-p",
            "t5",
            "-n",
            4,
            "--save-state",
            self.path("state"),
            limits=[(resource.RLIMIT_FSIZE, 64)],
        )
        self.assertFalse(os.path.exists(self.path("state")))

    def test_full_standard_output(self):
        for arguments in (
            ["run", self.good, "-p", "t5", "-n", "4"],
            ["inspect", self.good],
            ["inspect", self.good, "--json"],
        ):
            with open("/dev/full", "w") as full:
                self.refused("runnel", *arguments, stdout=full)

    def test_unreadable_and_missing_files(self):
        self.eval_refused(self.path("missing.rnl"), says="missing.rnl")
        self.eval_refused(self.folder)
        self.eval_refused(self.good, self.path("missing.safetensors"), "missing.safetensors")
        self.refused("runnel-convert", self.path("missing.gguf"), "-o", self.path("new.rnl"), says="missing.gguf")
        self.refused("runnel-convert", os.path.join(GOLDENS, "tiny_llama"), "-o", self.path("missing/new.rnl"))
        if os.getuid() != 0:
            locked = put(self.path("locked.rnl"), get(self.good))
            os.chmod(locked, 0)
            self.eval_refused(locked, says="ermission")

    def test_memory_refused(self):
        little = [(resource.RLIMIT_AS, 400 << 20)]
        self.eval_refused(
            self.model("tiny_llama"), options=["--context", str(1 << 20)], limits=little, says="memory|MB|bytes"
        )
        self.eval_refused(self.model("tiny_llama"), options=["--context", str(1 << 31)], limits=little)

    def test_damaged_sources_of_the_converter(self):
        target = self.path("new.rnl")
        gguf = get(os.path.join(GOLDENS, "tiny_llama", "model-f32.gguf"))
        for cut in (0, 3, 10, 100, 3000, len(gguf) - 5):
            self.refused("runnel-convert", put(self.path("cut.gguf"), gguf[:cut]), "-o", target)
            self.assertFalse(os.path.exists(target))
        weights = bytearray(get(os.path.join(GOLDENS, "tiny_llama", "model.safetensors")))
        config = get(os.path.join(GOLDENS, "tiny_llama", "config.json"))
        folder = self.path("damaged")
        os.makedirs(folder, exist_ok=True)
        put(os.path.join(folder, "config.json"), config)
        put(os.path.join(folder, "model.safetensors"), weights[:-4])
        self.refused("runnel-convert", folder, "-o", target)
        weights[-4:] = struct.pack("<f", float("nan"))
        put(os.path.join(folder, "model.safetensors"), weights)
        self.refused("runnel-convert", folder, "-o", target, says="NaN or infinity")
        put(os.path.join(folder, "config.json"), config.replace(b'"llama"', b'"lama"'))
        self.refused("runnel-convert", folder, "-o", target, says="lama")
        put(os.path.join(folder, "config.json"), config[:50])
        self.refused("runnel-convert", folder, "-o", target)
        self.assertFalse(os.path.exists(target))

    def test_saved_state_of_another_model_or_damaged(self):
        other = self.model("tiny_gemma3/model-f32.gguf", "keep")
        state = self.path("saved")
        run("runnel", "run", self.good, "-p", "t5", "-n", 4, "--save-state", state)
        self.refused("runnel", "run", other, "-n", 4, "--load-state", state)
        data = get(state)
        for place in (0, 9, len(data) // 2, len(data) - 1):
            flipped = bytearray(data)
            flipped[place] ^= 4
            self.refused("runnel", "run", self.good, "-n", 4, "--load-state", put(self.path("flipped"), flipped))
        for cut in (0, 10, len(data) // 2, len(data) - 1):
            self.refused("runnel", "run", self.good, "-n", 4, "--load-state", put(self.path("flipped"), data[:cut]))

    def test_wrong_usage(self):
        for arguments in ([], ["fly"], ["run"], ["eval", self.good], ["run", self.good, "--threads", "0", "-p", "x"]):
            run("runnel", *arguments, code=2)
        for arguments in ([], [self.good], [self.good, "-o", self.path("x"), "--weights", "q3"]):
            run("runnel-convert", *arguments, code=2)
        for program in ("runnel", "runnel-convert"):
            self.assertIn(b"Usage", run(program, "--help").stdout)
            self.assertRegex(run(program, "--version").stdout.decode(), r"\d+\.\d+\.\d+")


if __name__ == "__main__":
    unittest.main()
