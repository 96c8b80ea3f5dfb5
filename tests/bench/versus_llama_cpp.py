"""Measures both runtimes in turn and prints the table of ratios; called by versus_llama_cpp.sh.

Each row is the median over the rounds. The peer runs in every setting in the first round (the file as shipped and
requantised to Q4_0, flash attention on and off); further rounds repeat the setting that won the row."""

import argparse
import itertools
import json
import os
import platform
import statistics
import sys
import tempfile

# name, unit, tokens of prompt, tokens generated, depth, aim of the ratio
ROWS = (
    ("prefill 512", "tokens/s", 512, 0, 0, 2.0),
    ("prefill 2048", "tokens/s", 2048, 0, 0, 2.0),
    ("decode 128", "tokens/s", 0, 128, 0, 1.5),
    ("decode 64 at depth 8192", "tokens/s", 0, 64, 8192, 2.0),
)
WAITS = (("load", "load_ms", 10.0), ("first token after 512, with load", "first_token_ms", 1.0))
PEAKS = (("peak memory, 512 + 128", 512, 128, 0, 0.9), ("peak memory, depth 8192", 0, 64, 8192, 0.9))


def run(arguments):
    """Output and peak memory in bytes of one process."""
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


class Runnel:
    def __init__(self, o):
        self.o = o

    def bench(self, threads, prompt, gen, depth):
        return run(
            [
                self.o.runnel,
                "bench",
                self.o.model,
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

    def speed(self, threads, prompt, gen, depth):
        result, _ = self.bench(threads, prompt, gen, depth)
        return result["prefill_tokens_per_s" if prompt else "decode_tokens_per_s"]

    def waits(self, threads):
        return self.bench(threads, 512, 0, 0)[0]

    def peak(self, threads, prompt, gen, depth):
        return self.bench(threads, prompt, gen, depth)[1]


class Peer:
    SETTINGS = tuple(itertools.product(("shipped", "Q4_0"), ("fa off", "fa on")))

    def __init__(self, o):
        self.o = o

    def file(self, setting):
        return self.o.shipped if setting[0] == "shipped" else self.o.requantised

    def bench(self, threads, setting, prompt, gen, depth):
        return run(
            [
                self.o.bench,
                "-m",
                self.file(setting),
                "-t",
                str(threads),
                "-p",
                str(prompt),
                "-n",
                str(gen),
                "-d",
                str(depth),
                "-fa",
                setting[1].split()[1],
                "-r",
                "1",
                "-o",
                "json",
            ]
        )

    def speed(self, threads, setting, prompt, gen, depth):
        return self.bench(threads, setting, prompt, gen, depth)[0][0]["avg_ts"]

    def waits(self, threads, setting):
        return run([self.o.first_token, self.file(setting), str(threads), "512", str(int(setting[1] == "fa on"))])[0]

    def peak(self, threads, setting, prompt, gen, depth):
        return self.bench(threads, setting, prompt, gen, depth)[1]


def compare(rounds, ours, theirs, better):
    """ours() and theirs(setting) in turn. Returns both medians and the peer's best setting."""
    mine, peers = [], {s: [] for s in Peer.SETTINGS}
    best = None
    for _ in range(rounds):
        mine.append(ours())
        for setting in Peer.SETTINGS if best is None else (best,):
            peers[setting].append(theirs(setting))
        if best is None:
            best = better(Peer.SETTINGS, key=lambda s: peers[s][0])
    return statistics.median(mine), statistics.median(peers[best]), ", ".join(best)


def main():
    parser = argparse.ArgumentParser()
    for name in ("runnel", "model", "bench", "first-token", "shipped", "requantised"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--markdown", action="store_true", help="a table for a README")
    o = parser.parse_args()
    runnel, peer = Runnel(o), Peer(o)
    info, _ = runnel.bench(1, 16, 0, 0)
    print(
        f"{info['cpu']}, {os.cpu_count()} processors, {platform.system()} {platform.machine()}; Gemma 3 270M Q4_K_M; medians of {o.rounds} rounds, in turn"
    )
    header = ("measure", "threads", "Runnel", "llama.cpp", "ratio", "aim", "its best setting")
    if o.markdown:
        print("| " + " | ".join(header) + " |\n|" + "---|" * len(header))
    else:
        print("{:<34} {:>7} {:>16} {:>16} {:>7} {:>6}  {}".format(*header))

    def show(name, threads, a, b, unit, ratio, aim, setting):
        cells = (name, threads, f"{a:.1f} {unit}", f"{b:.1f} {unit}", f"{ratio:.2f}x", aim, setting)
        print(
            ("| " + " | ".join(map(str, cells)) + " |")
            if o.markdown
            else "{:<34} {:>7} {:>16} {:>16} {:>7} {:>6}  {}".format(*cells),
            flush=True,
        )

    for threads in map(int, o.threads.split(",")):
        for name, unit, prompt, gen, depth, aim in ROWS:
            a, b, setting = compare(
                o.rounds,
                lambda: runnel.speed(threads, prompt, gen, depth),
                lambda s: peer.speed(threads, s, prompt, gen, depth),
                max,
            )
            show(name, threads, a, b, unit, a / b, f">={aim}", setting)
        for name, key, aim in WAITS:
            a, b, setting = compare(
                o.rounds, lambda: runnel.waits(threads)[key], lambda s: peer.waits(threads, s)[key], min
            )
            show(name, threads, a, b, "ms", b / a, f">={aim}", setting)
        for name, prompt, gen, depth, aim in PEAKS:
            a, b, setting = compare(
                1,
                lambda: runnel.peak(threads, prompt, gen, depth),
                lambda s: peer.peak(threads, s, prompt, gen, depth),
                min,
            )
            show(name, threads, a / 1e6, b / 1e6, "MB", a / b, f"<={aim}", setting)


if __name__ == "__main__":
    main()
