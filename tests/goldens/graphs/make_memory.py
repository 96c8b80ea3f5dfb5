"""Graph models of rows A10, A16, A21 to A24: memories that learn, share, quantise and compress.

    OMP_NUM_THREADS=1 python make_memory.py        (Python 3.11, torch 2.15.0, safetensors 0.8.0)
"""

import torch
import torch.nn.functional as F

from builder import STREAM, Graph, draw
from formulas import causal, layer_norm, linear_attention, rms, sigmoid, silu, softmax_attention, softplus, zeros
from make_scans import ssm, ssm_formula, ssm_parameters

TOKENS, WIDTH, HEADS, DIM = 37, 12, 2, 8
INNER = HEADS * DIM


def split(g, x, w, heads=HEADS):
    return g.linear(x, w, dims=[heads, w.shape[0] // heads])


def inner_formula(q, k, v, weights, f, loss, rate, keep=None, momentum=None, read=None, batch=1):
    """One head: a model f(x, weights) trained by each token's gradient, which autograd takes at the weights of the batch's start."""
    base, total, speed = [w.clone() for w in weights], [zeros(*w.shape) if read is not None else w.clone() for w in weights], [zeros(*w.shape) for w in weights]
    rows = []
    for t in range(q.shape[0]):
        leaves = [w.clone().requires_grad_() for w in base]
        gradients = torch.autograd.grad(loss(f(k[t], leaves) - v[t]), leaves)
        now = []
        for i, grad in enumerate(gradients):
            speed[i] = (momentum[t] * speed[i] if momentum is not None else 0) - rate[t] * grad
            total[i] = (keep[t] if keep is not None else 1) * total[i] + speed[i]
            now.append(base[i] + read[t] * total[i] if read is not None else total[i])
        rows.append(f(q[t], now))
        if (t + 1) % batch == 0:
            base = now
            if read is not None:
                total = [zeros(*w.shape) for w in weights]
    return torch.stack(rows)


def inner_layer(name, seed, hidden=0, bias=False, norm=False, residual=False, batch=1, loss="squared", map="identity", keeps=False, moves=False, reads=False):
    """A layer whose mixer is an inner model: projections, unit queries and keys, data-dependent gates, output matrix."""
    torch.manual_seed(seed)
    x = draw(TOKENS, WIDTH)
    wq, wk, wv = (draw(INNER, WIDTH, scale=0.4) for _ in range(3))
    wr, wm, wa, o = draw(HEADS, WIDTH, scale=0.5), draw(HEADS, WIDTH, scale=0.5), draw(HEADS, WIDTH, scale=0.5), draw(WIDTH, INNER, scale=0.4)
    gain, shift = draw(HEADS, DIM, scale=0.2) + 1, draw(HEADS, DIM, scale=0.2)
    token = torch.clamp(1 / (1 + torch.arange(batch).double()) + draw(batch, scale=0.1), min=0).float().double()
    sizes = [(DIM, hidden or DIM)] + ([(hidden or DIM,)] if bias else []) + ([(hidden, DIM)] + ([(DIM,)] if bias else []) if hidden else [])
    start = [[draw(*s, scale=0.3) for s in sizes] for _ in range(HEADS)]

    unit = lambda y: y / torch.sqrt((y * y).sum(-1, keepdim=True) + 1e-6)
    q, k, v = unit((x @ wq.T).view(TOKENS, HEADS, DIM)), unit((x @ wk.T).view(TOKENS, HEADS, DIM)), (x @ wv.T).view(TOKENS, HEADS, DIM)
    rate, momentum, keep = 0.2 * sigmoid(x @ wr.T), 0.8 * sigmoid(x @ wm.T), sigmoid(x @ wa.T + 4)

    def model(h):
        def f(u, w):
            w = list(w)
            z = u @ w.pop(0) + (w.pop(0) if bias else 0)
            if hidden:
                z = F.gelu(z, approximate="tanh") @ w.pop(0) + (w.pop(0) if bias else 0)
            return (u if residual else 0) + (layer_norm(z, gain[h], shift[h], 1e-6) if norm else z)
        return f

    losses = {"squared": lambda e: (e * e).sum() / 2, "power": lambda e: (e.abs() ** 3).sum(), "huber": lambda e: torch.where(e.abs() <= 0.5, e * e / 2, 0.5 * (e.abs() - 0.25)).sum()}
    maps = {"identity": None, "power": lambda a: a / (a.abs() ** 4).sum() ** (2 / 4), "softmax": lambda a: torch.softmax(a, -1)}
    head = lambda h: (q[:, h], k[:, h], v[:, h], start[h], model(h), losses[loss], rate[:, h])
    if map == "identity":
        gates = lambda h: (keep[:, h] if keeps else None, momentum[:, h] if moves else None, token[torch.arange(TOKENS) % batch] if reads else None)
        y = torch.stack([inner_formula(*head(h), *gates(h), batch) for h in range(HEADS)], 1)
    else:
        y = torch.stack([mapped_formula(*head(h), keep[:, h], maps[map]) for h in range(HEADS)], 1)
    want = x + y.reshape(TOKENS, INNER) @ o.T

    g = Graph(name, context=128)
    i = g.input("x", [STREAM, WIDTH])
    norm_of = lambda w: g.scale(g.rms(split(g, i, w), None, 1e-6 / DIM), DIM ** -0.5)
    inputs = [norm_of(wq), norm_of(wk), split(g, i, wv), g.scale(g.unary("sigmoid", g.linear(i, wr)), 0.2), None, None, None, None, None]
    if keeps:
        inputs[4] = g.unary("sigmoid", g.linear(i, wa, torch.full((HEADS,), 4.0).double()))
    if moves:
        inputs[5] = g.scale(g.unary("sigmoid", g.linear(i, wm)), 0.8)
    if reads:
        table = token[torch.arange(128) % batch][:, None].expand(128, HEADS).contiguous()
        inputs[6] = g.op("embedding", [g.positions(), table], [STREAM, HEADS])
    if norm:
        inputs[7], inputs[8] = gain, shift
    dual = torch.stack([torch.cat([w.reshape(-1) for w in s]) for s in start])
    primal = dual if map == "identity" else torch.stack([torch.cat([(maps[map](w) if w.dim() == 2 else w).reshape(-1) for w in s]) for s in start])
    planes = [primal, torch.zeros_like(dual) if reads else dual] + ([torch.zeros_like(dual)] if moves else [])
    s = g.state("inner", [HEADS, len(planes), dual.shape[1]], torch.stack(planes, 1))
    attrs = {"hidden": hidden, "bias": bias, "residual": residual, "batch": batch, "loss": loss, "loss_delta": 0.5, "map": map}
    a = g.op("inner_model", [*inputs, s], [STREAM, HEADS, DIM], [s], **attrs)
    g.output(g.add(i, g.linear(g.reshape(a, [STREAM, INNER]), o)))
    g.expect(x=x, y=want)
    g.save()


def mapped_formula(q, k, v, start, f, loss, rate, keep, mapped):
    """Miras: A = keep A - rate grad at W, W = map(A); f reads with W."""
    apply = lambda ws: [mapped(w) if w.dim() == 2 else w for w in ws]
    dual, rows = [w.clone() for w in start], []
    for t in range(q.shape[0]):
        leaves = [w.clone().requires_grad_() for w in apply(dual)]
        gradients = torch.autograd.grad(loss(f(k[t], leaves) - v[t]), leaves)
        dual = [keep[t] * a - rate[t] * grad for a, grad in zip(dual, gradients)]
        rows.append(f(q[t], apply(dual)))
    return torch.stack(rows)


def sambay():
    """SambaY: Mamba, window attention, one full attention whose keys and values later layers share, gated memory units that read the Mamba's output, differential cross attention."""
    torch.manual_seed(20)
    window, lam = 6, 0.35
    x, p = draw(TOKENS, WIDTH), ssm_parameters(WIDTH, 5, 2)
    m_out = draw(WIDTH, WIDTH, scale=0.3)
    wq, wk, wv = (draw(INNER, WIDTH, scale=0.4) for _ in range(3))
    swa_o, full = draw(WIDTH, INNER, scale=0.3), [draw(INNER, WIDTH, scale=0.4) for _ in range(4)]
    full_o, g_in, g_out, cross_o = draw(WIDTH, INNER, scale=0.3), draw(WIDTH, WIDTH, scale=0.4), draw(WIDTH, WIDTH, scale=0.4), draw(WIDTH, INNER, scale=0.3)
    cq1, cq2, gain = draw(INNER, WIDTH, scale=0.4), draw(INNER, WIDTH, scale=0.4), draw(DIM) + 1
    heads = lambda y, w: (y @ w.T).view(TOKENS, HEADS, DIM)
    memory = ssm_formula(rms(x), p)
    y = x + memory @ m_out.T
    u = rms(y)
    y = y + softmax_attention(heads(u, wq), heads(u, wk), heads(u, wv), causal(TOKENS, window), DIM ** -0.5).reshape(TOKENS, INNER) @ swa_o.T
    u = rms(y)
    shared_k, shared_v = heads(u, full[1]), heads(u, full[2])
    y = y + softmax_attention(heads(u, full[0]), shared_k, shared_v, causal(TOKENS), DIM ** -0.5).reshape(TOKENS, INNER) @ full_o.T
    y = y + (memory * silu(rms(y) @ g_in.T)) @ g_out.T
    u = rms(y)
    one, two = (softmax_attention(heads(u, w), shared_k, shared_v, causal(TOKENS), DIM ** -0.5) for w in (cq1, cq2))
    want = y + (rms(one - lam * two, gain) * (1 - lam)).reshape(TOKENS, INNER) @ cross_o.T

    g = Graph("sambay", context=128)
    i = g.input("x", [STREAM, WIDTH])
    memory = ssm(g, g.rms(i), p, "mamba")
    y = g.add(i, g.linear(memory, m_out))
    u = g.rms(y)
    a = g.op("attention", [split(g, u, wq), split(g, u, wk), split(g, u, wv), *g.cache("near", HEADS, DIM, DIM, window)], [STREAM, INNER], scale=DIM ** -0.5, window=window)
    y = g.add(y, g.linear(a, swa_o))
    u = g.rms(y)
    shared = [split(g, u, full[1]), split(g, u, full[2]), *g.cache("shared", HEADS, DIM, DIM)]
    attend = lambda w, u: g.op("attention", [split(g, u, w), *shared], [STREAM, HEADS, DIM], scale=DIM ** -0.5)
    y = g.add(y, g.linear(g.reshape(attend(full[0], u), [STREAM, INNER]), full_o))
    y = g.add(y, g.linear(g.mul(memory, g.unary("silu", g.linear(g.rms(y), g_in))), g_out))
    u = g.rms(y)
    a = g.scale(g.rms(g.binary("sub", attend(cq1, u), g.scale(attend(cq2, u), lam)), gain), 1 - lam)
    g.output(g.add(y, g.linear(g.reshape(a, [STREAM, INNER]), cross_o)))
    g.expect(x=x, y=want)
    g.save()


def yoco():
    """YOCO: a self-decoder of gated retention makes one cache of keys and values, which two cross-decoder layers read."""
    torch.manual_seed(21)
    x = draw(TOKENS, WIDTH)
    wq, wk, wv, wg = (draw(INNER, WIDTH, scale=0.4) for _ in range(4))
    decay, o = draw(HEADS, WIDTH, scale=0.5), draw(WIDTH, INNER, scale=0.3)
    ck, cv, qs, os = draw(INNER, WIDTH, scale=0.4), draw(INNER, WIDTH, scale=0.4), [draw(INNER, WIDTH, scale=0.4) for _ in range(2)], [draw(WIDTH, INNER, scale=0.3) for _ in range(2)]
    heads = lambda y, w: (y @ w.T).view(TOKENS, HEADS, DIM)
    log = -softplus(-(x @ decay.T)) / 16
    a = linear_attention(heads(x, wq), heads(x, wk), heads(x, wv), log[..., None].expand(-1, -1, DIM))
    y = x + (rms(a).reshape(TOKENS, INNER) * silu(x @ wg.T)) @ o.T
    u = rms(y)
    k, v = heads(u, ck), heads(u, cv)
    for w, out in zip(qs, os):
        y = y + softmax_attention(heads(rms(y), w), k, v, causal(TOKENS), DIM ** -0.5).reshape(TOKENS, INNER) @ out.T
    g = Graph("yoco", context=128)
    i = g.input("x", [STREAM, WIDTH])
    log, s = g.scale(g.unary("softplus", g.unary("neg", g.linear(i, decay))), -1 / 16), g.state("s", [HEADS, DIM, DIM])
    a = g.op("matrix_recurrence", [split(g, i, wq), split(g, i, wk), split(g, i, wv), log] + [None] * 5 + [s], [STREAM, HEADS, DIM], [s])
    z = g.add(i, g.linear(g.mul(g.reshape(g.rms(a), [STREAM, INNER]), g.unary("silu", g.linear(i, wg))), o))
    u = g.rms(z)
    shared = [split(g, u, ck), split(g, u, cv), *g.cache("shared", HEADS, DIM, DIM)]
    for w, out in zip(qs, os):
        z = g.add(z, g.linear(g.op("attention", [split(g, g.rms(z), w), *shared], [STREAM, INNER], scale=DIM ** -0.5), out))
    g.output(z)
    g.expect(x=x, y=y)
    g.save()


def local_linear():
    """Local Linear Attention: at each query a linear regression of values on keys, weighted by e^(q . k); the ridge is of the normalised weights."""
    torch.manual_seed(22)
    dim, values, ridge, scale = 4, 5, 0.1, 0.5
    x = draw(TOKENS, WIDTH)
    wq, wk, wv = draw(HEADS * dim, WIDTH, scale=0.4), draw(HEADS * dim, WIDTH, scale=0.4), draw(HEADS * values, WIDTH, scale=0.4)
    q, k, v = (x @ wq.T).view(TOKENS, HEADS, dim), (x @ wk.T).view(TOKENS, HEADS, dim), (x @ wv.T).view(TOKENS, HEADS, values)
    want = zeros(TOKENS, HEADS, values)
    for t in range(TOKENS):
        for h in range(HEADS):
            w = torch.softmax(k[:t + 1, h] @ q[t, h] * scale, 0)
            z = k[:t + 1, h] - q[t, h]
            rho = torch.linalg.solve(torch.einsum("s,sd,se->de", w, z, z) + ridge * torch.eye(dim), w @ z)
            s = w * (1 - z @ rho)
            want[t, h] = s @ v[:t + 1, h] / s.sum()
    g = Graph("local_linear", context=128)
    i = g.input("x", [STREAM, WIDTH])
    q, k, v = split(g, i, wq), split(g, i, wk), split(g, i, wv)
    column = lambda y: g.reshape(y, [STREAM, HEADS, y.dims[2], 1])
    row = lambda y: g.reshape(y, [STREAM, HEADS, 1, y.dims[2]])
    outer = lambda a, b: g.mul(column(a), row(b), [STREAM, HEADS, a.dims[2], b.dims[2]])
    moments = g.concat([v, k, g.reshape(outer(k, k), [STREAM, HEADS, dim * dim]), g.reshape(outer(k, v), [STREAM, HEADS, dim * values])], 2)
    width = moments.dims[2]
    m = g.op("attention", [q, k, moments, *g.cache("all", HEADS, dim, width)], [STREAM, HEADS, width], scale=scale)
    mv, mk = g.slice(m, 2, 0, values), g.slice(m, 2, values, dim)
    kk, kv = g.reshape(g.slice(m, 2, values + dim, dim * dim), [STREAM, HEADS, dim, dim]), g.reshape(g.slice(m, 2, values + dim + dim * dim, dim * values), [STREAM, HEADS, dim, values])
    sigma = g.add(g.binary("sub", g.binary("sub", kk, outer(mk, q)), outer(q, mk)), outer(q, q))
    mu = g.binary("sub", mk, q)
    rho = g.op("solve", [sigma, column(mu)], [STREAM, HEADS, dim, 1], ridge=ridge)
    seen = g.reshape(g.bmm(rho, kv, [STREAM, HEADS, 1, values], transpose_a=True), [STREAM, HEADS, values])
    flat = g.reshape(rho, [STREAM, HEADS, dim])
    dot = lambda a, b: g.reshape(g.reduce("sum", g.mul(a, b), 2), [STREAM, HEADS, 1])
    num = g.binary("sub", g.add(mv, g.mul(mv, dot(q, flat))), seen)
    den = g.add(g.unary("neg", dot(mu, flat)), torch.ones(1).double())
    g.output(g.binary("div", num, den))
    g.expect(x=x, y=want)
    g.save()


def long_vq():
    """LongVQ: a moving average (SSM) feeds queries and keys; keys are replaced by the nearest of 10 codewords, so that attention needs one sum a codeword."""
    torch.manual_seed(23)
    codes = 10
    x, keep = draw(TOKENS, WIDTH), sigmoid(draw(WIDTH)).float().double()
    wq, wk, wv, gate, book = draw(DIM, WIDTH, scale=0.5), draw(DIM, WIDTH), draw(INNER, WIDTH, scale=0.4), draw(INNER, WIDTH, scale=0.4), draw(codes, DIM)
    h, rows = zeros(WIDTH), []
    for t in range(TOKENS):
        h = keep * h + (1 - keep) * x[t]
        rows.append(h)
    u = torch.stack(rows)
    q, k, v = u @ wq.T, u @ wk.T, x @ wv.T
    nearest = book[torch.cdist(k, book).argmin(-1)]
    want = softmax_attention(q[:, None], nearest[:, None], v[:, None], causal(TOKENS), DIM ** -0.5)[:, 0] * silu(u @ gate.T)
    g = Graph("long_vq")
    i, s = g.input("x", [STREAM, WIDTH]), g.state("average", [WIDTH])
    u = g.op("scan", [keep[None], g.mul(i, (1 - keep).float().double()), s], [STREAM, WIDTH], [s], kind="real")
    near = g.linear(g.linear(u, wk), book, -(book * book).sum(-1) / 2)
    _, ids = g.op("route", [near], [STREAM, 1], [[STREAM, 1]], scoring="none")
    g.retype(ids, "i32")
    row = g.retype(g.reshape(ids, [STREAM]), "i32")
    one_hot = g.op("embedding", [row, torch.eye(codes).double()], [STREAM, codes])
    weight = g.unary("exp", g.scale(g.linear(g.linear(u, wq), book), DIM ** -0.5))
    states = [g.state("sums", [1, codes, INNER]), g.state("counts", [1, codes])]
    single = lambda y: g.reshape(y, [STREAM, 1, y.dims[1]])
    a = g.op("matrix_recurrence", [single(weight), single(one_hot), g.linear(i, wv, dims=[1, INNER])] + [None] * 6 + states, [STREAM, 1, INNER], states, normalise="sum")
    g.output(g.mul(g.reshape(a, [STREAM, INNER]), g.unary("silu", g.linear(u, gate))))
    g.expect(x=x, y=want)
    g.save()


def reactive():
    """RxT: a decoder layer reads memory slots by cross attention; after each turn a second program rewrites them by attention to the turn and a gate."""
    torch.manual_seed(24)
    slots, turns = 5, [11, 7, 14]
    start = draw(slots, WIDTH)
    sq, sk, sv, mq, mk, mv = (draw(INNER, WIDTH, scale=0.4) for _ in range(6))
    so, mo, uq, uk, uv, ug = (draw(WIDTH, INNER if n < 2 else WIDTH, scale=0.3) for n in range(6))
    cut = lambda y, w: (y @ w.T).view(-1, HEADS, DIM)
    everything = lambda rows, columns: torch.ones(rows, columns, dtype=torch.bool)
    memory, calls = start, {}
    for n, tokens in enumerate(turns):
        x = draw(tokens, WIDTH)
        h = x + softmax_attention(cut(x, sq), cut(x, sk), cut(x, sv), causal(tokens), DIM ** -0.5).reshape(tokens, INNER) @ so.T
        y = h + softmax_attention(cut(rms(h), mq), cut(memory, mk), cut(memory, mv), everything(tokens, slots), DIM ** -0.5).reshape(tokens, INNER) @ mo.T
        gate = sigmoid(memory @ ug.T)
        update = softmax_attention((memory @ uq.T)[:, None], (y @ uk.T)[:, None], (y @ uv.T)[:, None], everything(slots, tokens), WIDTH ** -0.5)[:, 0]
        memory = (1 - gate) * memory + gate * update
        calls |= {f"main.{n}.x": x, f"main.{n}.y": y, f"remember.{n}.x": y, f"remember.{n}.y": memory}
    g = Graph("reactive")
    m = g.state("memory", [slots * WIDTH], start.reshape(-1))
    table = lambda: g.op("reshape", [m], [slots, WIDTH])
    i = g.input("x", [STREAM, WIDTH])
    a = g.op("attention", [split(g, i, sq), split(g, i, sk), split(g, i, sv)], [STREAM, INNER], scale=DIM ** -0.5)
    h, slots_now = g.add(i, g.linear(a, so)), table()
    a = g.op("attention", [split(g, g.rms(h), mq), split(g, slots_now, mk), split(g, slots_now, mv)], [STREAM, INNER], scale=DIM ** -0.5, causal=False)
    g.output(g.add(h, g.linear(a, mo)))
    g.program("remember")
    i, old = g.input("x", [STREAM, WIDTH]), table()
    gate = g.linear(old, ug)
    a = g.op("attention", [split(g, old, uq, 1), split(g, i, uk, 1), split(g, i, uv, 1)], [slots, WIDTH], scale=WIDTH ** -0.5, causal=False)
    wide = lambda y: g.reshape(y, [1, slots * WIDTH])
    new = g.op("scan", [wide(g.unary("sigmoid", g.unary("neg", gate))), wide(g.mul(g.unary("sigmoid", gate), a)), m], [1, slots * WIDTH], [m], kind="real")
    g.output(g.reshape(new, [slots, WIDTH]))
    g.expect(**calls)
    g.save()


def scout():
    """SCOUT: a local mixer (window attention), whose every fourth output is a checkpoint; a token attends to the checkpoints so far and to itself."""
    torch.manual_seed(25)
    window, stride = 5, 4
    x = draw(TOKENS, WIDTH)
    wq, wk, wv, cq, ck, cv = (draw(INNER, WIDTH, scale=0.4) for _ in range(6))
    wo, co = draw(WIDTH, INNER, scale=0.3), draw(WIDTH, INNER, scale=0.3)
    heads = lambda y, w: (y @ w.T).view(TOKENS, HEADS, DIM)
    h = x + softmax_attention(heads(x, wq), heads(x, wk), heads(x, wv), causal(TOKENS, window), DIM ** -0.5).reshape(TOKENS, INNER) @ wo.T
    q, k, v, rows = heads(h, cq), heads(h, ck), heads(h, cv), []
    for t in range(TOKENS):
        seen = [j for j in range(t + 1) if (j + 1) % stride == 0] + [t]
        p = torch.softmax(torch.einsum("hd,shd->hs", q[t], k[seen]) * DIM ** -0.5, -1)
        rows.append(torch.einsum("hs,shd->hd", p, v[seen]))
    want = h + torch.stack(rows).reshape(TOKENS, INNER) @ co.T
    g = Graph("scout", context=128)
    i = g.input("x", [STREAM, WIDTH])
    a = g.op("attention", [split(g, i, wq), split(g, i, wk), split(g, i, wv), *g.cache("near", HEADS, DIM, DIM, window)], [STREAM, INNER], scale=DIM ** -0.5, window=window)
    h = g.add(i, g.linear(a, wo))
    q, k, v = split(g, h, cq), split(g, h, ck), split(g, h, cv)
    far, lse = g.op("attention", [q, k, v, *g.cache("far", HEADS, DIM, DIM, stride=stride)], [STREAM, HEADS, DIM], [[STREAM, HEADS]], scale=DIM ** -0.5, stride=stride)
    own = g.scale(g.reduce("sum", g.mul(q, k), 2), DIM ** -0.5)
    share = g.reshape(g.unary("sigmoid", g.binary("sub", own, lse)), [STREAM, HEADS, 1])
    joined = g.add(far, g.mul(g.binary("sub", v, far), share))
    g.output(g.add(h, g.linear(g.reshape(joined, [STREAM, INNER]), co)))
    g.expect(x=x, y=want)
    g.save()


if __name__ == "__main__":
    inner_layer("ttt_linear", 1, bias=True, norm=True, residual=True, batch=8, reads=True)
    inner_layer("ttt_mlp", 2, hidden=20, bias=True, norm=True, residual=True, batch=8, reads=True)
    inner_layer("titans", 3, hidden=12, keeps=True, moves=True)
    inner_layer("titans_linear", 4, norm=True, residual=True, batch=4, keeps=True, moves=True)
    inner_layer("moneta", 5, hidden=10, norm=True, residual=True, loss="power", map="power", keeps=True)
    inner_layer("yaad", 6, hidden=10, norm=True, residual=True, loss="huber", keeps=True)
    inner_layer("memora", 7, hidden=10, norm=True, residual=True, map="softmax", keeps=True)
    for make in (sambay, yoco, local_linear, long_vq, reactive, scout):
        make()
