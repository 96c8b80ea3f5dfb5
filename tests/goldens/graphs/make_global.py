"""Graph models of rows A17 and A18: attention of all tokens to all in linear time, each with its own normalisation.

OMP_NUM_THREADS=1 python make_global.py        (Python 3.11, torch 2.15.0, safetensors 0.8.0)
"""

import torch

from builder import Graph, draw
from formulas import elu1, rms, sigmoid, silu, softmax_attention

TOKENS, WIDTH, HEADS, DIM = 24, 12, 2, 8
INNER = HEADS * DIM


class Layer:
    """q, k and v of an input x, for the formula [heads, tokens, dim] and for the graph."""

    def __init__(self, name, seed, tokens=TOKENS):
        torch.manual_seed(seed)
        self.tokens, self.x = tokens, draw(tokens, WIDTH)
        self.w = [draw(INNER, WIDTH, scale=0.4) for _ in range(3)]
        self.q, self.k, self.v = ((self.x @ w.T).view(tokens, HEADS, DIM).transpose(0, 1) for w in self.w)
        self.g = Graph(name)
        self.i = self.g.input("x", [tokens, WIDTH])
        self.gq, self.gk, self.gv = (
            self.g.transpose(self.g.linear(self.i, w, dims=[HEADS, DIM]), [1, 0, 2]) for w in self.w
        )

    def save(self, formula, value):
        """Both as [heads, tokens, dim]."""
        self.finish(
            formula.transpose(0, 1).reshape(self.tokens, INNER),
            self.g.reshape(self.g.transpose(value, [1, 0, 2]), [self.tokens, INNER]),
        )

    def finish(self, formula, value):
        self.g.output(value)
        self.g.expect(x=self.x, y=formula)
        self.g.save()

    # Pieces of graphs.
    def memory(self, k, v):
        """k^T v."""
        return self.g.bmm(k, v, [HEADS, k.dims[2], v.dims[2]], transpose_a=True)

    def read(self, q, memory):
        return self.g.bmm(q, memory, [HEADS, q.dims[1], memory.dims[2]])

    def sums(self, k):
        """Sums over tokens as [heads, 1, features]."""
        return self.g.reshape(self.g.reduce("sum", k, 1), [HEADS, 1, k.dims[2]])

    def dots(self, a, b):
        """Inner products along the last axis, kept with width 1."""
        g = self.g
        return g.reshape(g.reduce("sum", g.mul(a, b), 2), [HEADS, a.dims[1], 1])

    def normalised(self, q, k, v):
        return self.g.binary("div", self.read(q, self.memory(k, v)), self.dots(q, self.sums(k)))


def normalised(q, k, v):
    return (q @ (k.transpose(1, 2) @ v)) / (q * k.sum(1, keepdim=True)).sum(-1, keepdim=True)


def flowformer():
    """Flowformer: incoming and outgoing flows conserved; competition among sources, allocation to sinks."""
    l = Layer("flowformer", 1)
    q, k = sigmoid(l.q), sigmoid(l.k)
    incoming = (q * k.sum(1, keepdim=True)).sum(-1, keepdim=True)
    outgoing = (k * q.sum(1, keepdim=True)).sum(-1, keepdim=True)
    conserved_in = (q * (k / outgoing).sum(1, keepdim=True)).sum(-1, keepdim=True)
    conserved_out = (k * (q / incoming).sum(1, keepdim=True)).sum(-1, keepdim=True)
    want = sigmoid(conserved_in) * ((q / incoming) @ (k.transpose(1, 2) @ (torch.softmax(conserved_out, 1) * l.v)))
    g = l.g
    q, k = g.unary("sigmoid", l.gq), g.unary("sigmoid", l.gk)
    q_in, k_out = g.binary("div", q, l.dots(q, l.sums(k))), g.binary("div", k, l.dots(k, l.sums(q)))
    conserved_in, conserved_out = l.dots(q, l.sums(k_out)), l.dots(k, l.sums(q_in))
    share = g.reshape(g.softmax(g.reshape(conserved_out, [HEADS, TOKENS])), [HEADS, TOKENS, 1])
    l.save(want, g.mul(l.read(q_in, l.memory(k, g.mul(l.gv, share))), g.unary("sigmoid", conserved_in)))


def performer():
    """Performer: positive random features e^(w x - |x|^2 / 2)."""
    l = Layer("performer", 2)
    w = draw(20, DIM)
    phi = lambda y: torch.exp((y * DIM**-0.25) @ w.T - (y * y).sum(-1, keepdim=True) * DIM**-0.5 / 2)
    g = l.g
    f = lambda y: g.unary(
        "exp", g.binary("sub", g.linear(g.scale(y, DIM**-0.25), w), g.scale(l.dots(y, y), DIM**-0.5 / 2))
    )
    l.save(normalised(phi(l.q), phi(l.k), l.v), l.normalised(f(l.gq), f(l.gk), l.gv))


def linformer():
    """Linformer: keys and values projected along the tokens to 6."""
    l = Layer("linformer", 3)
    e, f = draw(6, TOKENS, scale=0.3), draw(6, TOKENS, scale=0.3)
    want = torch.softmax(l.q @ (e @ l.k).transpose(1, 2) * DIM**-0.5, -1) @ (f @ l.v)
    g = l.g
    k, v = g.bmm(e, l.gk, [HEADS, 6, DIM]), g.bmm(f, l.gv, [HEADS, 6, DIM])
    l.save(want, l.read(g.softmax(g.bmm(l.gq, k, [HEADS, TOKENS, 6], transpose_b=True, scale=DIM**-0.5)), v))


def fnet():
    """FNet: the real part of the Fourier transform over channels and tokens, by matrices of cosines and sines."""
    l = Layer("fnet", 4)
    want = torch.fft.fft(torch.fft.fft(l.x, dim=1), dim=0).real
    wave = lambda n: 2 * torch.pi * torch.outer(torch.arange(n), torch.arange(n)).double() / n
    ct, st, cw, sw = torch.cos(wave(TOKENS)), torch.sin(wave(TOKENS)), torch.cos(wave(WIDTH)), torch.sin(wave(WIDTH))
    g = l.g = Graph("fnet")
    i = g.input("x", [TOKENS, WIDTH])
    l.finish(
        want, g.binary("sub", g.bmm(ct, g.linear(i, cw), [TOKENS, WIDTH]), g.bmm(st, g.linear(i, sw), [TOKENS, WIDTH]))
    )


def inline():
    """InLine attention: an injective normalisation by subtraction, q . k_j - mean + 1 / n."""
    l = Layer("inline", 5)
    scores = torch.exp(l.q) @ torch.exp(l.k).transpose(1, 2) / 8
    want = (scores - scores.mean(-1, keepdim=True) + 1 / TOKENS) @ l.v
    g = l.g
    q, k = g.scale(g.unary("exp", l.gq), 1 / 8), g.unary("exp", l.gk)
    mean = g.scale(g.mul(l.sums(l.gv), l.dots(q, l.sums(k)), [HEADS, TOKENS, DIM]), -1 / TOKENS)
    l.save(want, g.add(g.add(l.read(q, l.memory(k, l.gv)), mean), g.scale(l.sums(l.gv), 1 / TOKENS)))


def agent():
    """Agent attention: agents, means of 4 queries each, gather from all tokens and are read by all; a bias each way."""
    l = Layer("agent", 6)
    agents = TOKENS // 4
    one, two = draw(HEADS, agents, TOKENS, scale=0.5), draw(HEADS, TOKENS, agents, scale=0.5)
    a = l.q.view(HEADS, agents, 4, DIM).mean(2)
    gathered = torch.softmax(a @ l.k.transpose(1, 2) * DIM**-0.5 + one, -1) @ l.v
    want = torch.softmax(l.q @ a.transpose(1, 2) * DIM**-0.5 + two, -1) @ gathered
    g = l.g
    a = g.reduce("mean", g.reshape(l.gq, [HEADS, agents, 4, DIM]), 2)
    gathered = l.read(
        g.softmax(g.add(g.bmm(a, l.gk, [HEADS, agents, TOKENS], transpose_b=True, scale=DIM**-0.5), one)), l.gv
    )
    l.save(
        want,
        l.read(
            g.softmax(g.add(g.bmm(l.gq, a, [HEADS, TOKENS, agents], transpose_b=True, scale=DIM**-0.5), two)), gathered
        ),
    )


def l2vit():
    """L2ViT: ReLU linear attention over the whole picture after softmax attention within windows of 8 tokens."""
    l = Layer("l2vit", 7)
    i = torch.arange(TOKENS)
    token_first = lambda y: y.transpose(0, 1)
    local = token_first(
        softmax_attention(
            token_first(l.q), token_first(l.k), token_first(l.v), i[:, None] // 8 == i[None] // 8, DIM**-0.5
        )
    )
    q, k = torch.relu(l.q) + 0.01, torch.relu(l.k) + 0.01
    want = normalised(q, k, local)
    g = l.g
    small, back = torch.full((1,), 0.01).double(), lambda y: g.transpose(y, [1, 0, 2])
    bounds = torch.arange(0, TOKENS + 1, 8, dtype=torch.int32)
    local = back(
        g.op(
            "attention",
            [back(l.gq), back(l.gk), back(l.gv), None, None, None, None, bounds],
            [TOKENS, HEADS, DIM],
            scale=DIM**-0.5,
            causal=False,
        )
    )
    f = lambda y: g.add(g.unary("relu", y), small)
    l.save(want, l.normalised(f(l.gq), f(l.gk), local))


def care():
    """CARE: channels in two unequal parts, linear attention for one and a depthwise convolution over tokens for the other, then both interact twice."""
    l = Layer("care", 8)
    part = 5
    taps = draw(part, 3, scale=0.5)
    one, two = draw(INNER + part, INNER + part, scale=0.3), draw(WIDTH, INNER + part, scale=0.3)
    attention = normalised(elu1(l.q), elu1(l.k), l.v).transpose(0, 1).reshape(TOKENS, INNER)
    rest = l.x[:, :part]
    padded = torch.cat([rest.new_zeros(1, part), rest, rest.new_zeros(1, part)])
    local = sum(padded[j : j + TOKENS] * taps[:, j] for j in range(3))
    mixed = torch.cat([attention, local], 1)
    want = rms(mixed + silu(mixed @ one.T)) @ two.T
    g = l.g
    a = g.reshape(g.transpose(l.normalised(g.elu1(l.gq), g.elu1(l.gk), l.gv), [1, 0, 2]), [TOKENS, INNER])
    r = g.slice(l.i, 1, 0, part)
    edge = torch.stack([taps[:, 2], torch.zeros(part).double()], 1)  # the tap on the next token, read backwards
    mixed = g.concat([a, g.add(g.conv(r, taps[:, :2].contiguous()), g.conv(r, edge, reverse=True))], 1)
    l.finish(want, g.linear(g.rms(g.add(mixed, g.unary("silu", g.linear(mixed, one)))), two))


def linfusion():
    """LinFusion: a non-causal Mamba-2 with normalised linear attention; feature maps by a small network."""
    l = Layer("linfusion", 9)
    m = draw(DIM, DIM, scale=0.5)
    f = lambda y: elu1(y + silu(y) @ m.T)
    g = l.g
    h = lambda y: g.elu1(g.add(y, g.linear(g.unary("silu", y), m)))
    l.save(normalised(f(l.q), f(l.k), l.v), l.normalised(h(l.gq), h(l.gk), l.gv))


def linvideo():
    """LinVideo: softmax feature maps [softmax(u), softmax(-u)], all frames at once."""
    l = Layer("linvideo", 10)
    m = draw(DIM, DIM, scale=0.5)
    f = lambda y: torch.cat([torch.softmax(y @ m.T, -1), torch.softmax(-(y @ m.T), -1)], -1)
    g = l.g

    def h(y):
        u = g.linear(y, m)
        return g.concat([g.softmax(u), g.softmax(g.unary("neg", u))], 2)

    l.save(normalised(f(l.q), f(l.k), l.v), l.normalised(h(l.gq), h(l.gk), l.gv))


def lookup_vit():
    """LookupViT: 5 compressed tokens look up the 24 others, mix among themselves, and write back through the transposed lookup."""
    l = Layer("lookup_vit", 11)
    few = draw(5, INNER)
    c = few.view(5, HEADS, DIM).transpose(0, 1)
    lookup = torch.softmax(c @ l.k.transpose(1, 2) * DIM**-0.5, -1)
    found = c + lookup @ l.v
    mixed = found + torch.softmax(found @ found.transpose(1, 2) * DIM**-0.5, -1) @ found
    want = l.v + torch.softmax((c @ l.k.transpose(1, 2) * DIM**-0.5).transpose(1, 2), -1) @ mixed
    g = l.g
    c = c.contiguous()
    scores = g.bmm(c, l.gk, [HEADS, 5, TOKENS], transpose_b=True, scale=DIM**-0.5)
    found = g.add(l.read(g.softmax(scores), l.gv), c)
    mixed = g.add(
        found, l.read(g.softmax(g.bmm(found, found, [HEADS, 5, 5], transpose_b=True, scale=DIM**-0.5)), found)
    )
    l.save(want, g.add(l.gv, l.read(g.softmax(g.transpose(scores, [0, 2, 1])), mixed)))


def factorization():
    """Factorization ViT: every head attends to means over windows of its own dilation, so that long range costs as much as a window."""
    l = Layer("factorization", 12)
    pools = []
    for step in (2, 4):
        p = torch.zeros(6, TOKENS).double()
        for r in range(6):
            p[r, [(r * 4 + j * step) % TOKENS for j in range(4)]] = 0.25
        pools.append(p)
    pool = torch.stack(pools)
    want = torch.softmax(l.q @ (pool @ l.k).transpose(1, 2) * DIM**-0.5, -1) @ (pool @ l.v)
    g = l.g
    k, v = g.bmm(pool, l.gk, [HEADS, 6, DIM]), g.bmm(pool, l.gv, [HEADS, 6, DIM])
    l.save(want, l.read(g.softmax(g.bmm(l.gq, k, [HEADS, TOKENS, 6], transpose_b=True, scale=DIM**-0.5)), v))


def polynomial():
    """Kernel attention with the kernel (1 + q . k)^2, whose features are 1, sqrt(2) x and all products of two."""
    l = Layer("polynomial", 13)
    kernel = (1 + l.q @ l.k.transpose(1, 2) / 8) ** 2
    want = (kernel / kernel.sum(-1, keepdim=True)) @ l.v
    g = l.g

    def f(y):
        y = g.scale(y, 8**-0.5)
        column, row = g.reshape(y, [HEADS, TOKENS, DIM, 1]), g.reshape(y, [HEADS, TOKENS, 1, DIM])
        square = g.reshape(g.mul(column, row, [HEADS, TOKENS, DIM, DIM]), [HEADS, TOKENS, DIM * DIM])
        ones = g.unary("exp", g.scale(g.slice(y, 2, 0, 1), 0))
        return g.concat([ones, g.scale(y, 2**0.5), square], 2)

    l.save(want, l.normalised(f(l.gq), f(l.gk), l.gv))


def wersa():
    """WERSA: queries and keys through a Haar transform over tokens, scales weighted by learned factors times a gate of the content, random features, linear attention."""
    tokens, levels = 16, 3
    l = Layer("wersa", 14, tokens)
    scale, gate, w = draw(levels + 1), draw(levels + 1, WIDTH, scale=0.5), draw(18, DIM)
    haar, level, rows = torch.zeros(tokens, tokens).double(), [], []
    size = tokens
    for n in range(levels):
        half, span = size // 2, tokens // size
        for r in range(half):
            row = torch.zeros(tokens).double()
            row[r * 2 * span : r * 2 * span + span], row[r * 2 * span + span : (r + 1) * 2 * span] = (
                (2 * span) ** -0.5,
                -((2 * span) ** -0.5),
            )
            rows.append(row)
            level.append(n)
        size = half
    span = tokens // size
    for r in range(size):
        row = torch.zeros(tokens).double()
        row[r * span : (r + 1) * span] = span**-0.5
        rows.append(row)
        level.append(levels)
    haar, pick = (
        torch.stack(rows).float().double(),
        torch.nn.functional.one_hot(torch.tensor(level), levels + 1).double(),
    )
    filters = scale * sigmoid(l.x.mean(0) @ gate.T)
    through = lambda y: haar.T @ ((pick @ filters)[:, None] * (haar @ y))
    phi = lambda y: torch.exp(y @ w.T * 0.3 - (y * y).sum(-1, keepdim=True) * 0.045)
    want = normalised(phi(through(l.q)), phi(through(l.k)), l.v)
    g = l.g
    mean = g.reshape(g.reduce("mean", l.i, 0), [1, WIDTH])
    filters = g.mul(g.unary("sigmoid", g.linear(mean, gate)), scale)
    column = g.bmm(pick, filters, [tokens, 1], transpose_b=True)
    through = lambda y: g.bmm(
        haar, g.mul(g.bmm(haar, y, [HEADS, tokens, DIM]), column), [HEADS, tokens, DIM], transpose_a=True
    )

    def f(y):
        u = through(y)
        return g.unary("exp", g.binary("sub", g.scale(g.linear(u, w), 0.3), g.scale(l.dots(u, u), 0.045)))

    l.save(want, l.normalised(f(l.gq), f(l.gk), l.gv))


if __name__ == "__main__":
    for make in (
        flowformer,
        performer,
        linformer,
        fnet,
        inline,
        agent,
        l2vit,
        care,
        linfusion,
        linvideo,
        lookup_vit,
        factorization,
        polynomial,
        wersa,
    ):
        make()
