"""Recall of trained models on MQAR, run by Runnel: a table, and a plot of recall against the number of pairs.

    python tests/bench/mqar/evaluate.py FOLDER --bin build/release/bin [--weights f32] [--plot tests/bench/mqar/recall.svg]

FOLDER holds one folder a model, as train.py leaves them. Every model answers the same 64 sequences of 128 tokens for each number of pairs.
"""

import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile

import numpy as np

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)), os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
import line_plot  # noqa: E402
from task import test_set  # noqa: E402

PAIRS, LENGTH, COUNT = (2, 4, 8, 16, 32), 128, 64


def write_ids(path, ids):
    header = json.dumps({"ids": {"dtype": "I32", "shape": [len(ids)], "data_offsets": [0, 4 * len(ids)]}}).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(header)) + header + np.asarray(ids, np.int32).tobytes())


def read_logits(path):
    with open(path, "rb") as f:
        entry = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))["logits"]
        begin, end = entry["data_offsets"]
        return np.frombuffer(f.read()[begin:end], np.float32).reshape(entry["shape"])


def recall(runnel, model, pairs, scratch):
    ids, answers = test_set(pairs, LENGTH, COUNT)
    right = asked = 0
    for row, wanted in zip(ids, answers):
        write_ids(scratch + "/in", row)
        subprocess.run(
            [runnel, "eval", model, "--in", scratch + "/in", "--out", scratch + "/out", "--threads", "1"], check=True
        )
        answer = read_logits(scratch + "/out").argmax(-1)
        right += int(((answer == wanted) & (wanted >= 0)).sum())
        asked += int((wanted >= 0).sum())
    return right / asked


def state_bytes(runnel, model):
    report = json.loads(
        subprocess.run(
            [runnel, "inspect", model, "--json", "--context", str(LENGTH)], check=True, capture_output=True
        ).stdout
    )
    return report["planned_bytes"]["state"]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder")
    p.add_argument("--bin", required=True)
    p.add_argument("--weights", default="f32", choices=("f32", "f16", "q8", "q4"))
    p.add_argument("--plot")
    o = p.parse_args()
    results = {}
    print(
        f"recall of {COUNT} sequences of {LENGTH} tokens, weights {o.weights}\n{'model':<14}{'state bytes':>12}"
        + "".join(f"{n:>4} pairs" for n in PAIRS)
    )
    with tempfile.TemporaryDirectory() as scratch:
        for name in sorted(os.listdir(o.folder)):
            source = os.path.join(o.folder, name)
            if not os.path.exists(source + "/config.json"):
                continue
            model = scratch + "/model.rnl"
            subprocess.run(
                [o.bin + "/runnel-convert", source, "-o", model, "--weights", o.weights],
                check=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            results[name] = [(n, recall(o.bin + "/runnel", model, n, scratch)) for n in PAIRS]
            print(
                f"{name:<14}{state_bytes(o.bin + '/runnel', model):>12}"
                + "".join(f"{r:>10.3f}" for _, r in results[name]),
                flush=True,
            )
    if o.plot:
        line_plot.write(
            o.plot,
            [
                lambda offset: line_plot.panel(
                    results, "Recall of key-value pairs (MQAR)", "pairs in 128 tokens", y_most=1.0, offset=offset
                )
            ],
        )


if __name__ == "__main__":
    main()
