"""runnel.graph: models of one's own, against NumPy."""

import os
import re

import numpy as np
import pytest
from conftest import REPOSITORY

import runnel
from runnel.graph import ARITY, Graph, State

RANDOM = np.random.default_rng(1)


def draw(*shape):
    return RANDOM.standard_normal(shape).astype(np.float32)


def session(g, tmp_path, **options):
    g.convert(tmp_path / "m.rnl", weights="f32")
    return runnel.Session(runnel.Model(tmp_path / "m.rnl"), **options)


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())


def test_layers(tmp_path):
    w1, b1, w2, norm = draw(24, 16), draw(24), draw(8, 24), draw(8)
    g = Graph("layers")
    x = g.input("x", ["T", 16])
    h = g.unary(g.linear(x, w1, b1), kind="relu")
    g.output(g.rms_norm(g.linear(h, w2), norm, eps=1e-5), "y")
    given = draw(40, 16)
    h = np.maximum(given @ w1.T + b1, 0) @ w2.T
    with session(g, tmp_path) as s:
        close(s.run({"x": given}, all_rows=True)["y"], h / np.sqrt((h * h).mean(1, keepdims=True) + 1e-5) * norm)


def test_shapes_that_follow(tmp_path):
    table, rows = draw(11, 6), np.array([2, 0], np.int32)
    g = Graph("shapes")
    ids = g.input("ids", [4], "i32")
    e = g.embedding(ids, table, scale=2.0)
    assert e.shape == [4, 6]
    picked = g.gather_rows(e, rows)
    both = g.concat(picked, g.slice(e, shape=[2, 6], axis=0, begin=1), axis=0)
    assert both.shape == [4, 6]
    t = g.transpose(both, perm=[1, 0])
    assert t.shape == [6, 4]
    g.output(g.reduce(t, kind="max", axis=0), "y")
    with pytest.raises(ValueError, match="shape= is needed"):
        g.reshape(t)
    with pytest.raises(ValueError, match="softmax takes 1 to 1 inputs"):
        g.softmax(t, t)
    with pytest.raises(TypeError):
        g.softmax(t, temperature=2)
    with session(g, tmp_path) as s:
        given = np.array([3, 10, 0, 5], np.int32)
        x = 2 * table[given]
        close(s.run({"ids": given})["y"], np.concatenate([x[rows], x[1:3]]).max(1))


def test_shapes_that_broadcast(tmp_path):
    row, column = draw(1, 5), draw(7, 1)
    g = Graph("broadcast")
    x = g.input("x", [g.axis("N", 9), 1])
    first, second = g.binary(row, x, kind="sub"), g.binary(x, row[0], kind="mul")
    assert first.shape == second.shape == ["N", 5]
    g.output(g.add(first, second), "y")
    with session(g, tmp_path) as s:
        close(s.run({"x": column})["y"], row - column + column * row)


def test_language_model_with_attention(tmp_path):
    """Keys and values are kept, rows are wanted, text-like streams go on."""
    vocabulary, width = 13, 16
    table, q, k, v, head = (
        draw(vocabulary, width),
        draw(width, width),
        draw(width, width),
        draw(width, width),
        draw(vocabulary, width),
    )
    g = Graph("attention", context=64)
    x = g.embedding(g.tokens(), table)
    k_state, v_state = g.cache("kv", 2, 8, 8)
    heads = [g.linear(x, w, shape=["T", 2, 8]) for w in (q, k, v)]
    y = g.add(x, g.attention(*heads, k_state, v_state, shape=["T", width], scale=8**-0.5))
    g.output(g.linear(g.gather_rows(y, g.wanted_rows()), head), "logits")
    ids = RANDOM.integers(0, vocabulary, 20).astype(np.int32)

    e = table[ids]
    want = e.copy()
    for h in range(2):
        part = slice(8 * h, 8 * h + 8)
        scores = (e @ q.T)[:, part] @ (e @ k.T)[:, part].T * 8**-0.5
        scores = np.where(np.tril(np.ones_like(scores)) > 0, scores, -np.inf)
        weights = np.exp(scores - scores.max(1, keepdims=True))
        want[:, part] += weights / weights.sum(1, keepdims=True) @ (e @ v.T)[:, part]
    want = want @ head.T
    with session(g, tmp_path) as s:
        close(s.run({"ids": ids[:9]}, all_rows=True)["logits"], want[:9])
        close(s.run({"ids": ids[9:]}, all_rows=True)["logits"], want[9:])
        s.rollback(5)
        close(s.run({"ids": ids[15:]})["logits"], want[-1:])
        s.reset()
        assert list(s.generate(ids, max_tokens=1)) == [""]


def test_recurrent_state(tmp_path):
    """h = a h + x, from an initial value on."""
    a, start = np.full((1, 6), 0.5, np.float32), draw(6)
    g = Graph("scan", context=64)
    x = g.input("x", ["T", 6])
    state = g.state("h", [6], initial=start)
    g.output(g.scan(a, x, state, shape=["T", 6], more=[state]), "y")
    given = draw(30, 6)
    h, want = start, []
    for row in given:
        h = 0.5 * h + row
        want.append(h)
    contract = runnel.graph.Graph.scan.__doc__
    assert "inputs" in contract and "states" in contract
    with session(g, tmp_path) as s:
        close(
            np.concatenate(
                [s.run({"x": given[:11]}, all_rows=True)["y"], s.run({"x": given[11:]}, all_rows=True)["y"]]
            ),
            want,
        )


def test_programs_conditions_and_results(tmp_path):
    w = draw(5, 5)
    g = Graph("control")
    x = g.input("x", ["N", 5])
    g.axis("N", 32)
    rounds = g.input("rounds", [1], "i32")
    g.output(g.loop(rounds, None, x, shape=["N", 5], program="body"), "y")
    with g.program("body"):
        g.input("i", [1], "i32")
        g.output(g.linear(g.input("x", ["N", 5]), w), "z")
    given = draw(3, 5)
    with session(g, tmp_path) as s:
        close(s.run({"x": given, "rounds": [3]})["y"], given @ w.T @ w.T @ w.T)
        assert s.run({"x": draw(32, 5), "rounds": [0]})["y"].shape == (32, 5)


def test_size_that_is_a_result(tmp_path):
    """How many rows come is known when the call has ended."""
    g = Graph("chosen")
    scores, x = g.input("scores", [g.axis("N", 32)]), g.input("x", ["N", 3])
    ids, count = g.select_tokens(scores, shape=[g.result("M", "N")], more=[[1]], dtype="i32", threshold=0.5)
    g.bind(count, "M")
    g.output(g.gather_rows(x, ids), "y")
    with session(g, tmp_path) as s:
        for n in (20, 5):
            given, x = draw(n), draw(n, 3)
            np.testing.assert_array_equal(s.run({"scores": given, "x": x})["y"], x[given >= 0.5])


def test_positions(tmp_path):
    """They count from the stream's start, over all calls."""
    g = Graph("turned", context=64)
    g.output(g.rope(g.input("x", ["T", 1, 2]), g.positions(), np.array([0.1], np.float32)), "y")
    x = draw(12, 1, 2)
    turn = np.exp(0.1j * np.arange(12)) * (x[:, 0, 0] + 1j * x[:, 0, 1])
    with session(g, tmp_path) as s:
        y = np.concatenate([s.run({"x": part}, all_rows=True)["y"] for part in (x[:5], x[5:])])
    close(y[:, 0], np.stack([turn.real, turn.imag], 1))


def test_optional_and_named(tmp_path):
    g = Graph("optional")
    x = g.input("x", [1, 4])
    added = g.input("added", [1, 4], optional=True)
    g.output(g.rms_norm(x, g.tensor("weight", np.full(4, 2.0)), added), "y")
    g.output(g.unary(x, kind="square", name="squares"), optional=True)
    ones = np.ones((1, 4), np.float32)
    with session(g, tmp_path) as s:
        assert [v.optional for v in s.model.inputs()] == [False, True]
        close(s.run({"x": ones})["y"], 2 * ones)
        close(s.run({"x": ones, "added": 3 * ones})["y"], 5 * ones)
        assert s.run({"x": 3 * ones}, outputs=["squares"])["squares"].tolist() == [[9] * 4]


def test_errors_are_the_converter_s(tmp_path):
    g = Graph("wrong")
    g.output(g.linear(g.input("x", ["T", 16]), draw(8, 15)), "y")
    with pytest.raises(runnel.ConversionFailed, match="matmul"):
        g.convert(tmp_path / "m.rnl")
    g = Graph("unknown")
    g.output(g.unary(g.input("x", ["T", 16]), kind="swosh"), "y")
    with pytest.raises(runnel.ConversionFailed, match="swosh"):
        g.convert(tmp_path / "m.rnl")


def test_every_operator_is_a_method():
    with open(os.path.join(REPOSITORY, "runtime", "ops", "registry.inc")) as f:
        rows = re.findall(r"^RNL_OP\(\d+, \d+, (\w+)", f.read(), re.M)
    assert len(rows) > 20 and set(rows) == set(ARITY)
    for name in rows:
        assert name in (getattr(Graph, name).__doc__ or ""), name
    assert {"call", "if_", "loop"} <= set(dir(Graph)) and State("s").name == "s"
