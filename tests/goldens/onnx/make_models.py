#!/usr/bin/env python3
"""Small networks of random weights, exported by both of torch's exporters, with onnxruntime's answers:
models/NAME_script.onnx, models/NAME_dynamo.onnx and .safetensors files as those of make_operators.py. Fixed seed.

    pip install torch==2.15.0 onnx==1.23.2 onnxruntime==1.32.0 onnxscript numpy==2.4.6 safetensors==0.8.0
    python3 make_models.py
"""

import pathlib
import shutil
import sys

import numpy as np
import onnx
import onnxruntime
import torch
from safetensors.numpy import save_file
from torch import nn

FOLDER = pathlib.Path(__file__).parent / "models"


class Gate(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x):
        g = nn.functional.adaptive_avg_pool2d(x, 1)
        return x * torch.sigmoid(self.up(nn.functional.silu(self.down(g))))


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()

        def block(*conv, **options):
            layer = nn.Conv2d(*conv, bias=False, **options)
            return [layer, nn.BatchNorm2d(layer.out_channels)]

        self.body = nn.Sequential(
            *block(3, 8, 3, stride=2, padding=1),
            nn.Hardswish(),
            *block(8, 8, 3, padding=1, groups=8),
            nn.ReLU6(),
            Gate(8),
            *block(8, 20, 1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            *block(20, 20, 3, padding=1, groups=4),
            nn.SiLU(),
        )
        self.head = nn.Linear(20, 10)

    def forward(self, image):
        x = self.body(image)
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Layer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.before, self.behind = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x, mask=None):
        b, t, w = x.shape
        q, k, v = (
            self.qkv(self.before(x)).reshape(b, t, 3, self.heads, w // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        )
        y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.out(y.transpose(1, 2).reshape(b, t, w))
        return x + self.down(nn.functional.gelu(self.up(self.behind(x))))


class Vit(nn.Module):
    def __init__(self, width=24, heads=3):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, stride=4)
        self.first = nn.Parameter(torch.randn(1, 1, width))
        self.positions = nn.Parameter(torch.randn(1, 17, width) * 0.1)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(2))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 7)

    def forward(self, image):
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(x.shape[0], -1, -1), x], 1) + self.positions
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x)[:, 0])


class Encoder(nn.Module):
    """Tokens with a mask, mean of those that are seen, as sentence encoders have it."""

    def __init__(self, width=32, heads=4):
        super().__init__()
        self.words, self.positions, self.kinds = (
            nn.Embedding(50, width),
            nn.Embedding(64, width),
            nn.Embedding(2, width),
        )
        self.register_buffer("numbers", torch.arange(64)[None])
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(2))

    def forward(self, input_ids, attention_mask):
        seen = attention_mask.to(torch.float32)
        mask = (1 - seen[:, None, None, :]) * torch.finfo(torch.float32).min
        x = (
            self.words(input_ids)
            + self.positions(self.numbers[:, : input_ids.shape[1]])
            + self.kinds(torch.zeros_like(input_ids))
        )
        x = self.norm(x)
        for layer in self.layers:
            x = layer(x, mask)
        seen = seen[:, :, None].expand(x.shape)
        pooled = (x * seen).sum(1) / seen.sum(1).clamp(min=1e-9)
        return nn.functional.normalize(pooled, dim=-1), x


def bare(message):
    """Without what an exporter notes beside the graph, such as places in the source files of the machine that ran it."""
    for field, value in message.ListFields():
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.type == field.TYPE_MESSAGE:
            for item in value if field.is_repeated else [value]:
                bare(item)


def export(name, network, inputs, outputs, dynamic):
    torch.manual_seed(27)
    for m in network.modules():
        if isinstance(m, nn.BatchNorm2d):
            (
                m.running_mean.normal_(),
                m.running_var.uniform_(0.5, 2),
                m.weight.data.uniform_(0.5, 2),
                m.bias.data.normal_(),
            )
    network.eval()
    for exporter in ("script", "dynamo"):
        path = FOLDER / f"{name}_{exporter}.onnx"
        options = {"dynamo": False, "dynamic_axes": dynamic, "opset_version": 17}
        if exporter == "dynamo":
            shapes = [
                {i: torch.export.Dim(a) for i, a in (dynamic or {}).get(n, {}).items() if a != "batch"} for n in inputs
            ]
            options = {"dynamo": True, "dynamic_shapes": tuple(shapes), "external_data": False}
        torch.onnx.export(
            network,
            tuple(inputs.values()),
            path,
            input_names=list(inputs),
            output_names=outputs,
            verbose=False,
            **options,
        )
        model = onnx.load(path)
        bare(model)
        onnx.save(model, path)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        given = {n: v.numpy() for n, v in inputs.items()}
        answers = session.run(outputs, given)
        kept = {f"in.{n}": np.ascontiguousarray(v) for n, v in given.items()} | {
            f"out.{n}": np.ascontiguousarray(v) for n, v in zip(outputs, answers)
        }
        save_file(kept, path.with_suffix(".safetensors"))
        print(path.name, onnx.load(path).opset_import[0].version, path.stat().st_size)


if __name__ == "__main__":
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    torch.manual_seed(1)
    mlp = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 4), nn.Softmax(-1))
    export("mlp", mlp, {"x": torch.randn(3, 6)}, ["y"], None)
    export("cnn", Cnn(), {"image": torch.randn(1, 3, 33, 30)}, ["logits"], None)
    export("vit", Vit(), {"image": torch.randn(1, 3, 16, 16)}, ["logits"], None)
    ids, seen = torch.randint(0, 50, (1, 9)), torch.ones(1, 9, dtype=torch.int64)
    seen[0, 7:] = 0
    axes = {n: {0: "batch", 1: "tokens"} for n in ("input_ids", "attention_mask")}
    export("encoder", Encoder(), {"input_ids": ids, "attention_mask": seen}, ["sentence", "tokens"], axes)
    sys.exit(0)
