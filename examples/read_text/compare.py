"""Text and numbers beside those of rapidocr, the package's own runtime:

    python3 examples/read_text/compare.py picture.png [--background photo.png --sign sign.png]

Reads the picture with both; with --background also a sign that is made of the photo and of lines that are known, some
of them turned, and kept as sign.png with what was read in it. Prints what each read, how many of the known letters are
wrong, and the largest differences of the networks on the same pixels. Ends with 1 where one is above 1e-3.
"""

import argparse
import difflib
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageDraw, ImageFont
from rapidocr import RapidOCR
from read_text import Reader, flattened, marked, network, outlines, tensor_of

# text, size, degrees, middle
SIGN = (
    ("A small cup, 30 ml", 34, 0, (170, 40)),
    ("memory: 1,048,576 bytes", 22, 12, (440, 130)),
    ("Open from 8:15 to 17:45", 28, -20, (190, 250)),
    ("no sugar", 18, 0, (480, 372)),
)


def made_sign(photo):
    sign = photo.convert("RGBA")
    for text, size, degrees, middle in SIGN:
        font = ImageFont.load_default(size)
        box = font.getbbox(text)
        layer = Image.new("RGBA", (box[2] + 20, box[3] + 20))
        ImageDraw.Draw(layer).text((10, 8), text, (255, 255, 245), font, stroke_width=1, stroke_fill=(20, 20, 20))
        layer = layer.rotate(degrees, Image.Resampling.BICUBIC, expand=True)
        sign.alpha_composite(layer, (middle[0] - layer.width // 2, middle[1] - layer.height // 2))
    return sign.convert("RGB")


def differences(reader, picture):
    """Of both networks, on the first line's pixels and on the whole picture's."""
    likelihood = reader.likelihood(picture)
    height, width = likelihood.shape
    search, read = (
        onnxruntime.InferenceSession(network(n), providers=["CPUExecutionProvider"]) for n in ("det", "rec")
    )
    (wanted,) = search.run(None, {"x": tensor_of(picture.resize((width, height), Image.Resampling.BILINEAR))})
    line = tensor_of(flattened(picture, outlines(likelihood, picture.size)[0]))
    (letters,) = read.run(None, {"x": line})
    return np.abs(likelihood - wanted[0, 0]).max(), np.abs(reader.likelihoods(line) - letters[0]).max()


def wrong(read, known):
    """Letters of the known lines that no line that was read has in its place."""
    best = [
        max((sum(m.size for m in difflib.SequenceMatcher(None, k, r).get_matching_blocks()) for r in read), default=0)
        for k in known
    ]
    return sum(len(k) for k in known) - sum(best)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture")
    parser.add_argument("--background")
    parser.add_argument("--sign")
    parser.add_argument("--models", default="build/examples/read_text")
    options = parser.parse_args()
    reader, original = Reader(options.models), RapidOCR(params={"Global.log_level": "error"})
    pictures = [(options.picture, Image.open(options.picture).convert("RGB"), None)]
    if options.background:
        pictures.append(("sign", made_sign(Image.open(options.background)), [text for text, *_ in SIGN]))
    failed = False
    for name, picture, known in pictures:
        lines = reader(picture)
        ours = [line.text for line in lines]
        theirs = list(original(np.asarray(picture)[..., ::-1]).txts or ())
        print(name)
        for text in ours:
            print(f"  {'   ' if text in theirs else 'we '}   {text}")
        for text in theirs:
            if text not in ours:
                print(f"  they  {text}")
        if known:
            letters = sum(len(k) for k in known)
            print(f"  wrong of {letters} letters: ours {wrong(ours, known)}, rapidocr's {wrong(theirs, known)}")
        search, read = differences(reader, picture)
        print(f"  largest differences: {search:.1e} of a pixel, {read:.1e} of a letter")
        failed |= not max(search, read) <= 1e-3
    if options.background and options.sign:
        marked(picture, lines).resize((800, 267)).quantize(64).save(options.sign, optimize=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
