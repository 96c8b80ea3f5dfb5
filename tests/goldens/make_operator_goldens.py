"""Inputs and outputs of recurrent operators and routers, computed in float64 by their authors' code; the sLSTM by the paper's formula.

Made with Python 3.11, torch 2.15.0, transformers 5.23.0, safetensors 0.8.0, one thread:
    OMP_NUM_THREADS=1 python make_operator_goldens.py
Inputs are drawn as float32, so that both sides start from the same numbers. One file an operator; names are <case>.<operand>.
"""

import os

import torch
from safetensors.torch import save_file

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "operators")


def draw(*shape, scale=1.0):
    return (torch.randn(*shape) * scale).float().double()


def save(name, tensors):
    kept = {k: (v if v.dtype == torch.int32 else v.detach().float()).contiguous() for k, v in tensors.items()}
    save_file(kept, os.path.join(FOLDER, name + ".safetensors"))


def cells():
    """torch.nn.RNN, LSTM, GRU with one head; x is W_ih input + b_ih, which the operator takes ready."""
    torch.manual_seed(1)
    tokens, inputs, dim = 9, 7, 20
    out = {}
    for name, gates in (("rnn", 1), ("lstm", 4), ("gru", 3)):
        cell = getattr(torch.nn, name.upper())(inputs, dim).double()
        for p in cell.parameters():
            p.data = draw(*p.shape, scale=0.4)
        u, h, c = draw(tokens, inputs), draw(1, dim), draw(1, dim)
        y, last = cell(u, (h, c) if name == "lstm" else h)
        x = (u @ cell.weight_ih_l0.T + cell.bias_ih_l0).float().double()
        case = {
            "x": x.view(tokens, gates, 1, dim),
            "r": cell.weight_hh_l0.view(gates, 1, dim, dim),
            "r_bias": cell.bias_hh_l0.view(gates, 1, dim),
            "h": h,
            "y": y,
        }
        case["h_out"] = last[0] if name == "lstm" else last
        if name == "lstm":
            case |= {"c": c, "c_out": last[1]}
        out |= {f"{name}.{k}": v.clone() for k, v in case.items()}
    out |= {f"slstm.{k}": v for k, v in slstm(9, 3, 5).items()}
    save("cell_recurrence", out)


def slstm(tokens, heads, dim):
    """Equations 8 to 15 of "xLSTM" without its stabiliser, which changes nothing but the range; the forget gate is a sigmoid."""
    x, r, b = draw(tokens, 4, heads, dim), draw(4, heads, dim, dim, scale=0.4), draw(4, heads, dim)
    h = c = n = torch.zeros(heads, dim, dtype=torch.float64)
    ys = []
    for t in range(tokens):
        i, f, z, o = (x[t, g] + torch.einsum("hij,hj->hi", r[g], h) + b[g] for g in range(4))
        c = torch.sigmoid(f) * c + torch.exp(i) * torch.tanh(z)
        n = torch.sigmoid(f) * n + torch.exp(i)
        h = torch.sigmoid(o) * c / n
        ys.append(h.reshape(-1))
    return {"x": x, "r": r, "r_bias": b, "y": torch.stack(ys), "h_out": h}


def mamba():
    """transformers' Mamba: its convolution and its scan in the plain form, the step with a state in its step form."""
    from transformers.models.mamba import modeling_mamba as m

    torch.manual_seed(2)
    tokens, channels, n, taps = 11, 20, 16, 4
    x, weight, bias = draw(tokens, channels), draw(channels, taps), draw(channels)
    y = m.causal_conv1d_fn(x.T[None], weight, bias, activation="silu")[0].T
    save("causal_conv", {"silu.x": x, "silu.weight": weight, "silu.bias": bias, "silu.y": y})

    dt, a = draw(tokens, channels), -torch.exp(draw(channels, n)).float().double()
    b, c, d, dt_bias = draw(tokens, n), draw(tokens, n), draw(channels), draw(channels)
    y, state = m.mamba_selective_scan(
        x.T[None],
        dt.T[None],
        a,
        b.T[None],
        c.T[None],
        D=d,
        delta_bias=dt_bias,
        delta_softplus=True,
        return_last_state=True,
    )
    out = {"x": x, "dt": dt, "a": a, "b": b, "c": c, "d": d, "dt_bias": dt_bias, "y": y[0].T, "state": state[0].clone()}
    next_x, next_dt, next_b, next_c = draw(channels), draw(channels), draw(n), draw(n)
    y = m.mamba_selective_state_update(
        state, next_x[None], next_dt[None], a, next_b[None], next_c[None], d, dt_bias=dt_bias, dt_softplus=True
    )
    out |= {"next_x": next_x, "next_dt": next_dt, "next_b": next_b, "next_c": next_c, "next_y": y[0]}
    save("selective_scan", {"mamba." + k: v for k, v in out.items()})


def scans():
    """RWKV-4's wkv and RecurrentGemma's recurrence from transformers (both compute in float32), the LRU's formula with complex numbers."""
    from transformers.models.recurrent_gemma.modeling_recurrent_gemma import RecurrentGemmaRglru
    from transformers.models.rwkv.modeling_rwkv import rwkv_linear_attention_cpu

    torch.manual_seed(3)
    tokens, channels = 12, 19
    decay, bonus, k, v = draw(channels), draw(channels), draw(tokens, channels, scale=3), draw(tokens, channels)
    y, state = rwkv_linear_attention_cpu(decay, bonus, k[None], v[None], return_state=True)
    out = {
        "wkv.w": -torch.exp(decay),
        "wkv.u": bonus,
        "wkv.k": k,
        "wkv.v": v,
        "wkv.y": y[0],
        "wkv.state": torch.cat(state),
    }

    a, b, first = torch.sigmoid(draw(tokens, channels)).float().double(), draw(tokens, channels), draw(channels)
    y, _ = RecurrentGemmaRglru._rnn_scan(
        None, b[None], a[None], torch.zeros(1, tokens, 1, dtype=torch.bool), first[None], torch.float64
    )
    out |= {"rglru.a": a, "rglru.b": b, "rglru.h": first, "rglru.y": y[0]}

    log_a, b = torch.stack([-draw(channels).abs(), 3 * draw(channels)], -1), draw(tokens, channels, 2)
    h, ys = torch.zeros(channels, dtype=torch.complex128), []
    for t in range(tokens):
        h = torch.exp(torch.view_as_complex(log_a)) * h + torch.view_as_complex(b[t].contiguous())
        ys.append(torch.view_as_real(h))
    out |= {"lru.a": log_a, "lru.b": b, "lru.y": torch.stack(ys)}
    save("scan", out)


def routers():
    """The routers of four families; their matrix is the identity, so that the logits are drawn directly. Choices best first."""
    from types import SimpleNamespace

    from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3TopkRouter
    from transformers.models.gpt_oss.modeling_gpt_oss import GptOssTopKRouter
    from transformers.models.mixtral.modeling_mixtral import MixtralTopKRouter
    from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextTopKRouter

    torch.manual_seed(4)
    tokens, experts, k = 10, 16, 4
    config = SimpleNamespace(
        num_experts_per_tok=k,
        num_local_experts=experts,
        num_experts=experts,
        hidden_size=experts,
        norm_topk_prob=True,
        n_group=4,
        topk_group=2,
        routed_scaling_factor=2.5,
    )
    out = {}
    for name, kind in (
        ("mixtral", MixtralTopKRouter),
        ("qwen3_next", Qwen3NextTopKRouter),
        ("deepseek_v3", DeepseekV3TopkRouter),
        ("gpt_oss", GptOssTopKRouter),
    ):
        router = kind(config).double()
        router.weight.data = torch.eye(experts, dtype=torch.float64)
        if name == "gpt_oss":
            router.bias.data.zero_()
        if name == "deepseek_v3":
            router.e_score_correction_bias.data = draw(experts, scale=0.3)
            out["deepseek_v3.bias"] = router.e_score_correction_bias
        logits = draw(tokens, experts)
        _, weights, ids = router(logits)
        order = torch.argsort(
            torch.gather(
                logits if name != "deepseek_v3" else logits.sigmoid() + router.e_score_correction_bias, 1, ids
            ),
            dim=1,
            descending=True,
        )
        out |= {
            f"{name}.logits": logits,
            f"{name}.weights": torch.gather(weights, 1, order),
            f"{name}.ids": torch.gather(ids, 1, order).int(),
        }
    save("route", out)


if __name__ == "__main__":
    os.makedirs(FOLDER, exist_ok=True)
    cells()
    mamba()
    scans()
    routers()
