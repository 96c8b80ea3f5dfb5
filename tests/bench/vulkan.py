"""Tables of the Vulkan backend; called by vulkan.sh. Times are medians over the rounds, ours and the peer's in turn."""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile

import linear_time

GEMMA = ("gemma-3-270m", "models/gemma-3-270m-q4_k_m.gguf", "models/gemma-3-270m.rnl")


class Table:
    def __init__(self, markdown, *header):
        self.markdown = markdown
        self.row(*header)
        if markdown:
            print("|" + "---|" * len(header))

    def row(self, *cells):
        print(
            "| " + " | ".join(map(str, cells)) + " |" if self.markdown else "".join(f"{c!s:<20}" for c in cells),
            flush=True,
        )


def shaders(o):
    """Bytes by operator, from the list of variants."""
    sizes = {}
    with open("shaders/variants.txt") as f:
        for line in f:
            if line.strip() and not line.startswith("#"):
                name, source = line.split()[:2]
                folder = source.split("/")[0]
                sizes[folder] = sizes.get(folder, 0) + os.path.getsize(os.path.join(o.shaders, name + ".small.spv"))
    table = Table(o.markdown, "shaders of", "bytes")
    for name, size in sorted(sizes.items(), key=lambda x: -x[1]):
        table.row(name, size)
    table.row("all", sum(sizes.values()))
    print()


def bench(o, model, prompt, gen, folder):
    os.environ["RUNNEL_CACHE_DIR"] = folder
    result, _ = linear_time.run(
        [
            os.path.join(o.bin, "runnel"),
            "bench",
            model,
            "--backend",
            "vulkan",
            "--prompt",
            str(prompt),
            "--gen",
            str(gen),
            "--repeat",
            "1",
            "--json",
        ]
    )
    return result


def starts(o, models):
    """A folder without a cache, then the same one again. Own: loading without what the driver takes to open the device."""
    table = Table(
        o.markdown,
        "start of",
        "first, ms",
        "second, ms",
        "driver",
        "own",
        "pipelines",
        "cached",
        "made in, ms",
        "first token, ms",
    )
    for name, _, model in models:
        with tempfile.TemporaryDirectory() as folder:
            first = bench(o, model, 4, 1, folder)
            later = [bench(o, model, 4, 1, folder) for _ in range(o.rounds)]
        median = lambda of: statistics.median(map(of, later))
        driver = median(lambda r: r["device"]["driver_ms"])
        own = median(lambda r: r["load_ms"] - r["device"]["driver_ms"])
        table.row(
            name,
            f"{first['load_ms']:.0f}",
            f"{median(lambda r: r['load_ms']):.0f}",
            f"{driver:.0f}",
            f"{own:.0f}",
            later[0]["device"]["pipelines"],
            later[0]["device"]["pipelines_cached"],
            f"{median(lambda r: r['device']['pipeline_ms']):.0f}",
            f"{median(lambda r: r['first_token_ms']):.0f}",
        )
    print()


def speed(o, models):
    """Returns our figures of Gemma, if it takes part."""
    gemma = {}
    table = Table(o.markdown, "tokens/s", "measure", "Runnel", "llama.cpp", "ratio")
    os.environ["GGML_VK_VISIBLE_DEVICES"] = "0"  # it leaves devices that are CPUs out unless one is named
    with tempfile.TemporaryDirectory() as folder:
        for name, gguf, model in models:
            bench(o, model, 4, 1, folder)
            for measure, prompt, gen in ((f"prefill {o.prompt}", o.prompt, 0), (f"decode {o.gen}", 0, o.gen)):
                mine, peers = [], []
                for _ in range(o.rounds):
                    mine.append(
                        bench(o, model, prompt, gen, folder)[
                            "prefill_tokens_per_s" if prompt else "decode_tokens_per_s"
                        ]
                    )
                    if o.peer:
                        result, _ = linear_time.run(
                            [
                                o.peer,
                                "-m",
                                gguf,
                                "-ngl",
                                "99",
                                "-p",
                                str(prompt),
                                "-n",
                                str(gen),
                                "-r",
                                "1",
                                "-o",
                                "json",
                            ]
                        )
                        peers.append(result[0]["avg_ts"])
                a, b = statistics.median(mine), statistics.median(peers) if peers else 0
                if name == GEMMA[0]:
                    gemma["prefill" if prompt else "decode"] = a
                table.row(name, measure, f"{a:.1f}", f"{b:.1f}" if b else "", f"{a / b:.2f}" if b else "")
    print()
    return gemma


def products(o, gemma):
    """ncnn has no such models: its products alone beside our whole model."""
    theirs, _ = linear_time.run(
        [sys.executable, "tests/bench/ncnn_products.py", "--prompt", str(o.prompt), "--gen", str(o.gen)]
    )
    table = Table(
        o.markdown, "tokens/s", "measure", "Runnel, whole model", "ncnn, products alone", "its layer", "ratio"
    )
    for measure, tokens in (("prefill", o.prompt), ("decode", o.gen)):
        layer = max(theirs, key=lambda kind: theirs[kind][measure])
        table.row(
            GEMMA[0],
            f"{measure} {tokens}",
            f"{gemma[measure]:.1f}",
            f"{theirs[layer][measure]:.1f}",
            layer,
            f"{gemma[measure] / theirs[layer][measure]:.2f}",
        )
    print()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--bin", required=True)
    p.add_argument("--peer", default="")
    p.add_argument("--folder", required=True)
    p.add_argument("--shaders", required=True)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--prompt", type=int, default=64)
    p.add_argument("--gen", type=int, default=16)
    p.add_argument("--models", default="mamba-130m,mamba2-130m,rwkv7-0.2b,lfm2-350m")
    p.add_argument("--type", default="q8_0")
    p.add_argument("--no-peer", action="store_true")
    p.add_argument("--markdown", action="store_true")
    o = p.parse_args()
    os.makedirs(o.folder, exist_ok=True)
    models = [GEMMA] if all(map(os.path.exists, GEMMA[1:])) else []
    models += [(name, *linear_time.files(o, name, o.type)) for name in o.models.split(",") if name]
    subprocess.run([os.path.join(o.bin, "runnel"), "devices"], check=True)
    print()
    shaders(o)
    starts(o, models)
    gemma = speed(o, models)
    if o.peer and gemma:
        products(o, gemma)


if __name__ == "__main__":
    sys.exit(main())
