#!/usr/bin/env python3
"""Attention, GELUs and norms spelt out as exporters write them, with onnxruntime's answers: fusions/NAME.onnx and
NAME.safetensors. What each becomes stands in tests/converter/onnx_test.cpp. Fixed seed. Needs the packages of
make_operators.py.

    python3 make_fusions.py
"""

import shutil

import make_operators
import numpy as np
import onnx
import onnxruntime
from onnx import parser
from safetensors.numpy import save_file

FOLDER = make_operators.FOLDER.parent / "fusions"
rng = np.random.default_rng(2028)


def case(name, inputs, body, outputs="float[a] y", opset=17):
    """inputs: name -> array; body: nodes in ONNX's text form."""
    kinds = {np.dtype(np.float32): "float", np.dtype(np.int64): "int64", np.dtype(bool): "bool"}
    given = ", ".join(f"{kinds[a.dtype]}[{', '.join(map(str, a.shape))}] {n}" for n, a in inputs.items())
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> {name} ({given}) => ({outputs}) {{ {body} }}'
    file = parser.parse_model(text)
    for o in file.graph.output:
        o.type.tensor_type.ClearField("shape")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(file.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [o.name for o in file.graph.output]
    answers = session.run(names, inputs)
    onnx.save(file, FOLDER / f"{name}.onnx")
    save_file(
        {f"in.{n}": np.ascontiguousarray(a) for n, a in inputs.items()}
        | {f"out.{n}": np.ascontiguousarray(a) for n, a in zip(names, answers)},
        FOLDER / f"{name}.safetensors",
    )


def normal(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def heads(q, k, v):
    return {"q": normal(*q), "k": normal(*k), "v": normal(*v)}


def attention():
    split = """
        half = Constant <value = float {0.5}> ()
        three = Constant <value = float {3}> ()
        qt = Transpose <perm = [0, 2, 1, 3]> (q)
        kt = Transpose <perm = [0, 2, 3, 1]> (k)
        vt = Transpose <perm = [0, 2, 1, 3]> (v) """
    join = """
        z = MatMul (w, vt)
        zt = Transpose <perm = [0, 2, 1, 3]> (z)
        shape = Constant <value = int64[3] {0, 0, -1}> ()
        y = Reshape (zt, shape) """
    plain = heads((1, 5, 2, 4), (1, 5, 2, 4), (1, 5, 2, 3))
    case("attention", plain, split + "s = MatMul (qt, kt) t = Mul (s, half) w = Softmax <axis = -1> (t)" + join)
    case("attention_divided", plain, split + "s = MatMul (qt, kt) t = Div (s, three) w = Softmax <axis = 3> (t)" + join)
    scaled = "a = Mul (qt, half) b = Mul (three, kt) s = MatMul (a, b) w = Softmax <axis = -1> (s)"
    case("attention_scaled_before", plain, split + scaled + join)
    nan = "s = MatMul (qt, kt) p = Softmax <axis = -1> (s) nan = IsNaN (p) zero = Constant <value = float {0}> () "
    case("attention_not_a_number", plain, split + nan + "w = Where (nan, zero, p)" + join)
    masked = "s = MatMul (qt, kt) t = Mul (s, half) u = Add (t, mask) w = Softmax <axis = -1> (u)"
    for name, shape in (("row", (1, 1, 1, 5)), ("table", (5, 5)), ("heads", (1, 2, 5, 5)), ("queries", (1, 1, 5, 1))):
        case(f"attention_mask_{name}", plain | {"mask": normal(*shape)}, split + masked + join)
    two = "s = MatMul (qt, kt) t = Add (mask, s) u = Add (t, more) w = Softmax <axis = -1> (u)"
    both = {"mask": normal(1, 2, 5, 5), "more": normal(1, 1, 1, 5)}
    case("attention_two_masks", plain | both, split + two + join)
    crossed = heads((1, 3, 2, 4), (1, 7, 2, 4), (1, 7, 2, 4))
    case("attention_crossed", crossed, split + "s = MatMul (qt, kt) w = Softmax <axis = -1> (s)" + join)
    case("attention_crossed_mask", crossed | {"mask": normal(1, 1, 3, 7)}, split + masked + join)
    shared = heads((1, 5, 4, 4), (1, 5, 1, 4), (1, 5, 1, 4))
    case("attention_shared", shared, split + "s = MatMul (qt, kt) w = Softmax <axis = -1> (s)" + join)
    many = heads((3, 5, 2, 4), (3, 5, 2, 4), (3, 5, 2, 4))
    case("attention_many", many, split + "s = MatMul (qt, kt) w = Softmax <axis = -1> (s)" + join)
    flat = """qt = Transpose <perm = [1, 0, 2]> (q) kt = Transpose <perm = [1, 2, 0]> (k)
        vt = Transpose <perm = [1, 0, 2]> (v)
        s = MatMul (qt, kt) w = Softmax <axis = -1> (s) z = MatMul (w, vt) y = Transpose <perm = [1, 0, 2]> (z)"""
    case("attention_flat", heads((5, 2, 4), (5, 2, 4), (5, 2, 4)), flat)
    # These stay products: masks of sequences side by side, weights that are wanted, another axis.
    case("products_of_many", many | {"mask": normal(3, 1, 5, 5)}, split + masked + join)
    wanted = split + "s = MatMul (qt, kt) w = Softmax <axis = -1> (s)" + join
    case("products_and_weights", plain, wanted, "float[a] y, float[b] w")
    case("products_of_queries", plain, split + "s = MatMul (qt, kt) w = Softmax <axis = 2> (s)" + join)


def activations():
    numbers = """half = Constant <value = float {0.5}> () one = Constant <value = float {1}> ()
        root = Constant <value = float {1.4142135}> () cubic = Constant <value = float {0.044715}> ()
        inner = Constant <value = float {0.7978846}> () three = Constant <value = float {3}> ()
        quick = Constant <value = float {1.702}> () """
    erf = numbers + "a = Div (x, root) b = Erf (a) c = Add (b, one) "
    x = {"x": 3 * normal(2, 9)}
    case("gelu", x, erf + "d = Mul (x, c) y = Mul (d, half)")
    case("gelu_half_first", x, erf + "d = Mul (half, x) y = Mul (d, c)")
    case("gelu_half_of_gate", x, erf + "d = Mul (c, half) y = Mul (d, x)")
    tanh = numbers + "a = Pow (x, three) b = Mul (a, cubic) c = Add (x, b) d = Mul (c, inner) e = Tanh (d) "
    tanh += "f = Add (one, e) "
    case("gelu_tanh", x, tanh + "g = Mul (x, half) y = Mul (g, f)")
    fast = numbers + "a = Mul (x, x) b = Mul (a, cubic) c = Add (b, one) d = Mul (x, inner) e = Mul (d, c) "
    case("gelu_tanh_squares", x, fast + "f = Tanh (e) g = Add (f, one) h = Mul (half, g) y = Mul (x, h)")
    case("gelu_quick", x, numbers + "a = Mul (x, quick) b = Sigmoid (a) y = Mul (x, b)")
    case("silu", x, "a = Sigmoid (x) y = Mul (a, x)")
    # These stay what they are: another number, another value.
    case("no_gelu", x, erf + "d = Mul (x, c) y = Mul (d, root)")
    case("no_silu", x | {"z": normal(2, 9)}, "a = Sigmoid (z) y = Mul (a, x)")


def norms():
    numbers = """two = Constant <value = float {2}> () eps = Constant <value = float {0.00001}> ()
        one = Constant <value = float {1}> () w = Constant <value = float[4] {0.5, 2, -1, 3}> ()
        v = Constant <value = float[4] {1, 0, -2, 0.25}> () """
    squares = "b = Pow (a, two) c = ReduceMean <axes = [-1]> (b) d = Add (c, eps) e = Sqrt (d) "
    mean = numbers + "m = ReduceMean <axes = [-1]> (x) a = Sub (x, m) " + squares
    x = {"x": 2 * normal(2, 3, 4) + 1}
    case("layer_norm", x, mean + "f = Div (a, e) g = Mul (f, w) y = Add (g, v)")
    case("layer_norm_turned", x, mean + "f = Div (a, e) g = Mul (w, f) y = Add (v, g)")
    case("layer_norm_scale", x, mean + "f = Div (a, e) y = Mul (f, w)")
    case("layer_norm_plain", x, mean + "y = Div (a, e)")
    case("layer_norm_twice", x, mean + "n = ReduceMean <axes = [2]> (x) h = Sub (x, n) y = Div (h, e)")
    root = numbers + squares.replace("Pow (a, two)", "Pow (x, two)")
    case("rms_norm", x, root + "f = Reciprocal (e) g = Mul (x, f) y = Mul (w, g)")
    case("rms_norm_divided", x, root + "f = Div (x, e) y = Mul (f, w)")
    case("rms_norm_inverse", x, root.replace("Pow (x, two)", "Mul (x, x)") + "f = Div (one, e) y = Mul (f, x)")
    # These stay what they are: another value is divided, another axis.
    case("no_norm", x | {"z": normal(2, 3, 4)}, root + "y = Div (z, e)")
    case("no_norm_of_rows", x, (root + "y = Div (x, e)").replace("axes = [-1]", "axes = [1]"))


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    attention()
    activations()
    norms()


if __name__ == "__main__":
    main()
