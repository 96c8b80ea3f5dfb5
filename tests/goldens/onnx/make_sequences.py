#!/usr/bin/env python3
"""Recurrent layers, graphs within nodes and choices as ONNX files with onnxruntime's answers, as make_operators.py
writes them: sequences/NAME.onnx and NAME.safetensors. Fixed seed; versions as there.

    python3 make_sequences.py
"""

import pathlib
import shutil

import make_operators as base
import numpy as np
from onnx import TensorProto, helper, numpy_helper

base.FOLDER = pathlib.Path(__file__).parent / "sequences"
base.rng = np.random.default_rng(44)
normal, one = base.normal, base.one

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def layer(
    name,
    op,
    tokens=7,
    batch=2,
    width=5,
    dim=6,
    both=False,
    bias=True,
    start=False,
    peephole=False,
    axes=None,
    **attributes,
):
    directions, gates = (2 if both else 1), GATES[op]
    if both:
        attributes["direction"] = "bidirectional"
    inputs = {"x": normal(tokens, batch, width)}
    constants = {"w": normal(directions, gates * dim, width) * 0.5, "r": normal(directions, gates * dim, dim) * 0.4}
    order = ["x", "w", "r"]
    order.append("b" if bias else "")
    if bias:
        constants["b"] = normal(directions, 2 * gates * dim) * 0.3
    order.append("")
    outputs = ["y", "h"] + (["c"] if op == "LSTM" else [])
    for state in outputs[1:]:
        order.append(state + "0" if start else "")
        if start:
            inputs[state + "0"] = normal(directions, batch, dim)
    if peephole:
        order.append("p")
        constants["p"] = normal(directions, 3 * dim) * 0.3
    while order[-1] == "":
        order.pop()
    one(name, op, inputs, constants, opset=14, order=order, outputs=outputs, hidden_size=dim, axes=axes, **attributes)


def recurrent():
    for op in GATES:
        low = op.lower()
        layer(low, op)
        layer(low + "_plain", op, batch=1, bias=False)
        layer(low + "_reverse", op, direction="reverse", start=True)
        layer(low + "_both", op, both=True, start=True)
        layer(low + "_clip", op, clip=0.4)
        layer(low + "_one", op, tokens=1, batch=1, start=True)
        layer(low + "_call", op, batch=1, axes={"x": ["tokens", 1, 5]})
    layer("lstm_peephole", "LSTM", peephole=True, start=True)
    layer("lstm_functions", "LSTM", activations=["Tanh", "Relu", "Sigmoid"])
    layer("gru_reset_behind", "GRU", linear_before_reset=1, start=True)
    layer("gru_reset_behind_both", "GRU", linear_before_reset=1, both=True)
    layer("rnn_relu", "RNN", activations=["Relu"])


def graph(name, nodes, inputs, outputs, initialisers=()):
    """inputs: (name, type, shape); outputs: (name, type, shape)."""
    return helper.make_graph(
        [helper.make_node(op, i, o, **a) for op, i, o, a in nodes],
        name,
        [helper.make_tensor_value_info(*i) for i in inputs],
        [helper.make_tensor_value_info(*o) for o in outputs],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in initialisers],
    )


def control():
    f32, i64, truth = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
    x = {"x": normal(3, 4)}
    double = graph("double", [("Add", ["x", "x"], ["t"], {})], [], [("t", f32, [3, 4])])
    negative = graph("negative", [("Neg", ["x"], ["e"], {})], [], [("e", f32, [3, 4])])
    for known in (True, False):
        base.model(
            f"if_known_{str(known).lower()}",
            [("If", ["c"], ["y"], {"then_branch": double, "else_branch": negative})],
            x,
            ["y"],
            {"c": np.array(known)},
        )
    for sign in (1, -1):
        base.model(
            f"if_computed_{'more' if sign > 0 else 'less'}",
            [
                ("ReduceSum", ["x"], ["s"], {"keepdims": 0}),
                ("Greater", ["s", "zero"], ["c"], {}),
                ("If", ["c"], ["y"], {"then_branch": double, "else_branch": negative}),
            ],
            {"x": sign * np.abs(normal(3, 4))},
            ["y"],
            {"zero": np.float32(0)},
        )
    body = graph(
        "body",
        [
            ("Mul", ["h", "half"], ["g"], {}),
            ("Add", ["g", "x"], ["n"], {}),
            ("Identity", ["go"], ["on"], {}),
            ("ReduceSum", ["n"], ["row"], {"keepdims": 0}),
        ],
        [("i", i64, []), ("go", truth, []), ("h", f32, [3, 4])],
        [("on", truth, []), ("n", f32, [3, 4]), ("row", f32, [])],
        [("half", np.float32(0.5))],
    )
    base.model(
        "loop_unrolled",
        [("Loop", ["count", "go", "x"], ["y", "rows"], {"body": body})],
        x,
        ["y", "rows"],
        {"count": np.array(5), "go": np.array(True)},
    )
    base.model(
        "loop_long",
        [("Loop", ["count", "go", "x"], ["y", "rows"], {"body": body})],
        x,
        ["y", "rows"],
        {"count": np.array(3000), "go": np.array(True)},
    )
    base.model(
        "loop_of_call",
        [
            ("Shape", ["z"], ["s"], {"start": 0, "end": 1}),
            ("Squeeze", ["s"], ["count"], {}),
            ("Loop", ["count", "", "x"], ["y", "rows"], {"body": body}),
        ],
        x | {"z": normal(6)},
        ["y", "rows"],
        axes={"z": ["steps"]},
    )
    until = graph(
        "until",
        [
            ("Mul", ["h", "half"], ["n"], {}),
            ("ReduceSum", ["n"], ["s"], {"keepdims": 0}),
            ("Greater", ["s", "low"], ["on"], {}),
        ],
        [("i", i64, []), ("go", truth, []), ("h", f32, [3, 4])],
        [("on", truth, []), ("n", f32, [3, 4])],
        [("half", np.float32(0.5)), ("low", np.float32(0.01))],
    )
    base.model(
        "loop_until",
        [("Abs", ["x"], ["a"], {}), ("Loop", ["", "go", "a"], ["y"], {"body": until})],
        x,
        ["y"],
        {"go": np.array(True)},
    )
    step = graph(
        "step",
        [("Mul", ["h", "half"], ["g"], {}), ("Add", ["g", "r"], ["n"], {}), ("Tanh", ["n"], ["row"], {})],
        [("h", f32, [4]), ("r", f32, [4])],
        [("n", f32, [4]), ("row", f32, [4])],
        [("half", np.float32(0.5))],
    )
    for name, options in (
        ("scan", {}),
        ("scan_back", {"scan_input_directions": [1], "scan_output_directions": [1]}),
        ("scan_stacked", {"scan_output_axes": [1]}),
    ):
        base.model(
            name,
            [("Scan", ["h0", "x"], ["h", "y"], {"body": step, "num_scan_inputs": 1} | options)],
            x | {"h0": normal(4)},
            ["h", "y"],
        )
    base.model(
        "scan_of_call",
        [("Scan", ["h0", "x"], ["h", "y"], {"body": step, "num_scan_inputs": 1})],
        x | {"h0": normal(4)},
        ["h", "y"],
        axes={"x": ["tokens", 4]},
    )


def choices():
    x = normal(3, 8, 4)
    for axis in (0, 1, -1):
        one(f"top_k_{axis % 3}", "TopK", {"x": x}, {"k": np.array([2])}, outputs=("y", "i"), axis=axis)
        for op in ("ArgMax", "ArgMin"):
            one(f"{op.lower()}_{axis % 3}", op, {"x": x}, axis=axis, keepdims=axis % 2)
    one("top_k_smallest", "TopK", {"x": x}, {"k": np.array([3])}, outputs=("y", "i"), axis=1, largest=0)
    ties = np.array([[1, 3, 3, 0], [2, 2, 2, 2]], np.float32)
    one("argmax_first", "ArgMax", {"x": ties}, axis=1)
    one("argmax_last", "ArgMax", {"x": ties}, axis=1, select_last_index=1)
    for name, options in (
        ("cum_sum", {}),
        ("cum_sum_reverse", {"reverse": 1}),
        ("cum_sum_exclusive", {"exclusive": 1}),
    ):
        for axis in (0, 1, 2):
            one(f"{name}_{axis}", "CumSum", {"x": x}, {"axis": np.array(axis)}, **options)


if __name__ == "__main__":
    shutil.rmtree(base.FOLDER, ignore_errors=True)
    base.FOLDER.mkdir()
    for write in (recurrent, control, choices):
        write()
