#!/usr/bin/env python3
"""Windows over volumes, pools at the edge, numbers of 4 bits, attention of decoders and other operators, as ONNX files
with onnxruntime's answers: further/NAME.onnx and NAME.safetensors. Fixed seed. Needs the packages of make_operators.py.

    python3 make_further.py
"""

import shutil

import make_more
import ml_dtypes
import numpy as np
from make_more import MICROSOFT, case
from onnx import TensorProto

FOLDER = make_more.FOLDER.parent / "further"
rng = np.random.default_rng(2029)


def normal(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def number(v, kind=np.float32):
    return np.asarray(v, kind)


def volumes():
    x = {"x": normal(2, 4, 5, 6, 7)}
    case("conv", "Conv", x, {"w": normal(3, 4, 2, 3, 2), "b": normal(3)})
    case("conv_tubelets", "Conv", {"x": normal(1, 3, 4, 6, 6)}, {"w": normal(5, 3, 2, 3, 3)}, strides=[2, 3, 3])
    padded = dict(pads=[1, 0, 2, 0, 1, 1], strides=[2, 1, 2], dilations=[1, 2, 1])
    case("conv_padded", "Conv", x, {"w": normal(3, 4, 3, 2, 2)}, **padded)
    case("conv_dilated", "Conv", x, {"w": normal(3, 4, 2, 1, 1)}, dilations=[3, 1, 1])
    case("conv_groups", "Conv", x, {"w": normal(6, 2, 2, 3, 3), "b": normal(6)}, group=2, pads=[1, 1, 1, 1, 1, 1])
    case("conv_each", "Conv", x, {"w": normal(4, 1, 3, 3, 3)}, group=4, pads=[1, 1, 1, 1, 1, 1])
    case("conv_same", "Conv", x, {"w": normal(3, 4, 2, 3, 3)}, auto_pad="SAME_UPPER", strides=[2, 2, 1])
    case("conv_deep", "Conv", x, {"w": normal(3, 4, 2, 3, 2)}, axes={"x": [2, 4, "depth", 6, 7]})
    for op in ("MaxPool", "AveragePool"):
        case(f"{op.lower()}", op, x, kernel_shape=[2, 3, 2])
        case(f"{op.lower()}_padded", op, x, kernel_shape=[3, 2, 3], strides=[2, 1, 2], pads=[1, 1, 1, 1, 0, 1])
    counted = dict(kernel_shape=[3, 2, 3], strides=[2, 2, 1], pads=[1, 1, 1, 1, 0, 1], count_include_pad=1)
    case("averagepool_counted", "AveragePool", x, **counted)
    case("global_average", "GlobalAveragePool", x)


def pools():
    x = {"x": normal(1, 2, 7, 8)}
    up = dict(kernel_shape=[3, 3], strides=[2, 3], ceil_mode=1, count_include_pad=1)
    case("pool_ceil_counted", "AveragePool", x, opset=19, **up)
    case("pool_ceil_counted_pads", "AveragePool", x, opset=19, pads=[1, 0, 1, 1], **up)
    case("lp_pool", "LpPool", x, kernel_shape=[2, 3], strides=[2, 1])
    case("lp_pool_padded", "LpPool", x, kernel_shape=[3, 3], pads=[1, 1, 1, 1], p=2)
    case("lp_pool_1", "LpPool", x, kernel_shape=[2, 2], p=1)
    case("lp_pool_3", "LpPool", x, kernel_shape=[2, 2], p=3)


def four_bits():
    signed, plain = ml_dtypes.int4, ml_dtypes.uint4
    w = rng.integers(-8, 8, (6, 8))
    scales = (0.5 + rng.random((3, 8))).astype(np.float32)
    one = dict(order=["w", "s"], opset=21, types={"y": TensorProto.FLOAT})
    case("int4", "DequantizeLinear", {"s": number(0.25)}, {"w": w.astype(signed)}, **one)
    case("int4_odd", "DequantizeLinear", {"s": number(0.25)}, {"w": w[:3, :5].astype(signed)}, **one)
    blocks = {"w": w.astype(signed), "s": scales, "z": rng.integers(-8, 8, (3, 8)).astype(signed)}
    case("int4_blocks", "DequantizeLinear", {}, blocks, opset=21, axis=0, block_size=2)
    blocks = {"w": (w + 8).astype(plain), "s": scales, "z": rng.integers(0, 16, (3, 8)).astype(plain)}
    case("uint4_blocks", "DequantizeLinear", {}, blocks, opset=21, axis=0, block_size=2)


def blocks():
    for kind in (0, 1):
        packed, scales = rng.integers(0, 256, 6 * 32 // 2).astype(np.uint8), normal(6 * 32 // 16)
        weights = {"w": packed, "s": scales}
        case(
            f"bnb4_{kind}",
            "MatMulBnb4",
            {"x": normal(3, 32)},
            weights,
            domain=MICROSOFT,
            K=32,
            N=6,
            block_size=16,
            quant_type=kind,
        )
    ids, scales = np.array([[2, 0], [4, 3]], np.int64), (0.5 + rng.random((5, 2))).astype(np.float32)
    table = dict(domain=MICROSOFT, gather_axis=0, quantize_axis=1, block_size=16)
    order = ["w", "ids", "s"]
    signed, plain = rng.integers(-8, 8, (5, 32)).astype(ml_dtypes.int4), rng.integers(0, 16, (5, 32))
    case("gather_int4", "GatherBlockQuantized", {"ids": ids}, {"w": signed, "s": scales}, order=order, **table)
    zeros = {"z": rng.integers(0, 16, (5, 2)).astype(ml_dtypes.uint4)}
    uint4 = {"w": plain.astype(ml_dtypes.uint4), "s": scales} | zeros
    case("gather_uint4", "GatherBlockQuantized", {"ids": ids}, uint4, order=[*order, "z"], **table)
    packed = {"w": (plain[:, ::2] | plain[:, 1::2] << 4).astype(np.uint8), "s": scales}
    case("gather_bytes", "GatherBlockQuantized", {"ids": ids}, packed, order=order, bits=4, **table)
    packed_zeros = packed | {"z": rng.integers(0, 256, (5, 1)).astype(np.uint8)}
    case("gather_bytes_zeros", "GatherBlockQuantized", {"ids": ids}, packed_zeros, order=[*order, "z"], bits=4, **table)


def quantised():
    def steps(*shape):
        return rng.integers(0, 256, shape).astype(np.uint8)

    order = ["c", "x", "xs", "xz", "y0", "ys", "yz", "zs", "zz"]
    constants = {"xs": number(0.1), "xz": number(120, np.uint8), "ys": number(0.07), "yz": number(3, np.uint8)}
    constants |= {"zs": number(0.11), "zz": number(99, np.uint8)}
    case(
        "qlinear_where",
        "QLinearWhere",
        {"x": steps(3, 5), "y0": steps(3, 5)},
        {"c": rng.random((3, 5)) > 0.5} | constants,
        order=order,
        domain=MICROSOFT,
        types={"y": TensorProto.UINT8},
    )


def norms():
    """In training mode."""
    order = ["x", "scale", "bias", "mean", "variance"]
    numbers = {n: normal(3) for n in order[1:4]} | {"variance": np.abs(normal(3))}
    trained = dict(order=order, outputs=("y", "m", "v"), asked=["y"], training_mode=1, epsilon=1e-3)
    case("norm_of_values", "BatchNormalization", {"x": normal(2, 3, 4, 5)}, numbers, **trained)


def bits():
    x, by = rng.integers(0, 256, (3, 4)).astype(np.uint8), np.array([0, 3, 1, 5], np.uint8)
    case("shift_right", "BitShift", {"x": x}, {"n": by}, direction="RIGHT", types={"y": TensorProto.UINT8})
    case("bitwise_not", "BitwiseNot", {"x": rng.integers(-9, 9, (3, 4))}, types={"y": TensorProto.INT64})


def decoders():
    def caches(tokens, half):
        angles = np.arange(tokens)[:, None] / 10 ** (np.arange(half) / half)[None]
        return {"cos": np.cos(angles).astype(np.float32), "sin": np.sin(angles).astype(np.float32)}

    order = ["q", "k", "v", "pk", "pv", "n", "all", "cos", "sin"]

    def group(name, past=3, tokens=4, packed=False, without=(), **attributes):
        heads, few, width = 4, 2, 16
        inputs = {"q": normal(1, tokens, (heads + 2 * few if packed else heads) * width)}
        if not packed:
            inputs |= {"k": normal(1, tokens, few * width), "v": normal(1, tokens, few * width)}
        if past:
            inputs |= {"pk": normal(1, few, past, width), "pv": normal(1, few, past, width)}
        constants = {"n": np.array([past + tokens - 1], np.int32), "all": np.array([past + tokens], np.int32)}
        if attributes.get("do_rotary"):
            constants |= caches(16, width // 2)
        case(
            f"group_{name}",
            "GroupQueryAttention",
            inputs,
            constants,
            order=[n if n in inputs or n in constants else "" for n in order],
            outputs=("y", "present_k", "present_v"),
            domain=MICROSOFT,
            types={n: TensorProto.FLOAT for n in ("y", "present_k", "present_v")},
            num_heads=heads,
            kv_num_heads=few,
            **attributes,
        )

    group("plain", past=0)
    group("past", past=3, tokens=1)
    group("rotary", past=0, do_rotary=1)
    group("rotary_past", past=5, tokens=1, do_rotary=1)
    group("rotary_pairs", past=0, do_rotary=1, rotary_interleaved=1)
    group("packed", past=0, packed=True, do_rotary=1)
    group("window", past=0, tokens=7, local_window_size=3)
    group("window_past", past=6, tokens=1, local_window_size=3)
    group("softcap", past=0, softcap=1.5)
    group("scale", past=0, scale=0.2)
    group("smooth", past=0, smooth_softmax=1)


def main():
    make_more.FOLDER = FOLDER
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    for part in (volumes, pools, four_bits, blocks, quantised, norms, bits, decoders):
        part()


if __name__ == "__main__":
    main()
