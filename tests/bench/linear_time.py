"""Measures Runnel and llama.cpp in turn on linear-time models with random weights; called by linear_time.sh.

Figures are medians over the rounds. The peer runs with flash attention on and off in the first round and keeps the better, where the model has
attention at all."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile

import line_plot
import make_random_ggufs

ROWS = (
    ("prefill 512", 512, 0, 0),
    ("prefill 2048", 2048, 0, 0),
    ("decode 128", 0, 128, 0),
    ("decode 64 at depth 8192", 0, 64, 8192),
)
WITHOUT_ATTENTION = ("mamba-130m", "mamba2-130m", "rwkv7-0.2b")


def run(arguments):
    with tempfile.TemporaryFile() as out:
        pid = os.posix_spawn(
            arguments[0],
            arguments,
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_DUP2, out.fileno(), 1),
                (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
            ],
        )
        _, status, usage = os.wait4(pid, 0)
        if status != 0:
            sys.exit(f"failed: {' '.join(arguments)}")
        out.seek(0)
        return json.loads(out.read()), usage.ru_maxrss * 1024


def files(o, name, kind):
    """Makes the GGUF and its .rnl when they are missing."""
    gguf = os.path.join(o.folder, f"{name}-{kind}.gguf")
    model = os.path.join(o.folder, f"{name}-{kind}.rnl")
    if not os.path.exists(gguf):
        make_random_ggufs.make(o.folder, kind, name)
    if not os.path.exists(model) or os.path.getmtime(model) < os.path.getmtime(gguf):
        subprocess.run(
            [os.path.join(o.bin, "runnel-convert"), gguf, "-o", model], check=True, stdout=subprocess.DEVNULL
        )
    return gguf, model


def ours(o, model, threads, prompt, gen, depth):
    result, peak = run(
        [
            os.path.join(o.bin, "runnel"),
            "bench",
            model,
            "--prompt",
            str(prompt),
            "--gen",
            str(gen),
            "--depth",
            str(depth),
            "--threads",
            str(threads),
            "--repeat",
            "1",
            "--json",
        ]
    )
    return result["prefill_tokens_per_s" if prompt else "decode_tokens_per_s"], peak


def theirs(o, gguf, threads, prompt, gen, depth, flash):
    result, peak = run(
        [
            o.peer,
            "-m",
            gguf,
            "-t",
            str(threads),
            "-p",
            str(prompt),
            "-n",
            str(gen),
            "-d",
            str(depth),
            "-fa",
            str(flash),
            "-r",
            "1",
            "-o",
            "json",
        ]
    )
    return result[0]["avg_ts"], peak


def compare(o):
    header = ("model", "weights", "measure", "threads", "Runnel", "llama.cpp", "ratio", "memory")
    line = (
        "| " + " | ".join(["{}"] * len(header)) + " |"
        if o.markdown
        else "{:<17} {:<7} {:<24} {:>7} {:>9} {:>9} {:>6} {:>7}"
    )
    print(
        f"{platform.machine()}, {os.cpu_count()} processors; tokens/s, medians of {o.rounds} rounds in turn; memory: peak of ours over the peer's"
    )
    print(line.format(*header))
    if o.markdown:
        print("|" + "---|" * len(header))
    for name in o.models.split(","):
        for kind in o.types.split(","):
            gguf, model = files(o, name, kind)
            for threads in map(int, o.threads.split(",")):
                for row, prompt, gen, depth in ROWS:
                    if not any(row.startswith(start) for start in o.rows.split(",")):
                        continue
                    mine, peers, best = [], [], None
                    for _ in range(o.rounds):
                        mine.append(ours(o, model, threads, prompt, gen, depth))
                        if best is None:
                            tried = {
                                flash: theirs(o, gguf, threads, prompt, gen, depth, flash)
                                for flash in ((0,) if name in WITHOUT_ATTENTION else (0, 1))
                            }
                            best = max(tried, key=lambda flash: tried[flash][0])
                            peers.append(tried[best])
                        else:
                            peers.append(theirs(o, gguf, threads, prompt, gen, depth, best))
                    a, b = (statistics.median(x[0] for x in side) for side in (mine, peers))
                    memory = statistics.median(x[1] for x in mine) / statistics.median(x[1] for x in peers)
                    print(
                        line.format(name, kind, row, threads, f"{a:.1f}", f"{b:.1f}", f"{a / b:.2f}", f"{memory:.2f}"),
                        flush=True,
                    )


def lengths(o):
    _, model = files(o, o.model, o.types.split(",")[0])
    threads = o.threads.split(",")[-1]
    points = []
    print(f"{o.model}, {threads} threads: tokens, milliseconds a token, peak MB")
    for tokens in map(int, o.tokens.split(",")):
        # Streams of ids in pieces: the depth is fed as a prompt, then one token is decoded.
        result, peak = run(
            [
                os.path.join(o.bin, "runnel"),
                "bench",
                model,
                "--prompt",
                str(tokens),
                "--gen",
                "0",
                "--threads",
                threads,
                "--repeat",
                "1",
                "--json",
            ]
        )
        points.append((tokens, 1000 / result["prefill_tokens_per_s"], peak / 1e6))
        print(f"{tokens} {points[-1][1]:.4f} {points[-1][2]:.1f}", flush=True)
    name = lambda tokens: f"{tokens // 1024}K" if tokens < 1 << 20 else f"{tokens >> 20}M"
    draw = lambda column, title: (
        lambda offset: line_plot.panel(
            {o.model: [(p[0], p[column]) for p in points]}, title, "tokens", name, offset=offset
        )
    )
    line_plot.write(o.plot, [draw(1, "Prefill, milliseconds a token"), draw(2, "Peak memory, MB")])
    print(f"drawn: {o.plot}")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--bin", required=True)
    p.add_argument("--peer", required=True)
    p.add_argument("--folder", required=True)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--threads", default="1,2")
    p.add_argument("--types", default="q8_0,q4_0")
    p.add_argument("--models", default=",".join(make_random_ggufs.MODELS))
    p.add_argument("--rows", default="prefill,decode", help="beginnings of the measures' names")
    p.add_argument("--markdown", action="store_true")
    p.add_argument("--lengths", action="store_true")
    p.add_argument("--tokens", default="2048,8192,32768,131072,1048576")
    p.add_argument("--model", default="mamba-130m")
    p.add_argument("--plot", default="linear_time.svg")
    o = p.parse_args()
    os.makedirs(o.folder, exist_ok=True)
    (lengths if o.lengths else compare)(o)


if __name__ == "__main__":
    main()
