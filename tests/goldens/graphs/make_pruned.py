"""Graph models of rows C8 and C9: tokens that choose what attends for them, and what they attend to.

OMP_NUM_THREADS=1 python make_pruned.py        (Python 3.11, torch 2.15.0, safetensors 0.8.0)
"""

import torch
from builder import STREAM, Graph, draw
from formulas import causal, softmax_attention, zeros

TOKENS, WIDTH, DIM = 37, 12, 8


def moh():
    """Mixture of heads (Jin et al. 2024): two heads serve all tokens, of four others each token picks two. A softmax
    over each kind weighs the heads, another one the kinds."""
    torch.manual_seed(31)
    shared, routed, chosen = 2, 4, 2
    heads = shared + routed
    x = draw(TOKENS, WIDTH)
    q, k, v = (draw(heads * DIM, WIDTH, scale=0.4) for _ in range(3))
    o = draw(WIDTH, heads * DIM, scale=0.3)
    of_shared, of_routed, kinds = (draw(n, WIDTH, scale=0.4) for n in (shared, routed, 2))
    cut = lambda w: (x @ w.T).view(TOKENS, heads, DIM)
    given = softmax_attention(cut(q), cut(k), cut(v), causal(TOKENS), DIM**-0.5)
    alpha, scores = torch.softmax(x @ kinds.T, -1), torch.softmax(x @ of_routed.T, -1)
    best = scores.sort(descending=True).values
    assert (best[:, chosen - 1] - best[:, chosen]).min() > 1e-4, "a choice by rounding"
    top, ids = scores.topk(chosen)
    gates = torch.cat(
        [
            alpha[:, :1] * torch.softmax(x @ of_shared.T, -1),
            alpha[:, 1:] * zeros(TOKENS, routed).scatter(1, ids, top),
        ],
        1,
    )
    want = (given * gates[:, :, None]).reshape(TOKENS, -1) @ o.T
    g = Graph("moh")
    i = g.input("x", [STREAM, WIDTH])
    qkv = [g.linear(i, w, dims=[heads, DIM]) for w in (q, k, v)]
    a = g.op("attention", [*qkv, *g.cache("kv", heads, DIM, DIM)], [STREAM, heads * DIM], scale=DIM**-0.5)
    alpha = g.softmax(g.linear(i, kinds))
    weights, ids = g.op("route", [g.linear(i, of_routed)], [STREAM, chosen], [[STREAM, chosen]], scoring="softmax")
    g.retype(ids, "i32")
    row = g.retype(g.reshape(ids, [f"{STREAM}*{chosen}"]), "i32")
    one_hot = g.op("embedding", [row, torch.eye(routed).double()], [f"{STREAM}*{chosen}", routed])
    one_hot = g.reshape(one_hot, [STREAM, chosen, routed])
    picked = g.reduce("sum", g.mul(one_hot, g.reshape(weights, [STREAM, chosen, 1])), 1)
    gates = g.concat(
        [
            g.mul(g.softmax(g.linear(i, of_shared)), g.slice(alpha, 1, 0, 1)),
            g.mul(picked, g.slice(alpha, 1, 1, 1)),
        ],
        1,
    )
    live = g.mul(g.reshape(a, [STREAM, heads, DIM]), g.reshape(gates, [STREAM, heads, 1]))
    g.output(g.linear(g.reshape(live, [STREAM, heads * DIM]), o))
    g.expect(x=x, y=want)
    g.save()


def sdim():
    """SDIM (Cao et al. 2022): a target sees those of a history whose signatures, signs of random products, are its own;
    the unit vectors of what each group of signs finds are averaged. A group that finds nothing gives zeros."""
    torch.manual_seed(32)
    targets, history, groups, bits = 5, 24, 6, 3
    x, s, r = draw(targets, WIDTH), draw(history, WIDTH), draw(groups * bits, WIDTH)
    own, theirs = ((y @ r.T).view(-1, groups, bits) for y in (x, s))
    assert min(own.abs().min(), theirs.abs().min()) > 1e-4, "a sign by rounding"
    want, found = zeros(targets, WIDTH), 0
    for t in range(targets):
        for n in range(groups):
            same = ((theirs[:, n] > 0) == (own[t, n] > 0)).all(-1)
            pooled, found = s[same].sum(0), found + int(same.any())
            want[t] += pooled / pooled.norm().clamp_min(1e-12) / groups
    assert 0 < found < targets * groups
    g = Graph("sdim")
    i, past = g.input("x", [targets, WIDTH]), g.input("history", [history, WIDTH])
    signs = lambda y: g.transpose(
        g.op("math", [g.linear(y, r, dims=[groups, bits])], [y.dims[0], groups, bits], kind="sign"), [1, 0, 2]
    )
    equal = g.bmm(signs(i), signs(past), [groups, targets, history], transpose_b=True)
    same = g.unary("relu", g.add(equal, torch.tensor([1.0 - bits]).double()))
    pooled = g.bmm(
        g.reshape(same, [1, groups * targets, history]),
        g.reshape(past, [1, history, WIDTH]),
        [1, groups * targets, WIDTH],
    )
    unit = g.scale(g.rms(pooled, eps=1e-12), WIDTH**-0.5)
    g.output(g.reduce("mean", g.reshape(unit, [groups, targets, WIDTH]), 0))
    g.expect(x=x, history=s, y=want)
    g.save()


if __name__ == "__main__":
    moh()
    sdim()
