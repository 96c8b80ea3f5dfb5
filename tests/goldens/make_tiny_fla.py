#!/usr/bin/env python3
"""Writes the tiny random checkpoints tests/goldens/tiny_fla_*: model classes of flash-linear-attention, computed by its own kernels.

The kernels are Triton's; its interpreter runs them without a GPU:

  python3 -m pip install torch==2.15.0 transformers==5.23.0 safetensors==0.8.0 einops==0.8.2
  python3 -m pip install --no-deps --target FLA flash-linear-attention==0.6.0 fla-core==0.6.0 triton==3.9.0
  OMP_NUM_THREADS=1 python3 tests/goldens/make_tiny_fla.py FLA [name ...]

Files are those of make_tiny_models.py, from a float32 run, as the kernels know nothing wider. The recurrent kernels make them, as the
chunked ones do not run in the interpreter; they serve up to 64 tokens, so the greedy continuation goes on from the first 20.
Two parts do not run there: attention layers ask for the package flash-attn, which needs a GPU, and LightNet's gate for more than the
interpreter knows. Torch's scaled_dot_product_attention and logcumsumexp stand in for them. MoM sorts tokens by memory and counts on
a stable sort, which torch's is on a GPU but not on a CPU unless it is asked to be. Mamba-3's kernels are in the package mamba-ssm, which
is built for GPUs alone: its recurrence is written out below in float64, as the authors' own reference step has it.
"""

import os
import sys

os.environ["TRITON_INTERPRET"] = "1"
if len(sys.argv) < 2 or not os.path.isdir(os.path.join(sys.argv[1], "fla")):
    sys.exit(__doc__)
sys.path.insert(0, sys.argv[1])

import torch  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from transformers import set_seed  # noqa: E402
from triton.runtime.autotuner import Autotuner  # noqa: E402

Autotuner._bench = lambda self, *args, config, **meta: [1.0, 1.0, 1.0]  # no timings: every configuration gives the same numbers

import fla.layers.attn  # noqa: E402
import fla.layers.mamba3  # noqa: E402
import fla.models  # noqa: E402
import fla.ops.lightnet.fused_recurrent  # noqa: E402

from make_tiny_models import CONTINUATION, SEED, VOCAB, greedy, logits_of, redraw_linear  # noqa: E402

TOKENS, PROMPT = 60, 20
COMMON = {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 44, "max_position_embeddings": 256,
          "fuse_cross_entropy": False, "bos_token_id": 1, "eos_token_id": 2}
SOFTMAX = {"layers": [1], "num_heads": 4, "num_kv_heads": 2, "qkv_bias": True, "window_size": 8, "rope_theta": 5000.0}

# name -> class, options
MODELS = {
    "retnet": ("RetNet", {"num_heads": 2, "expand_v": 2.0}),
    "retnet_wide": ("RetNet", {"num_heads": 4, "num_kv_heads": 2, "expand_k": 0.5, "feature_map": "relu", "fuse_norm": False, "elementwise_affine": False}),
    "gla": ("GLA", {"num_heads": 2, "num_kv_heads": 1, "expand_k": 0.5, "use_short_conv": True, "tie_word_embeddings": True}),
    "gla_clamped": ("GLA", {"num_heads": 4, "num_kv_heads": 2, "expand_k": 1.0, "clamp_min": -0.04, "use_output_gate": False, "attn": SOFTMAX, "num_hidden_layers": 3}),
    "linear_attn": ("LinearAttention", {"num_heads": 2, "feature_map": "elementwise_product", "num_kv_heads": 1}),
    "linear_attn_hedgehog": ("LinearAttention", {"num_heads": 4, "feature_map": "hedgehog", "norm_feature_map": True}),
    "linear_attn_dpfp": ("LinearAttention", {"num_heads": 4, "expand_k": 0.5, "feature_map": "dpfp", "norm_q": True, "norm_k": True}),
    "linear_attn_elu": ("LinearAttention", {"num_heads": 2, "feature_map": "elu", "norm_feature_map": True, "expand_v": 1.5}),
    "linear_attn_t2r": ("LinearAttention", {"num_heads": 2, "feature_map": "t2r"}),
    "hgrn": ("HGRN", {"expand_ratio": 2}),
    "hgrn_conv": ("HGRN", {"use_short_conv": True, "num_hidden_layers": 3, "use_lower_bound": False}),
    "hgrn2": ("HGRN2", {"expand_ratio": 8, "num_hidden_layers": 3}),
    "hgrn2_heads": ("HGRN2", {"expand_ratio": None, "num_heads": 2, "use_short_conv": True}),
    "lightnet": ("LightNet", {"expand_ratio": 8, "gate_low_rank_dim": 6}),
    "lightnet_conv": ("LightNet", {"expand_ratio": None, "num_heads": 2, "gate_low_rank_dim": 12, "use_short_conv": True}),
    "delta_net": ("DeltaNet", {"num_heads": 2}),
    "delta_net_sum": ("DeltaNet", {"num_heads": 4, "expand_v": 1.5, "qk_activation": "elu", "qk_norm": "sum", "use_gate": True, "allow_neg_eigval": True, "conv_size": 3}),
    "gated_deltanet": ("GatedDeltaNet", {"num_heads": 2, "head_dim": 12, "expand_v": 1.5, "num_v_heads": 4}),
    "gated_deltanet_plain": ("GatedDeltaNet", {"num_heads": 3, "head_dim": 8, "expand_v": 1, "use_gate": False, "use_short_conv": False, "allow_neg_eigval": True, "attn": [SOFTMAX]}),
    "gated_deltaproduct": ("GatedDeltaProduct", {"num_heads": 2, "head_dim": 12, "expand_v": 1.5, "use_forget_gate": True, "allow_neg_eigval": True, "num_householder": 3}),
    "gated_deltaproduct_plain": ("GatedDeltaProduct", {"num_heads": 3, "head_dim": 8, "expand_v": 1, "num_householder": 2, "use_output_gate": False}),
    "kda": ("KDA", {"num_heads": 2, "head_dim": 12, "expand_v": 1.5, "num_v_heads": 4, "allow_neg_eigval": True}),
    "kda_bounded": ("KDA", {"num_heads": 3, "head_dim": 8, "use_short_conv": False, "safe_gate": True, "lower_bound": -5.0, "attn": SOFTMAX}),
    "samba": ("Samba", {"intermediate_size": 64, "state_size": 6, "num_hidden_layers": 3, "attn": SOFTMAX, "hidden_ratio": 2}),
    "mamba3": ("Mamba3", {"head_dim": 16, "state_size": 12}),
    "mamba3_groups": ("Mamba3", {"head_dim": 8, "state_size": 10, "n_groups": 4, "rope_fraction": 1.0, "use_bias": True, "is_outproj_norm": True}),
    "mom": ("Mom", {"num_heads": 2, "head_dim": 12, "expand_v": 1.5, "num_memories": 4, "topk": 2}),
    "mom_shared": ("Mom", {"num_heads": 2, "head_dim": 8, "expand_v": 1, "num_memories": 3, "topk": 1, "single_kv_proj": True, "use_output_gate": False, "shared_mem": False}),
}


def attention(q, k, v, causal, window_size):
    n = torch.arange(q.shape[1])
    seen = n[:, None] >= n[None, :]
    if window_size[0] >= 0:
        seen = seen & (n[:, None] - n[None, :] <= window_size[0])
    turned = (x.transpose(1, 2) for x in (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(*turned, attn_mask=seen, enable_gqa=True).transpose(1, 2)


def additive_gate(x, initial_state=None, cu_seqlens=None):
    """Shares e^x / (sum so far) and the logarithms of what is left of the earlier ones."""
    z = torch.logcumsumexp(x.double(), 1)
    before = torch.cat([z[:, :1], z[:, :-1]], 1)
    return torch.exp(x - z).float(), (before - z).float(), z[:, -1:].float()


def mamba3(Q, K, V, ADT, DT, Trap, Q_bias, K_bias, Angles, D, Z, **options):
    """Q, K [1, T, groups, N]; V, Z [1, T, H, P]; ADT, DT, Trap [1, H, T]; biases [H, N]; Angles [1, T, H, n]; D [H]. y [1, T, H, P]."""
    q, k, v, angles = (x[0].double() for x in (Q, K, V, Angles))
    log, dt, trap = (x[0].double().T for x in (ADT, DT, Trap))
    heads = v.shape[1]
    q, k = (x.repeat_interleave(heads // x.shape[1], 1) + bias.double() for x, bias in ((q, Q_bias), (k, K_bias)))
    theta = (torch.tanh(angles) * torch.pi * dt[..., None]).cumsum(0)
    n = theta.shape[-1]

    def turn(x):
        pairs = torch.view_as_complex(x[..., :2 * n].unflatten(-1, (n, 2)).contiguous())
        return torch.cat([torch.view_as_real(pairs * torch.polar(torch.ones_like(theta), theta)).flatten(-2), x[..., 2 * n:]], -1)

    q, k = turn(q), turn(k)
    state, y, share = torch.zeros(heads, k.shape[-1], v.shape[-1]).double(), torch.zeros_like(v), torch.sigmoid(trap)
    for t in range(len(v)):
        decay = torch.exp(log[t])
        state = decay[:, None, None] * state + (share[t] * dt[t])[:, None, None] * k[t][:, :, None] * v[t][:, None, :]
        if t:
            state = state + ((1 - share[t]) * dt[t] * decay)[:, None, None] * k[t - 1][:, :, None] * v[t - 1][:, None, :]
        y[t] = torch.einsum("hn,hnp->hp", q[t], state)
    y = y + D.double()[:, None] * v
    if Z is not None:
        y = y * torch.nn.functional.silu(Z[0].double())
    return y[None].float()


fla.layers.mamba3.mamba3_siso_combined = mamba3
fla.layers.mamba3.Mamba3.forward = lambda self, hidden_states, **options: (*self.cuda_kernels_forward(hidden_states), None)
argsort = torch.Tensor.argsort
torch.Tensor.argsort = lambda self, *args, **options: argsort(self, *args, **{"stable": True, **options})
fla.layers.attn.flash_attn_func = attention
sys.modules["fla.ops.lightnet.fused_recurrent"].fused_additive_gate = additive_gate


def make(name, folder):
    generator = torch.Generator().manual_seed(SEED)
    set_seed(SEED)
    kind, options = MODELS[name]
    config = getattr(fla.models, kind + "Config")(**{**COMMON, **options})
    model = getattr(fla.models, kind + "ForCausalLM")(config).float().eval()
    redraw_linear(model, generator)
    model.save_pretrained(folder)
    generation = os.path.join(folder, "generation_config.json")
    if os.path.exists(generation):
        os.remove(generation)
    ids = torch.randint(0, VOCAB, (TOKENS,), generator=generator)
    logits = logits_of(model, ids)
    continuation, margin = greedy(model, ids[:PROMPT], CONTINUATION)
    save_file({"ids": ids.to(torch.int32)}, os.path.join(folder, "ids.safetensors"))
    save_file({"logits": logits.float().contiguous(), "greedy": continuation.to(torch.int32), "greedy_from": torch.tensor([PROMPT], dtype=torch.int32)}, os.path.join(folder, "logits.safetensors"))
    print(f"{name}: logits {logits.min():.2f} .. {logits.max():.2f}, smallest greedy margin {margin:.3f}, "
          f"distinct greedy ids {len(set(continuation.tolist()))}", flush=True)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    for name in sys.argv[2:] or MODELS:
        make(name, os.path.join(here, "tiny_fla_" + name))


if __name__ == "__main__":
    main()
