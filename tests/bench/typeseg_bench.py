"""Times examples/typeseg and onnxruntime in turn; called by typeseg.sh. Figures are medians over the rounds."""

import argparse
import os
import re
import statistics
import tempfile
import time

import onnxruntime
import typeseg
from typeseg._onnx_backend import _compact_ids
from typeseg._tokenize import text_to_bytes

PEER_BYTES, OUR_BYTES = 2000, 100_000


def sized(text, count):
    return (text * (count // len(text) + 1))[:count]


def peer(threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    path = os.path.join(os.path.dirname(typeseg.__file__), "data", "mamba_al.onnx")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def peer_rate(session, text):
    ids = _compact_ids(text_to_bytes(text))
    begun = time.perf_counter()
    session.run(None, {session.get_inputs()[0].name: ids})
    return ids.size / (time.perf_counter() - begun)


def ours(folder, weights, file, threads):
    """Bytes a second and peak memory of the process."""
    arguments = [
        f"{folder}/program/typeseg",
        f"{folder}/typeseg-{weights}.rnl",
        f"{folder}/labels.txt",
        file,
        "--time",
        "--threads",
        str(threads),
    ]
    with tempfile.TemporaryFile("w+") as out:
        pid = os.posix_spawn(arguments[0], arguments, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, out.fileno(), 1)])
        _, status, usage = os.wait4(pid, 0)
        if status:
            raise SystemExit(f"failed: {' '.join(arguments)}")
        out.seek(0)
        return float(re.search(r"([\d.]+) a second", out.read())[1]), usage.ru_maxrss * 1024


def main():
    p = argparse.ArgumentParser()
    p.add_argument("folder")
    p.add_argument("text")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", default="1,2")
    o = p.parse_args()
    with open(o.text, encoding="utf-8") as f:
        text = f.read()
    with tempfile.TemporaryDirectory() as scratch:

        def file_of(count):
            path = f"{scratch}/{count}.txt"
            with open(path, "w", encoding="utf-8") as f:
                f.write(sized(text, count))
            return path

        print(f"{os.cpu_count()} processors; bytes a second, medians of {o.rounds} rounds in turn")
        print(f"{'threads':>7} {'onnxruntime':>12} {'Runnel f32':>12} {'ratio':>6} {'Runnel q8':>12} {'ratio':>6}")
        for threads in map(int, o.threads.split(",")):
            session, rates = peer(threads), {"peer": [], "f32": [], "q8": []}
            for _ in range(o.rounds):
                rates["peer"].append(peer_rate(session, sized(text, PEER_BYTES)))
                for weights in ("f32", "q8"):
                    rates[weights].append(ours(o.folder, weights, file_of(OUR_BYTES), threads)[0])
            a, b, c = (statistics.median(rates[k]) for k in ("peer", "f32", "q8"))
            print(f"{threads:>7} {a:>12.0f} {b:>12.0f} {b / a:>6.1f} {c:>12.0f} {c / a:>6.1f}", flush=True)
        print("length: peak memory of the process, f32 weights")
        for count in (10_000, 100_000, 1_000_000):
            print(f"{count:>9}: {ours(o.folder, 'f32', file_of(count), 2)[1] / 1e6:.1f} MB", flush=True)


if __name__ == "__main__":
    main()
