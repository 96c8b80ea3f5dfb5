"""What the scripts vary_*.py share: a model that transformers saves is converted, one call is fed through `runnel eval`, and every output must be
within 1e-4 of the largest value of the float64 run (or ten times float32's own distance from it).

A script gives `vary` a table of families and a function that checks one of them; the rest is here.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile

import torch
import transformers
from safetensors.torch import load_file, save_file

TOLERANCE = 1e-4


class Mismatch(Exception):
    """What does not agree, in words."""


class Kit:
    def __init__(self, binaries, backend, scratch):
        self.binaries, self.backend, self.scratch = binaries, backend, scratch
        self.folder = os.path.join(scratch, "model")
        self.file = os.path.join(scratch, "m.rnl")

    def run(self, *command):
        done = subprocess.run(
            [f"{self.binaries}/{command[0]}", *command[1:]], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Mismatch(done.stderr.strip() or f"{command[0]} ended with {done.returncode}")

    def convert(self, model, *options):
        """Saves the model and converts what was saved, with f32 weights."""
        shutil.rmtree(self.folder, ignore_errors=True)
        model.save_pretrained(self.folder)
        self.run("runnel-convert", self.folder, "-o", self.file, "--weights", "f32", *options)

    def evaluate(self, inputs, names=(), *options):
        """Tensors by name, as the file's program gives them; without names those that it gives by itself."""
        into, out = (os.path.join(self.scratch, name) for name in ("in.safetensors", "out.safetensors"))
        save_file({k: narrow(v) for k, v in inputs.items()}, into)
        wanted = [x for n in names for x in ("--output", n)]
        self.run("runnel", "eval", self.file, "--in", into, "--out", out, *wanted, "--backend", self.backend, *options)
        return load_file(out)

    def compare(self, got, wanted, difference, tolerance=TOLERANCE):
        """The largest difference, relative to each output's largest value. difference: float32's own."""
        worst = 0.0
        for name, want in wanted.items():
            if name not in got:
                raise Mismatch(f"{name} is missing")
            if got[name].shape != want.shape:
                raise Mismatch(f"{name} is {tuple(got[name].shape)}, wanted {tuple(want.shape)}")
            error = relative(got[name], want)
            if not error <= max(tolerance, 10 * difference):
                raise Mismatch(f"{name} is off by {error:.1e} (float32 by {difference:.1e})")
            worst = max(worst, error)
        return worst

    def check(self, inputs, wanted, difference, *options):
        """One call of the converted model with these inputs, compared."""
        return self.compare(self.evaluate(inputs, list(wanted), *options), wanted, difference)


def narrow(tensor):
    """As the programs take it: i32 and f32."""
    return tensor.to(torch.float32 if tensor.is_floating_point() else torch.int32).contiguous()


def relative(got, want):
    """The largest difference over the largest value; beside zeros alone, the difference itself."""
    if not want.numel():
        return 0.0
    return float((got.double() - want.double()).abs().max() / (want.abs().max() or 1.0))


def reference(model, run):
    """Outputs by name of run(model) in float64, and how far the largest of float32's is from them. The model stays float32."""
    with torch.no_grad():
        single = run(model.float())
        exact = {k: v.double().contiguous() for k, v in run(model.double()).items()}
    model.float()
    return exact, max(relative(single[k], v) for k, v in exact.items())


def outputs_of(model, names, **inputs):
    """A run for `reference`: the model's outputs of these names, as far as it gives them, with inputs in the model's own type."""
    dtype = next(model.parameters()).dtype
    out = model(**{k: v.to(dtype) if v.is_floating_point() else v.long() for k, v in inputs.items()})
    return {k: out[k] for k in names if k in out and out[k] is not None}


def vary(doc, families, check_one, arguments=lambda parser: None):
    """The command line: names of families, rounds and a seed. check_one(kit, family, rng, options of the command line) gives the largest difference
    and what it tried, in words; it raises Mismatch. What it tried before it failed stands in kit.tried."""
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    p = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("binaries")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--backend", default="cpu")
    p.add_argument("names", nargs="*")
    arguments(p)
    o = p.parse_intermixed_args()
    if unknown := [n for n in o.names if n not in families]:
        p.error(f"no such family: {', '.join(unknown)}")
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        kit = Kit(o.binaries, o.backend, scratch)
        for family in o.names or families:
            for r in range(o.rounds):
                kit.tried = ""
                try:
                    worst, tried = check_one(kit, family, random.Random(f"{family} {o.seed} {r}"), o)
                    print(f"{family} round {r}, {tried}: largest difference {worst:.1e}", flush=True)
                except Mismatch as e:
                    print(f"FAILED {family} round {r}, {kit.tried}: {e}", flush=True)
                    failed += 1
    sys.exit(1 if failed else 0)


def draw(rng, table):
    """One value of each list of options."""
    return {key: rng.choice(values) for key, values in table.items()}
