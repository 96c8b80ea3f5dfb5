"""The table of tokens.sh: one row a method of --prune, its calls in turn with those of the whole model."""

import json
import os
import re
import statistics
import subprocess
import sys

import numpy as np

bin_folder, folder, *rest = sys.argv[1:]
SIZES = {"small": (384, 6), "tiny": (192, 3)}
size, *chosen = rest or ["small"]
WIDTH, HEADS = SIZES[size]
LAYERS, PATCHES, CALLS = 12, 14 * 14, 9
METHODS = chosen or ["tome:r=8", "tome:r=13", "mctf:r=13", "evit:keep=0.7", "evit:keep=0.5", "topk:keep=0.7"]
random = np.random.default_rng(0)


def save(path, tensors):
    header, at = {}, 0
    for name, x in tensors.items():
        header[name] = {"dtype": "F32", "shape": x.shape, "data_offsets": [at, at + x.nbytes]}
        at += x.nbytes
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for x in tensors.values():
            file.write(x.tobytes())


def drawn(*shape):
    return random.normal(0, 0.05, shape).astype(np.float32)


def write_model():
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "image_size": 224}
    os.makedirs(f"{folder}/model")
    with open(f"{folder}/model/config.json", "w", encoding="utf-8") as file:
        json.dump({"architectures": ["ViTModel"], "model_type": "vit", "patch_size": 16, **sizes}, file)
    tensors = {
        "embeddings.cls_token": drawn(1, 1, WIDTH),
        "embeddings.position_embeddings": drawn(1, PATCHES + 1, WIDTH),
        "embeddings.patch_embeddings.projection.weight": drawn(WIDTH, 3, 16, 16),
        "embeddings.patch_embeddings.projection.bias": drawn(WIDTH),
    }
    for i in range(LAYERS):
        at = f"encoder.layer.{i}."
        attention = [f"{at}attention.attention.{part}" for part in ("query", "key", "value")]
        shapes = {name: (WIDTH, WIDTH) for name in [*attention, f"{at}attention.output.dense"]}
        shapes |= {f"{at}intermediate.dense": (4 * WIDTH, WIDTH), f"{at}output.dense": (WIDTH, 4 * WIDTH)}
        for name, shape in shapes.items():
            tensors |= {f"{name}.weight": drawn(*shape), f"{name}.bias": drawn(shape[0])}
        for norm in ("layernorm_before", "layernorm_after"):
            tensors |= {f"{at}{norm}.weight": 1 + drawn(WIDTH), f"{at}{norm}.bias": drawn(WIDTH)}
    tensors |= {"layernorm.weight": 1 + drawn(WIDTH), "layernorm.bias": drawn(WIDTH)}
    save(f"{folder}/model/model.safetensors", tensors)
    save(f"{folder}/in.safetensors", {"pixel_values": random.normal(0, 1, (1, 3, 224, 224)).astype(np.float32)})


def convert(number, *options):
    path = f"{folder}/{number}.rnl"
    line = [f"{bin_folder}/runnel-convert", f"{folder}/model", "-o", path, *options]
    subprocess.run(line, check=True, capture_output=True)
    return path


def milliseconds(path):
    """Time in operators of one call."""
    trace = f"{folder}/trace.json"
    line = [f"{bin_folder}/runnel", "eval", path, "--in", f"{folder}/in.safetensors", "--out", f"{folder}/out"]
    subprocess.run([*line, "--threads", "1", "--trace", trace], check=True, capture_output=True)
    with open(trace, encoding="utf-8") as file:
        events = json.load(file)
    return sum(e.get("dur", 0) for e in (events["traceEvents"] if isinstance(events, dict) else events)) / 1e3


def tokens_of(path):
    """Tokens that the file says it has at first and behind each layer that left fewer."""
    with open(path, "rb") as file:
        found = re.search(rb"tokens of an image ([0-9, ]+)", file.read())
    return [int(n) for n in found[1].split(b",")]


def layers_of(method, tokens):
    """Tokens in the attention and in the rest of each layer."""
    given = {name: int(n) for name, n in re.findall(r"(exact|every)=(\d+)", method)}
    exact, every = (given.get(name, 3) for name in ("exact", "every"))
    if not method.startswith(("evit", "topk", "k-centre", "spatten")):
        exact, every = given.get("exact", 0), 1
    out, now, behind = [], tokens[0], list(tokens[1:])
    for i in range(LAYERS):
        seen = now
        if behind and i >= exact and (i - exact) % every == 0:
            now = behind.pop(0)
        out.append((seen, now))
    return out


def work(layers):
    return sum(4 * seen * WIDTH**2 + 2 * seen * seen * WIDTH + 8 * now * WIDTH**2 for seen, now in layers)


write_model()
whole = convert("whole")
all_work = work([(PATCHES + 1, PATCHES + 1)] * LAYERS)
print("| method | tokens behind the layers | work | time | calls, ms |\n|---|---|---|---|---|")
for number, method in enumerate(METHODS):
    pruned = convert(number, "--prune", method)
    times = [(milliseconds(whole), milliseconds(pruned)) for _ in range(CALLS)]
    full, less = (statistics.median(column) for column in zip(*times))
    ratio = statistics.median(b / a for a, b in times)
    tokens = tokens_of(pruned)
    print(
        f"| `{method}` | {tokens[0]} to {tokens[-1]} | {work(layers_of(method, tokens)) / all_work:.2f}x "
        f"| {ratio:.2f}x | {full:.1f}, {less:.1f} |",
        flush=True,
    )
