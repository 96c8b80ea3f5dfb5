"""Runnel beside typeseg's own NumPy code on mixed texts: logits of every byte and the label of each. Called by run.sh --check."""

import os
import subprocess
import sys
import tempfile

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from export import write_safetensors  # noqa: E402

os.environ["TYPESEG_BACKEND"] = "numpy"
from typeseg._numpy_backend import mamba_forward  # noqa: E402
from typeseg._runtime import _weights  # noqa: E402
from typeseg._tokenize import text_to_bytes  # noqa: E402


def texts():
    here = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(here, "mixed.txt"), encoding="utf-8") as f:
        mixed = f.read()
    with open(os.path.join(here, "main.cpp"), encoding="utf-8") as f:
        program = f.read()
    return {
        "one letter": "x",
        "three bytes": "a b",
        "not ASCII": "naïve café, 漢字 and 😀\n",
        "mixed": mixed,
        "C++ and mixed": program[:2500] + mixed,
    }


def read(path):
    import json
    import struct

    with open(path, "rb") as f:
        size = struct.unpack("<Q", f.read(8))[0]
        entry = json.loads(f.read(size))["logits"]
        begin, end = entry["data_offsets"]
        return np.frombuffer(f.read()[begin:end], np.float32).reshape(entry["shape"])


def main():
    folder, runnel = sys.argv[1:]
    weights, failed = _weights("mamba_al.npz"), False
    with tempfile.TemporaryDirectory() as scratch:
        for name, text in texts().items():
            ids = text_to_bytes(text)
            want = mamba_forward(weights, ids)
            source, target = scratch + "/in", scratch + "/out"
            header_ids = np.ascontiguousarray(ids, np.int32)
            write_safetensors(source, {"bytes": header_ids})
            for kind, limit in (("f32", 1e-4), ("q8", 0.1)):
                subprocess.run(
                    [runnel, "eval", f"{folder}/typeseg-{kind}.rnl", "--in", source, "--out", target], check=True
                )
                got = read(target)
                error, same = np.abs(got - want).max() / np.abs(want).max(), (got.argmax(-1) == want.argmax(-1)).mean()
                print(
                    f"{name}, {len(ids)} bytes, {kind}: largest difference {error:.1e} of the largest logit, {same:.2%} of the labels the same"
                )
                failed |= error > limit or same < (1 if kind == "f32" else 0.99)
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
