"""The program that listens, on a stand-in for the detector: likely is what is loud."""

import array
import json
import math
import os
import subprocess
import unittest
import wave

from support import BIN, Case, run

RATE = 16000


def stand_in():
    values = [
        ("a", ["1", "576"]),
        ("b", ["1"]),
        ("c", ["1", "1"]),
        ("output", ["1", "1"]),
        ("stateN", ["2", "1", "128"]),
    ]
    return {
        "name": "loud",
        "context": 1,
        "symbols": [{"name": name, "kind": "option"} for name in ("context", "chunk", "rollback")],
        "programs": [
            {
                "name": "main",
                "inputs": [
                    {"name": "input", "dtype": "f32", "shape": ["1", "576"]},
                    {"name": "state", "dtype": "f32", "shape": ["2", "1", "128"]},
                ],
                "values": [{"name": name, "shape": shape} for name, shape in values],
                "ops": [
                    {
                        "name": "unary",
                        "inputs": ["input"],
                        "outputs": ["a"],
                        "attrs_type": "UnaryAttrs",
                        "attrs": {"kind": "abs"},
                    },
                    {
                        "name": "reduce",
                        "inputs": ["a"],
                        "outputs": ["b"],
                        "attrs_type": "ReduceAttrs",
                        "attrs": {"kind": "mean", "axis": 1},
                    },
                    {"name": "reshape", "inputs": ["b"], "outputs": ["c"]},
                    {
                        "name": "unary",
                        "inputs": ["c"],
                        "outputs": ["output"],
                        "attrs_type": "UnaryAttrs",
                        "attrs": {"kind": "sqrt"},
                    },
                    {
                        "name": "unary",
                        "inputs": ["state"],
                        "outputs": ["stateN"],
                        "attrs_type": "UnaryAttrs",
                        "attrs": {"kind": "abs"},
                    },
                ],
                "outputs": ["output", "stateN"],
            }
        ],
    }


def sound(*parts):
    """Samples of (seconds, loudness)."""
    samples = array.array("h")
    for seconds, loudness in parts:
        for i in range(int(seconds * RATE)):
            samples.append(int(32767 * loudness * math.sin(2 * math.pi * 220 * i / RATE)))
    return samples


class Listen(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.rnl = cls.path("loud.rnl")
        with open(cls.path("loud.json"), "w") as f:
            json.dump(stand_in(), f)
        with open(cls.path("none.safetensors"), "wb") as f:  # the graph has no weights
            f.write((2).to_bytes(8, "little") + b"{}")
        run("runnel-convert", cls.path("loud.json"), "--weights-file", cls.path("none.safetensors"), "-o", cls.rnl)

    def listen(self, *arguments, heard=b"", code=0):
        p = subprocess.run(
            [os.path.join(BIN, "runnel-listen"), self.rnl, *arguments],
            input=heard,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=60,
        )
        self.assertEqual(p.returncode, code, p.stderr)
        return p.stdout.decode() if code == 0 else p.stderr.decode()

    def stretches(self, *arguments, **options):
        return [tuple(map(float, line.split())) for line in self.listen(*arguments, **options).splitlines()]

    def expect_near(self, got, want):
        self.assertEqual(len(got), len(want), got)
        for a, b in zip(got, want):
            for x, y in zip(a, b):
                self.assertLess(abs(x - y), 0.07, got)

    def test_stretches_of_a_pipe(self):
        # A short pause joins, a short noise is none.
        heard = sound((1, 0), (1, 0.8), (0.08, 0), (0.5, 0.8), (1, 0), (0.1, 0.8), (1, 0), (0.5, 0.8))
        self.expect_near(self.stretches(heard=heard.tobytes()), [(1, 2.58), (4.68, 5.18)])
        self.assertEqual(self.listen(heard=b""), "")
        self.assertEqual(self.listen("--threshold", "0.99", heard=heard.tobytes()), "")

    def test_wav_files(self):
        mono, heard = sound((0.5, 0), (1, 0.8), (0.5, 0)), []
        for channels in (1, 2):
            path = self.path(f"{channels}.wav")
            with wave.open(path, "wb") as f:
                f.setparams((channels, 2, RATE, 0, "NONE", ""))
                f.writeframes(array.array("h", [s for s in mono for _ in range(channels)]).tobytes())
            heard.append(self.listen(path))
            self.expect_near(self.stretches(path), [(0.5, 1.5)])
        self.assertEqual(*heard)

    def test_what_is_no_sound_is_told(self):
        with wave.open(self.path("fast.wav"), "wb") as f:
            f.setparams((1, 2, 44100, 0, "NONE", ""))
            f.writeframes(b"\0" * 2000)
        self.assertIn("does not hold 16-bit samples at 16 kHz", self.listen(self.path("fast.wav"), code=1))
        with open(self.path("text.wav"), "wb") as f:
            f.write(b"RIFF")
        self.assertIn("is no WAV file", self.listen(self.path("text.wav"), code=1))
        self.assertIn("cannot be read", self.listen(self.path("none.wav"), code=1))
        self.assertIn("usage:", self.listen("--loud", code=2))


if __name__ == "__main__":
    unittest.main()
