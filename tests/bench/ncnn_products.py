"""The matrix products of Gemma 3 270M through ncnn's Vulkan backend; called by vulkan.py.

ncnn (the package of PyPI, BSD-3-Clause) reads no such model, so this is a net of its own layers with the model's shapes and random weights of 16-bit
floats: for each layer the products with the sums and the gate between them, no attention, norms or embedding; then, for a decoded token, the
output matrix. Prints JSON: tokens a second of each kind of layer that ncnn has for a product."""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time

import ncnn
import numpy as np

HIDDEN, HEADS, CACHED, INNER, LAYERS, VOCAB = 640, 1024, 512, 2048, 18, 262144
HALVES = 0x01306B47  # what ncnn's file of weights says before 16-bit floats


class Net:
    def __init__(self, product):
        self.kind, self.lines, self.blobs, self.weights, self.rng = product, [], set(), [], np.random.default_rng(0)
        self.layer("Input", [], ["x"])
        at = "x"
        for i in range(LAYERS):
            at = self.block(f"{i}.", at)
        self.last = at
        self.product("logits", at, HIDDEN, VOCAB)

    def layer(self, kind, inputs, outputs, *parameters):
        self.lines.append(
            " ".join([kind, outputs[0] + "@", str(len(inputs)), str(len(outputs)), *inputs, *outputs, *parameters])
        )
        self.blobs.update(outputs)

    def product(self, output, x, columns, rows):
        if self.kind == "InnerProduct":
            self.layer("InnerProduct", [x], [output], f"0={rows}", "1=0", f"2={rows * columns}")
        else:  # x times the transposed weights, which are constant
            self.layer("Gemm", [x], [output], "3=1", "5=1", "6=1", f"8={rows}", f"9={columns}", "10=-1")
        self.weights += [
            np.uint32(HALVES).tobytes(),
            (self.rng.standard_normal(rows * columns, dtype=np.float32) * 0.02).astype(np.float16).tobytes(),
        ]

    def block(self, p, x):
        self.layer("Split", [x], [p + "a", p + "b"])
        self.product(p + "qkv", p + "a", HIDDEN, HEADS + CACHED)
        self.layer("Slice", [p + "qkv"], [p + "q", p + "kv"], f"-23300=2,{HEADS},-233", "1=1")
        self.product(p + "o", p + "q", HEADS, HIDDEN)
        self.layer("BinaryOp", [p + "b", p + "o"], [p + "c"], "0=0")
        self.layer("Split", [p + "c"], [p + "d", p + "e"])
        self.product(p + "gate_up", p + "d", HIDDEN, 2 * INNER)
        self.layer("Slice", [p + "gate_up"], [p + "gate", p + "up"], "-23300=2,-233,-233", "1=1")
        self.layer("BinaryOp", [p + "gate", p + "up"], [p + "glu"], "0=2")
        self.product(p + "down", p + "glu", INNER, HIDDEN)
        self.layer("BinaryOp", [p + "e", p + "down"], [p + "y"], "0=0")
        return p + "y"

    def open(self, folder):
        parameters, weights = os.path.join(folder, "net.param"), os.path.join(folder, "net.bin")
        with open(parameters, "w") as f:
            f.write("\n".join(["7767517", f"{len(self.lines)} {len(self.blobs)}", *self.lines, ""]))
        with open(weights, "wb") as f:
            f.writelines(self.weights)
        self.weights = []
        net = ncnn.Net()
        net.opt.use_vulkan_compute = True
        net.set_vulkan_device(0)
        if net.load_param(parameters) or net.load_model(weights):
            sys.exit(f"ncnn does not load a net of {self.kind} layers")
        return net


def tokens_per_s(net, tokens, output, width, calls):
    x = np.random.default_rng(1).standard_normal((tokens, HIDDEN), dtype=np.float32) * 0.1
    times = []
    for _ in range(calls + 1):  # the first one makes pipelines
        extractor = net.create_extractor()
        extractor.input("x", ncnn.Mat(x))
        begin = time.perf_counter()
        failed, y = extractor.extract(output)
        times.append(time.perf_counter() - begin)
        if failed or y.w != width or not np.isfinite(np.array(y)).all():
            sys.exit(f"ncnn fails at {output}")
    return tokens / statistics.median(times[1:])


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--prompt", type=int, required=True)
    p.add_argument("--gen", type=int, required=True)
    o = p.parse_args()
    if ncnn.get_gpu_count() == 0:
        sys.exit("ncnn finds no Vulkan device")
    result = {}
    for kind in ("InnerProduct", "Gemm"):
        with tempfile.TemporaryDirectory() as folder:
            description = Net(kind)
            net = description.open(folder)
            result[kind] = {
                "prefill": tokens_per_s(net, o.prompt, description.last, HIDDEN, 3),
                "decode": tokens_per_s(net, 1, "logits", VOCAB, o.gen),
            }
            net.clear()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
