"""The papers' formulas, token by token, in float64."""

import math

import torch
import torch.nn.functional as F


def zeros(*shape):
    return torch.zeros(*shape, dtype=torch.float64)


def rms(x, weight=None, eps=1e-6):
    y = x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps)
    return y if weight is None else y * weight


def layer_norm(x, weight=None, bias=None, eps=1e-5):
    y = (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, unbiased=False, keepdim=True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def conv(x, weight, bias=None, dilation=1):
    """Depthwise over tokens, zeros before the first."""
    taps = weight.shape[1]
    y = zeros(*x.shape) + (0 if bias is None else bias)
    for t in range(x.shape[0]):
        for j in range(taps):
            at = t - (taps - 1 - j) * dilation
            if at >= 0:
                y[t] += weight[:, j] * x[at]
    return y


def selective_scan(x, dt, a, b, c, d):
    h, y = zeros(*a.shape), zeros(*x.shape)
    for t in range(x.shape[0]):
        h = torch.exp(dt[t][:, None] * a) * h + dt[t][:, None] * b[t][None, :] * x[t][:, None]
        y[t] = (h * c[t][None, :]).sum(-1) + d * x[t]
    return y


def softmax_attention(q, k, v, allowed, scale, bias=None):
    """q [T, H, D], k and v [S, H, ..]; allowed [T, S]. Rows that see nothing give 0."""
    s = torch.einsum("thd,shd->hts", q, k) * scale
    if bias is not None:
        s = s + bias
    s = s.masked_fill(~allowed[None], -math.inf)
    p = torch.nan_to_num(torch.softmax(s, -1))
    return torch.einsum("hts,she->the", p, v)


def causal(tokens, window=0):
    i = torch.arange(tokens)
    m = i[None, :] <= i[:, None]
    return m & (i[:, None] - i[None, :] < window) if window else m


def linear_attention(q, k, v, decay=None, normalise=False, eps=0.0, causal_only=True):
    """sum over j (<= i) of q_i . k_j v_j, with decay [T, H, K] (logs) between; over sum of q_i . k_j when normalised."""
    tokens, heads = q.shape[:2]
    y = zeros(tokens, heads, v.shape[2])
    for i in range(tokens):
        for h in range(heads):
            num, den = zeros(v.shape[2]), 0.0
            for j in range(i + 1 if causal_only else tokens):
                f = torch.exp(decay[j + 1 : i + 1, h].sum(0)) if decay is not None else 1.0
                w = (q[i, h] * f * k[j, h]).sum()
                num, den = num + w * v[j, h], den + w
            y[i, h] = num / (den + eps) if normalise else num
    return y


def rotate(x, positions, inv_freq, scale=1.0):
    """Rotary, half-split pairs, of x [T, H, D]."""
    angle = positions[:, None].double() * inv_freq[None]
    cos, sin = torch.cos(angle)[:, None] * scale, torch.sin(angle)[:, None] * scale
    n = inv_freq.shape[0]
    a, b, rest = x[..., :n], x[..., n : 2 * n], x[..., 2 * n :]
    return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], -1)


silu, softplus, sigmoid = F.silu, F.softplus, torch.sigmoid


def elu1(x):
    return F.elu(x) + 1
