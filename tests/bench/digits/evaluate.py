"""Handwritten digits read by pruned models, run by Runnel: a table, and a plot of errors against the work.

    python tests/bench/digits/evaluate.py FOLDER --bin build/release/bin [--plot tests/bench/digits/errors.svg] [--time]

FOLDER holds the models that train.py leaves. Each reads the same 500 images, on which none was trained, in one call.
Work: multiplications of the layers, as a part of the whole model's. --time adds the time in operators on one thread, the median of five calls in turn with the whole model, and plots
it too; the machine has to be idle.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

import numpy as np
from safetensors.numpy import load_file, save_file

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
import line_plot  # noqa: E402
from data import digits  # noqa: E402

WIDTH, LAYERS, TOKENS, CALLS = 64, 6, 65, 5
KEEPS = tuple(f"keep={keep},exact=1,every=2" for keep in (0.7, 0.5, 0.3, 0.2))
RATES = tuple(f"r={r}" for r in (4, 8, 12, 16))
SURE = tuple(f"sure={sure},exact=0" for sure in (0.95, 0.9, 0.8, 0.7, 0.6))
# Name of the line, model, method, its options.
LINES = [
    ("tome", "plain", "tome", RATES),
    ("mctf", "plain", "mctf", RATES),
    ("topk", "plain", "topk", KEEPS),
    ("k-centre", "plain", "k-centre", KEEPS),
    ("spatten", "plain", "spatten", KEEPS),
    ("evit", "plain", "evit", KEEPS),
    ("evit, trained", "evit", "evit", KEEPS),
    ("exit, trained", "exits", "exit", SURE),
]


def layer_work(seen, now):
    """Of a layer whose attention has `seen` tokens and whose rest has `now`."""
    return 4 * seen * WIDTH**2 + 2 * seen**2 * WIDTH + 4 * now * WIDTH**2


WHOLE = LAYERS * layer_work(TOKENS, TOKENS)


def work_of(path, method, outputs):
    """As a part of the whole model's, by the tokens that the file says it leaves or the layers that images had."""
    if method == "exit":
        return float(outputs["layers"].mean()) / LAYERS
    with open(path, "rb") as file:
        found = re.search(rb"tokens of an image ([0-9, ]+)", file.read())
    behind = [int(n) for n in found[1].split(b",")][1:]
    work, now = 0, TOKENS
    for layer in range(LAYERS):
        seen = now
        if behind and (method in ("tome", "mctf") or layer % 2 == 1):
            now = behind.pop(0)
        work += layer_work(seen, now)
    return work / WHOLE


class Runner:
    def __init__(self, bin_folder, scratch):
        self.bin, self.scratch = bin_folder, scratch
        images, self.classes = digits(tested=True)
        save_file({"pixel_values": images}, f"{scratch}/in.safetensors")

    def convert(self, source, name, method=None):
        path = f"{self.scratch}/{name}.rnl"
        line = [f"{self.bin}/runnel-convert", source, "-o", path, "--weights", "f32"]
        subprocess.run(line + (["--prune", method] if method else []), check=True, capture_output=True)
        return path

    def run(self, path, *options):
        line = [f"{self.bin}/runnel", "eval", path, "--in", f"{self.scratch}/in.safetensors"]
        line += ["--out", f"{self.scratch}/out.safetensors", "--threads", "1", *options]
        subprocess.run(line, check=True, capture_output=True)
        return load_file(f"{self.scratch}/out.safetensors")

    def errors(self, outputs):
        return 100 * float((outputs["logits"].argmax(-1) != self.classes).mean())

    def milliseconds(self, path):
        """Time in operators for an image."""
        self.run(path, "--trace", f"{self.scratch}/trace.json")
        with open(f"{self.scratch}/trace.json", encoding="utf-8") as file:
            events = json.load(file)
        all_of_them = events["traceEvents"] if isinstance(events, dict) else events
        return sum(e.get("dur", 0) for e in all_of_them) / 1e3 / len(self.classes)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder")
    p.add_argument("--bin", required=True)
    p.add_argument("--plot")
    p.add_argument("--time", action="store_true")
    o = p.parse_args()
    by_work, by_time = {}, {}
    with tempfile.TemporaryDirectory() as scratch:
        runner = Runner(o.bin, scratch)
        whole, error = {}, {}
        print("| model | `--prune` | errors, % | work |" + (" time |" if o.time else ""))
        print("|---|---|---|---|" + ("---|" if o.time else ""))
        for name in ("plain", "further", "evit", "exits"):
            whole[name] = runner.convert(f"{o.folder}/{name}", name)
            error[name] = runner.errors(runner.run(whole[name]))
            print(f"| {name} | | {error[name]:.1f} | 1 |" + (" 1 |" if o.time else ""))
        for line, model, method, variants in LINES:
            by_work[line], by_time[line] = [(1.0, error[model])], [(1.0, error[model])]
            for variant in variants:
                path = runner.convert(f"{o.folder}/{model}", "pruned", f"{method}:{variant}")
                outputs = runner.run(path)
                errors, work = runner.errors(outputs), work_of(path, method, outputs)
                row = f"| {model} | `{method}:{variant}` | {errors:.1f} | {work:.2f}x |"
                by_work[line].append((work, errors))
                if o.time:
                    pairs = [(runner.milliseconds(whole[model]), runner.milliseconds(path)) for _ in range(CALLS)]
                    time = statistics.median(less / full for full, less in pairs)
                    by_time[line].append((time, errors))
                    row += f" {time:.2f}x |"
                print(row, flush=True)
    if o.plot:
        panels = [("the whole model's work", by_work)] + ([("the whole model's time", by_time)] if o.time else [])

        def panel(label, lines, offset):
            xs = np.array(sorted(x for points in lines.values() for x, _ in points))
            ticks = {xs[np.abs(xs - at).argmin()] for at in (0.2, 0.3, 0.4, 0.6, 0.8, 1)}
            text = lambda x: f"{x:.2f}" if x in ticks else ""
            ordered = {name: sorted(points) for name, points in lines.items()}
            title = "Digits read wrong, in per cent of 500"
            return line_plot.panel(ordered, title, f"part of {label}", text, y_most=10.0, offset=offset)

        line_plot.write(o.plot, [lambda offset, a=a: panel(*a, offset) for a in panels])


if __name__ == "__main__":
    main()
