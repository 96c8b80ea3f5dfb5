"""Graph models of rows A1 to A3, A9, A11, A13, A19, A20, A25: scans in several directions, cells, streams of sound.

OMP_NUM_THREADS=1 python make_scans.py        (Python 3.11, torch 2.15.0, safetensors 0.8.0)
"""

import torch

from builder import STREAM, Graph, draw
from formulas import (
    causal,
    conv,
    layer_norm,
    linear_attention,
    rms,
    selective_scan,
    sigmoid,
    silu,
    softmax_attention,
    softplus,
    zeros,
)

TOKENS, WIDTH = 37, 12


def ssm_parameters(channels, n, rank):
    return {
        "conv": draw(channels, 4, scale=0.5),
        "conv_bias": draw(channels, scale=0.1),
        "x": draw(rank + 2 * n, channels, scale=channels**-0.5),
        "dt": draw(channels, rank, scale=rank**-0.5),
        "dt_bias": draw(channels) - 1,
        "a": -torch.exp(draw(channels, n, scale=0.5)).float().double(),
        "d": draw(channels),
        "n": n,
        "rank": rank,
    }


def ssm_formula(x, p):
    u = silu(conv(x, p["conv"], p["conv_bias"]))
    z = u @ p["x"].T
    dt = softplus(z[:, : p["rank"]] @ p["dt"].T + p["dt_bias"])
    return selective_scan(u, dt, p["a"], z[:, p["rank"] : p["rank"] + p["n"]], z[:, p["rank"] + p["n"] :], p["d"])


def ssm(g, x, p, name=None, reverse=False):
    u = g.conv(x, p["conv"], p["conv_bias"], "silu", name and name + ".conv", reverse=reverse)
    return scan(g, u, p, name, reverse)


def scan(g, u, p, name=None, reverse=False):
    z = g.linear(u, p["x"])
    dt = g.linear(g.slice(z, 1, 0, p["rank"]), p["dt"])
    b, c = g.slice(z, 1, p["rank"], p["n"]), g.slice(z, 1, p["rank"] + p["n"], p["n"])
    s = g.state(name + ".h", p["a"].shape) if name else None
    return g.op(
        "selective_scan",
        [u, dt, p["a"], b, c, p["d"], p["dt_bias"], s],
        u.dims,
        [s] if s else [],
        softplus=True,
        reverse=reverse,
    )


def scan_formula(u, p):
    z = u @ p["x"].T
    dt = softplus(z[:, : p["rank"]] @ p["dt"].T + p["dt_bias"])
    return selective_scan(u, dt, p["a"], z[:, p["rank"] : p["rank"] + p["n"]], z[:, p["rank"] + p["n"] :], p["d"])


def s_mamba(name, tokens, is_shared):
    """S-Mamba: variates are tokens, a Mamba block reads them in both directions. Caduceus: the same weights both ways."""
    torch.manual_seed(1)
    channels = 20
    x, w_in, w_out = draw(tokens, WIDTH), draw(2 * channels, WIDTH, scale=0.3), draw(WIDTH, channels, scale=0.3)
    forward = ssm_parameters(channels, 5, 3)
    backward = forward if is_shared else ssm_parameters(channels, 5, 3)
    norm = draw(WIDTH) + 1
    u = rms(x, norm) @ w_in.T
    a, z = u[:, :channels], u[:, channels:]
    y = ssm_formula(a, forward) + ssm_formula(a.flip(0), backward).flip(0)
    want = x + (y * silu(z)) @ w_out.T

    g = Graph(name)
    i = g.input("x", [tokens, WIDTH])
    u = g.linear(g.rms(i, norm), w_in)
    a, z = g.slice(u, 1, 0, channels), g.slice(u, 1, channels, channels)
    y = g.add(ssm(g, a, forward), ssm(g, a, backward, reverse=True))
    g.output(g.add(i, g.linear(g.mul(y, g.unary("silu", z)), w_out)))
    g.expect(x=x, y=want)
    g.save()


def orders(height, width):
    """The four orders of a cross scan over a picture: rows, columns, both backwards."""
    rows = list(range(height * width))
    columns = [r * width + c for c in range(width) for r in range(height)]
    return [rows, columns, rows[::-1], columns[::-1]]


def inverse(order):
    back = [0] * len(order)
    for at, o in enumerate(order):
        back[o] = at
    return back


def cross_scan_formula(x, parameters, height, width):
    return sum(scan_formula(x[o], p)[inverse(o)] for o, p in zip(orders(height, width), parameters))


def cross_scan(g, x, parameters, height, width):
    total = None
    for o, p in zip(orders(height, width), parameters):
        y = g.gather(scan(g, g.gather(x, o), p), inverse(o))
        total = y if total is None else g.add(total, y)
    return total


def mamba_yolo():
    """Mamba-YOLO's SS2D: depthwise convolution left out, four scans merged, norm, gate."""
    torch.manual_seed(2)
    height, width, channels = 5, 6, 16
    x, parameters = draw(height * width, channels), [ssm_parameters(channels, 4, 2) for _ in range(4)]
    w, b, gate = draw(channels) + 1, draw(channels), draw(channels, channels, scale=0.3)
    want = layer_norm(cross_scan_formula(x, parameters, height, width), w, b) * silu(x @ gate.T)
    g = Graph("mamba_yolo")
    i = g.input("x", [height * width, channels])
    g.output(g.mul(g.layer_norm(cross_scan(g, i, parameters, height, width), w, b), g.unary("silu", g.linear(i, gate))))
    g.expect(x=x, y=want)
    g.save()


def segman():
    """SegMAN: attention to the 3 x 3 neighbours of each pixel, then a cross scan, both residual."""
    torch.manual_seed(3)
    height, width, heads, dim = 5, 7, 2, 8
    channels, pixels = heads * dim, height * width
    x, parameters = draw(pixels, channels), [ssm_parameters(channels, 4, 2) for _ in range(4)]
    q, k, v, o = (draw(channels, channels, scale=0.3) for _ in range(4))
    at = [(p // width, p % width) for p in range(pixels)]
    near = torch.tensor([[abs(r - s) <= 1 and abs(c - d) <= 1 for s, d in at] for r, c in at])
    split = lambda w: (x @ w.T).view(pixels, heads, dim)
    y = x + softmax_attention(split(q), split(k), split(v), near, dim**-0.5).reshape(pixels, channels) @ o.T
    want = y + cross_scan_formula(rms(y), parameters, height, width)
    g = Graph("segman")
    i = g.input("x", [pixels, channels])
    part = lambda w: g.linear(i, w, dims=[heads, dim])
    bias = torch.where(near, 0.0, -1e30)[None].float().double()
    a = g.op(
        "attention",
        [part(q), part(k), part(v), None, None, None, bias],
        [pixels, channels],
        scale=dim**-0.5,
        causal=False,
    )
    y = g.add(i, g.linear(a, o))
    g.output(g.add(y, cross_scan(g, g.rms(y), parameters, height, width)))
    g.expect(x=x, y=want)
    g.save()


def serpent():
    """Serpent: the same scan at two scales; the coarse one reads means of 2 x 2 pixels and is spread back over them."""
    torch.manual_seed(4)
    height, width, channels = 4, 6, 12
    x = draw(height * width, channels)
    fine, coarse = ([ssm_parameters(channels, 4, 2) for _ in range(4)] for _ in range(2))
    pool = zeros(height * width // 4, height * width)
    for r in range(height):
        for c in range(width):
            pool[r // 2 * (width // 2) + c // 2, r * width + c] = 0.25
    want = cross_scan_formula(x, fine, height, width) + (pool.T * 4) @ cross_scan_formula(
        pool @ x, coarse, height // 2, width // 2
    )
    g = Graph("serpent")
    i = g.input("x", [height * width, channels])
    low = cross_scan(g, g.bmm(pool, i, [pool.shape[0], channels]), coarse, height // 2, width // 2)
    spread = g.bmm(pool, low, [height * width, channels], transpose_a=True, scale=4.0)
    g.output(g.add(cross_scan(g, i, fine, height, width), spread))
    g.expect(x=x, y=want)
    g.save()


def slstm():
    """An sLSTM block: convolved input to the gates, memory mixing within heads, group norm (xLSTM, appendix)."""
    torch.manual_seed(5)
    heads, dim = 2, 6
    x = draw(TOKENS, WIDTH)
    cw, cb, r, rb = (
        draw(WIDTH, 4, scale=0.5),
        draw(WIDTH, scale=0.1),
        draw(4, heads, dim, dim, scale=0.3),
        draw(4, heads, dim, scale=0.3),
    )
    w, gain = [draw(WIDTH, WIDTH, scale=0.4) for _ in range(4)], draw(WIDTH) + 1
    u = rms(x)
    smooth = silu(conv(u, cw, cb))
    h = c = n = zeros(heads, dim)
    rows = []
    for t in range(TOKENS):
        p = [
            ((smooth if k < 2 else u)[t] @ w[k].T).view(heads, dim) + torch.einsum("hij,hj->hi", r[k], h) + rb[k]
            for k in range(4)
        ]
        c = sigmoid(p[1]) * c + torch.exp(p[0]) * torch.tanh(p[2])
        n = sigmoid(p[1]) * n + torch.exp(p[0])
        h = sigmoid(p[3]) * c / n
        rows.append(h)
    y = layer_norm(torch.stack(rows)).reshape(TOKENS, WIDTH) * gain
    g = Graph("slstm")
    i = g.input("x", [STREAM, WIDTH])
    u = g.rms(i)
    smooth = g.conv(u, cw, cb, "silu", "conv")
    gates = g.concat([g.linear(smooth if k < 2 else u, w[k], dims=[1, heads, dim]) for k in range(4)], 1)
    states = [g.state(s, [heads, dim]) for s in "hcnm"]
    a = g.op("cell_recurrence", [gates, r, rb, *states], [STREAM, WIDTH], states, kind="slstm")
    a = g.reshape(g.layer_norm(g.reshape(a, [STREAM, heads, dim])), [STREAM, WIDTH])
    g.output(g.add(i, g.mul(a, gain)))
    g.expect(x=x, y=x + y)
    g.save()


def min_gru():
    """minGRU: h_t = (1 - z_t) h_{t-1} + z_t h~_t with gates of the input alone."""
    torch.manual_seed(6)
    x, wz, bz, wh = draw(TOKENS, WIDTH), draw(15, WIDTH, scale=0.5), draw(15), draw(15, WIDTH, scale=0.5)
    z, candidate = sigmoid(x @ wz.T + bz), x @ wh.T
    h, rows = zeros(15), []
    for t in range(TOKENS):
        h = (1 - z[t]) * h + z[t] * candidate[t]
        rows.append(h)
    g = Graph("min_gru")
    i = g.input("x", [STREAM, WIDTH])
    gate, s = g.linear(i, wz, bz), g.state("h", [15])
    keep = g.unary("sigmoid", g.unary("neg", gate))
    g.output(g.op("scan", [keep, g.mul(g.unary("sigmoid", gate), g.linear(i, wh)), s], [STREAM, 15], [s], kind="real"))
    g.expect(x=x, y=torch.stack(rows))
    g.save()


def lru():
    """LRU (and S4D, discretised): complex diagonal h = l h + gamma B x, y = Re(C h) + D x, l = exp(-exp(nu) + i theta)."""
    torch.manual_seed(7)
    n = 10
    x, nu, theta = draw(TOKENS, WIDTH), draw(n, scale=0.5) - 2, torch.rand(n).double() * 3
    log = torch.stack([-torch.exp(nu), theta], -1).float().double()
    gamma = torch.sqrt(1 - torch.exp(2 * log[:, 0]))
    b, c, d = draw(n, 2, WIDTH, scale=0.3), draw(WIDTH, n, 2, scale=0.3), draw(WIDTH)
    l, bc, cc = (
        torch.exp(torch.complex(log[:, 0], log[:, 1])),
        torch.complex(b[:, 0], b[:, 1]) * gamma[:, None],
        torch.complex(c[..., 0], c[..., 1]),
    )
    h, rows = torch.zeros(n, dtype=torch.complex128), []
    for t in range(TOKENS):
        h = l * h + bc @ x[t].to(torch.complex128)
        rows.append((cc @ h).real + d * x[t])
    g = Graph("lru")
    i, s = g.input("x", [STREAM, WIDTH]), g.state("h", [n, 2])
    u = g.linear(i, (b * gamma[:, None, None]).float().double().reshape(2 * n, WIDTH), dims=[n, 2])
    y = g.op("scan", [log[None], u, s], [STREAM, n, 2], [s], kind="complex", log_decay=True)
    sign = torch.tensor([1.0, -1.0]).double()
    g.output(g.add(g.linear(g.reshape(y, [STREAM, 2 * n]), (c * sign).reshape(WIDTH, 2 * n)), g.mul(i, d)))
    g.expect(x=x, y=torch.stack(rows))
    g.save()


def lion():
    """LION: sorted voxels in windows of unequal size, a linear RNN (RetNet's and RWKV-6's rule) in each, without state between them; both directions."""
    torch.manual_seed(8)
    heads, dim, bounds = 2, 8, [0, 9, 9, 10, 26, 31]
    voxels, channels = bounds[-1], heads * dim
    x, order = draw(voxels, channels), torch.randperm(voxels).tolist()
    q, k, v, wd = (draw(channels, channels, scale=0.3) for _ in range(4))
    constant = torch.log(1 - 2.0 ** (-2 - torch.arange(heads).double())).float().double()
    s = x[order]
    split = lambda w, a: (a @ w.T).view(-1, heads, dim)
    parts = []
    for lo, hi in zip(bounds, bounds[1:]):
        a = s[lo:hi]
        if not len(a):
            continue
        one = linear_attention(
            split(q, a), split(k, a), split(v, a), constant[None, :, None].expand(len(a), heads, dim)
        )
        b = a.flip(0)
        two = linear_attention(split(q, b), split(k, b), split(v, b), -softplus(split(wd, b))).flip(0)
        parts.append((one + two).reshape(-1, channels))
    want = zeros(voxels, channels)
    want[order] = torch.cat(parts)
    g = Graph("lion")
    i = g.gather(g.input("x", [voxels, channels]), order)
    part = lambda w: g.linear(i, w, dims=[heads, dim])
    segments = torch.tensor(bounds, dtype=torch.int32)
    qkv, nothing = [part(q), part(k), part(v)], [None] * 8
    one = g.op("matrix_recurrence", qkv + [constant] + nothing + [segments], [voxels, heads, dim])
    two = g.op(
        "matrix_recurrence",
        qkv + [g.unary("neg", g.unary("softplus", part(wd)))] + nothing + [segments],
        [voxels, heads, dim],
        reverse=True,
    )
    g.output(g.gather(g.reshape(g.add(one, two), [voxels, channels]), inverse(order)))
    g.expect(x=x, y=want)
    g.save()


def aaren():
    """Aaren: softmax attention of one learned query over all tokens so far, with constant memory."""
    torch.manual_seed(9)
    heads, dim = 3, 5
    x, query, wk, wv = (
        draw(TOKENS, WIDTH),
        draw(heads, dim, scale=2),
        draw(heads * dim, WIDTH, scale=0.5),
        draw(heads * dim, WIDTH, scale=0.5),
    )
    k, v = (x @ wk.T).view(TOKENS, heads, dim), (x @ wv.T).view(TOKENS, heads, dim)
    want = softmax_attention(query[None].expand(TOKENS, -1, -1), k, v, causal(TOKENS), dim**-0.5)
    g = Graph("aaren")
    i, s = g.input("x", [STREAM, WIDTH]), g.state("sums", [3, heads, dim])
    scores = g.reduce("sum", g.mul(g.linear(i, wk, dims=[heads, dim]), (query * dim**-0.5).float().double()), 2)
    y = g.op(
        "scan",
        [None, g.reshape(scores, [STREAM, heads, 1]), g.linear(i, wv, dims=[heads, dim]), None, s],
        [STREAM, heads, dim],
        [s],
        kind="log_sum",
    )
    g.output(g.reshape(y, [STREAM, heads * dim]))
    g.expect(x=x, y=want.reshape(TOKENS, -1))
    g.save()


def conv_tasnet():
    """Causal Conv-TasNet: frames of two hops, bottleneck, dilated depthwise blocks with cumulative norms and skips, masks of two sources, overlap-add."""
    torch.manual_seed(10)
    hop, filters, width, hidden, sources, blocks = 8, 18, 10, 14, 2, 3
    sound = draw(TOKENS, hop)
    encoder, decoder = draw(filters, 2 * hop, scale=0.3), draw(2 * hop, filters, scale=0.3)
    bottleneck, masks = draw(width, filters, scale=0.3), draw(sources * filters, width, scale=0.5)
    gain, shift = draw(filters) + 1, draw(filters)
    layers = [
        {
            "in": draw(hidden, width, scale=0.4),
            "slope": 0.25,
            "g1": draw(hidden) + 1,
            "b1": draw(hidden),
            "dw": draw(hidden, 3, scale=0.6),
            "g2": draw(hidden) + 1,
            "b2": draw(hidden),
            "res": draw(width, hidden, scale=0.3),
            "skip": draw(width, hidden, scale=0.3),
            "dilation": 2**i,
        }
        for i in range(blocks)
    ]

    def cumulative(x, gain, shift):
        rows = [
            (x[t] - x[: t + 1].mean()) / torch.sqrt(x[: t + 1].var(unbiased=False) + 1e-8) * gain + shift
            for t in range(x.shape[0])
        ]
        return torch.stack(rows)

    prelu = lambda x, a: torch.where(x > 0, x, a * x)
    frames = torch.cat([torch.cat([zeros(1, hop), sound[:-1]]), sound], 1)
    e = torch.relu(frames @ encoder.T)
    x, skips = cumulative(e, gain, shift) @ bottleneck.T, 0
    for p in layers:
        u = cumulative(prelu(x @ p["in"].T, p["slope"]), p["g1"], p["b1"])
        u = cumulative(prelu(conv(u, p["dw"], dilation=p["dilation"]), p["slope"]), p["g2"], p["b2"])
        x, skips = x + u @ p["res"].T, skips + u @ p["skip"].T
    m = sigmoid(prelu(skips, 0.25) @ masks.T).view(TOKENS, sources, filters)
    out = (m * e[:, None]) @ decoder.T
    want = out[..., :hop] + torch.cat([zeros(1, sources, hop), out[:-1, :, hop:]])

    g = Graph("conv_tasnet")
    i = g.input("x", [STREAM, hop])
    ones = g.state("count", [1])
    count = g.op(
        "scan",
        [None, g.reshape(g.slice(g.unary("exp", g.scale(i, 0)), 1, 0, 1), [STREAM, 1]), ones],
        [STREAM, 1],
        [ones],
        kind="real",
    )

    def running(v, name):
        s = g.state(name, [1])
        return g.binary("div", g.op("scan", [None, v, s], [STREAM, 1], [s], kind="real"), count)

    def norm(x, gain, shift, name):
        mean = running(g.reshape(g.reduce("mean", x, 1), [STREAM, 1]), name + ".mean")
        square = running(g.reshape(g.reduce("mean", g.unary("square", x), 1), [STREAM, 1]), name + ".square")
        scale = g.unary("rsqrt", g.add(g.binary("sub", square, g.unary("square", mean)), torch.tensor([1e-8]).double()))
        return g.add(g.mul(g.mul(g.binary("sub", x, mean), scale), gain), shift)

    act = lambda x, a: g.binary("sub", g.unary("relu", x), g.scale(g.unary("relu", g.unary("neg", x)), a))
    e = g.unary("relu", g.linear(g.concat([g.delay(i, 1, "hop"), i], 1), encoder))
    x, skips = g.linear(norm(e, gain, shift, "front"), bottleneck), None
    for n, p in enumerate(layers):
        u = norm(act(g.linear(x, p["in"]), p["slope"]), p["g1"], p["b1"], f"l{n}.first")
        u = norm(
            act(g.conv(u, p["dw"], state=f"l{n}.conv", dilation=p["dilation"]), p["slope"]),
            p["g2"],
            p["b2"],
            f"l{n}.second",
        )
        s = g.linear(u, p["skip"])
        x, skips = g.add(x, g.linear(u, p["res"])), s if skips is None else g.add(skips, s)
    m = g.unary("sigmoid", g.linear(act(skips, 0.25), masks, dims=[sources, filters]))
    out = g.linear(g.mul(m, g.reshape(e, [STREAM, 1, filters])), decoder)
    g.output(g.add(g.slice(out, 2, 0, hop), g.delay(g.slice(out, 2, hop, hop), 1, "tail")))
    g.expect(x=sound, y=want)
    g.save()


if __name__ == "__main__":
    s_mamba("s_mamba", 23, False)
    s_mamba("caduceus", 30, True)
    for make in (mamba_yolo, segman, serpent, slstm, min_gru, lru, lion, aaren, conv_tasnet):
        make()
