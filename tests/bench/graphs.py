"""The table of graphs.sh: a row a model, kind and number of threads."""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

import graphs_models
import numpy as np

import runnel

parser = argparse.ArgumentParser()
parser.add_argument("folder", type=pathlib.Path)
parser.add_argument("models", nargs="*", metavar="MODEL")
parser.add_argument("--threads", default="1,2")
parser.add_argument("--kinds", default="f32,int8")
parser.add_argument("--pairs", type=int, default=9)
parser.add_argument("--seconds", type=float, default=0.3, help="of a turn")
options = parser.parse_intermixed_args()
SIDES = ("runnel", "onnxruntime")


class Worker:
    def __init__(self, side, model, threads, inputs):
        self._results = options.folder / f"{side}.results.npz"
        line = [sys.executable, f"{pathlib.Path(__file__).parent}/graphs_worker.py", side, model, threads, inputs]
        self._child = subprocess.Popen(
            [*map(str, line), self._results], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answer()
        self.results = dict(np.load(self._results))

    def _answer(self):
        line = self._child.stdout.readline()
        if not line:
            raise SystemExit(f"{self._child.args} ended with {self._child.wait()}")
        return json.loads(line)

    def ask(self, question):
        print(question, file=self._child.stdin, flush=True)
        return self._answer()

    def close(self):
        self._child.stdin.close()
        self._child.wait()


def difference(got, wanted):
    """The largest of an output, as a part of its largest value."""
    parts = []
    for name, b in wanted.items():
        a = got[name].reshape(b.shape).astype(np.float64)
        parts.append(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30))
    return max(parts)


def row(name, kind, threads, files, inputs):
    ours, theirs = workers = [Worker(side, files[side], threads, inputs) for side in SIDES]
    pairs = [[w.ask(options.seconds) for w in workers] for _ in range(options.pairs)]
    medians = [[statistics.median(turn) for turn in pair] for pair in pairs]
    ratio = statistics.median(b / a for a, b in medians)
    best = [min(min(turn) for turn in side) for side in zip(*pairs)]
    memory = [w.ask("memory") / 1e3 for w in workers]
    loads = [min(w.ask("load") for _ in range(3)) for w in workers]
    for w in workers:
        w.close()
    apart = difference(ours.results, theirs.results)
    print(
        f"| {name} | {kind} | {threads} | {best[0]:.2f}, {best[1]:.2f} | {ratio:.2f}x "
        f"| {memory[0]:.1f}, {memory[1]:.1f} | {memory[0] / memory[1]:.2f}x "
        f"| {loads[0]:.1f}, {loads[1]:.1f} | {loads[1] / loads[0]:.0f}x | {apart:.0e} |",
        flush=True,
    )


print("| model | weights | threads | shortest call, ms | ratio | peak, MB | ratio | load, ms | ratio | difference |")
print("|---|---|---|---|---|---|---|---|---|---|")
for name, model in graphs_models.MODELS.items():
    if options.models and not any(part.lower() in name.lower() for part in options.models):
        continue
    kinds = options.kinds.split(",")
    paths, inputs = graphs_models.make(name, options.folder, kinds)
    for kind in kinds:
        converted = paths[kind].with_suffix(".rnl")
        runnel.convert(paths["f32"], converted, weights={"f32": "f32", "int8": "q8"}[kind], **model.options)
        for threads in options.threads.split(","):
            row(name, kind, threads, {"runnel": converted, "onnxruntime": paths[kind]}, inputs)
