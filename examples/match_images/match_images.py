"""Finds the same places in two pictures:

    python3 examples/match_images/match_images.py left.png right.png matches.png [--points 1024]

ALIKED finds points, LightGlue pairs them, leaves out those without hope layer by layer and ends when it is sure.
matches.png has both pictures, one under the other, and a line for each pair: green is likely, red is less so.
"""

import argparse

import numpy as np
from aliked import Finder
from lightglue import open_matcher
from PIL import Image, ImageDraw


def read(path):
    return np.asarray(Image.open(path).convert("RGB")) / 255


def drawn(pictures, points, matches):
    above, below = (Image.fromarray(np.uint8(p * 255)) for p in pictures)
    both = Image.new("RGB", (max(above.width, below.width), above.height + below.height))
    both.paste(above)
    both.paste(below, (0, above.height))
    draw = ImageDraw.Draw(both)
    for (a, b), score in zip(matches.pairs, matches.scores):
        (x, y), (u, v) = points[0].places[a], points[1].places[b]
        draw.line([x, y, u, v + above.height], (round(255 * (1 - score)), round(220 * score), 40))
    return both


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs=2, metavar="picture")
    parser.add_argument("output")
    parser.add_argument("--points", type=int, default=1024)
    parser.add_argument("--models", default="build/examples/match_images")
    options = parser.parse_args()
    pictures = [read(path) for path in options.pictures]
    points = [Finder(options.models, (p.shape[1], p.shape[0]))(p, options.points) for p in pictures]
    matches = open_matcher(f"{options.models}/lightglue.rnl")(*points)
    print(f"{len(matches.pairs)} matches after {matches.layers} layers, {matches.work:.2f} layers a point")
    drawn(pictures, points, matches).save(options.output)


if __name__ == "__main__":
    main()
