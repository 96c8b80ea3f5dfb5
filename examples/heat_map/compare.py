"""Heat maps beside onnxruntime's, of the whole network and with merged tokens:

    python3 examples/heat_map/compare.py photo.jpg ... [--picture maps.jpg]

Prints for each photo the largest difference of the whole network, then for each way to prune the encoder's tokens the
largest and the mean difference over all photos and the lowest correlation of a map. Ends with 1 where the whole network
differs by more than 1e-4. maps.jpg gets the first photo with its map, whole and pruned.
"""

import argparse
import json
import os
import pathlib
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime
from heat_map import SIDE, drawn, network, open_model, tensor_of
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.numpy import save_file

import runnel

PATCHES, WIDTH = SIDE // 14, 384
POSITIONS = "/backbone/embeddings/Concat_6_output_0"
CONFIG = {
    "architectures": ["Dinov2Model"],
    "model_type": "dinov2",
    "image_size": SIDE,
    "patch_size": 14,
    "num_channels": 3,
    "hidden_size": WIDTH,
    "num_hidden_layers": 12,
    "num_attention_heads": 6,
    "mlp_ratio": 4,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-6,
    "qkv_bias": True,
    "use_swiglu_ffn": False,
}


def write_backbone(graph, folder):
    """The encoder as a checkpoint of DINOv2, whose recipe can prune. Biases and norms have the names of
    training; a matrix is found by the bias that is added to its product."""
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    makers = {output: node for node in graph.node for output in node.output}
    root = "backbone."
    weights = {name[len(root) :]: a for name, a in constants.items() if name.startswith(root)}
    for node in graph.node:
        product = makers.get(node.input[1]) if node.op_type == "Add" else None
        if product and product.op_type == "MatMul" and node.input[0].startswith(root):
            name = node.input[0][len(root) :].replace(".bias", ".weight")
            weights[name] = np.ascontiguousarray(constants[product.input[1]].T)
    # The table of positions, stretched to this size of images, is the same for every photo.
    session = onnxruntime.InferenceSession(with_output(graph, POSITIONS), providers=["CPUExecutionProvider"])
    (table,) = session.run([POSITIONS], {"input_image": np.zeros((1, 3, SIDE, SIDE), np.float32)})
    weights["embeddings.position_embeddings"] = table
    folder.mkdir()
    save_file({name: np.ascontiguousarray(a) for name, a in weights.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))


def with_output(graph, name):
    model = onnx.load(network())
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return model.SerializeToString()


def write_decoder(graph, path):
    """What stands behind the encoder, as an ONNX file of its own: an image of tokens -> the map."""
    begin = next(i for i, node in enumerate(graph.node) if node.op_type == "ConvTranspose")
    image = graph.node[begin].input[0]
    nodes = [n for n in graph.node[begin:] if n.op_type in ("ConvTranspose", "BatchNormalization", "Relu", "Conv")]
    resize, sigmoid = graph.node[-2], graph.node[-1]
    resize.input[3] = "sizes"
    nodes += [resize, sigmoid]
    used = {name for node in nodes for name in node.input}
    constants = [t for t in graph.initializer if t.name in used]
    constants.append(numpy_helper.from_array(np.array([1, 1, SIDE, SIDE], np.int64), "sizes"))
    given = helper.make_tensor_value_info(image, TensorProto.FLOAT, [1, WIDTH, PATCHES, PATCHES])
    wanted = helper.make_tensor_value_info("output_importance", TensorProto.FLOAT, [1, 1, SIDE, SIDE])
    model = helper.make_model(
        helper.make_graph(nodes, "decoder", [given], [wanted], constants), opset_imports=[helper.make_opsetid("", 14)]
    )
    onnx.save(model, path)


class Parts:
    """Encoder and decoder as two models."""

    def __init__(self, folder, method):
        options = {"prune": method} if method else {}
        runnel.convert(folder / "backbone", folder / "backbone.rnl", weights="f32", **options)
        if not (folder / "decoder.rnl").exists():
            runnel.convert(folder / "decoder.onnx", folder / "decoder.rnl")
        self._encoder = runnel.Session(runnel.Model(folder / "backbone.rnl", copy=True))
        self._decoder = runnel.Session(runnel.Model(folder / "decoder.rnl"))
        (self._image,) = (v.name for v in self._decoder.model.inputs())

    def run(self, pixels):
        tokens = self._encoder.run({"pixel_values": pixels})["last_hidden_state"].reshape(-1, WIDTH)
        image = np.ascontiguousarray(tokens[1:].T).reshape(1, WIDTH, PATCHES, PATCHES)
        return self._decoder.run({self._image: image})["output_importance"]


def work(method):
    """The part of the encoder's multiplications that is left when each layer merges r tokens behind its attention."""
    left, all_tokens, sums = PATCHES**2 + 1, PATCHES**2 + 1, [0, 0]
    merged = int(method.split("=")[1])
    for _ in range(CONFIG["num_hidden_layers"]):
        for i, (before, behind) in enumerate([(all_tokens, all_tokens), (left, left - merged)]):
            sums[i] += before * 4 * WIDTH**2 + 2 * before**2 * WIDTH + behind * 8 * WIDTH**2
        left -= merged
    return sums[1] / sums[0]


def report(method, got, wanted):
    largest = max(np.abs(a - b).max() for a, b in zip(got, wanted))
    mean = np.mean([np.abs(a - b).mean() for a, b in zip(got, wanted)])
    alike = min(np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(got, wanted))
    left = f"{work(method):.2f} of the products, " if ":r=" in method else ""
    print(
        f"{method or 'two models'}: {left}largest {largest:.1e}, mean {mean:.1e}, correlation {alike:.4f}", flush=True
    )


def write_picture(path, photo, maps):
    photo = Image.open(photo).convert("RGB")
    photo.thumbnail((300, 300))
    _, place = tensor_of(photo)
    row = [photo] + [drawn(photo, heat[0, 0], place) for heat in maps]
    picture = Image.new("RGB", (photo.width * len(row), photo.height))
    for i, part in enumerate(row):
        picture.paste(part, (i * photo.width, 0))
    picture.save(path, quality=85)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="+", metavar="photo.jpg")
    parser.add_argument("--model", default="build/examples/focus.rnl")
    parser.add_argument("--picture")
    options = parser.parse_args()
    original = onnxruntime.InferenceSession(network(), providers=["CPUExecutionProvider"])
    whole = runnel.Session(open_model(options.model))
    inputs = [tensor_of(Image.open(photo).convert("RGB"))[0] for photo in options.photos]
    wanted = [original.run(None, {"input_image": x})[0] for x in inputs]
    failed = False
    for photo, x, w in zip(options.photos, inputs, wanted):
        difference = np.abs(whole.run({"input_image": x})["output_importance"] - w).max()
        print(f"{os.path.basename(photo)}: {difference:.1e}")
        failed |= not difference <= 1e-4
    graph = onnx.load(network()).graph
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        write_backbone(graph, folder / "backbone")
        write_decoder(graph, folder / "decoder.onnx")
        maps = {}
        for method in ("", "tome:r=4", "tome:r=8", "tome:r=12", "tome:r=16", "mctf:r=8", "evit:keep=0.7"):
            got = [parts.run(x) for parts in [Parts(folder, method)] for x in inputs]
            report(method, got, wanted)
            maps[method] = got[0]
    if options.picture:
        write_picture(options.picture, options.photos[0], [maps[m] for m in ("", "tome:r=8", "tome:r=16")])
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
