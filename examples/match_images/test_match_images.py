"""The matcher's graph against its formula in NumPy, on small random weights; peaks and samples between pixels."""

import numpy as np
import pytest

pytest.importorskip("PIL", reason="the package pillow is missing")
pytest.importorskip("scipy", reason="the package scipy is missing")
import aliked  # noqa: E402
import lightglue  # noqa: E402
import match_images  # noqa: E402
import runnel  # noqa: E402
from lightglue import Points  # noqa: E402
from scipy.special import erf  # noqa: E402

SIZES = {"LAYERS": 3, "WIDTH": 16, "HEADS": 2, "HEAD": 8, "DESCRIPTOR": 6, "MOST": 64}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


class Formula:
    """LightGlue as it is written down, in float64."""

    def __init__(self, weights):
        self.w = {name: a.astype(float) for name, a in weights.items()}

    def linear(self, x, name):
        return x @ self.w[name + ".weight"].T + self.w[name + ".bias"]

    def heads(self, x):
        return x.reshape(len(x), SIZES["HEADS"], -1).transpose(1, 0, 2)

    def attend(self, q, k, v):
        y = softmax(q @ k.transpose(0, 2, 1) * SIZES["HEAD"] ** -0.5) @ v
        return y.transpose(1, 0, 2).reshape(q.shape[1], -1)

    def told(self, x, message, root):
        h = self.linear(np.concatenate([x, message], 1), root + "ffn.0")
        h = (h - h.mean(1, keepdims=True)) / np.sqrt(h.var(1, keepdims=True) + 1e-5)
        h = h * self.w[root + "ffn.1.weight"] + self.w[root + "ffn.1.bias"]
        return x + self.linear(h * (1 + erf(h / 2**0.5)) / 2, root + "ffn.3")

    def own(self, x, angles, root):
        qkv = self.linear(x, root + "Wqkv").reshape(len(x), SIZES["HEADS"], SIZES["HEAD"], 3).transpose(3, 1, 0, 2)
        turned = []
        for t in qkv[:2]:
            pairs = t[..., ::2] + 1j * t[..., 1::2]
            pairs = pairs * np.exp(1j * angles)
            turned.append(np.stack([pairs.real, pairs.imag], -1).reshape(t.shape))
        return self.told(x, self.linear(self.attend(*turned, qkv[2]), root + "out_proj"), root)

    def other(self, x, y, root):
        k, v = ([self.heads(self.linear(p, root + name)) for p in (x, y)] for name in ("to_qk", "to_v"))
        return [
            self.told(p, self.linear(self.attend(k[i], k[1 - i], v[1 - i]), root + "to_out"), root)
            for i, p in enumerate((x, y))
        ]

    def __call__(self, first, second, prune, end_early):
        points = [first, second]
        x = [self.linear(p.descriptors, "input_proj") for p in points]
        angles = []
        for p in points:
            size = np.array(p.size)
            angles.append((p.places - size / 2) / (size.max() / 2) @ self.w["posenc.Wr.weight"].T)
        ids = [np.arange(len(p.places)) for p in points]
        total, work = sum(map(len, ids)), 0
        for layer in range(SIZES["LAYERS"]):
            root, work = f"transformers.{layer}.", work + sum(map(len, ids))
            x = [self.own(a, b, root + "self_attn.") for a, b in zip(x, angles)]
            x = self.other(*x, root + "cross_attn.")
            if layer + 1 == SIZES["LAYERS"]:
                break
            sure = [sigmoid(self.linear(a, f"token_confidence.{layer}.token.0"))[:, 0] for a in x]
            limit = lightglue.confidence(layer)
            if end_early and 1 - sum((s < limit).sum() for s in sure) / total > lightglue.SURE:
                break
            if prune:
                for i, s in enumerate(sure):
                    keep = sigmoid(self.linear(x[i], f"log_assignment.{layer}.matchability"))[:, 0] > lightglue.HOPELESS
                    keep |= end_early & (s <= limit)
                    x[i], angles[i], ids[i] = x[i][keep], angles[i][keep], ids[i][keep]
        root = f"log_assignment.{layer}."
        a, b = (self.linear(p, root + "final_proj") for p in x)
        alike = a @ b.T * SIZES["WIDTH"] ** -0.5
        hope = [sigmoid(self.linear(p, root + "matchability")) for p in x]
        return softmax(alike) * softmax(alike.T).T * hope[0] * hope[1].T, ids, layer + 1, work / total


def random_weights(rng, sure):
    """sure: what is added to every point's confidence."""
    width, descriptor = SIZES["WIDTH"], SIZES["DESCRIPTOR"]
    shapes = {"input_proj": (width, descriptor)}
    for i in range(SIZES["LAYERS"]):
        own, other = f"transformers.{i}.self_attn.", f"transformers.{i}.cross_attn."
        shapes |= {own + "Wqkv": (3 * width, width), own + "out_proj": (width, width)}
        shapes |= {other + name: (width, width) for name in ("to_qk", "to_v", "to_out")}
        for root in (own, other):
            shapes |= {root + "ffn.0": (2 * width, 2 * width), root + "ffn.3": (width, 2 * width)}
        shapes |= {f"log_assignment.{i}.matchability": (1, width), f"log_assignment.{i}.final_proj": (width, width)}
        shapes[f"token_confidence.{i}.token.0"] = (1, width)
    weights = {"posenc.Wr.weight": rng.standard_normal((SIZES["HEAD"] // 2, 2))}
    for name, shape in shapes.items():
        weights[name + ".weight"] = rng.standard_normal(shape) * shape[1] ** -0.5
        weights[name + ".bias"] = rng.standard_normal(shape[0]) * 0.2
        if "matchability" in name:
            weights[name + ".weight"] *= 4
            weights[name + ".bias"] -= 2
        if "token_confidence" in name:
            weights[name + ".bias"] += sure
    for i in range(SIZES["LAYERS"]):
        for root in (f"transformers.{i}.self_attn.", f"transformers.{i}.cross_attn."):
            weights[root + "ffn.1.weight"] = 1 + 0.2 * rng.standard_normal(2 * width)
            weights[root + "ffn.1.bias"] = 0.2 * rng.standard_normal(2 * width)
    return {name: a.astype(np.float32) for name, a in weights.items()}


@pytest.mark.parametrize("sure", [-1, 2, 4, 12])
def test_matcher(monkeypatch, tmp_path, sure):
    for name, size in SIZES.items():
        monkeypatch.setattr(lightglue, name, size)
    monkeypatch.setattr(lightglue, "LIKELY", 0)
    rng = np.random.default_rng(abs(sure))
    weights = random_weights(rng, sure)
    lightglue.Writer(weights).graph.convert(tmp_path / "m.rnl", weights="f32")
    matcher = lightglue.Matcher(runnel.Model(tmp_path / "m.rnl"), weights["posenc.Wr.weight"])
    points = []
    for count, size in ((40, (90, 60)), (29, (50, 70))):
        places = (rng.random((count, 2)) * size).astype(np.float32)
        points.append(Points(places, rng.standard_normal((count, SIZES["DESCRIPTOR"])).astype(np.float32), size))
    seen = set()
    for prune, end_early in ((False, False), (True, False), (True, True)):
        likely, ids, layers, work = Formula(weights)(*points, prune, end_early)
        pairs, scores = lightglue.mutual(likely)
        got = matcher(*points, prune=prune, end_early=end_early)
        assert (got.layers, got.work) == (layers, pytest.approx(work))
        np.testing.assert_array_equal(got.pairs, np.column_stack([ids[0][pairs[:, 0]], ids[1][pairs[:, 1]]]))
        np.testing.assert_allclose(got.scores, scores, rtol=1e-3)
        seen.add((layers, work))
    assert len(seen) > 1  # something was left out


def test_no_points(monkeypatch, tmp_path):
    for name, size in SIZES.items():
        monkeypatch.setattr(lightglue, name, size)
    weights = random_weights(np.random.default_rng(1), 0)
    lightglue.Writer(weights).graph.convert(tmp_path / "m.rnl", weights="f32")
    matcher = lightglue.Matcher(runnel.Model(tmp_path / "m.rnl"), weights["posenc.Wr.weight"])
    none, some = (
        Points(np.zeros((n, 2), np.float32), np.zeros((n, SIZES["DESCRIPTOR"]), np.float32), (9, 9)) for n in (0, 3)
    )
    for pair in ((none, some), (some, none), (none, none)):
        assert len(matcher(*pair).pairs) == 0


def test_between():
    image = np.arange(12.0).reshape(3, 4, 1)
    places = np.array([[1, 2], [0.5, 0], [3, 1.25], [-0.5, 0], [3.5, 2.0], [-1, 0], [9, 9]])
    assert aliked.between(image, places)[:, 0].tolist() == [9, 0.5, 8, 0, 5.5, 0, 0]


def test_best_places():
    scores = np.zeros((40, 50))
    for x, y, height in ((10, 10, 1), (12, 10, 0.9), (30, 20, 0.8), (1, 30, 0.95), (40, 35, 0.5)):
        scores[y, x] = height  # the first hides the second and is drawn to it, the fourth stands at the edge
    scores[20, 31] = 0.8 - 1e-6
    places = aliked.best_places(scores, 3)
    np.testing.assert_allclose(places[1:], [[30.5, 20], [40, 35]], atol=0.01)
    np.testing.assert_allclose(places[0], [10 + 2 / (1 + np.e), 10], atol=0.01)


def test_picture():
    pictures = [np.zeros((20, 30, 3)), np.zeros((10, 40, 3))]
    points = [Points(np.array([[5.0, 5.0]]), None, None), Points(np.array([[35.0, 5.0]]), None, None)]
    both = match_images.drawn(pictures, points, lightglue.Matches(np.array([[0, 0]]), np.array([1.0]), 9, 9.0))
    assert both.size == (40, 30) and both.getpixel((5, 5)) == both.getpixel((35, 25)) == (0, 220, 40)
