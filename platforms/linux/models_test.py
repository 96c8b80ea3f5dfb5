"""Builds with RUNNEL_MODELS: python3 models_test.py BUILD_DIR

Configures builds for model files and reads which operators they have. That a library names what it was built without when it is to open a file that needs it
is tested by tests/budgets.
"""

import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import unittest

BUILD = sys.argv[1]
SOURCE = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
GOLDENS = os.path.join(SOURCE, "tests", "goldens")


def call(*command, code=0):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    text = done.stdout.decode(errors="replace")
    if done.returncode != code:
        raise AssertionError(f"{' '.join(command)}: exit code {done.returncode}\n{text[-3000:]}")
    return text


class Models(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = tempfile.TemporaryDirectory(prefix="runnel-models-")
        for name in ("tiny_gemma3", "tiny_mamba2"):
            call(
                os.path.join(BUILD, "bin", "runnel-convert"), os.path.join(GOLDENS, name), "-o", cls.path(name + ".rnl")
            )

    @classmethod
    def tearDownClass(cls):
        cls.scratch.cleanup()

    @classmethod
    def path(cls, name):
        return os.path.join(cls.scratch.name, name)

    def configure(self, models, code=0):
        return call(
            "cmake",
            "-G",
            "Ninja",
            "-S",
            SOURCE,
            "-B",
            self.path("build"),
            "-DRUNNEL_TESTS=OFF",
            "-DRUNNEL_CONVERTER=OFF",
            "-DRUNNEL_VULKAN=OFF",
            "-DRUNNEL_MODELS=" + ";".join(models),
            code=code,
        )

    def registry(self):
        """Names in the registries that this build compiles its tables from."""
        with open(self.path("build/gen/selections/selected/ops/registry.inc")) as f:
            return re.findall(r"^RNL_OP\(\d+, \d+, (\w+),", f.read(), re.M)

    def test_operators_are_those_of_the_files(self):
        inspect = lambda name: set(
            re.findall(
                r'"op": "(\w+)"', call(os.path.join(BUILD, "bin", "runnel"), "inspect", "--json", self.path(name))
            )
        )
        gemma, mamba = inspect("tiny_gemma3.rnl"), inspect("tiny_mamba2.rnl")
        said = self.configure([self.path("tiny_gemma3.rnl")])
        self.assertIn("Operators of the models: embedding;", said)
        self.assertEqual(set(self.registry()), gemma)
        self.assertNotIn("causal_conv", gemma)
        self.configure([self.path("tiny_gemma3.rnl"), self.path("tiny_mamba2.rnl")])
        self.assertEqual(set(self.registry()), gemma | mamba)
        self.assertIn("causal_conv", mamba)

    def test_programs_that_run_others_copy(self):
        """The loader puts `transpose` where they hand values over."""
        value = lambda name: {"name": name, "shape": ["N", "4"]}
        double = {
            "name": "double",
            "inputs": [value("a")],
            "outputs": ["b"],
            "values": [value("b")],
            "ops": [{"name": "binary", "inputs": ["a", "a"], "outputs": ["b"]}],
        }
        main = {
            "name": "main",
            "inputs": [value("x")],
            "outputs": ["y"],
            "values": [value("y")],
            "ops": [
                {
                    "name": "call",
                    "inputs": ["x"],
                    "outputs": ["y"],
                    "attrs_type": "ControlAttrs",
                    "attrs": {"program": "double"},
                }
            ],
        }
        with open(self.path("calls.json"), "w") as f:
            json.dump({"symbols": [{"name": "N", "kind": "axis", "bound": "16"}], "programs": [main, double]}, f)
        with open(self.path("none.safetensors"), "wb") as f:
            f.write(struct.pack("<Q", 2) + b"{}")
        call(
            os.path.join(BUILD, "bin", "runnel-convert"),
            self.path("calls.json"),
            "--weights-file",
            self.path("none.safetensors"),
            "-o",
            self.path("calls.rnl"),
        )
        self.configure([self.path("calls.rnl")])
        self.assertEqual(self.registry(), ["binary", "transpose"])

    def test_what_is_no_model_is_refused(self):
        with open(self.path("tiny_gemma3.rnl"), "rb") as f:
            whole = f.read()
        with open(self.path("cut.rnl"), "wb") as f:
            f.write(whole[:-100])
        with open(self.path("longer.rnl"), "wb") as f:
            f.write(whole[:-32] + bytes(64) + whole[-32:])
        for name, says in (
            ("cut.rnl", "this is no model file"),
            ("longer.rnl", "were written"),
            ("missing.rnl", "No such file"),
            (os.path.join(SOURCE, "README.md"), "this is no model file"),
        ):
            said = self.configure([self.path("tiny_gemma3.rnl"), self.path(name)], code=1)
            self.assertRegex(re.sub(r"\s+", " ", said), f"{re.escape(os.path.basename(name))}: .*{says}")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
