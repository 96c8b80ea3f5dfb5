#!/usr/bin/env python3
"""Sums by letters, patterns, sound, attention, what onnxruntime's optimiser makes, regions and sequences, as ONNX
files with onnxruntime's answers: more/NAME.onnx and NAME.safetensors. Fixed seed. Needs the packages of
make_operators.py.

    python3 make_more.py
"""

import shutil

import make_operators
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

FOLDER = make_operators.FOLDER.parent / "more"
MICROSOFT = "com.microsoft"
rng = np.random.default_rng(2027)


def normal(*shape):
    return rng.standard_normal(shape).astype(np.float32)


def case(
    name,
    op,
    inputs,
    constants=None,
    order=None,
    outputs=("y",),
    opset=18,
    domain="",
    axes=None,
    types=None,
    asked=None,
    **attributes,
):
    """inputs, constants: name -> array, in the node's order unless `order` says otherwise ("": absent). axes: name of
    an input -> its shape with names of axes. types: of outputs, where shape inference does not know them."""
    constants = constants or {}
    order = order or list(inputs) + list(constants)
    node = helper.make_node(op, order, list(outputs), domain=domain, **attributes)
    infos = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), (axes or {}).get(n, list(a.shape)))
        for n, a in inputs.items()
    ]
    wanted = asked or [o for o in outputs if o]
    results = [helper.make_tensor_value_info(o, (types or {}).get(o, TensorProto.FLOAT), None) for o in wanted]
    initialisers = [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()]
    graph = helper.make_graph([node], name, infos, results, initialisers)
    imports = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
    file = helper.make_model(graph, opset_imports=imports, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(file.SerializeToString(), options, providers=["CPUExecutionProvider"])
    answers = session.run(wanted, inputs)
    onnx.save(file, FOLDER / f"{name}.onnx")
    named = [(f"in.{n}", a) for n, a in inputs.items()] + [(f"out.{n}", a) for n, a in zip(wanted, answers)]
    # Integers and truths are kept as int64.
    kept = {n: np.asarray(a, np.float32 if a.dtype == np.float32 else np.int64, order="C") for n, a in named}
    save_file(kept, FOLDER / f"{name}.safetensors")


def einsum():
    equations = {
        "product": ("ij,jk->ik", (3, 4), (4, 5)),
        "implied": ("bij,bjk", (2, 3, 4), (2, 4, 5)),
        "heads": ("bqhd,bkhd->bhqk", (2, 3, 2, 4), (2, 5, 2, 4)),
        "outer": ("i,j->ij", (3,), (4,)),
        "inner": ("i,i->", (5,), (5,)),
        "sum": ("abc->ca", (2, 3, 4)),
        "turned": ("abcd->dacb", (2, 3, 4, 2)),
        "three": ("ij,jk,kl->il", (2, 3), (3, 4), (4, 2)),
        "ellipsis": ("...ij,...jk->...ik", (2, 2, 3, 4), (2, 2, 4, 3)),
        "ellipsis_of_one": ("b...h,h->b...", (2, 3, 4, 5), (5,)),
        "lonely": ("ij,kl->il", (2, 3), (4, 5)),
        "batch_outer": ("bi,bj->bji", (2, 3), (2, 4)),
    }
    for name, (equation, *shapes) in equations.items():
        case(f"einsum_{name}", "Einsum", {f"x{i}": normal(*s) for i, s in enumerate(shapes)}, equation=equation)
    case("einsum_weights", "Einsum", {"x": normal(2, 3, 8)}, {"w": normal(8, 2, 4)}, equation="bth,hnd->btnd")
    case(
        "einsum_axis",
        "Einsum",
        {"x": normal(2, 3, 4), "z": normal(2, 5, 4)},
        equation="bqd,bkd->bqk",
        axes={"x": [2, "q", 4], "z": [2, "k", 4]},
    )


def patterns():
    for upper in (0, 1):
        for k in (-1, 0, 2):
            case(f"trilu_{upper}_{k + 1}", "Trilu", {"x": normal(2, 3, 5)}, {"k": np.int64(k)}, upper=upper)
    case("trilu_axis", "Trilu", {"x": normal(2, 4, 6)}, upper=0, axes={"x": [2, "rows", "columns"]})
    case("trilu_integers", "Trilu", {"x": rng.integers(0, 9, (4, 4))}, types={"y": TensorProto.INT64})
    case("eye_like", "EyeLike", {"x": normal(3, 5)}, k=1)
    ids = np.array([[0, 3, -1], [2, 7, 1]], np.int64)
    case("one_hot", "OneHot", {"ids": ids}, {"depth": np.int64(4), "values": np.array([0, 1], np.float32)})
    case(
        "one_hot_axis", "OneHot", {"ids": ids}, {"depth": np.int64(5), "values": np.array([-2, 3], np.float32)}, axis=0
    )
    case(
        "one_hot_values",
        "OneHot",
        {"ids": ids, "values": normal(2)},
        {"depth": np.int64(4)},
        order=["ids", "depth", "values"],
        axis=1,
    )
    case("hardmax", "Hardmax", {"x": np.round(normal(3, 5))})
    case("hardmax_axis", "Hardmax", {"x": normal(2, 4, 3)}, axis=1)
    case("hardmax_old", "Hardmax", {"x": normal(2, 4, 3)}, opset=11)
    case("shrink", "Shrink", {"x": normal(3, 7)}, lambd=0.4, bias=0.1)
    lengths = np.array([3, 1, 4], np.int64)
    case("reverse_sequence", "ReverseSequence", {"x": normal(4, 3, 2), "n": lengths})
    case("reverse_sequence_batch", "ReverseSequence", {"x": normal(3, 4), "n": lengths}, batch_axis=0, time_axis=1)
    case("lp_norm_1", "LpNormalization", {"x": normal(3, 4)}, p=1, axis=0)
    case("lp_norm_2", "LpNormalization", {"x": np.vstack([normal(2, 4), np.zeros((1, 4), np.float32)])})
    case("global_lp_pool", "GlobalLpPool", {"x": normal(2, 3, 4, 5)})
    case("mean_variance_norm", "MeanVarianceNormalization", {"x": normal(2, 3, 4, 4)})


def grid_samples():
    # Places of every kind: inside, on the edge, outside by less and by more than the image.
    grid = (1.6 * normal(2, 4, 5, 2)).astype(np.float32)
    grid[0, 0] = np.array([[-1, -1], [1, 1], [0, 0], [0.999, -0.999], [3, -7]], np.float32)
    for mode in ("bilinear", "nearest"):
        for padding in ("zeros", "border", "reflection"):
            for corners in (0, 1):
                more = {"mode": mode, "padding_mode": padding, "align_corners": corners}
                case(
                    f"grid_{mode}_{padding}_{corners}",
                    "GridSample",
                    {"x": normal(2, 3, 5, 4), "g": grid},
                    opset=16,
                    **more,
                )
    case("grid_linear", "GridSample", {"x": normal(2, 3, 5, 4), "g": grid}, opset=20)


def found():
    flags = rng.integers(0, 2, (4, 5)).astype(np.int64)
    integers = {"y": TensorProto.INT64}
    case("non_zero", "NonZero", {"x": np.round(normal(3, 4, 2))}, types=integers)
    case("non_zero_axis", "NonZero", {"x": flags}, types=integers, axes={"x": [4, "columns"]})
    case("non_zero_none", "NonZero", {"x": np.zeros((2, 3), np.float32)}, types=integers)
    case("non_zero_truths", "NonZero", {"x": flags > 0}, types=integers)
    some = np.array([True, False, True, True])
    case("compress", "Compress", {"x": normal(2, 4, 3), "c": some}, axis=1)
    case("compress_flat", "Compress", {"x": normal(2, 4), "c": some})
    case("compress_none", "Compress", {"x": normal(2, 4, 3), "c": some & False}, axis=1)
    case("compress_known", "Compress", {"x": normal(2, 4, 3)}, {"c": some}, axis=1)


def sound():
    for op in ("HannWindow", "HammingWindow", "BlackmanWindow"):
        for periodic in (0, 1):
            case(f"{op.lower()}_{periodic}", op, {}, {"n": np.int64(10)}, periodic=periodic)
    case("dft", "DFT", {"x": normal(2, 8, 1)}, opset=17, axis=1)
    case("dft_complex", "DFT", {"x": normal(2, 6, 2)}, opset=17, axis=1)
    case("dft_half", "DFT", {"x": normal(2, 9, 1)}, opset=17, axis=1, onesided=1)
    case("dft_inverse", "DFT", {"x": normal(2, 5, 2)}, opset=17, axis=1, inverse=1)
    case("dft_length", "DFT", {"x": normal(2, 6, 1)}, {"n": np.int64(8)}, opset=17, axis=1)
    case("dft_axis", "DFT", {"x": normal(4, 3, 2)}, {"axis": np.int64(0)}, order=["x", "", "axis"], opset=20)
    hann = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(8) / 8)).astype(np.float32)
    case("stft", "STFT", {"x": normal(2, 21, 1)}, {"step": np.int64(4), "window": hann}, opset=17)
    case(
        "stft_whole",
        "STFT",
        {"x": normal(1, 20, 1)},
        {"step": np.int64(3), "n": np.int64(6)},
        order=["x", "step", "", "n"],
        opset=17,
        onesided=0,
    )
    mel = {
        "bands": np.int64(4),
        "n": np.int64(32),
        "rate": np.int64(8000),
        "low": np.float32(100),
        "high": np.float32(3800),
    }
    case("mel_weights", "MelWeightMatrix", {}, mel, opset=17)


def attention():
    q, k, v = normal(2, 4, 3, 8), normal(2, 4, 5, 8), normal(2, 4, 5, 6)

    def onnx_attention(name, inputs, order=None, outputs=("y",), **attributes):
        case(f"attention_{name}", "Attention", inputs, order=order, outputs=outputs, opset=23, **attributes)

    onnx_attention("plain", {"q": q, "k": k, "v": v})
    onnx_attention("causal", {"q": q, "k": k, "v": v}, is_causal=1, scale=0.3)
    onnx_attention("softcap", {"q": q, "k": k, "v": v}, softcap=2.0)
    onnx_attention("mask", {"q": q, "k": k, "v": v, "m": normal(3, 5)})
    seen = rng.integers(0, 2, (2, 1, 3, 5)).astype(bool)
    seen[..., 0] = True
    onnx_attention("seen", {"q": q, "k": k, "v": v, "m": seen})
    onnx_attention("groups", {"q": q, "k": normal(2, 2, 5, 8), "v": normal(2, 2, 5, 8)})
    flat = {"q": normal(2, 3, 16), "k": normal(2, 5, 8), "v": normal(2, 5, 8)}
    onnx_attention("flat", flat, q_num_heads=4, kv_num_heads=2)
    past = {
        "q": q,
        "k": normal(2, 4, 3, 8),
        "v": normal(2, 4, 3, 6),
        "pk": normal(2, 4, 2, 8),
        "pv": normal(2, 4, 2, 6),
    }
    onnx_attention("past", past, order=["q", "k", "v", "", "pk", "pv"], outputs=("y", "nk", "nv"), is_causal=1)

    tables = {"c": normal(6, 4), "s": normal(6, 4)}
    places = np.array([[0, 2, 5], [1, 1, 3]], np.int64)
    for name, more in {"halves": {}, "pairs": {"interleaved": 1}, "part": {"rotary_embedding_dim": 8}}.items():
        x = normal(2, 2, 3, 12 if name == "part" else 8)
        case(f"rotary_{name}", "RotaryEmbedding", {"x": x, **tables, "p": places}, opset=23, **more)
    case(
        "rotary_flat",
        "RotaryEmbedding",
        {"x": normal(2, 3, 16), "c": normal(2, 3, 4), "s": normal(2, 3, 4)},
        opset=23,
        num_heads=2,
    )


def fused():
    def ort(name, op, *arguments, **more):
        case(name, op, *arguments, domain=MICROSOFT, **more)

    x = normal(2, 3, 8)
    ort("bias_gelu", "BiasGelu", {"x": x}, {"b": normal(8)})
    ort("fast_gelu", "FastGelu", {"x": x}, {"b": normal(8)})
    ort("fast_gelu_plain", "FastGelu", {"x": x})
    ort("quick_gelu", "QuickGelu", {"x": x}, alpha=1.5)
    ort("fused_matmul", "FusedMatMul", {"a": normal(2, 4, 3), "b": normal(2, 5, 4)}, transA=1, transB=1, alpha=0.5)
    ort("fused_matmul_weights", "FusedMatMul", {"a": x}, {"b": normal(5, 8)}, transB=1)
    image = {"x": normal(1, 3, 6, 6)}
    filters = {"w": normal(4, 3, 3, 3), "b": normal(4)}
    ort("fused_conv", "FusedConv", image, filters, activation="Relu", pads=[1, 1, 1, 1])
    ort("fused_conv_leaky", "FusedConv", image, filters, activation="LeakyRelu", activation_params=[0.2])
    ort("fused_conv_clip", "FusedConv", image, filters, activation="Clip", activation_params=[0.0, 1.5])
    summed = {**image, "z": normal(1, 4, 4, 4)}
    ort("fused_conv_sum", "FusedConv", summed, filters, order=["x", "w", "b", "z"], activation="Relu")
    ort(
        "fused_gemm", "FusedGemm", {"x": normal(3, 8)}, {"w": normal(5, 8), "b": normal(5)}, transB=1, activation="Relu"
    )
    sloped = {"activation": "LeakyRelu", "activation_alpha": 0.1}
    ort("fused_gemm_leaky", "FusedGemm", {"x": normal(3, 8)}, {"w": normal(8, 5), "b": normal(5)}, **sloped)
    norm = {"g": normal(8), "b": normal(8)}
    ort(
        "skip_norm",
        "SkipLayerNormalization",
        {"x": x, "s": normal(2, 3, 8)},
        {**norm, "bias": normal(8)},
        outputs=("y", "", "", "sum"),
        epsilon=1e-5,
    )
    ort("skip_norm_plain", "SkipLayerNormalization", {"x": x, "s": normal(2, 3, 8)}, norm)
    ort(
        "skip_rms_norm",
        "SkipSimplifiedLayerNormalization",
        {"x": x, "s": normal(2, 3, 8)},
        {"g": normal(8)},
        outputs=("y", "", "", "sum"),
    )
    case("rms_norm", "SimplifiedLayerNormalization", {"x": x}, {"g": normal(8)}, opset=17, axis=-1, epsilon=1e-5)
    ids = rng.integers(0, 10, (2, 4)).astype(np.int32)
    embed = {"w": normal(10, 8), "p": normal(6, 8), "k": normal(2, 8), "g": normal(8), "b": normal(8)}
    kinds = rng.integers(0, 2, (2, 4)).astype(np.int32)
    mask = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], np.int32)
    ort(
        "embed_norm",
        "EmbedLayerNormalization",
        {"ids": ids, "kinds": kinds, "mask": mask},
        embed,
        order=["ids", "kinds", *embed, "mask"],
        outputs=("y", "n"),
        types={"n": TensorProto.INT32},
    )
    short = {n: a for n, a in embed.items() if n != "k"}
    ort(
        "embed_norm_plain",
        "EmbedLayerNormalization",
        {"ids": ids},
        short,
        order=["ids", "", "w", "p", "", "g", "b"],
        outputs=("y", ""),
    )

    weights = {"w": normal(8, 24), "b": normal(24)}
    h = normal(2, 5, 8)
    ort("packed_attention", "Attention", {"x": h}, weights, num_heads=2)
    ort("packed_attention_causal", "Attention", {"x": h}, weights, num_heads=2, unidirectional=1)
    lengths = np.array([5, 3], np.int32)
    ort(
        "packed_attention_lengths",
        "Attention",
        {"x": h, "m": lengths},
        weights,
        order=["x", "w", "b", "m"],
        num_heads=2,
    )
    seen = np.array([[1, 1, 1, 1, 0], [0, 1, 1, 0, 0]], np.int32)
    ort("packed_attention_mask", "Attention", {"x": h, "m": seen}, weights, order=["x", "w", "b", "m"], num_heads=2)
    many = {"q": normal(2, 3, 8), "k": normal(2, 5, 8), "v": normal(2, 5, 12)}
    ort("many_heads", "MultiHeadAttention", many, {"b": normal(28)}, num_heads=2)
    ort(
        "many_heads_mask",
        "MultiHeadAttention",
        {**many, "m": seen},
        order=["q", "k", "v", "", "m"],
        num_heads=2,
        scale=0.4,
    )
    ort(
        "many_heads_bias",
        "MultiHeadAttention",
        {**many, "r": normal(1, 2, 3, 5)},
        order=["q", "k", "v", "", "", "r"],
        num_heads=2,
    )
    tables = {"c": normal(8, 4), "s": normal(8, 4)}
    places = np.array([[0, 2, 5], [1, 1, 3]], np.int64)
    ort("rotary_ort", "RotaryEmbedding", {"x": normal(2, 2, 3, 8), "p": places}, tables)
    ort(
        "rotary_ort_first",
        "RotaryEmbedding",
        {"x": normal(2, 3, 16), "p": np.array([4], np.int64)},
        tables,
        interleaved=1,
    )


def regions():
    corners = np.array([[0, 0, 7, 5], [1, 2, 4.5, 3], [-2, -1, 20, 9], [3, 3, 3, 3], [6, 5, 2, 1]], np.float32)
    regions = {"x": normal(2, 3, 6, 8), "r": corners, "i": np.array([0, 1, 1, 0, 1], np.int64)}
    sides = {"output_height": 3, "output_width": 2, "sampling_ratio": 2}
    case("roi_align", "RoiAlign", regions, **sides, spatial_scale=0.5)
    case("roi_align_old", "RoiAlign", regions, opset=10, **sides)
    case("roi_align_one", "RoiAlign", regions, coordinate_transformation_mode="output_half_pixel", sampling_ratio=3)

    boxes = np.round(rng.uniform(0, 8, (2, 30, 4)), 1).astype(np.float32)
    boxes[:, :, 2:] = boxes[:, :, :2] + np.round(rng.uniform(0, 4, (2, 30, 2)), 1).astype(np.float32)
    scores = np.round(rng.uniform(0, 1, (2, 3, 30)), 2).astype(np.float32)
    given = {"b": boxes, "s": scores}
    found = {"types": {"y": TensorProto.INT64}}

    def limits(most, overlap, least=None):
        known = {"m": np.array([most]), "o": np.array([overlap], np.float32)}
        return known if least is None else known | {"t": np.array([least], np.float32)}

    case("suppression", "NonMaxSuppression", given, limits(5, 0.3, 0.4), **found)
    case("suppression_all", "NonMaxSuppression", given, limits(10**12, 0.5), **found)
    case("suppression_none", "NonMaxSuppression", given, limits(4, 0.5, 2.0), **found)
    case("suppression_middle", "NonMaxSuppression", given, limits(9, 0.2), center_point_box=1, **found)
    turned = {"b": boxes[:, :, [2, 1, 0, 3]], "s": scores}
    case("suppression_turned", "NonMaxSuppression", turned, limits(9, 0.4), **found)
    one = {"b": boxes[:1], "s": scores[:1, :1], "o": np.array([0.25], np.float32), "t": np.array([0.5], np.float32)}
    counted = {"b": [1, "boxes", 4], "s": [1, 1, "boxes"]}
    case(
        "suppression_call",
        "NonMaxSuppression",
        one,
        {"m": np.array(6)},
        order=["b", "s", "m", "o", "t"],
        axes=counted,
        **found,
    )


def deformed():
    """Offsets of every kind: small ones, and some far beyond the image."""

    def offsets(*shape):
        return (normal(*shape) * np.where(rng.random(shape) < 0.1, 9, 1)).astype(np.float32)

    for name, x, w, size, more in (
        ("plain", (2, 3, 5, 6), (4, 3, 3, 3), (5, 6), {"pads": [1, 1, 1, 1]}),
        (
            "groups",
            (1, 4, 7, 6),
            (6, 2, 3, 2),
            (3, 3),
            {"strides": [2, 2], "group": 2, "offset_group": 2, "pads": [0, 0, 0, 1]},
        ),
        ("dilated", (1, 4, 9, 8), (2, 4, 2, 3), (8, 6), {"dilations": [2, 1], "pads": [1, 0, 0, 0], "offset_group": 4}),
    ):
        places = w[2] * w[3] * more.get("offset_group", 1)
        inputs = {"x": normal(*x), "o": offsets(x[0], 2 * places, *size)}
        case(f"deform_{name}", "DeformConv", inputs, {"w": normal(*w)}, ["x", "w", "o"], opset=19, **more)
        inputs["m"] = rng.random((x[0], places, *size)).astype(np.float32)
        constants = {"w": normal(*w), "b": normal(w[0])}
        case(f"deform_{name}_mask", "DeformConv", inputs, constants, ["x", "w", "o", "b", "m"], opset=19, **more)


def sequences():
    def several(name, nodes, inputs, outputs, constants=None):
        make_operators.model(name, nodes, inputs, outputs, constants, folder=FOLDER)

    x, y = normal(4, 3), normal(2, 3)
    at = {"zero": np.array(0), "last": np.array(-1), "sizes": np.array([1, 3]), "two": np.array(2)}
    several(
        "sequence_built",
        [
            ("SequenceEmpty", [], ["none"], {}),
            ("SequenceInsert", ["none", "x"], ["one"], {}),
            ("SequenceInsert", ["one", "y", "zero"], ["both"], {}),
            ("ConcatFromSequence", ["both"], ["joined"], {"axis": 0}),
            ("SequenceLength", ["both"], ["n"], {}),
            ("SequenceErase", ["both"], ["left"], {}),
            ("SequenceAt", ["left", "last"], ["at"], {}),
        ],
        {"x": x, "y": y},
        ["joined", "n", "at"],
        {"zero": at["zero"], "last": at["last"]},
    )
    several(
        "sequence_split",
        [
            ("SplitToSequence", ["x", "sizes"], ["parts"], {"axis": 0}),
            ("SequenceAt", ["parts", "last"], ["at"], {}),
            ("SplitToSequence", ["x", "two"], ["pairs"], {"axis": 1}),
            ("SequenceAt", ["pairs", "last"], ["rest"], {}),
            ("SplitToSequence", ["x"], ["rows"], {"axis": 0, "keepdims": 0}),
            ("ConcatFromSequence", ["rows"], ["stacked"], {"axis": 1, "new_axis": 1}),
        ],
        {"x": x},
        ["at", "rest", "stacked"],
        {"last": at["last"], "sizes": at["sizes"], "two": at["two"]},
    )
    several(
        "sequence_construct",
        [
            ("SequenceConstruct", ["x", "x"], ["s"], {}),
            ("ConcatFromSequence", ["s"], ["z"], {"axis": -1, "new_axis": 1}),
        ],
        {"x": x},
        ["z"],
    )


def spelled_out():
    """Activations in several nodes, and what stands behind convolutions."""
    x = {"x": normal(1, 3, 5, 6)}
    constants = {"w": normal(4, 3, 3, 3), "row": normal(1, 4, 1, 1)}
    conv = ("Conv", ["x", "w"], ["c"], {"pads": [1, 1, 1, 1]})

    def number(name, value):
        return ("Constant", [], [name], {"value": numpy_helper.from_array(np.float32(value))})

    def gelu(name, before, of, first, one=1.0, outputs=("y",)):
        nodes = [
            *before,
            number("r", np.sqrt(2) if first == "Div" else np.sqrt(0.5)),
            (first, [of, "r"] if first == "Div" else ["r", of], ["d"], {}),
            ("Erf", ["d"], ["e"], {}),
            number("one", one),
            ("Add", ["e", "one"], ["s"], {}),
            ("Mul", [of, "s"], ["p"], {}),
            number("half", 0.5),
            ("Mul", ["p", "half"], ["y"], {}),
        ]
        make_operators.model(name, nodes, x, list(outputs), constants, folder=FOLDER)

    summed = [conv, ("Add", ["c", "row"], ["a"], {})]
    gelu("spelled_gelu", summed, "a", "Div")
    gelu("spelled_gelu_product", [conv], "c", "Mul")
    gelu("spelled_gelu_alone", [conv, ("Exp", ["c"], ["a"], {})], "a", "Div")
    gelu("spelled_gelu_of_another_number", summed, "a", "Div", one=2.0)
    gelu("spelled_gelu_shared", [conv, ("Neg", ["c"], ["z"], {})], "c", "Div", outputs=("y", "z"))

    silu = [("Sigmoid", ["i"], ["s"], {}), ("Mul", ["i", "s"], ["y"], {})]
    renamed = [conv, ("Identity", ["c"], ["i"], {})]
    turned = [("Transpose", ["c"], ["t"], {"perm": [0, 2, 3, 1]})]
    of_turned = [("Sigmoid", ["t"], ["s"], {}), ("Mul", ["t", "s"], ["y"], {})]
    for name, nodes, outputs in (
        ("spelled_silu", [*renamed, *silu], ["y"]),
        ("spelled_silu_shared", [*renamed, *silu, ("Neg", ["c"], ["z"], {})], ["y", "z"]),
        ("spelled_silu_of_two", [*renamed, silu[0], ("Mul", ["c", "s"], ["y"], {})], ["y"]),
        ("conv_relu_turned", [conv, *turned, ("Relu", ["t"], ["y"], {}), ("Neg", ["c"], ["z"], {})], ["y", "z"]),
        ("conv_silu_turned", [conv, *turned, *of_turned, ("Neg", ["c"], ["z"], {})], ["y", "z"]),
        ("conv_relu_shared", [*renamed, ("Relu", ["i"], ["y"], {}), ("Neg", ["c"], ["z"], {})], ["y", "z"]),
    ):
        make_operators.model(name, nodes, x, outputs, constants, folder=FOLDER)

    for name, shape in (("row", (4, 1, 1)), ("number", (1,)), ("image", (1, 1, 5, 6)), ("batch", (2, 1, 1, 1))):
        nodes = [conv, ("Add", ["more", "c"], ["y"], {})]
        constants = {"w": constants["w"], "more": normal(*shape)}
        make_operators.model(f"conv_sum_{name}", nodes, x, ["y"], constants, folder=FOLDER)


if __name__ == "__main__":
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    for make in (
        einsum,
        patterns,
        grid_samples,
        found,
        sound,
        attention,
        fused,
        regions,
        deformed,
        sequences,
        spelled_out,
    ):
        make()
    print(len(list(FOLDER.glob("*.onnx"))), "operators")
