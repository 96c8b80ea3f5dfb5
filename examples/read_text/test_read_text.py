"""The reader of pictures: outlines of a made likelihood, letters of made lines; on the trained networks a made sign."""

import numpy as np
import pytest

pytest.importorskip("PIL", reason="the package pillow is missing")
pytest.importorskip("scipy", reason="the package scipy is missing")
import read_text  # noqa: E402
from PIL import Image, ImageDraw, ImageFont  # noqa: E402

UPRIGHT = np.array([[40, 20], [160, 20], [160, 44], [40, 44]], float)


def turned(corners, degrees, middle=(100.0, 60.0)):
    a = np.radians(degrees)
    return (corners - corners.mean(axis=0)) @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]) + middle


def likelihood_of(corners, value=0.9):
    mask = Image.new("F", (200, 120))
    ImageDraw.Draw(mask).polygon([tuple(c) for c in corners], fill=value)
    return np.asarray(mask)


@pytest.mark.parametrize("degrees", [0, 3, -17, 40, -44])
def test_outlines(degrees):
    core = turned(UPRIGHT, degrees)
    (found,) = read_text.outlines(likelihood_of(core), (400, 240))
    wanted = read_text.grown(core, 1.6 * 120 * 24 / (2 * (120 + 24))) * 2
    assert np.abs(found - np.clip(wanted, 0, [399, 239])).max() < 6


def test_what_is_no_line():
    assert read_text.outlines(np.zeros((120, 200), np.float32), (200, 120)) == []
    assert read_text.outlines(likelihood_of(UPRIGHT, 0.4), (200, 120)) == []  # not sure enough
    assert read_text.outlines(likelihood_of(np.array([[9, 9], [40, 9], [40, 10], [9, 10]])), (200, 120)) == []  # thin


def test_letters():
    reader = read_text.Reader.__new__(read_text.Reader)
    reader._letters = ["", "a", "b", " "]
    likelihoods = np.full((9, 4), 0.1)
    likelihoods[np.arange(9), [0, 1, 1, 0, 1, 3, 2, 2, 0]] = 0.7
    text, score = reader.letters_of(likelihoods)
    assert text == "aa b" and score == pytest.approx(0.7)
    assert reader.letters_of(np.array([[0.9, 0.1, 0, 0]])) == ("", 0.0)


def test_flattened():
    """What is white in the picture is white in the line."""
    core = turned(UPRIGHT, 20)
    picture = Image.fromarray(np.uint8(likelihood_of(core) > 0) * 255).convert("RGB")
    line = read_text.flattened(picture, core)
    assert line.size == (320, 48)
    assert np.asarray(line)[4:44, 4:230].min() > 200 and (np.asarray(line)[:, 245:] == 127).all()
    tall = read_text.flattened(
        picture.rotate(90, expand=True), read_text.from_left_top(turned(UPRIGHT, 110, (60, 100)))
    )
    assert tall.size == (320, 48)


@pytest.mark.slow
def test_a_sign(fetched, tmp_path):
    pytest.importorskip("onnx", reason="the package onnx is missing")
    fetched("rapidocr==3.10.0")
    sign = Image.new("RGB", (640, 360), (200, 190, 160))
    for text, size, place in (("Open from 8:15 to 17:45", 36, (60, 60)), ("MEMORY 512", 60, (120, 200))):
        ImageDraw.Draw(sign).text(place, text, (20, 20, 40), ImageFont.load_default(size))
    lines = read_text.Reader(tmp_path)(sign)
    assert [line.text for line in lines] == ["Open from 8:15 to 17:45", "MEMORY 512"]
    assert abs(lines[1].corners[0] - [120, 210]).max() < 25
    assert read_text.marked(sign, lines).size == (1280, 360)
