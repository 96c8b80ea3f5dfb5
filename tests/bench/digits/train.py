"""Trains small vision transformers on handwritten digits and saves them as transformers does, one folder each:

    pip install torch==2.15.0 safetensors==0.8.0 scikit-learn==1.7.2
    python tests/bench/digits/train.py FOLDER [--models plain,further,evit,exits] [--epochs 60]

Six layers of 64 channels, 65 tokens; four minutes of one core, the others one to two. Models:

  plain    all tokens in all layers
  further  plain, trained on for as long as the two below
  evit     plain, trained on with EViT's tokens (Liang et al. 2022): behind the attention of layers 1, 3 and 5, counted
           from 0, half of the tokens go on, those that the class token sees most, and the others as one
  exits    plain, trained on with all tokens; each layer's class token is classified too, by the one norm and matrix of
           the last layer

Then tests/bench/digits/evaluate.py.
"""

import argparse
import json
import math
import os
import sys
import time

import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from data import SIDE, digits  # noqa: E402

WIDTH, HEADS, LAYERS, CLASSES, EPS = 64, 4, 6, 10, 1e-6
KEEP, THINNED = 0.5, (1, 3, 5)


def first_weights():
    torch.manual_seed(1)
    w = {
        "vit.embeddings.cls_token": torch.zeros(1, 1, WIDTH),
        "vit.embeddings.position_embeddings": torch.randn(1, SIDE * SIDE + 1, WIDTH) * 0.1,
        "vit.embeddings.patch_embeddings.projection.weight": torch.randn(WIDTH, 1, 1, 1) * 0.3,
        "vit.embeddings.patch_embeddings.projection.bias": torch.zeros(WIDTH),
    }
    matrices = {"classifier": (CLASSES, WIDTH)}
    norms = ["vit.layernorm"]
    for i in range(LAYERS):
        at = f"vit.encoder.layer.{i}."
        matrices |= {f"{at}attention.attention.{part}": (WIDTH, WIDTH) for part in ("query", "key", "value")}
        matrices[f"{at}attention.output.dense"] = (WIDTH, WIDTH)
        matrices[f"{at}intermediate.dense"] = (2 * WIDTH, WIDTH)
        matrices[f"{at}output.dense"] = (WIDTH, 2 * WIDTH)
        norms += [f"{at}layernorm_before", f"{at}layernorm_after"]
    for name, (rows, columns) in matrices.items():
        w[f"{name}.weight"] = torch.randn(rows, columns) / math.sqrt(columns)
        w[f"{name}.bias"] = torch.zeros(rows)
    for name in norms:
        w[f"{name}.weight"], w[f"{name}.bias"] = torch.ones(WIDTH), torch.zeros(WIDTH)
    return w


def thinned(x, seen):
    """EViT: x [n, tokens, width] behind an attention in which the class token sees the others by `seen`."""
    count = math.ceil(KEEP * seen.shape[1])
    order = seen.argsort(dim=1, descending=True, stable=True)
    kept, rest = order[:, :count], order[:, count:]
    rows = lambda places: x[:, 1:].gather(1, places[..., None].expand(-1, -1, WIDTH))
    one = (seen.gather(1, rest)[..., None] * rows(rest)).sum(1, keepdim=True)
    return torch.cat([x[:, :1], rows(kept), one], 1)


def forward(w, pixels, prunes=False):
    """Logits behind each layer, as if it were the last."""
    linear = lambda x, at: torch.nn.functional.linear(x, w[f"{at}.weight"], w[f"{at}.bias"])
    norm = lambda x, at: torch.nn.functional.layer_norm(x, (WIDTH,), w[f"{at}.weight"], w[f"{at}.bias"], EPS)
    at = "vit.embeddings."
    projection = f"{at}patch_embeddings.projection"
    patches = torch.nn.functional.conv2d(pixels, w[f"{projection}.weight"], w[f"{projection}.bias"])
    first = w[f"{at}cls_token"].expand(len(pixels), -1, -1)
    x = torch.cat([first, patches.flatten(2).transpose(1, 2)], 1) + w[f"{at}position_embeddings"]
    logits = []
    for i in range(LAYERS):
        at = f"vit.encoder.layer.{i}."
        y = norm(x, f"{at}layernorm_before")
        q, k, v = (
            linear(y, f"{at}attention.attention.{part}").unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        weights = (q @ k.transpose(2, 3) / math.sqrt(WIDTH // HEADS)).softmax(-1)
        x = x + linear((weights @ v).transpose(1, 2).flatten(2), f"{at}attention.output.dense")
        if prunes and i in THINNED:
            x = thinned(x, weights[:, :, 0, 1:].mean(1))
        up = torch.nn.functional.gelu(linear(norm(x, f"{at}layernorm_after"), f"{at}intermediate.dense"))
        x = x + linear(up, f"{at}output.dense")
        logits.append(linear(norm(x[:, 0], "vit.layernorm"), "classifier"))
    return logits


def shifted(pixels):
    """Each image moved by -1 to 1 rows and columns."""
    padded = torch.nn.functional.pad(pixels, (1, 1, 1, 1), value=-1.0)
    places = torch.randint(0, 3, (len(pixels), 2)).tolist()
    return torch.stack([image[:, r : r + SIDE, c : c + SIDE] for image, (r, c) in zip(padded, places)])


def save(folder, w):
    os.makedirs(folder, exist_ok=True)
    config = {
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": 2 * WIDTH,
        "layer_norm_eps": EPS,
        "image_size": SIDE,
        "patch_size": 1,
        "num_channels": 1,
        "id2label": {str(i): str(i) for i in range(CLASSES)},
    }
    with open(f"{folder}/config.json", "w", encoding="utf-8") as f:
        json.dump(config, f)
    save_file({name: x.detach() for name, x in w.items()}, f"{folder}/model.safetensors", {"format": "pt"})


def train(name, folder, epochs, rate, batch):
    images, classes = (torch.from_numpy(x) for x in digits(tested=False))
    first = first_weights() if name == "plain" else load_file(os.path.join(folder, "plain/model.safetensors"))
    w = {key: x.requires_grad_() for key, x in first.items()}
    optimiser = torch.optim.AdamW(w.values(), lr=rate, weight_decay=0.05)
    steps = epochs * (len(images) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.1)
    begun = time.time()
    for epoch in range(epochs):
        order, right = torch.randperm(len(images)), 0
        for step in range(len(images) // batch):
            at = order[step * batch : (step + 1) * batch]
            logits = forward(w, shifted(images[at]), prunes=name == "evit")
            losses = [torch.nn.functional.cross_entropy(y, classes[at], label_smoothing=0.05) for y in logits]
            loss = sum(losses) / LAYERS if name == "exits" else losses[-1]
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(w.values(), 1.0)
            optimiser.step()
            schedule.step()
            right += int((logits[-1].argmax(-1) == classes[at]).sum())
        if (epoch + 1) % 5 == 0:
            accuracy = right / (len(images) // batch * batch)
            print(
                f"{name}: epoch {epoch + 1}, loss {loss.item():.3f}, {accuracy:.3f}, {time.time() - begun:.0f} s",
                flush=True,
            )
    save(os.path.join(folder, name), w)
    images, classes = (torch.from_numpy(x) for x in digits(tested=True))
    with torch.no_grad():
        wrong = forward(w, images, prunes=name == "evit")[-1].argmax(-1) != classes
    print(f"{name}: {100 * wrong.float().mean():.1f}% of the tested images are read wrong")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--models", default="plain,further,evit,exits")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--batch", type=int, default=64)
    o = parser.parse_args()
    for name in o.models.split(","):
        if name == "plain":
            train(name, o.folder, o.epochs, o.rate, o.batch)
        else:
            train(name, o.folder, o.epochs // 3, o.rate / 2, o.batch)


if __name__ == "__main__":
    main()
