"""The table of sparse.sh: one row a method, times beside those of the exact model, measured in turn."""

import json
import subprocess
import sys
import time

bin_folder, source, text, folder, *chosen = sys.argv[1:]

SPARSE = ["xattention:threshold=0.95", "minference", "flexprefill", "anchor", "moba:queries=16", "hip", "dhsa", "sale"]
POLICIES = ["h2o", "snapkv", "h2o:budget=2048,recent=1024", "snapkv:budget=2048"]
ATTENTION = ("attention", "sparse_attention", "budget_attention", "select_blocks")


def convert(name, options):
    path = f"{folder}/{name}.rnl"
    subprocess.run([f"{bin_folder}/runnel-convert", source, "-o", path, *options], check=True, capture_output=True)
    return path


def run(command, path, *options):
    line = [f"{bin_folder}/runnel", command, path, "--json", "--threads", "1", *options]
    return json.loads(subprocess.run(line, check=True, capture_output=True, text=True).stdout)


def read(path):
    """Perplexity of the text, and seconds by operator."""
    trace = f"{folder}/trace.json"
    result = run("perplexity", path, "--file", text, "--trace", trace)
    with open(trace, encoding="utf-8") as file:
        events = json.load(file)
    seconds = {}
    for event in events["traceEvents"] if isinstance(events, dict) else events:
        name = event["name"].split("_f32")[0]
        seconds[name] = seconds.get(name, 0) + event.get("dur", 0) / 1e6
    return result, seconds


def prefill(path):
    """Seconds of reading the text as a prompt."""
    start = time.monotonic()
    subprocess.run(
        [f"{bin_folder}/runnel", "run", path, "--file", text, "-n", "1", "--threads", "1"],
        check=True,
        capture_output=True,
    )
    return time.monotonic() - start


def decode(path, depth):
    got = run("bench", path, "--prompt", "0", "--gen", "16", "--depth", str(depth), "--repeat", "1")
    return f"{got['planned_bytes']['state'] / 1e6:.1f} | {got['decode_tokens_per_s']:.1f}"


def attention(seconds):
    return sum(seconds.get(name, 0) for name in ATTENTION)


plain = convert("plain", [])
exact, exact_seconds = read(plain)
print(f"{exact['tokens']} tokens; decode behind them\n")
print(
    "| method | perplexity | prefill | attention with choice, of exact | choice alone | state, MB | decode, tokens/s |"
)
print("|---|---|---|---|---|---|---|")
print(f"| exact | {exact['perplexity']:.3f} | 1x | 1 | | {decode(plain, exact['tokens'])} |", flush=True)
rows = [("--sparse", m) for m in SPARSE] + [("--kv-policy", m) for m in POLICIES]
if chosen:
    rows = [("--kv-policy" if m.split(":")[0] in ("h2o", "snapkv") else "--sparse", m) for m in chosen]
for flag, method in rows:
    path = convert("method", [flag, method])
    gain = prefill(plain) / prefill(path)
    _, exact_seconds = read(plain)
    result, seconds = read(path)
    change = result["perplexity"] / exact["perplexity"] - 1
    shares = [attention(seconds), seconds.get("select_blocks", 0)]
    of_exact = " | ".join(f"{s / attention(exact_seconds):.2f}" for s in shares)
    rest = decode(path, exact["tokens"]) if flag == "--kv-policy" else " | "
    print(
        f"| `{flag} {method}` | {result['perplexity']:.3f} ({change:+.1%}) | {gain:.2f}x | {of_exact} | {rest} |",
        flush=True,
    )
