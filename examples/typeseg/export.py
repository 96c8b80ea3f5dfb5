"""Writes typeseg's Mamba (weights of the typeseg 0.2.7 package, Apache-2.0) as a model in JSON with a safetensors file, for runnel-convert:

    python export.py .../typeseg/data OUT        (numpy)     ->  OUT/typeseg.json, OUT/typeseg.safetensors, OUT/labels.txt

The network reads the bytes of a text in both directions: an embedding, six layers of norm, input product, convolution over four bytes (one before, two behind),
a selective scan forwards and one backwards with the same weights, gate, output product; then norm and 35 classes.
"""

import json
import os
import struct
import sys

import numpy as np

BOUND = 8192  # most bytes of a call; activations are planned for it


class Graph:
    def __init__(self):
        self.values, self.ops, self.tensors = [], [], {}

    def op(self, name, inputs, rows, width, attrs=None, table=None):
        output = f"v{len(self.values)}"
        self.values.append({"name": output, "shape": [rows, str(width)]})
        op = {"name": name, "inputs": inputs, "outputs": [output]}
        self.ops.append(op | ({"attrs_type": table, "attrs": attrs} if table else {}))
        return output

    def tensor(self, name, values):
        self.tensors[name] = np.ascontiguousarray(values, np.float32)
        return name


def layer(g, w, i, x, width, inner):
    """w(name): a parameter of this layer."""
    state, rank = w("A_log").shape[1], w("Dense_2__kernel").shape[0]
    t = lambda name, values: g.tensor(f"l{i}.{name}", values)
    dense = lambda name, k: (t(name, w(f"Dense_{k}__kernel").T), t(name + ".bias", w(f"Dense_{k}__bias")))
    h = g.op(
        "layer_norm",
        [x, t("norm", w("LayerNorm_0__scale")), t("norm.bias", w("LayerNorm_0__bias"))],
        "N",
        width,
        {"eps": 1e-6},
        "NormAttrs",
    )
    weight, bias = dense("in", 0)
    xz = g.op("matmul", [h, weight, bias], "N", 2 * inner)
    cut = lambda begin, count, of: g.op("slice", [of], "N", count, {"axis": 1, "begin": begin}, "SliceAttrs")
    u, gate = cut(0, inner, xz), cut(inner, inner, xz)
    # Two rows of zeros behind the text let a convolution that looks back also look two bytes ahead.
    padded = g.op("concat", [u, g.tensor("zeros", np.zeros((2, inner)))], "N+2", inner, {"axis": 0}, "ConcatAttrs")
    taps = t("conv", w("Conv_0__kernel")[:, 0, :].T)
    conv = g.op(
        "causal_conv",
        [padded, taps, t("conv.bias", w("Conv_0__bias"))],
        "N+2",
        inner,
        {"activation": "silu"},
        "ConvAttrs",
    )
    u = g.op("slice", [conv], "N", inner, {"axis": 0, "begin": 2}, "SliceAttrs")
    weight, bias = dense("x", 1)
    dbc = g.op("matmul", [u, weight, bias], "N", rank + 2 * state)
    weight, bias = dense("dt", 2)
    dt = g.op("matmul", [cut(0, rank, dbc), weight, bias], "N", inner)
    dt = g.op(
        "binary",
        [g.op("unary", [dt], "N", inner, {"kind": "softplus"}, "UnaryAttrs"), g.tensor("least_step", np.array([1e-4]))],
        "N",
        inner,
        {"kind": "add"},
        "BinaryAttrs",
    )
    b, c = cut(rank, state, dbc), cut(rank + state, state, dbc)
    operands = [u, dt, t("A", -np.exp(w("A_log"))), b, c, t("D", w("D"))]
    ways = [
        g.op("selective_scan", operands, "N", inner, {"reverse": back}, "SelectiveScanAttrs") for back in (False, True)
    ]
    y = g.op("binary", ways, "N", inner, {"kind": "add"}, "BinaryAttrs")
    y = g.op("glu", [gate, y], "N", inner, {"activation": "silu"}, "GluAttrs")
    weight, bias = dense("out", 3)
    return g.op(
        "binary", [x, g.op("matmul", [y, weight, bias], "N", width)], "N", width, {"kind": "add"}, "BinaryAttrs"
    )


def write_safetensors(path, tensors):
    header, at = {}, 0
    for name, v in tensors.items():
        header[name] = {
            "dtype": "I32" if v.dtype == np.int32 else "F32",
            "shape": list(v.shape),
            "data_offsets": [at, at + v.nbytes],
        }
        at += v.nbytes
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for v in tensors.values():
            f.write(v.tobytes())


def export(parameters, labels, folder):
    """parameters: the package's arrays by name."""
    g = Graph()
    table = parameters["Embed_0__embedding"]
    if len(table) != 257:  # all bytes above 127 share a row
        table = table[[*range(128), *[128] * 128, 129]]
    width, inner = table.shape[1], parameters["CheckpointMambaBlock1D_0__Dense_1__kernel"].shape[0]
    x = g.op("embedding", ["bytes", g.tensor("table", table)], "N", width)
    layers = sum(name.endswith("A_log") for name in parameters)
    for i in range(layers):
        x = layer(g, lambda name: parameters[f"CheckpointMambaBlock1D_{i}__{name}"], i, x, width, inner)
    x = g.op(
        "layer_norm",
        [x, g.tensor("norm", parameters["LayerNorm_0__scale"]), g.tensor("norm.bias", parameters["LayerNorm_0__bias"])],
        "N",
        width,
        {"eps": 1e-6},
        "NormAttrs",
    )
    g.op(
        "matmul",
        [x, g.tensor("head", parameters["Dense_0__kernel"].T), g.tensor("head.bias", parameters["Dense_0__bias"])],
        "N",
        len(labels),
    )
    g.values[-1]["name"], g.ops[-1]["outputs"] = "logits", ["logits"]
    model = {
        "name": "typeseg",
        "symbols": [{"name": "N", "kind": "axis", "bound": str(BOUND)}],
        "programs": [
            {
                "name": "main",
                "inputs": [{"name": "bytes", "dtype": "i32", "shape": ["N"]}],
                "outputs": ["logits"],
                "values": g.values,
                "ops": g.ops,
            }
        ],
    }
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "typeseg.json"), "w") as f:
        json.dump(model, f, indent=1)
    write_safetensors(os.path.join(folder, "typeseg.safetensors"), g.tensors)
    with open(os.path.join(folder, "labels.txt"), "w") as f:
        f.write("\n".join(labels) + "\n")


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    data, folder = sys.argv[1:]
    with open(os.path.join(data, "manifest.json")) as f:
        manifest = json.load(f)
    archive = np.load(os.path.join(data, manifest["mamba"]["file"]))
    export({k: archive[k].astype(np.float32) for k in archive.files}, manifest["labels"], folder)


if __name__ == "__main__":
    main()
