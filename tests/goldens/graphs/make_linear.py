"""Graph models of rows A5 to A7, A11, A12, A14, A15, A19: linear attention in its many forms, read as streams.

    OMP_NUM_THREADS=1 python make_linear.py        (Python 3.11, torch 2.15.0, safetensors 0.8.0)
"""

import torch

from builder import STREAM, Graph, draw
from formulas import causal, conv, elu1, layer_norm, linear_attention, rms, rotate, sigmoid, silu, softmax_attention, softplus, zeros

TOKENS, WIDTH, HEADS, DIM = 37, 12, 2, 8
INNER = HEADS * DIM
INV_FREQ = (10000.0 ** (-torch.arange(DIM // 2).double() / (DIM // 2))).float().double()
POSITIONS = torch.arange(TOKENS)


def matrices(n, rows=INNER):
    return [draw(rows, WIDTH, scale=0.4) for _ in range(n)]


def heads(x, w):
    return (x @ w.T).view(TOKENS, -1, DIM)


def recurrence(g, q, k, v, decay=None, normalise=False, name="s", **attrs):
    h, key, value = v.dims[1], q.dims[2], v.dims[2]
    states = [g.state(name, [h, key, value])]
    inputs = [q, k, v, decay, None, None, None, None, None, states[0]]
    if normalise:
        states.append(g.state(name + ".n", [h, key]))
        inputs.append(states[1])
        attrs["normalise"] = "sum"
    return g.op("matrix_recurrence", inputs, [v.dims[0], h, value], states, **attrs)


def flat(g, x):
    return g.reshape(x, [x.dims[0], x.dims[1] * x.dims[2]])


def transnormer_llm():
    """TransNormerLLM: simple RMS norm, LRPE (a learned angle a channel) with a constant decay a head, gated output; then a simple gated linear unit."""
    torch.manual_seed(1)
    x = draw(TOKENS, WIDTH)
    q, k, v, gate = matrices(4)
    o, up, side, down = draw(WIDTH, INNER, scale=0.3), draw(20, WIDTH, scale=0.4), draw(20, WIDTH, scale=0.4), draw(WIDTH, 20, scale=0.3)
    theta = torch.rand(DIM).float().double()
    decay = (-8.0 / HEADS * (1 + torch.arange(HEADS).double()) / 8).float().double()
    turn = lambda y: torch.cat([y * torch.cos(POSITIONS[:, None, None] * theta), y * torch.sin(POSITIONS[:, None, None] * theta)], -1)
    u = rms(x)
    a = linear_attention(turn(silu(heads(u, q))), turn(silu(heads(u, k))), heads(u, v), decay[None, :, None].expand(TOKENS, HEADS, 2 * DIM))
    y = x + (rms(a.reshape(TOKENS, INNER)) * sigmoid(u @ gate.T)) @ o.T
    u = rms(y)
    want = y + ((u @ up.T) * (u @ side.T)) @ down.T

    g = Graph("transnormer_llm")
    i, positions = g.input("x", [STREAM, WIDTH]), g.positions()
    u = g.rms(i)

    def lrpe(w):  # (y, 0) rotated by an angle a channel is (y cos, y sin)
        y = g.unary("silu", g.linear(u, w, dims=[HEADS, DIM]))
        return g.op("rope", [g.concat([y, g.scale(y, 0)], 2), positions, theta], [STREAM, HEADS, 2 * DIM])

    a = flat(g, recurrence(g, lrpe(q), lrpe(k), g.linear(u, v, dims=[HEADS, DIM]), decay))
    y = g.add(i, g.linear(g.mul(g.rms(a), g.unary("sigmoid", g.linear(u, gate))), o))
    u = g.rms(y)
    g.output(g.add(y, g.linear(g.mul(g.linear(u, up), g.linear(u, side)), down)))
    g.expect(x=x, y=want)
    g.save()


def transnormer():
    """transNormer: early layers attend within blocks of 8 tokens (DiagAttention), late ones use linear attention whose output is normalised (NormAttention)."""
    torch.manual_seed(2)
    tokens, block = 40, 8
    x = draw(tokens, WIDTH)
    first, second = matrices(3) + [draw(WIDTH, INNER, scale=0.3)], matrices(3) + [draw(WIDTH, INNER, scale=0.3)]
    part = lambda y, w: (y @ w.T).view(tokens, HEADS, DIM)
    i = torch.arange(tokens)
    same = i[:, None] // block == i[None, :] // block
    y = x + softmax_attention(part(x, first[0]), part(x, first[1]), part(x, first[2]), same, DIM ** -0.5).reshape(tokens, INNER) @ first[3].T
    a = linear_attention(elu1(part(y, second[0])), elu1(part(y, second[1])), part(y, second[2]), causal_only=False)
    want = y + rms(a.reshape(tokens, INNER)) @ second[3].T
    g = Graph("transnormer")
    i = g.input("x", [tokens, WIDTH])
    split = lambda y, w: g.linear(y, w, dims=[HEADS, DIM])
    bounds = torch.arange(0, tokens + 1, block, dtype=torch.int32)
    a = g.op("attention", [split(i, first[0]), split(i, first[1]), split(i, first[2]), None, None, None, None, bounds], [tokens, INNER], scale=DIM ** -0.5, causal=False)
    y = g.add(i, g.linear(a, first[3]))
    turned = lambda v: g.transpose(v, [1, 0, 2])
    q, k, v = turned(g.elu1(split(y, second[0]))), turned(g.elu1(split(y, second[1]))), turned(split(y, second[2]))
    memory = g.bmm(k, v, [HEADS, DIM, DIM], transpose_a=True)
    a = flat(g, turned(g.bmm(q, memory, [HEADS, tokens, DIM])))
    g.output(g.add(y, g.linear(g.rms(a), second[3])))
    g.expect(x=x, y=want)
    g.save()


def retnet():
    """RetNet: rotation, constant decay a head, group norm, swish gate, in its parallel form (Q K^T * D) V."""
    torch.manual_seed(3)
    x = draw(TOKENS, WIDTH)
    q, k, v, gate = matrices(4)
    o, decay = draw(WIDTH, INNER, scale=0.3), torch.log(1 - 2.0 ** (-5 - torch.arange(HEADS).double())).float().double()
    rq, rk = rotate(heads(x, q), POSITIONS, INV_FREQ) * DIM ** -0.5, rotate(heads(x, k), POSITIONS, INV_FREQ)
    distance = (POSITIONS[:, None] - POSITIONS[None, :]).double()
    d = torch.exp(distance * decay[:, None, None]).masked_fill(distance < 0, 0)
    a = torch.einsum("hts,she->the", torch.einsum("thd,shd->hts", rq, rk) * d, heads(x, v))
    want = (layer_norm(a).reshape(TOKENS, INNER) * silu(x @ gate.T)) @ o.T
    g = Graph("retnet")
    i, positions = g.input("x", [STREAM, WIDTH]), g.positions()
    turn = lambda w: g.op("rope", [g.linear(i, w, dims=[HEADS, DIM]), positions, INV_FREQ], [STREAM, HEADS, DIM])
    a = recurrence(g, turn(q), turn(k), g.linear(i, v, dims=[HEADS, DIM]), decay, scale=DIM ** -0.5)
    g.output(g.linear(g.mul(flat(g, g.layer_norm(a)), g.unary("silu", g.linear(i, gate))), o))
    g.expect(x=x, y=want)
    g.save()


def gla():
    """GLA: decay by channel from a low-rank gate, norm of each head, swish gate."""
    torch.manual_seed(4)
    x = draw(TOKENS, WIDTH)
    q, k, v, gate = matrices(4)
    low, high, bias, weight, o = draw(3, WIDTH, scale=0.5), draw(INNER, 3, scale=0.5), draw(INNER), draw(DIM) + 1, draw(WIDTH, INNER, scale=0.3)
    log = -softplus(-((x @ low.T) @ high.T + bias)).view(TOKENS, HEADS, DIM) / 16
    a = linear_attention(heads(x, q) * DIM ** -0.5, heads(x, k), heads(x, v), log)
    want = (rms(a, weight).reshape(TOKENS, INNER) * silu(x @ gate.T)) @ o.T
    g = Graph("gla")
    i = g.input("x", [STREAM, WIDTH])
    split = lambda w: g.linear(i, w, dims=[HEADS, DIM])
    log = g.scale(g.unary("softplus", g.unary("neg", g.linear(g.linear(i, low), high, bias, dims=[HEADS, DIM]))), -1 / 16)
    a = recurrence(g, split(q), split(k), split(v), log, scale=DIM ** -0.5)
    g.output(g.linear(g.mul(flat(g, g.rms(a, weight)), g.unary("silu", g.linear(i, gate))), o))
    g.expect(x=x, y=want)
    g.save()


def delta_product():
    """Gated DeltaProduct: three Householder steps a token with beta in [0, 2] (negative eigenvalues), one decay before them."""
    torch.manual_seed(5)
    steps = 3
    x, q = draw(TOKENS, WIDTH), draw(INNER, WIDTH, scale=0.4)
    k, v = draw(steps * INNER, WIDTH, scale=0.4), draw(steps * INNER, WIDTH, scale=0.4)
    wb, wa = draw(steps * HEADS, WIDTH, scale=0.5), draw(HEADS, WIDTH, scale=0.5)
    unit = lambda y: y / torch.sqrt((y * y).sum(-1, keepdim=True) + 1e-6)
    qs, ks, vs = unit(heads(x, q)), unit((x @ k.T).view(TOKENS, steps, HEADS, DIM)), (x @ v.T).view(TOKENS, steps, HEADS, DIM)
    beta, log = 2 * sigmoid(x @ wb.T).view(TOKENS, steps, HEADS), -softplus(x @ wa.T)
    y, eye = zeros(TOKENS, HEADS, DIM), torch.eye(DIM).double()
    for h in range(HEADS):
        s = zeros(DIM, DIM)
        for t in range(TOKENS):
            s = torch.exp(log[t, h]) * s
            for n in range(steps):
                kk, b = ks[t, n, h], beta[t, n, h]
                s = (eye - b * torch.outer(kk, kk)) @ s + b * torch.outer(kk, vs[t, n, h])
            y[t, h] = qs[t, h] @ s * DIM ** -0.5
    g = Graph("delta_product")
    i = g.input("x", [STREAM, WIDTH])
    norm = lambda y: g.scale(g.rms(y, None, 1e-6 / DIM), DIM ** -0.5)
    ks = g.reshape(norm(g.linear(i, k, dims=[steps, HEADS, DIM])), ["T*3", HEADS, DIM])
    vs = g.reshape(g.linear(i, v, dims=[steps, HEADS, DIM]), ["T*3", HEADS, DIM])
    beta = g.reshape(g.scale(g.unary("sigmoid", g.linear(i, wb)), 2), ["T*3", HEADS])
    log, s = g.unary("neg", g.unary("softplus", g.linear(i, wa))), g.state("s", [HEADS, DIM, DIM])
    a = g.op("matrix_recurrence", [norm(g.linear(i, q, dims=[HEADS, DIM])), ks, vs, log, beta, None, None, None, None, s], [STREAM, HEADS, DIM], [s], rule="delta", steps=steps, scale=DIM ** -0.5)
    g.output(flat(g, a))
    g.expect(x=x, y=y.reshape(TOKENS, INNER))
    g.save()


def hedgehog():
    """Hedgehog: learned feature maps softmax([u, -u]) that imitate softmax attention, normalised."""
    torch.manual_seed(6)
    x = draw(TOKENS, WIDTH)
    q, k, v = matrices(3)
    mq, mk = draw(HEADS, DIM, DIM, scale=0.5), draw(HEADS, DIM, DIM, scale=0.5)

    def feature(y, m):
        u = torch.einsum("thd,hde->the", y, m)
        return torch.softmax(torch.cat([u, -u], -1), -1)

    want = linear_attention(feature(heads(x, q), mq), feature(heads(x, k), mk), heads(x, v), normalise=True)
    g = Graph("hedgehog")
    i = g.input("x", [STREAM, WIDTH])

    def map_of(w, m):
        u = g.transpose(g.bmm(g.transpose(g.linear(i, w, dims=[HEADS, DIM]), [1, 0, 2]), m, [HEADS, STREAM, DIM]), [1, 0, 2])
        return g.softmax(g.concat([u, g.unary("neg", u)], 2))

    g.output(flat(g, recurrence(g, map_of(q, mq), map_of(k, mk), g.linear(i, v, dims=[HEADS, DIM]), normalise=True)))
    g.expect(x=x, y=want.reshape(TOKENS, INNER))
    g.save()


def lolcats():
    """LoLCATs: softmax over a window of 6 tokens and linear attention to all before it under one denominator, factors of both learned; RoPE on q and k."""
    torch.manual_seed(7)
    window = 6
    x = draw(TOKENS, WIDTH)
    q, k, v = matrices(3)
    mq, mk, share = draw(DIM, DIM, scale=0.5), draw(DIM, DIM, scale=0.5), draw(HEADS)
    rq, rk, vs = rotate(heads(x, q), POSITIONS, INV_FREQ), rotate(heads(x, k), POSITIONS, INV_FREQ), heads(x, v)
    feature = lambda y, m: torch.softmax(torch.cat([y @ m.T, -(y @ m.T)], -1), -1)
    fq, fk, factor = feature(rq, mq), feature(rk, mk), sigmoid(share)
    want = zeros(TOKENS, HEADS, DIM)
    for h in range(HEADS):
        for t in range(TOKENS):
            num, den = zeros(DIM), 0.0
            for j in range(t + 1):
                near = t - j < window
                w = factor[h] * torch.exp(rq[t, h] @ rk[j, h] * DIM ** -0.5) if near else (fq[t, h] @ fk[j, h])
                num, den = num + w * vs[j, h], den + w
            want[t, h] = num / den
    g = Graph("lolcats")
    i, positions = g.input("x", [STREAM, WIDTH]), g.positions()
    turn = lambda w: g.op("rope", [g.linear(i, w, dims=[HEADS, DIM]), positions, INV_FREQ], [STREAM, HEADS, DIM])
    rq, rk, vs = turn(q), turn(k), g.linear(i, v, dims=[HEADS, DIM])

    def map_of(y, m):
        u = g.linear(y, m)
        return g.softmax(g.concat([u, g.unary("neg", u)], 2))

    near, lse = g.op("attention", [rq, rk, vs, *g.cache("near", HEADS, DIM, DIM, window)], [STREAM, HEADS, DIM], [[STREAM, HEADS]], scale=DIM ** -0.5, window=window)
    z = g.mul(g.reshape(g.unary("exp", lse), [STREAM, HEADS, 1]), factor[:, None].float().double())
    # Values with a column of ones: numerator and denominator of the far tokens at once.
    ones = g.unary("exp", g.scale(g.slice(vs, 2, 0, 1), 0))
    far_k, far_v = g.delay(map_of(rk, mk), window, "far.k"), g.delay(g.concat([vs, ones], 2), window, "far.v")
    far = recurrence(g, map_of(rq, mq), far_k, far_v)
    num = g.add(g.mul(near, z), g.slice(far, 2, 0, DIM))
    g.output(flat(g, g.binary("div", num, g.add(z, g.slice(far, 2, DIM, 1)))))
    g.expect(x=x, y=want.reshape(TOKENS, INNER))
    g.save()


def liger():
    """Liger: gates pooled from the keys, GLA and window attention with shared projections, their mean."""
    torch.manual_seed(8)
    window = 5
    x = draw(TOKENS, WIDTH)
    q, k, v = matrices(3)
    rq, rk = rotate(heads(x, q), POSITIONS, INV_FREQ), rotate(heads(x, k), POSITIONS, INV_FREQ)
    log = -softplus(-heads(x, k).mean(-1)) / 16  # one gate a head, from the mean of its key
    a = linear_attention(torch.softmax(heads(x, q), -1), torch.softmax(heads(x, k), -1), heads(x, v), log[:, :, None].expand(-1, -1, DIM))
    b = softmax_attention(rq, rk, heads(x, v), causal(TOKENS, window), DIM ** -0.5)
    want = (a + b).reshape(TOKENS, INNER) / 2
    g = Graph("liger")
    i, positions = g.input("x", [STREAM, WIDTH]), g.positions()
    qs, ks, vs = (g.linear(i, w, dims=[HEADS, DIM]) for w in (q, k, v))
    turn = lambda y: g.op("rope", [y, positions, INV_FREQ], [STREAM, HEADS, DIM])
    log = g.scale(g.unary("softplus", g.unary("neg", g.reduce("mean", ks, 2))), -1 / 16)
    a = recurrence(g, g.softmax(qs), g.softmax(ks), vs, log)
    b = g.op("attention", [turn(qs), turn(ks), vs, *g.cache("near", HEADS, DIM, DIM, window)], [STREAM, HEADS, DIM], scale=DIM ** -0.5, window=window)
    g.output(g.scale(flat(g, g.add(a, b)), 0.5))
    g.expect(x=x, y=want)
    g.save()


def lawcat():
    """LAWCAT: causal convolution over q, k and v, then gated linear attention whose output is normalised by its weights."""
    torch.manual_seed(9)
    x = draw(TOKENS, WIDTH)
    ws, convs = matrices(3), [draw(INNER, 4, scale=0.5) for _ in range(3)]
    wg = draw(INNER, WIDTH, scale=0.5)
    c = [conv(x @ w.T, f).view(TOKENS, HEADS, DIM) for w, f in zip(ws, convs)]
    log = -softplus(-heads(x, wg)) / 16
    want = linear_attention(elu1(c[0]), elu1(c[1]), c[2], log, normalise=True, eps=1e-6)
    g = Graph("lawcat")
    i = g.input("x", [STREAM, WIDTH])
    c = [g.reshape(g.conv(g.linear(i, w), f, state=f"conv{n}"), [STREAM, HEADS, DIM]) for n, (w, f) in enumerate(zip(ws, convs))]
    log = g.scale(g.unary("softplus", g.unary("neg", g.linear(i, wg, dims=[HEADS, DIM]))), -1 / 16)
    g.output(flat(g, recurrence(g, g.elu1(c[0]), g.elu1(c[1]), c[2], log, normalise=True, eps=1e-6)))
    g.expect(x=x, y=want.reshape(TOKENS, INNER))
    g.save()


def gp_molformer():
    """GP-MoLFormer: rotary positions on q and k, then positive random features relu(W q) of linear attention."""
    torch.manual_seed(10)
    x = draw(TOKENS, WIDTH)
    q, k, v = matrices(3)
    features = draw(14, DIM)
    phi = lambda w: torch.relu(rotate(heads(x, w), POSITIONS, INV_FREQ) @ features.T) + 0.001
    want = linear_attention(phi(q), phi(k), heads(x, v), normalise=True)
    g = Graph("gp_molformer")
    i, positions = g.input("x", [STREAM, WIDTH]), g.positions()
    small = torch.full((1,), 0.001).double()
    phi = lambda w: g.add(g.unary("relu", g.linear(g.op("rope", [g.linear(i, w, dims=[HEADS, DIM]), positions, INV_FREQ], [STREAM, HEADS, DIM]), features)), small)
    g.output(flat(g, recurrence(g, phi(q), phi(k), g.linear(i, v, dims=[HEADS, DIM]), normalise=True)))
    g.expect(x=x, y=want.reshape(TOKENS, INNER))
    g.save()


def mom():
    """Mixture of memories: each token writes to 2 of 4 memories, every one with its own keys, values and decay, and to a shared one; reads are mixed by the router."""
    torch.manual_seed(11)
    memories, chosen = 4, 2
    x, router, q = draw(TOKENS, WIDTH), draw(memories, WIDTH), draw(DIM, WIDTH, scale=0.4)
    k, v, d = draw((memories + 1) * DIM, WIDTH, scale=0.4), draw((memories + 1) * DIM, WIDTH, scale=0.4), draw(memories + 1, WIDTH, scale=0.5)
    p = torch.softmax(x @ router.T, -1)
    top, ids = p.topk(chosen)
    mix = zeros(TOKENS, memories).scatter(1, ids, top / top.sum(-1, keepdim=True))
    ks, vs, log = (x @ k.T).view(TOKENS, -1, DIM), (x @ v.T).view(TOKENS, -1, DIM), -softplus(x @ d.T)
    s, want = zeros(memories + 1, DIM, DIM), zeros(TOKENS, DIM)
    for t in range(TOKENS):
        for m in [*ids[t].tolist(), memories]:
            s[m] = torch.exp(log[t, m]) * s[m] + torch.outer(ks[t, m], vs[t, m])
            want[t] += (mix[t, m] if m < memories else 1) * (x[t] @ q.T) @ s[m]
    g = Graph("mom")
    i = g.input("x", [STREAM, WIDTH])
    weights, ids = g.op("route", [g.linear(i, router)], [STREAM, chosen], [[STREAM, chosen]], scoring="softmax", renormalise=True)
    g.retype(ids, "i32")
    row = g.retype(g.reshape(ids, ["T*2"]), "i32")
    one_hot = g.reshape(g.op("embedding", [row, torch.eye(memories).double()], ["T*2", memories]), [STREAM, chosen, memories])
    ones = g.unary("exp", g.scale(g.linear(i, d[:1]), 0))
    mask = g.concat([g.reduce("sum", one_hot, 1), ones], 1)
    mix = g.concat([g.reduce("sum", g.mul(one_hot, g.reshape(weights, [STREAM, chosen, 1]), [STREAM, chosen, memories]), 1), ones], 1)
    log = g.mul(g.unary("neg", g.unary("softplus", g.linear(i, d))), mask)
    ks = g.mul(g.linear(i, k, dims=[memories + 1, DIM]), g.reshape(mask, [STREAM, memories + 1, 1]))
    a = recurrence(g, g.linear(i, q, dims=[1, DIM]), ks, g.linear(i, v, dims=[memories + 1, DIM]), log)
    live = g.mul(a, g.reshape(g.mul(mix, mask), [STREAM, memories + 1, 1]))
    g.output(g.reduce("sum", live, 1))
    g.expect(x=x, y=want)
    g.save()


def lightnet():
    """LightNet: additive recurrence whose weights e^k are normalised by their running sum, channel by channel; the query reads the means."""
    torch.manual_seed(12)
    x = draw(TOKENS, WIDTH)
    q, k, v = draw(DIM, WIDTH, scale=0.5), draw(DIM, WIDTH), draw(6, WIDTH, scale=0.5)
    ks, vs = x @ k.T, x @ v.T
    want = zeros(TOKENS, 6)
    for t in range(TOKENS):
        w = torch.softmax(ks[:t + 1], 0)
        want[t] = silu(x[t] @ q.T) @ (w.T @ vs[:t + 1])
    g = Graph("lightnet")
    i, s = g.input("x", [STREAM, WIDTH]), g.state("sums", [3, DIM, 6])
    ones = g.unary("exp", g.scale(g.linear(i, k, dims=[DIM, 1]), 0))
    means = g.op("scan", [None, g.linear(i, k, dims=[DIM, 1]), g.mul(ones, g.linear(i, v, dims=[1, 6]), [STREAM, DIM, 6]), None, s], [STREAM, DIM, 6], [s], kind="log_sum")
    read = g.mul(means, g.unary("silu", g.linear(i, q, dims=[DIM, 1])))
    g.output(g.reduce("sum", read, 1))
    g.expect(x=x, y=want)
    g.save()


def lightnet_plane():
    """LightNet over a picture: with an additive recurrence one pass that sums over both axes serves, whatever the order."""
    torch.manual_seed(13)
    pixels = 24
    x = draw(pixels, WIDTH)
    q, k, v = draw(DIM, WIDTH, scale=0.5), draw(DIM, WIDTH), draw(6, WIDTH, scale=0.5)
    want = silu(x @ q.T) @ (torch.softmax(x @ k.T, 0).T @ (x @ v.T))
    g = Graph("lightnet_plane")
    i = g.input("x", [pixels, WIDTH])
    w = g.softmax(g.transpose(g.linear(i, k), [1, 0]))
    g.output(g.bmm(g.unary("silu", g.linear(i, q)), g.bmm(w, g.linear(i, v), [DIM, 6]), [pixels, 6]))
    g.expect(x=x, y=want)
    g.save()


if __name__ == "__main__":
    for make in (transnormer_llm, transnormer, retnet, gla, delta_product, hedgehog, lolcats, liger, lawcat, gp_molformer, mom, lightnet, lightnet_plane):
        make()
