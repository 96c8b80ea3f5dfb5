#!/usr/bin/env python3
"""Single operators and small chains as ONNX files with onnxruntime's answers: operators/NAME.onnx and NAME.safetensors,
which holds the inputs ("in.NAME") and the outputs ("out.NAME"). Fixed seed.

    pip install onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6 safetensors==0.8.0
    python3 make_operators.py
"""

import pathlib
import shutil

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

FOLDER = pathlib.Path(__file__).parent / "operators"
rng = np.random.default_rng(27)


def normal(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def ids(*shape, most):
    return rng.integers(0, most, shape).astype(np.int64)


def model(name, nodes, inputs, outputs, constants=None, opset=18, axes=None, folder=FOLDER):
    """nodes: (operator, inputs, outputs, attributes). inputs: name -> array. outputs: names. axes: name of an input ->
    its shape with names of axes."""
    graph_inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), (axes or {}).get(n, list(a.shape)))
        for n, a in inputs.items()
    ]
    made = [helper.make_node(op, i, o, **attributes) for op, i, o, attributes in nodes]
    initialisers = [numpy_helper.from_array(np.asarray(a), n) for n, a in (constants or {}).items()]
    graph = helper.make_graph(
        made,
        name,
        graph_inputs,
        [helper.make_tensor_value_info(o, TensorProto.UNDEFINED, None) for o in outputs],
        initialisers,
    )
    file = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    # The types of outputs are those that the nodes make.
    file = onnx.shape_inference.infer_shapes(file)
    for info in file.graph.output:
        if info.type.tensor_type.elem_type == TensorProto.UNDEFINED:
            info.type.tensor_type.elem_type = TensorProto.FLOAT
    session = onnxruntime.InferenceSession(file.SerializeToString(), providers=["CPUExecutionProvider"])
    answers = session.run(outputs, inputs)
    onnx.save(file, folder / f"{name}.onnx")
    kept = {f"in.{n}": np.asarray(a, order="C") for n, a in inputs.items()}
    kept |= {f"out.{n}": np.asarray(a, order="C") for n, a in zip(outputs, answers)}
    save_file(kept, folder / f"{name}.safetensors")


def one(name, op, inputs, constants=None, opset=18, axes=None, outputs=("y",), order=None, **attributes):
    order = order or list(inputs) + list(constants or {})
    model(name, [(op, order, list(outputs), attributes)], inputs, list(outputs), constants, opset, axes)


def elementwise():
    x = {"x": normal(2, 3, 5)}
    for op in (
        "Abs Ceil Erf Exp Floor Neg Relu Round Sigmoid Sign Softplus Softsign Tanh Sin Cos Atan Sinh Asinh Reciprocal Mish Elu Selu "
        "Celu LeakyRelu HardSigmoid HardSwish ThresholdedRelu"
    ).split():
        one(op.lower(), op, x)
    one("gelu", "Gelu", x, opset=20)
    one("gelu_tanh", "Gelu", x, opset=20, approximate="tanh")
    one("log", "Log", {"x": np.abs(normal(7)) + 0.1})
    one("sqrt", "Sqrt", {"x": np.abs(normal(7))})
    for op in ("Add", "Sub", "Mul", "Div", "Min", "Max", "Pow"):
        a = np.abs(normal(2, 3, 4)) + 0.5
        one(op.lower(), op, {"a": a, "b": np.abs(normal(3, 1)) + 0.5})
        one(op.lower() + "_integers", op, {"a": ids(2, 3, most=9) + 1, "b": ids(3, most=4) + 1})
    one("mod_integers", "Mod", {"a": ids(12, most=20) - 10, "b": np.full(12, 3, np.int64)})
    one("fmod", "Mod", {"a": normal(12) * 5, "b": normal(12)}, fmod=1)
    for op in ("Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"):
        model(
            op.lower(),
            [(op, ["a", "b"], ["c"], {}), ("Cast", ["c"], ["y"], {"to": TensorProto.FLOAT})],
            {"a": ids(2, 8, most=3).astype(np.float32), "b": ids(8, most=3).astype(np.float32)},
            ["y"],
        )
    model(
        "where",
        [("Less", ["a", "b"], ["c"], {}), ("Where", ["c", "a", "z"], ["y"], {})],
        {"a": normal(2, 3, 4), "b": normal(3, 1)},
        ["y"],
        {"z": np.float32(-9)},
    )
    model(
        "logic",
        [
            ("Less", ["a", "b"], ["c"], {}),
            ("Not", ["c"], ["d"], {}),
            ("Greater", ["a", "z"], ["e"], {}),
            ("And", ["d", "e"], ["f"], {}),
            ("Or", ["f", "c"], ["g"], {}),
            ("Xor", ["g", "e"], ["h"], {}),
            ("Cast", ["h"], ["y"], {"to": TensorProto.INT64}),
        ],
        {"a": normal(9), "b": normal(9)},
        ["y"],
        {"z": np.float32(0)},
    )
    one("clip", "Clip", {"x": normal(11)}, {"low": np.float32(-0.3), "high": np.float32(0.5)})
    one("prelu", "PRelu", {"x": normal(2, 3, 4)}, {"slope": normal(3, 1)})
    model(
        "cast",
        [("Cast", ["x"], ["i"], {"to": TensorProto.INT32}), ("Cast", ["i"], ["y"], {"to": TensorProto.FLOAT})],
        {"x": normal(12) * 4},
        ["y"],
    )


def moved():
    x = {"x": normal(2, 3, 4)}
    one("transpose", "Transpose", x, perm=[2, 0, 1])
    one("reshape", "Reshape", x, {"s": np.array([0, -1], np.int64)})
    one("flatten", "Flatten", x, axis=2)
    one("squeeze", "Squeeze", {"x": normal(2, 1, 3, 1)}, {"axes": np.array([1], np.int64)})
    one("unsqueeze", "Unsqueeze", x, {"axes": np.array([0, 2], np.int64)})
    one("concat", "Concat", {"a": normal(2, 3), "b": normal(2, 5)}, axis=1)
    one("split", "Split", {"x": normal(2, 7)}, {"s": np.array([3, 4], np.int64)}, outputs=("y", "z"), axis=1)
    one("split_even", "Split", {"x": normal(2, 7)}, outputs=("y", "z"), axis=1, num_outputs=2)
    one(
        "slice",
        "Slice",
        {"x": normal(5, 6)},
        {"b": np.array([1, -4], np.int64), "e": np.array([100, -1], np.int64), "a": np.array([0, 1], np.int64)},
    )
    one(
        "slice_steps",
        "Slice",
        {"x": normal(5, 6)},
        {
            "b": np.array([4, 0], np.int64),
            "e": np.array([-100, 6], np.int64),
            "a": np.array([0, 1], np.int64),
            "s": np.array([-2, 3], np.int64),
        },
    )
    one("gather", "Gather", {"x": normal(3, 5), "i": ids(2, 2, most=5) - 2}, axis=1)
    one("gather_table", "Gather", {"i": ids(2, 3, most=9)}, {"t": normal(9, 16)}, order=["t", "i"])
    one("gather_one", "Gather", {"x": normal(3, 5)}, {"i": np.int64(-1)}, axis=1)
    one("gather_elements", "GatherElements", {"x": normal(1, 6), "i": ids(1, 4, most=6) - 3}, axis=1)
    one("expand", "Expand", {"x": normal(3, 1)}, {"s": np.array([2, 1, 4], np.int64)})
    one("tile", "Tile", {"x": normal(2, 3)}, {"r": np.array([2, 3], np.int64)})
    for mode in ("constant", "edge", "reflect", "wrap"):
        one(
            "pad_" + mode,
            "Pad",
            {"x": normal(2, 4, 5)},
            {"p": np.array([0, 1, 2, 0, 3, 1], np.int64)},
            opset=19,
            mode=mode,
        )


def windows():
    image = {"x": normal(2, 6, 9, 7)}
    one("conv", "Conv", image, {"w": normal(5, 6, 3, 3), "b": normal(5)}, pads=[1, 0, 2, 1], strides=[2, 1])
    one("conv_groups", "Conv", image, {"w": normal(8, 3, 3, 2)}, group=2, dilations=[2, 1])
    one("conv_channels", "Conv", image, {"w": normal(6, 1, 3, 3), "b": normal(6)}, group=6, pads=[1, 1, 1, 1])
    one("conv_multiplied", "Conv", image, {"w": normal(12, 1, 3, 3)}, group=6)
    one("conv_point", "Conv", image, {"w": normal(20, 6, 1, 1), "b": normal(20)})
    one("conv_same", "Conv", image, {"w": normal(4, 6, 4, 3)}, auto_pad="SAME_UPPER", strides=[2, 2])
    one(
        "conv_line", "Conv", {"x": normal(2, 4, 11)}, {"w": normal(6, 4, 3), "b": normal(6)}, pads=[2, 0], dilations=[2]
    )
    model(
        "conv_norm",
        [
            ("Conv", ["x", "w", "b"], ["c"], {"pads": [1, 1, 1, 1]}),
            ("BatchNormalization", ["c", "s", "t", "m", "v"], ["n"], {}),
            ("Relu", ["n"], ["y"], {}),
        ],
        image,
        ["y"],
        {
            "w": normal(4, 6, 3, 3),
            "b": normal(4),
            "s": normal(4),
            "t": normal(4),
            "m": normal(4),
            "v": np.abs(normal(4)) + 0.1,
        },
    )
    one("max_pool", "MaxPool", image, kernel_shape=[3, 2], pads=[1, 0, 1, 1], strides=[2, 2])
    one("max_pool_ceil", "MaxPool", image, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
    one("average_pool", "AveragePool", image, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])
    one(
        "average_pool_padding",
        "AveragePool",
        image,
        kernel_shape=[3, 3],
        pads=[1, 1, 1, 1],
        strides=[2, 2],
        count_include_pad=1,
    )
    one("global_average_pool", "GlobalAveragePool", image)
    one("global_max_pool", "GlobalMaxPool", image)


def sums():
    x = {"x": normal(2, 3, 4, 5)}
    for kind in ("Sum", "Mean", "Max", "Min", "L1", "L2", "SumSquare", "LogSumExp"):
        one("reduce_" + kind.lower(), "Reduce" + kind, x, {"axes": np.array([1, 3], np.int64)}, keepdims=0)
    one("reduce_all", "ReduceMean", x)
    one("softmax", "Softmax", x, axis=1)
    one("softmax_old", "Softmax", x, opset=11, axis=2)
    one("log_softmax", "LogSoftmax", x, axis=-1)


def products():
    one("matmul", "MatMul", {"x": normal(2, 3, 5)}, {"w": normal(5, 7)})
    one("matmul_values", "MatMul", {"a": normal(2, 3, 4), "b": normal(2, 4, 5)})
    one("matmul_row", "MatMul", {"a": normal(4), "b": normal(4, 5)})
    one("gemm", "Gemm", {"x": normal(3, 5)}, {"w": normal(7, 5), "b": normal(7)}, transB=1)
    one("gemm_values", "Gemm", {"a": normal(5, 3), "b": normal(5, 7), "c": normal(3, 1)}, transA=1, alpha=0.5, beta=2.0)


def norms():
    image = {"x": normal(2, 6, 4, 3)}
    factors = {"s": normal(6), "b": normal(6)}
    one("batch_norm", "BatchNormalization", image, factors | {"m": normal(6), "v": np.abs(normal(6)) + 0.1})
    one("instance_norm", "InstanceNormalization", image, factors)
    one("group_norm", "GroupNormalization", image, factors, opset=21, num_groups=3)
    one("layer_norm", "LayerNormalization", {"x": normal(2, 3, 8)}, {"s": normal(8), "b": normal(8)})
    one("layer_norm_two", "LayerNormalization", {"x": normal(2, 3, 8)}, {"s": normal(3, 8)}, axis=1)


def shapes():
    """Sizes of the call that the graph computes with."""
    model(
        "shape_arithmetic",
        [
            ("Shape", ["x"], ["s"], {}),
            ("Gather", ["s", "zero"], ["n"], {}),
            ("Gather", ["s", "one"], ["t"], {}),
            ("Unsqueeze", ["n", "front"], ["n1"], {}),
            ("Unsqueeze", ["t", "front"], ["t1"], {}),
            ("Concat", ["n1", "t1", "heads"], ["to"], {"axis": 0}),
            ("Reshape", ["x", "to"], ["r"], {}),
            ("Transpose", ["r"], ["y"], {"perm": [0, 2, 1, 3]}),
        ],
        {"x": normal(1, 5, 8)},
        ["y"],
        {
            "zero": np.int64(0),
            "one": np.int64(1),
            "front": np.array([0], np.int64),
            "heads": np.array([2, 4], np.int64),
        },
        axes={"x": ["batch", "tokens", 8]},
    )
    model(
        "positions",
        [
            ("Shape", ["x"], ["s"], {"start": 1, "end": 2}),
            ("Squeeze", ["s"], ["t"], {}),
            ("Range", ["zero", "t", "one"], ["p"], {}),
            ("Gather", ["table", "p"], ["e"], {}),
            ("Add", ["x", "e"], ["y"], {}),
        ],
        {"x": normal(1, 5, 8)},
        ["y"],
        {"zero": np.int64(0), "one": np.int64(1), "table": normal(12, 8)},
        axes={"x": ["batch", "tokens", 8]},
    )


if __name__ == "__main__":
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    for make in (elementwise, moved, windows, sums, products, norms, shapes):
        make()
    print(len(list(FOLDER.glob("*.onnx"))), "operators")
