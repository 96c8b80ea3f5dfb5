#!/usr/bin/env python3
"""Writes the tiny random RWKV files tests/goldens/tiny_rwkv*: versions 4, 5, 5.2, 6 and 7 in the authors' tensor names.

The authors' own package (rwkv 0.8.32, torch 2.15.0, strategy "cpu fp32") computes logits from each, and so do the formulas of their
papers below, in float64. Both must agree; the float64 numbers are kept.

  model.safetensors    the weights, float32, as the authors name and shape them
  model-f32.gguf       6 and 7: the same weights, named and laid out as llama.cpp has them (gguf 0.19.0)
  ids.safetensors      ids int32 [tokens]
  logits.safetensors   logits float32 [tokens, vocab]; greedy int32 [32]: the greedy continuation, from the float64 run;
                       float32_difference float32 [1]: largest |package's logits - float64 logits|

Sizes sit at the edges: heads of 8, 12 and 16 channels, ranks that no tile divides, odd vocabularies, a time mix wider than the stream.

  OMP_NUM_THREADS=1 python3 tests/goldens/make_tiny_rwkv.py [name ...]
"""

import importlib.util
import math
import os
import sys
import tempfile
from importlib.metadata import version

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

PINNED = {"rwkv": "0.8.32", "torch": "2.15.0", "gguf": "0.19.0"}
SEED = 20261123
TOKENS = 80
CONTINUATION = 32
RESCALE_EVERY = 2  # of the GGUF of version 6

# version: 5.0 has no gate and one decay a head, 5.2 has both a gate and a decay a channel.
MODELS = {
    "tiny_rwkv4": dict(version=4.0, layers=3, hidden=24, width=40, ffn=56, vocab=67),
    "tiny_rwkv5": dict(version=5.0, layers=2, hidden=32, heads=4, ffn=60, vocab=61),
    "tiny_rwkv5_2": dict(version=5.2, layers=2, hidden=36, heads=3, ffn=44, vocab=71),
    "tiny_rwkv6": dict(version=6.0, layers=3, hidden=32, heads=2, ffn=52, vocab=67, ranks=dict(mix=5, w=6)),
    "tiny_rwkv7": dict(version=7.0, layers=3, hidden=32, heads=4, ffn=52, vocab=67, ranks=dict(w=5, a=6, v=3, g=7)),
}


def draw(s, generator):
    """Weights of a model: matrices wide enough that an error anywhere shows, decays spread over slow and fast."""
    c, width, v = s["hidden"], s.get("width", s["hidden"]), s["version"]
    heads = s.get("heads", 1)
    n = width // heads
    rand = lambda *shape: torch.randn(shape, generator=generator)
    matrix = lambda out, inner, gain=1.2: gain * rand(out, inner) / math.sqrt(inner)
    mix = lambda: torch.rand(1, 1, c, generator=generator)
    w = {"emb.weight": rand(s["vocab"], c)}

    def norm(name, size=c):
        w[name + ".weight"], w[name + ".bias"] = 1 + 0.2 * rand(size), 0.2 * rand(size)

    norm("blocks.0.ln0")
    for i in range(s["layers"]):
        b, a, f = f"blocks.{i}.", f"blocks.{i}.att.", f"blocks.{i}.ffn."
        norm(b + "ln1")
        norm(b + "ln2")
        for name in ("receptance", "key", "value"):
            w[a + name + ".weight"] = matrix(width, c)
        w[a + "output.weight"] = matrix(c, width)
        if v in (5.2, 6.0):
            w[a + "gate.weight"] = matrix(width, c)
        if v >= 5:
            norm(a + "ln_x", width)
        if v < 6:
            for name in "kvr" + ("g" if v == 5.2 else ""):
                w[a + "time_mix_" + name] = mix()
            w[f + "time_mix_k"], w[f + "time_mix_r"] = mix(), mix()
        if v == 4:
            w[a + "time_decay"], w[a + "time_first"] = 1.5 * rand(width) - 1, rand(width)
        elif v == 5:
            w[a + "time_decay"], w[a + "time_first"] = 1.5 * rand(heads) - 1, 0.5 * rand(heads)
        elif v < 7:
            w[a + "time_decay"] = 1.5 * rand(heads, n) - 1
            w[a + "time_faaaa"] = rand(heads, n)
        if v == 6:
            w[a + "time_decay"] = w[a + "time_decay"].reshape(1, 1, width)
            for name in "xwkvrg":
                w[a + "time_maa_" + name] = mix()
            r = s["ranks"]
            w[a + "time_maa_w1"], w[a + "time_maa_w2"] = (
                matrix(c, 5 * r["mix"]),
                matrix(5 * r["mix"], c).reshape(5, r["mix"], c),
            )
            w[a + "time_decay_w1"], w[a + "time_decay_w2"] = matrix(c, r["w"]), matrix(r["w"], width)
            w[f + "time_maa_k"], w[f + "time_maa_r"] = mix(), mix()
        if v == 7:
            for name in "rwkvag":
                w[a + "x_" + name] = mix()
            for name, rank in s["ranks"].items():
                w[a + name + "1"], w[a + name + "2"] = matrix(c, rank), matrix(rank, c)
                if name != "g":
                    w[a + name + "0"] = rand(1, 1, c)
            w[a + "k_k"], w[a + "k_a"], w[a + "r_k"] = (
                1 + 0.3 * rand(1, 1, c),
                1 + 0.3 * rand(1, 1, c),
                0.5 * rand(heads, n),
            )
            w[f + "x_k"] = mix()
        else:
            w[f + "receptance.weight"] = matrix(c, c)
        w[f + "key.weight"], w[f + "value.weight"] = matrix(s["ffn"], c), matrix(c, s["ffn"])
    norm("ln_out")
    w["head.weight"] = matrix(s["vocab"], c, 2.0)
    return {k: t.float().contiguous() for k, t in w.items()}


def before(x):
    return torch.cat([torch.zeros_like(x[:1]), x[:-1]])


def time_mix_4(w, x, s):
    p, width = before(x), s["width"]
    mixed = lambda n: x * w["time_mix_" + n].flatten() + p * (1 - w["time_mix_" + n].flatten())
    k, v, r = (
        mixed("k") @ w["key.weight"].T,
        mixed("v") @ w["value.weight"].T,
        torch.sigmoid(mixed("r") @ w["receptance.weight"].T),
    )
    decay, first = -torch.exp(w["time_decay"]), w["time_first"]
    y = torch.zeros_like(k)
    for t in range(len(x)):
        age = torch.arange(t - 1, -1, -1, dtype=x.dtype)[:, None]
        e = torch.cat([age * decay + k[:t], (first + k[t])[None]])
        y[t] = (torch.softmax(e, 0) * v[: t + 1]).sum(0)
    return (r * y) @ w["output.weight"].T


def recur_5_6(r, k, v, decay, bonus):
    """r, k, decay [tokens, heads, key], v [tokens, heads, value]."""
    state = torch.zeros(k.shape[1], k.shape[2], v.shape[2], dtype=k.dtype)
    y = torch.zeros_like(v)
    for t in range(len(k)):
        kv = k[t, :, :, None] * v[t, :, None, :]
        y[t] = torch.einsum("hk,hkv->hv", r[t], state + bonus[:, :, None] * kv)
        state = decay[t][:, :, None] * state + kv
    return y


def group_norm(w, y, heads):
    return F.group_norm(y.reshape(len(y), -1), heads, w["ln_x.weight"], w["ln_x.bias"], eps=64e-5)


def time_mix_5(w, x, s):
    p, heads = before(x), s["heads"]
    mixed = lambda n: x * w["time_mix_" + n].flatten() + p * (1 - w["time_mix_" + n].flatten())
    split = lambda t: t.reshape(len(x), heads, -1)
    r, k, v = (split(mixed(n) @ w[m + ".weight"].T) for n, m in (("r", "receptance"), ("k", "key"), ("v", "value")))
    decay = torch.exp(-torch.exp(w["time_decay"])).reshape(1, heads, -1).expand_as(k)
    bonus = w["time_faaaa"] if "time_faaaa" in w else torch.exp(w["time_first"])[:, None].expand(heads, k.shape[2])
    y = group_norm(w, recur_5_6(r, k, v, decay, bonus), heads)
    if "gate.weight" in w:
        y = y * F.silu(mixed("g") @ w["gate.weight"].T)
    return y @ w["output.weight"].T


def time_mix_6(w, x, s):
    d, heads = before(x) - x, s["heads"]
    split = lambda t: t.reshape(len(x), heads, -1)
    h = torch.tanh((x + d * w["time_maa_x"].flatten()) @ w["time_maa_w1"]).reshape(len(x), 5, -1)
    own = torch.einsum("tir,irc->itc", h, w["time_maa_w2"])
    xw, xk, xv, xr, xg = (x + d * (w["time_maa_" + n].flatten() + own[i]) for i, n in enumerate("wkvrg"))
    decay = split(
        torch.exp(-torch.exp(w["time_decay"].flatten() + torch.tanh(xw @ w["time_decay_w1"]) @ w["time_decay_w2"]))
    )
    r, k, v = split(xr @ w["receptance.weight"].T), split(xk @ w["key.weight"].T), split(xv @ w["value.weight"].T)
    y = group_norm(w, recur_5_6(r, k, v, decay, w["time_faaaa"]), heads)
    return (y * F.silu(xg @ w["gate.weight"].T)) @ w["output.weight"].T


def time_mix_7(w, x, s, v_first):
    d, heads = before(x) - x, s["heads"]
    split = lambda t: t.reshape(len(x), heads, -1)
    xr, xw, xk, xv, xa, xg = (x + d * w["x_" + n].flatten() for n in "rwkvag")
    r, k, v = xr @ w["receptance.weight"].T, xk @ w["key.weight"].T, xv @ w["value.weight"].T
    decay = torch.exp(-math.exp(-0.5) * torch.sigmoid(w["w0"].flatten() + torch.tanh(xw @ w["w1"]) @ w["w2"]))
    a = torch.sigmoid(w["a0"].flatten() + xa @ w["a1"] @ w["a2"])
    g = torch.sigmoid(xg @ w["g1"]) @ w["g2"]
    kk = F.normalize(split(k * w["k_k"].flatten()), dim=-1)
    k = k * (1 + (a - 1) * w["k_a"].flatten())
    if v_first is not None:
        v = v + (v_first - v) * torch.sigmoid(w["v0"].flatten() + xv @ w["v1"] @ w["v2"])
    rh, kh, vh, ah, dh = split(r), split(k), split(v), split(a), split(decay)
    n = rh.shape[2]
    state, y = torch.zeros(heads, n, n, dtype=x.dtype), torch.zeros_like(vh)
    for t in range(len(x)):
        state = (
            state * dh[t][:, None, :]
            - torch.einsum("hij,hj,hk->hik", state, kk[t], kk[t] * ah[t])
            + vh[t][:, :, None] * kh[t][:, None, :]
        )
        y[t] = torch.einsum("hvk,hk->hv", state, rh[t])
    y = group_norm(w, y, heads) + ((rh * kh * w["r_k"]).sum(-1, keepdim=True) * vh).reshape(len(x), -1)
    return (y * g) @ w["output.weight"].T, v if v_first is None else v_first


def channel_mix(w, x, s):
    p, v = before(x), s["version"]
    if v == 7:
        return torch.relu((x + (p - x) * w["x_k"].flatten()) @ w["key.weight"].T) ** 2 @ w["value.weight"].T
    name = "time_maa_" if v == 6 else "time_mix_"
    mk, mr = w[name + "k"].flatten(), w[name + "r"].flatten()
    if v < 6:
        mk, mr = 1 - mk, 1 - mr
    k = torch.relu((x + (p - x) * mk) @ w["key.weight"].T) ** 2
    return torch.sigmoid((x + (p - x) * mr) @ w["receptance.weight"].T) * (k @ w["value.weight"].T)


def logits_of(weights, s, ids):
    """The papers' formulas over a whole sequence."""
    part = lambda prefix: {k[len(prefix) :]: t for k, t in weights.items() if k.startswith(prefix)}
    norm = lambda x, name: F.layer_norm(x, x.shape[-1:], weights[name + ".weight"], weights[name + ".bias"])
    x, v_first = norm(weights["emb.weight"][ids], "blocks.0.ln0"), None
    for i in range(s["layers"]):
        att, ffn = part(f"blocks.{i}.att."), part(f"blocks.{i}.ffn.")
        y = norm(x, f"blocks.{i}.ln1")
        if s["version"] == 7:
            y, v_first = time_mix_7(att, y, s, v_first)
        else:
            y = {4: time_mix_4, 5: time_mix_5, 6: time_mix_6}[int(s["version"])](att, y, s)
        x = x + y
        x = x + channel_mix(ffn, norm(x, f"blocks.{i}.ln2"), s)
    return norm(x, "ln_out") @ weights["head.weight"].T


def package_logits(weights, s, ids):
    """The same from the authors' package, float32."""
    os.environ.update(RWKV_JIT_ON="0", RWKV_CUDA_ON="0", RWKV_V7_ON="1" if s["version"] == 7 else "0")
    spec = importlib.util.spec_from_file_location(
        "rwkv_model_" + str(s["version"]).replace(".", "_"),
        importlib.util.find_spec("rwkv").submodule_search_locations[0] + "/model.py",
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "m")
        torch.save(weights, path + ".pth")
        model = module.RWKV(model=path, strategy="cpu fp32")
        if s["version"] != 4:
            return model.forward(ids.tolist(), None, full_output=True)[0]
        # Its whole sequences of version 4 want a time mix as wide as the stream; its single tokens do not.
        rows, state = [], None
        for token in ids.tolist():
            row, state = model.forward([token], state)
            rows.append(row)
        return torch.stack(rows)


def write_gguf(path, weights, s):
    """As llama.cpp's conversion lays the tensors out: low-rank matrices transposed, the mixes in one tensor, and for version 6 what the
    layers add divided as their rescaling wants it."""
    import gguf

    six = s["version"] == 6
    out = gguf.GGUFWriter(path, "rwkv6" if six else "rwkv7")
    out.add_context_length(1048576)
    out.add_embedding_length(s["hidden"])
    out.add_block_count(s["layers"])
    out.add_layer_norm_eps(1e-5)
    out.add_wkv_head_size(s["hidden"] // s["heads"])
    out.add_feed_forward_length(s["ffn"])
    out.add_head_count(0)
    if six:
        out.add_rescale_every_n_layers(RESCALE_EVERY)
        out.add_time_mix_extra_dim(s["ranks"]["mix"])
        out.add_time_decay_extra_dim(s["ranks"]["w"])
    names = {
        "emb.weight": "token_embd.weight",
        "head.weight": "output.weight",
        "ln_out": "output_norm",
        "blocks.0.ln0": "token_embd_norm",
    }
    put = lambda name, t: out.add_tensor(name, np.ascontiguousarray(t.numpy()))
    for name, t in weights.items():
        if name in names:
            put(names[name], t)
        elif name.rsplit(".", 1)[0] in names:
            put(names[name.rsplit(".", 1)[0]] + "." + name.rsplit(".", 1)[1], t)
        elif name.startswith("blocks."):
            _, i, rest = name.split(".", 2)
            half, _, tail = rest.partition(".")
            prefix = f"blk.{i}."
            if half in ("ln1", "ln2"):
                put(prefix + ("attn_norm." if half == "ln1" else "attn_norm_2.") + tail, t)
                continue
            mixer = "time_mix_" if half == "att" else "channel_mix_"
            if tail.endswith(".weight") or tail.startswith("ln_x"):
                if six and tail in ("output.weight",) or six and half == "ffn" and tail == "value.weight":
                    t = t / 2 ** (int(i) // RESCALE_EVERY)
                put(prefix + mixer + tail.replace("ln_x", "ln"), t)
            elif half == "ffn":
                put(prefix + "channel_mix_lerp_" + tail[-1] + ".weight", t)
            elif tail in ("time_maa_x",):
                put(prefix + "time_mix_lerp_x.weight", t.flatten())
            elif tail in ("time_maa_w1", "time_decay_w1", "time_decay_w2"):
                put(
                    prefix
                    + {
                        "time_maa_w1": "time_mix_w1",
                        "time_decay_w1": "time_mix_decay_w1",
                        "time_decay_w2": "time_mix_decay_w2",
                    }[tail]
                    + ".weight",
                    t.T,
                )
            elif tail == "time_maa_w2":
                put(prefix + "time_mix_w2.weight", t.permute(0, 2, 1))
            elif tail == "time_decay":
                put(prefix + "time_mix_decay.weight", t.flatten())
            elif tail == "time_faaaa":
                put(prefix + "time_mix_first.weight", t)
            elif not tail.startswith(("x_", "time_maa_")):
                put(prefix + "time_mix_" + tail + ".weight", t.T if t.dim() == 2 and tail != "r_k" else t.flatten())
    for i in range(s["layers"]):
        mix = "time_maa_" if six else "x_"
        put(
            f"blk.{i}.time_mix_lerp_fused.weight",
            torch.stack(
                [weights[f"blocks.{i}.att.{mix}{n}"].reshape(1, 1, -1) for n in ("wkvrg" if six else "rwkvag")]
            ),
        )
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def make(name, folder):
    s = MODELS[name]
    generator = torch.Generator().manual_seed(SEED)
    weights = draw(s, generator)
    ids = torch.randint(0, s["vocab"], (TOKENS,), generator=generator)
    wide = {k: t.double() for k, t in weights.items()}
    exact = logits_of(wide, s, ids)
    difference = float(
        (package_logits({k: t.clone() for k, t in weights.items()}, s, ids).double() - exact).abs().max()
    )
    if difference > 1e-4 * float(exact.abs().max()):
        sys.exit(
            f"{name}: the package's logits differ by {difference} from the formulas' of up to {float(exact.abs().max())}"
        )
    continuation, margin = ids, math.inf
    for _ in range(CONTINUATION):
        best = torch.topk(logits_of(wide, s, continuation)[-1], 2)
        margin = min(margin, float(best.values[0] - best.values[1]))
        continuation = torch.cat([continuation, best.indices[:1]])
    os.makedirs(folder, exist_ok=True)
    save_file(weights, os.path.join(folder, "model.safetensors"))
    save_file({"ids": ids.to(torch.int32)}, os.path.join(folder, "ids.safetensors"))
    save_file(
        {
            "logits": exact.float().contiguous(),
            "greedy": continuation[TOKENS:].to(torch.int32),
            "float32_difference": torch.tensor([difference]),
        },
        os.path.join(folder, "logits.safetensors"),
    )
    if s["version"] >= 6:
        write_gguf(os.path.join(folder, "model-f32.gguf"), weights, s)
    sizes = {f: os.path.getsize(os.path.join(folder, f)) for f in sorted(os.listdir(folder))}
    print(
        f"{name}: logits {exact.min():.2f} .. {exact.max():.2f}, std {exact.std():.2f}, float32 off by {difference:.1e}, smallest greedy margin {margin:.3f}, "
        f"distinct greedy ids {len(set(continuation[TOKENS:].tolist()))}, {sizes}"
    )


def main():
    for package, wanted in PINNED.items():
        if version(package).split("+")[0] != wanted:
            sys.exit(f"{package} {wanted} makes these files, found {version(package)}")
    here = os.path.dirname(os.path.abspath(__file__))
    for name in sys.argv[1:] or MODELS:
        make(name, os.path.join(here, name))


if __name__ == "__main__":
    main()
