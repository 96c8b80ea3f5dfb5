#!/usr/bin/env python3
"""Quantised operators, and small networks that onnxruntime's quantiser made, with onnxruntime's answers:
quantised/NAME.onnx and NAME.safetensors, as make_operators.py writes them. Results of 8 bits are kept as floats.
Graphs are run as they stand: fused integer kernels may differ by one step where a number lies between two.

    pip install onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 safetensors==0.8.0
    python3 make_quantised.py
"""

import pathlib
import shutil
import tempfile

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization
from safetensors.numpy import save_file

FOLDER = pathlib.Path(__file__).parent / "quantised"
rng = np.random.default_rng(271)
f32, u8, i8, i32 = np.float32, np.uint8, np.int8, np.int32
MICROSOFT = "com.microsoft"


def normal(*shape):
    return rng.standard_normal(shape).astype(f32)


def numbers(kind, *shape):
    low, high = (0, 256) if kind == u8 else (-128, 128)
    return rng.integers(low, high, shape).astype(kind)


def wide(a):
    return np.array(a, f32 if a.dtype in (u8, i8, np.int16, np.uint16) else a.dtype, order="C")


def answers(file, name, inputs, outputs):
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file.SerializeToString(), options, providers=["CPUExecutionProvider"])
    got = session.run(outputs, inputs)
    onnx.save(file, FOLDER / f"{name}.onnx")
    kept = {
        f"in.{n}": np.ascontiguousarray(a.astype(np.int64) if a.dtype in (u8, i8) else a) for n, a in inputs.items()
    }
    save_file(kept | {f"out.{n}": wide(a) for n, a in zip(outputs, got)}, FOLDER / f"{name}.safetensors")


def one(name, op, inputs, constants, order, outputs=None, domain="", **attributes):
    """outputs: names and types."""
    outputs = outputs or {"y": TensorProto.FLOAT}
    typed = lambda n, a: helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), list(a.shape))
    graph = helper.make_graph(
        [helper.make_node(op, order, list(outputs), domain=domain, **attributes)],
        name,
        [typed(n, a) for n, a in inputs.items()],
        [helper.make_tensor_value_info(o, kind, None) for o, kind in outputs.items()],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()],
    )
    sets = [helper.make_opsetid("", 21), helper.make_opsetid(MICROSOFT, 1)]
    answers(helper.make_model(graph, opset_imports=sets, ir_version=10), name, inputs, list(outputs))


U8, I8 = TensorProto.UINT8, TensorProto.INT8


def steps():
    x = {"x": 3 * normal(3, 4, 5)}
    one("quantize", "QuantizeLinear", x, {"s": f32(0.02), "z": u8(117)}, ["x", "s", "z"], {"y": U8})
    one("quantize_signed", "QuantizeLinear", x, {"s": f32(0.03), "z": i8(-7)}, ["x", "s", "z"], {"y": I8})
    one("quantize_without_zero", "QuantizeLinear", x, {"s": f32(0.02)}, ["x", "s"], {"y": U8})
    many = {"s": np.abs(normal(4)) / 20 + f32(0.01), "z": numbers(u8, 4)}
    one("quantize_channels", "QuantizeLinear", x, many, ["x", "s", "z"], {"y": U8})
    ties = {"x": np.arange(-8, 8, dtype=f32) / 2}
    one("quantize_ties", "QuantizeLinear", ties, {"s": f32(1), "z": u8(3)}, ["x", "s", "z"], {"y": U8})
    q = {"x": numbers(u8, 3, 4, 5)}
    one("dequantize", "DequantizeLinear", q, {"s": f32(0.02), "z": u8(117)}, ["x", "s", "z"])
    one("dequantize_channels", "DequantizeLinear", q, many, ["x", "s", "z"])
    last = {"s": normal(5), "z": numbers(u8, 5)}
    one("dequantize_last", "DequantizeLinear", q, last, ["x", "s", "z"], axis=-1)
    blocks = {"s": normal(3, 2, 5), "z": numbers(u8, 3, 2, 5)}
    one("dequantize_blocks", "DequantizeLinear", q, blocks, ["x", "s", "z"], axis=1, block_size=2)
    three = {"y": U8, "s": TensorProto.FLOAT, "z": U8}
    one("quantize_dynamic", "DynamicQuantizeLinear", x, {}, ["x"], three)
    one("quantize_dynamic_zeros", "DynamicQuantizeLinear", {"x": np.zeros(6, f32)}, {}, ["x"], three)
    one("quantize_dynamic_above", "DynamicQuantizeLinear", {"x": np.abs(normal(9)) + 1}, {}, ["x"], three)


def products():
    a, b = {"a": numbers(u8, 3, 40)}, {"b": numbers(i8, 40, 6)}
    scales = {"as": f32(0.02), "az": u8(100), "bs": f32(0.01), "bz": i8(3)}
    integers = {"y": TensorProto.INT32}
    one("matmul_integer", "MatMulInteger", a, b | {"az": u8(100), "bz": i8(3)}, ["a", "b", "az", "bz"], integers)
    one("matmul_integer_plain", "MatMulInteger", a, b, ["a", "b"], integers)
    both = {"a": numbers(u8, 2, 3, 7), "b": numbers(u8, 2, 7, 4)}
    one("matmul_integer_values", "MatMulInteger", both, {"az": u8(9)}, ["a", "b", "az"], integers)
    out = {"ys": f32(0.5), "yz": u8(120)}
    order = ["a", "as", "az", "b", "bs", "bz", "ys", "yz"]
    one("qlinear_matmul", "QLinearMatMul", a, b | scales | out, order, {"y": U8})
    columns = {"bs": np.abs(normal(6)) / 50 + f32(0.005), "bz": np.zeros(6, i8)}
    one("qlinear_matmul_columns", "QLinearMatMul", a, b | scales | columns | out, order, {"y": U8})
    x = {"a": numbers(u8, 2, 6, 9, 8)}
    w, bias = {"b": numbers(i8, 4, 6, 3, 3)}, {"c": rng.integers(-9000, 9000, 4).astype(i32)}
    order = ["a", "as", "az", "b", "bs", "bz", "ys", "yz", "c"]
    pads = {"pads": [1, 1, 1, 1], "strides": [2, 1]}
    one(
        "qlinear_conv",
        "QLinearConv",
        x,
        w | scales | {"bz": i8(0), "ys": f32(1.5), "yz": u8(128)} | bias,
        order,
        {"y": U8},
        **pads,
    )
    channels = {"bs": np.abs(normal(4)) / 50 + f32(0.005), "bz": np.zeros(4, i8), "ys": f32(2), "yz": u8(128)}
    one("qlinear_conv_channels", "QLinearConv", x, w | scales | channels | bias, order, {"y": U8}, **pads)
    deep = {"b": numbers(i8, 6, 1, 3, 3)}
    one(
        "qlinear_conv_depthwise",
        "QLinearConv",
        x,
        deep | scales | {"bz": i8(0), "ys": f32(1), "yz": u8(99)},
        order[:8],
        {"y": U8},
        group=6,
    )
    one(
        "conv_integer",
        "ConvInteger",
        x,
        {"b": numbers(u8, 4, 6, 3, 3), "az": u8(100), "bz": u8(120)},
        ["a", "b", "az", "bz"],
        integers,
        pads=[1, 1, 1, 1],
    )


def onnxruntimes():
    mine = {"domain": MICROSOFT}
    a, b = {"a": numbers(u8, 2, 3, 8)}, {"b": numbers(u8, 3, 8)}
    scales = {"as": f32(0.02), "az": u8(100), "bs": f32(0.01), "bz": u8(130), "ys": f32(0.03), "yz": u8(90)}
    order = ["a", "as", "az", "b", "bs", "bz", "ys", "yz"]
    for op in ("QLinearAdd", "QLinearMul"):
        one(op.lower(), op, a | b, scales, order, {"y": U8}, **mine)
    order = ["a", "as", "az", "ys", "yz"]
    one("qlinear_sigmoid", "QLinearSigmoid", a, scales | {"ys": f32(1 / 256), "yz": u8(0)}, order, {"y": U8}, **mine)
    one("qlinear_leaky_relu", "QLinearLeakyRelu", a, scales, order, {"y": U8}, alpha=0.2, **mine)
    x = {"a": numbers(u8, 2, 6, 9, 8)}
    one(
        "qlinear_average_pool",
        "QLinearAveragePool",
        x,
        scales,
        order,
        {"y": U8},
        kernel_shape=[3, 2],
        strides=[2, 2],
        **mine,
    )
    one("qlinear_global_pool", "QLinearGlobalAveragePool", x, scales, order, {"y": U8}, **mine)
    softmax = scales | {"ys": f32(1 / 256), "yz": u8(0)}
    for flat in (12, 13):
        one(f"qlinear_softmax_{flat}", "QLinearSoftmax", a, softmax, order, {"y": U8}, axis=1, opset=flat, **mine)
    one("onnxruntime_gelu", "Gelu", {"x": normal(3, 5)}, {}, ["x"], **mine)
    step = {"s": f32(0.02), "z": u8(117)}
    one("onnxruntime_quantize", "QuantizeLinear", {"x": normal(3, 5)}, step, ["x", "s", "z"], {"y": U8}, **mine)
    one("onnxruntime_dequantize", "DequantizeLinear", {"x": numbers(u8, 3, 5)}, step, ["x", "s", "z"], **mine)
    order = ["ys", "yz", "a", "as", "az", "b", "bs", "bz"]
    one(
        "qlinear_concat",
        "QLinearConcat",
        {"a": numbers(u8, 2, 8), "b": numbers(u8, 3, 8)},
        scales,
        order,
        {"y": U8},
        axis=0,
        **mine,
    )
    m, w = {"a": numbers(u8, 3, 40)}, {"b": numbers(i8, 6, 40)}
    fixed = {
        "as": f32(0.02),
        "az": u8(100),
        "bs": f32(0.01),
        "bz": i8(3),
        "c": rng.integers(-9000, 9000, 6).astype(i32),
    }
    order = ["a", "as", "az", "b", "bs", "bz", "c"]
    one(
        "qgemm",
        "QGemm",
        m,
        w | fixed | {"ys": f32(0.7), "yz": u8(120)},
        [*order, "ys", "yz"],
        {"y": U8},
        transB=1,
        **mine,
    )
    one("qgemm_float", "QGemm", m, w | fixed, order, transB=1, alpha=0.5, **mine)
    v = {"a": normal(2, 3, 40)}
    columns = {"b": numbers(i8, 40, 6), "bs": np.abs(normal(6)) / 50, "bz": np.zeros(6, i8), "c": normal(6)}
    one("dynamic_matmul", "DynamicQuantizeMatMul", v, columns, ["a", "b", "bs", "bz", "c"], **mine)
    single = columns | {"bs": f32(0.01), "bz": i8(4)}
    one("dynamic_matmul_single", "DynamicQuantizeMatMul", v, single, ["a", "b", "bs", "bz"], **mine)
    given = columns | {"as": f32(0.02), "az": u8(100)}
    one("integer_matmul_to_float", "MatMulIntegerToFloat", m, given, ["a", "b", "as", "bs", "az", "bz", "c"], **mine)
    bits = {"b": numbers(u8, 6, 3, 16), "bs": normal(18) / 9}
    form = {"K": 80, "N": 6, "bits": 4, "block_size": 32}
    one("matmul_4_bits", "MatMulNBits", {"a": normal(2, 80)}, bits, ["a", "b", "bs"], **form, **mine)
    zeros = bits | {"bz": numbers(u8, 12), "c": normal(6)}
    one(
        "matmul_4_bits_zeros",
        "MatMulNBits",
        {"a": normal(2, 80)},
        zeros,
        ["a", "b", "bs", "bz", "", "c"],
        **form,
        **mine,
    )
    wide_bits = {"b": numbers(u8, 6, 3, 32), "bs": normal(18) / 9}
    one(
        "matmul_8_bits",
        "MatMulNBits",
        {"a": normal(2, 80)},
        wide_bits,
        ["a", "b", "bs"],
        **(form | {"bits": 8}),
        **mine,
    )


def network():
    """Convolutions, a pool, a residual, and two products."""
    weights = {
        "w1": normal(8, 3, 3, 3) / 4,
        "b1": normal(8),
        "w2": normal(8, 8, 3, 3) / 8,
        "b2": normal(8),
        "w3": normal(8, 16) / 3,
        "b3": normal(16),
        "w4": normal(16, 5) / 4,
    }
    padded = {"pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], strides=[2, 2], **padded),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], **padded),
        helper.make_node("Add", ["r1", "c2"], ["a"]),
        helper.make_node("Clip", ["a", "zero", "six"], ["r2"]),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["g"]),
        helper.make_node("Sigmoid", ["g"], ["s"]),
        helper.make_node("MatMul", ["s", "w4"], ["y"]),
    ]
    constants = weights | {"zero": f32(0), "six": f32(6)}
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 12, 10])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


class Images(quantization.CalibrationDataReader):
    def __init__(self):
        self.left = [{"x": normal(1, 3, 12, 10)} for _ in range(8)]

    def get_next(self):
        return self.left.pop() if self.left else None


def networks():
    x = {"x": normal(1, 3, 12, 10)}
    with tempfile.TemporaryDirectory() as scratch:
        plain, made = pathlib.Path(scratch) / "plain.onnx", pathlib.Path(scratch) / "made.onnx"
        onnx.save(network(), plain)
        for weights in ("QInt8", "QUInt8"):
            kind = getattr(quantization.QuantType, weights)
            quantization.quantize_dynamic(plain, made, weight_type=kind)
            answers(onnx.load(made), f"network_dynamic_{weights.lower()}", x, ["y"])
        for form in ("QDQ", "QOperator"):
            for channels in (False, True):
                quantization.quantize_static(
                    plain,
                    made,
                    Images(),
                    quant_format=getattr(quantization.QuantFormat, form),
                    per_channel=channels,
                    activation_type=quantization.QuantType.QUInt8,
                    weight_type=quantization.QuantType.QInt8,
                )
                name = f"network_{form.lower()}" + ("_channels" if channels else "")
                answers(onnx.load(made), name, x, ["y"])


if __name__ == "__main__":
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    for make in (steps, products, onnxruntimes, networks):
        make()
    print(len(list(FOLDER.glob("*.onnx"))), "quantised graphs")
