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
        case = {"x": x.view(tokens, gates, 1, dim), "r": cell.weight_hh_l0.view(gates, 1, dim, dim), "r_bias": cell.bias_hh_l0.view(gates, 1, dim), "h": h, "y": y}
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


if __name__ == "__main__":
    os.makedirs(FOLDER, exist_ok=True)
    cells()
