#!/usr/bin/env python3
"""Holds the models of checkpoint_code.py against the code that lies with the checkpoints.

  OMP_NUM_THREADS=1 python3 tests/goldens/check_checkpoint_code.py phi4flash=MODELING_PHI4FLASH.PY ...

The file is the checkpoint's own modeling code; packages are those of make_tiny_models.py and einops. It is written for
a GPU's kernels, so its classes are taken out of it one by one, and plain torch stands in for what the kernels compute;
what they round to bfloat16 is left as it is. Both run with the same random weights of several shapes. Prints one line a
shape; ends with 1 when an output is further off than 1e-5 of its largest value.
"""

import ast
import copy
import math
import sys
import typing
import warnings

import checkpoint_code
import torch
from einops import rearrange, repeat
from torch import nn
from torch.nn import functional as F

TOLERANCE = 1e-5


class WithoutChecks(ast.NodeTransformer):
    """Drops assertions, which ask for a GPU, and rounding to bfloat16."""

    def visit_Assert(self, node):
        return ast.Pass()

    def visit_Call(self, node):
        self.generic_visit(node)
        is_rounding = isinstance(node.func, ast.Attribute) and node.func.attr == "to" and len(node.args) == 1
        return node.func.value if is_rounding and ast.unparse(node.args[0]) == "torch.bfloat16" else node


def taken_from(path, wanted, names):
    """Classes and functions of the file, which see `names`."""
    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    tree.body = [n for n in tree.body if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.name in wanted]
    if missing := wanted - {n.name for n in tree.body}:
        sys.exit(f"{path} has no {', '.join(sorted(missing))}")
    for node in ast.walk(tree):  # types of parameters name what is not there
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
    exec(compile(ast.fix_missing_locations(WithoutChecks().visit(tree)), path, "exec"), names)
    return names


class Silent:
    def warning_once(self, *_):
        pass


def flash_attention(q, k, v, dropout_p=0.0, softmax_scale=None, causal=None, window_size=(-1, -1)):
    n = torch.arange(q.shape[1])
    back = n[:, None] - n[None, :]
    seen = (back >= 0) & ((back <= window_size[0]) | (window_size[0] < 0))
    turned = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(*turned, attn_mask=seen, scale=softmax_scale, enable_gqa=True).transpose(1, 2)


def selective_scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state):
    """u, delta, z [1, inner, T]; A [inner, states]; B, C [1, states, T]."""
    dt, state, y = F.softplus(delta + delta_bias[:, None]), 0, []
    for t in range(u.shape[-1]):
        state = torch.exp(dt[..., t, None] * A) * state + (dt[..., t] * u[..., t])[..., None] * B[:, None, :, t]
        y.append((state * C[:, None, :, t]).sum(-1) + D * u[..., t])
    y = torch.stack(y, -1)
    return y if z is None else y * F.silu(z)


COMMON = {"torch": torch, "nn": nn, "F": F, "math": math, "copy": copy, "warnings": warnings, "rearrange": rearrange}
PHI4FLASH = {
    **COMMON,
    "repeat": repeat,
    "logger": Silent(),
    "ACT2FN": {"silu": F.silu},
    "PHI_NORM_CLASS": nn.LayerNorm,
    "is_flash_attn_greater_or_equal_2_10": lambda: True,
    "flash_attn_func": flash_attention,
    "flash_attn_varlen_func": flash_attention,
    "swiglu": lambda gate, y: F.silu(gate) * y,
    "selective_scan_fn": selective_scan,
    "causal_conv1d_fn": None,
    **{name: getattr(typing, name) for name in ("Optional", "Tuple", "List")},
}
PHI4FLASH_CLASSES = {
    *("SambaYRMSNorm", "SambaYMLP", "SambaYAttention", "SambaYFlashAttention2", "Phi3Mamba", "SambaYDecoderLayer"),
    *("FlashDiffCustomAttention", "lambda_init_fn", "split_heads"),
}
PHI4FLASH_SHAPES = [
    {"num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 24, "sliding_window": 5, "mamba_d_state": 6},
    {
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "hidden_size": 64,
        "sliding_window": 3,
        "num_hidden_layers": 12,
    },
    {"num_attention_heads": 6, "num_key_value_heads": 2, "hidden_size": 48, "num_hidden_layers": 4, "mamba_expand": 1},
    {"num_attention_heads": 4, "num_key_value_heads": 4, "hidden_size": 32, "sliding_window": 64, "mamba_d_conv": 2},
]


def phi4flash(path):
    """Pairs of outputs: the code's and ours."""
    original = taken_from(path, PHI4FLASH_CLASSES, PHI4FLASH)
    for shape in PHI4FLASH_SHAPES:
        config = checkpoint_code.Phi4FlashConfig(**shape)
        ours = redrawn(checkpoint_code.Phi4FlashForCausalLM(config))
        theirs = copy.deepcopy(config)
        theirs.attention_dropout = theirs.resid_pdrop = 0.0
        layers = range(config.num_hidden_layers)
        half = config.num_hidden_layers // 2
        theirs.sliding_window = [config.sliding_window if i < half and i % 2 else None for i in layers]
        ids = torch.randint(0, config.vocab_size, (40,))
        x, memory, kept = ours.model.embed_tokens(ids)[None], None, None
        for i in layers:
            layer = original["SambaYDecoderLayer"](theirs, i).eval()
            layer.load_state_dict(ours.model.layers[i].state_dict())
            layer.attn.use_fast_path = False
            x, memory, kept = layer(x, ssm_output=memory, yoco_key_values=kept)[:3]
        yield ours.lm_head(ours.model.final_layernorm(x))[0], ours(ids[None]).logits[0]


def redrawn(model):
    for p in model.parameters():
        p.add_(0.1 * torch.randn_like(p))
    return model.eval()


CHECKS = {"phi4flash": phi4flash}


def main():
    torch.manual_seed(1)
    worst = 0.0
    if len(sys.argv) < 2 or any(a.partition("=")[0] not in CHECKS for a in sys.argv[1:]):
        sys.exit(__doc__)
    with torch.no_grad():
        for argument in sys.argv[1:]:
            name, _, path = argument.partition("=")
            for theirs, ours in CHECKS[name](path):
                off = float((theirs - ours).abs().max() / theirs.abs().max())
                print(f"{name}: off by {off:.1e} of the largest")
                worst = max(worst, off)
    sys.exit(0 if worst <= TOLERANCE else 1)


if __name__ == "__main__":
    main()
