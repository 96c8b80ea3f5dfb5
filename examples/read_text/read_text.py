"""Reads the text in a picture:

    python3 examples/read_text/read_text.py picture.png marked.png

Two networks of PP-OCR, ONNX files of the package rapidocr: one says of every pixel how likely it belongs to a line of
text, the other reads a line. marked.png is the picture with the lines' outlines, and beside it what was read in them.
"""

import argparse
import importlib.metadata
import pathlib
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

import runnel

SHORT_SIDE = 736  # of a picture that is searched, at least
LIKELY, SURE, GROWTH = 0.3, 0.5, 1.6  # a pixel of a line; a line; how far outlines grow beyond the core of a line
HEIGHT, NARROWEST, WIDEST = 48, 320, 3200  # of a line that is read


class Line(NamedTuple):
    corners: np.ndarray  # [4, 2] x and y: left top, right top, right bottom, left bottom
    text: str
    score: float


def network(name):
    """An ONNX file of the installed package; nothing of it is imported."""
    return importlib.metadata.distribution("rapidocr").locate_file(f"rapidocr/models/PP-OCRv6_{name}_small.onnx")


class Reader:
    """folder: for the converted models. That of the search is made for one size of pictures, and for each a file."""

    def __init__(self, folder):
        self._folder = pathlib.Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._searches = {}
        model = self._folder / "read_line.rnl"
        letters = self._folder / "letters.txt"
        if not letters.exists():
            import onnx  # to read the letters, which stand beside the graph

            runnel.convert(network("rec"), model, axis=f"DynamicDimension.1={WIDEST}")
            notes = {note.key: note.value for note in onnx.load(network("rec")).metadata_props}
            letters.write_text(notes["character"], encoding="utf-8")
        self._read = runnel.Session(runnel.Model(model), rollback_window=-1)
        # The first class says that there is no letter, the last one is the blank.
        self._letters = ["", *letters.read_text(encoding="utf-8").split("\n"), " "]

    def __call__(self, picture):
        """Lines of an RGB picture, from top to bottom."""
        lines = []
        for corners in outlines(self.likelihood(picture), picture.size):
            text, score = self.read(picture, corners)
            if score >= 0.5:
                lines.append(Line(corners, text, score))
        return sorted(lines, key=lambda line: line.corners[:, 1].min())

    def likelihood(self, picture):
        """[height, width] of each pixel to belong to a line, of a picture whose sides are multiples of 32."""
        factor = max(1, SHORT_SIDE / min(picture.size))
        width, height = (max(32, round(int(n * factor) / 32) * 32) for n in picture.size)
        if (width, height) not in self._searches:
            model = self._folder / f"find_lines_{width}x{height}.rnl"
            if not model.exists():
                sizes = [f"DynamicDimension.1={height}", f"DynamicDimension.2={width}"]
                runnel.convert(network("det"), model, set=sizes)
            self._searches[width, height] = runnel.Session(runnel.Model(model))
        x = tensor_of(picture.resize((width, height), Image.Resampling.BILINEAR))
        (y,) = self._searches[width, height].run({"x": x}).values()
        return y[0, 0]

    def read(self, picture, corners):
        """The text within an outline, and its letters' likelihood in the mean."""
        return self.letters_of(self.likelihoods(tensor_of(flattened(picture, corners))))

    def likelihoods(self, line):
        """[places, letters] of an upright line."""
        (y,) = self._read.run({"x": line}).values()
        return y[0]

    def letters_of(self, likelihoods):
        """Of [places, letters]: at each place the likeliest; the same one at neighbouring places counts once."""
        best, score = likelihoods.argmax(axis=1), likelihoods.max(axis=1)
        is_new = np.append(True, best[1:] != best[:-1]) & (best > 0)
        if not is_new.any():
            return "", 0.0
        return "".join(self._letters[i] for i in best[is_new]), float(score[is_new].mean())


def tensor_of(picture):
    """[1, 3, height, width], the colours blue, green, red from -1 to 1."""
    pixels = np.asarray(picture, np.float32)[..., ::-1] / 127.5 - 1
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])


def smallest_rectangle(points):
    """The four corners of the rectangle of the smallest area around [n, 2] points. One side lies on their hull."""
    try:
        hull = points[ConvexHull(points).vertices]
    except QhullError:  # all on a line
        hull = points[[0, -1]]
    best = None
    for edge in np.roll(hull, -1, axis=0) - hull:
        along = edge / np.linalg.norm(edge)
        axes = np.array([along, [-along[1], along[0]]])
        low, high = (hull @ axes.T).min(axis=0), (hull @ axes.T).max(axis=0)
        area = np.prod(high - low)
        if best is None or area < best[0] - 1e-9:
            best = area, np.array([low, [high[0], low[1]], high, [low[0], high[1]]]) @ axes
    return best[1]


def from_left_top(corners):
    """In the order of the clock, the one of the first two from the left that is higher first."""
    left, right = np.split(corners[np.argsort(corners[:, 0], kind="stable")], 2)
    (a, d), (b, c) = (pair[np.argsort(pair[:, 1], kind="stable")] for pair in (left, right))
    return np.array([a, b, c, d])


def grown(corners, by):
    along, down = corners[1] - corners[0], corners[3] - corners[0]
    along, down = by * along / np.linalg.norm(along), by * down / np.linalg.norm(down)
    return corners + np.array([-along - down, along - down, along + down, down - along])


def outlines(likelihood, size):
    """Corners of lines, in pixels of a picture of this size."""
    found = []
    likely = ndimage.binary_dilation(likelihood > LIKELY, np.ones((2, 2)), origin=-1)
    parts, count = ndimage.label(likely, np.ones((3, 3)))
    scale = np.array(size) / np.array(likelihood.shape[::-1])
    for part, place in enumerate(ndimage.find_objects(parts, count), 1):
        rows, columns = np.nonzero(parts[place] == part)
        points = np.column_stack([columns + place[1].start, rows + place[0].start]).astype(float)
        if len(points) < 3:
            continue
        corners = from_left_top(smallest_rectangle(points))
        width, height = np.linalg.norm(corners[1] - corners[0]), np.linalg.norm(corners[3] - corners[0])
        if min(width, height) < 3 or mean_inside(likelihood, corners) < SURE:
            continue
        corners = grown(corners, GROWTH * width * height / (2 * (width + height)))
        found.append(np.clip(corners * scale, 0, np.array(size) - 1))
    return found


def mean_inside(likelihood, corners):
    mask = Image.new("1", likelihood.shape[::-1])
    ImageDraw.Draw(mask).polygon([tuple(c) for c in corners], fill=1)
    return likelihood[np.asarray(mask)].mean()


def flattened(picture, corners):
    """What an outline holds, upright and as high as lines are read; a line from top to bottom is turned."""
    width = round(max(np.linalg.norm(corners[1] - corners[0]), np.linalg.norm(corners[2] - corners[3])))
    height = round(max(np.linalg.norm(corners[3] - corners[0]), np.linalg.norm(corners[2] - corners[1])))
    quad = tuple(corners[[0, 3, 2, 1]].ravel())  # left top, left bottom, right bottom, right top
    line = picture.transform((max(width, 1), max(height, 1)), Image.Transform.QUAD, quad, Image.Resampling.BICUBIC)
    if line.height >= 1.5 * line.width:
        line = line.transpose(Image.Transpose.ROTATE_90)
    width = min(WIDEST, max(1, int(np.ceil(HEIGHT * line.width / line.height))))
    line = line.resize((width, HEIGHT), Image.Resampling.BILINEAR)
    grey = Image.new("RGB", (max(width, NARROWEST), HEIGHT), (127, 127, 127))
    grey.paste(line)
    return grey


def marked(picture, lines):
    """The picture with the outlines, and beside it the texts in their places."""
    both = Image.new("RGB", (2 * picture.width, picture.height), "white")
    both.paste(picture)
    draw = ImageDraw.Draw(both)
    for line in lines:
        draw.polygon([tuple(c) for c in line.corners], outline=(230, 30, 30), width=2)
        (x, y), width = line.corners[0], np.linalg.norm(line.corners[1] - line.corners[0])
        size = np.linalg.norm(line.corners[3] - line.corners[0]) * 0.75
        font = ImageFont.load_default(max(8, size))
        if font.getlength(line.text) > width:
            font = ImageFont.load_default(max(8, size * width / font.getlength(line.text)))
        draw.text((picture.width + x, y), line.text, (0, 0, 0), font)
    return both


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture")
    parser.add_argument("output")
    parser.add_argument("--models", default="build/examples/read_text")
    options = parser.parse_args()
    picture = Image.open(options.picture).convert("RGB")
    lines = Reader(options.models)(picture)
    for line in lines:
        print(f"{line.score:.2f}  {line.text}")
    marked(picture, lines).save(options.output)


if __name__ == "__main__":
    main()
