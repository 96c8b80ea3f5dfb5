#!/usr/bin/env python3
"""What merged tokens cost and save in embeddings of texts: paragraphs of a text through a model of embeddings whole and
with `--prune tome:r=..`, as a table in Markdown: cosine to the whole model's vector (mean and least) and time of all
operators, pruned against whole, the median of 5 rounds in turn with 1 thread. Wants numpy.

  python3 tests/bench/pruned_embeddings.py build/release/bin MODEL_FOLDER [TEXT] [R ...]

TEXT is by default the GPL-3 of Debian; MODEL_FOLDER for example all-MiniLM-L6-v2 as sentence-transformers saves it.
"""

import json
import re
import statistics
import subprocess
import sys
import tempfile

import numpy as np

bin_folder, source, *rest = sys.argv[1:]
text = rest[0] if rest else "/usr/share/common-licenses/GPL-3"
amounts = rest[1:] or ["1", "2", "4", "8", "16", "32"]


def convert(path, *options):
    line = [f"{bin_folder}/runnel-convert", source, "-o", path, *options]
    subprocess.run(line, check=True, capture_output=True)
    return path


def embed(path, folder):
    """Vectors of all lines, and milliseconds in operators."""
    out, trace = f"{folder}/out.safetensors", f"{folder}/trace.json"
    line = [f"{bin_folder}/runnel", "embed", path, "--in", f"{folder}/lines", "--out", out, "--threads", "1"]
    subprocess.run([*line, "--trace", trace], check=True, capture_output=True)
    with open(out, "rb") as file:
        data = file.read()
    begin = 8 + int.from_bytes(data[:8], "little")
    (tensor,) = (t for name, t in json.loads(data[8:begin]).items() if name != "__metadata__")
    vectors = np.frombuffer(data[begin:], np.float32).reshape(tensor["shape"])
    with open(trace, encoding="utf-8") as file:
        events = json.load(file)
    events = events["traceEvents"] if isinstance(events, dict) else events
    return vectors, sum(e.get("dur", 0) for e in events) / 1e3


with tempfile.TemporaryDirectory() as scratch:
    with open(text, encoding="utf-8") as file:
        paragraphs = [" ".join(p.split()) for p in re.split(r"\n\s*\n", file.read())]
    with open(f"{scratch}/lines", "w", encoding="utf-8") as file:
        for paragraph in [p for p in paragraphs if len(p) > 120][:40]:
            file.write(json.dumps({"text": paragraph}) + "\n")
    whole = convert(f"{scratch}/whole.rnl")
    print("| method | cosine | least | time |\n|---|---|---|---|")
    for amount in amounts:
        method = f"tome:r={amount}"
        pruned = convert(f"{scratch}/pruned.rnl", "--prune", method)
        rounds = [(embed(whole, scratch), embed(pruned, scratch)) for _ in range(5)]
        (a, _), (b, _) = rounds[0]
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        ratio = statistics.median(less / full for (_, full), (_, less) in rounds)
        print(f"| `{method}` | {cosine.mean():.3f} | {cosine.min():.3f} | {ratio:.2f}x |", flush=True)
