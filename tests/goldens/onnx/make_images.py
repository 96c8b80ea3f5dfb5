#!/usr/bin/env python3
"""Operators of images and of elements by numbers as ONNX files with onnxruntime's answers, as make_operators.py writes
them: images/NAME.onnx and NAME.safetensors. Fixed seed; versions as there.

    python3 make_images.py
"""

import pathlib
import shutil

import make_operators as base
import numpy as np

base.FOLDER = pathlib.Path(__file__).parent / "images"
base.rng = np.random.default_rng(49)
normal, one = base.normal, base.one


def resized(name, x, scales=None, sizes=None, **attributes):
    constants = {"scales": np.array(scales, np.float32)} if scales else {"sizes": np.array(sizes, np.int64)}
    order = ["x", "", "scales"] if scales else ["x", "", "", "sizes"]
    base.model("resize_" + name, [("Resize", order, ["y"], attributes)], {"x": x}, ["y"], constants, opset=19)


def resize():
    x = normal(1, 3, 5, 7)
    for mode in ("nearest", "linear", "cubic"):
        for place in ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"):
            resized(f"{mode}_{place}", x, [1, 1, 1.7, 0.65], mode=mode, coordinate_transformation_mode=place)
        resized(f"{mode}_sizes", x, sizes=[1, 3, 9, 4], mode=mode)
    for rounding in ("round_prefer_ceil", "floor", "ceil"):
        resized("nearest_" + rounding, x, [1, 1, 2, 0.5], mode="nearest", nearest_mode=rounding)
    for mode in ("linear", "cubic"):
        resized(mode + "_antialias", x, sizes=[1, 3, 3, 4], mode=mode, antialias=1)
        resized(mode + "_antialias_excluded", x, sizes=[1, 3, 3, 4], mode=mode, antialias=1, exclude_outside=1)
    resized("cubic_excluded", x, [1, 1, 2, 0.6], mode="cubic", exclude_outside=1, cubic_coeff_a=-0.5)
    resized("not_larger", x, sizes=[9, 9], mode="linear", axes=[2, 3], keep_aspect_ratio_policy="not_larger")
    resized("not_smaller", x, sizes=[9, 9], mode="nearest", axes=[2, 3], keep_aspect_ratio_policy="not_smaller")
    resized("line", normal(1, 3, 6), [1, 1, 2], mode="linear")
    resized("channels", normal(1, 3, 4, 5), [1, 2, 1, 1], mode="nearest")
    region = np.array([0, 0, 0.2, -0.1, 1, 1, 0.8, 1.2], np.float32)
    one(
        "resize_crop",
        "Resize",
        {"x": x},
        {"roi": region, "scales": np.zeros(0, np.float32), "sizes": np.array([1, 3, 4, 6], np.int64)},
        opset=19,
        mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize",
        extrapolation_value=10.0,
    )
    base.model(
        "resize_call",
        [("Resize", ["x", "", "scales"], ["y"], {"mode": "linear"})],
        {"x": normal(1, 3, 5, 7)},
        ["y"],
        {"scales": np.array([1, 1, 2, 1.5], np.float32)},
        axes={"x": ["batch", 3, "height", "width"]},
    )


def depth():
    for mode in ("DCR", "CRD"):
        one("depth_to_space_" + mode.lower(), "DepthToSpace", {"x": normal(2, 12, 3, 4)}, blocksize=2, mode=mode)
    one("space_to_depth", "SpaceToDepth", {"x": normal(2, 3, 4, 6)}, blocksize=2)
    one("lrn", "LRN", {"x": normal(2, 7, 3, 4)}, size=3, alpha=0.3, beta=0.6, bias=1.5)
    one("lrn_wide", "LRN", {"x": normal(2, 7, 3, 4)}, size=5, alpha=0.3)


def elements():
    x, ids = normal(3, 4, 5), base.ids(2, 4, 3, most=5) - 2
    one("gather_elements_axes", "GatherElements", {"x": x, "i": ids}, axis=2)
    one("gather_elements_first", "GatherElements", {"x": x, "i": base.ids(5, 2, 5, most=3)}, axis=0)
    one("gather_nd", "GatherND", {"x": x, "i": base.ids(6, 2, most=3)})
    one("gather_nd_elements", "GatherND", {"x": x}, {"i": base.ids(2, 2, 3, most=3) - 3})
    one("gather_nd_batch", "GatherND", {"x": x, "i": base.ids(3, 2, 1, most=4)}, batch_dims=1)
    for kind in ("none", "add", "mul", "max", "min"):
        ids = np.stack([base.rng.permutation(5)[:3] for _ in range(8)]).reshape(2, 4, 3).astype(np.int64)
        one(
            "scatter_elements_" + kind,
            "ScatterElements",
            {"x": x, "i": ids, "u": normal(2, 4, 3)},
            axis=2,
            reduction=kind,
        )
        rows = np.array([[2, 0], [0, 3], [1, 1]], np.int64)
        one("scatter_nd_" + kind, "ScatterND", {"x": x, "i": rows, "u": normal(3, 5)}, reduction=kind)


def transposed():
    def case(name, x, w, bias=False, **attributes):
        constants = {"w": w} | ({"b": normal(w.shape[1] * attributes.get("group", 1))} if bias else {})
        one("conv_transpose" + name, "ConvTranspose", {"x": x}, constants, **attributes)

    x = normal(2, 4, 5, 6)
    case("", x, normal(4, 3, 3, 3), bias=True)
    case("_twice", x, normal(4, 3, 2, 2), bias=True, strides=[2, 2])
    case("_padded", x, normal(4, 3, 3, 4), strides=[2, 3], pads=[1, 0, 1, 2], output_padding=[1, 1])
    case("_groups", x, normal(4, 3, 3, 3), bias=True, strides=[2, 2], group=2)
    case("_each", x, normal(4, 1, 4, 4), strides=[2, 2], pads=[1, 1, 1, 1], group=4)
    case("_dilated", x, normal(4, 3, 3, 3), strides=[2, 1], dilations=[2, 3], pads=[1, 2, 3, 1])
    case("_same", x, normal(4, 3, 3, 3), strides=[2, 2], auto_pad="SAME_UPPER")
    case("_shape", x, normal(4, 3, 3, 3), strides=[2, 2], output_shape=[10, 12])
    case("_line", normal(2, 4, 7), normal(4, 3, 16), bias=True, strides=[8], pads=[4, 4])
    base.model(
        "conv_transpose_call",
        [("ConvTranspose", ["x", "w"], ["y"], {"strides": [2, 2], "pads": [1, 1, 1, 1]})],
        {"x": normal(1, 4, 5, 6)},
        ["y"],
        {"w": normal(4, 3, 4, 4)},
        axes={"x": ["batch", 4, "height", "width"]},
    )


if __name__ == "__main__":
    shutil.rmtree(base.FOLDER, ignore_errors=True)
    base.FOLDER.mkdir()
    for make in (resize, depth, elements, transposed):
        make()
    print(len(list(base.FOLDER.glob("*.onnx"))), "operators")
