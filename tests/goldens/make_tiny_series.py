#!/usr/bin/env python3
"""Writes the tiny random checkpoints of models of time series and of sound, tests/goldens/series/NAME, saved by the
original modelling code (transformers 5.23.0, torch 2.15.0, safetensors 0.8.0; chronos-forecasting 2.3.2,
tirex-ts 1.4.2):

  config.json, model.safetensors   as save_pretrained writes them, float32
  call.safetensors                 inputs `in.NAME`, outputs of a float64 run `out.NAME`, and `difference` float32 [1]:
                                   the largest |float32 run - float64 run| over the outputs, relative to the largest
                                   value

  OMP_NUM_THREADS=1 python3 tests/goldens/make_tiny_series.py [name ...]
"""

import json
import os
import random
import shutil
import sys

import torch
import transformers
from make_tiny_models import PINNED, SEED, redraw_linear
from safetensors.torch import save_file
from series_kit import Family, Trial, compute_in_own_type
from sound_models import SOUND
from vary_kit import narrow, outputs_of, reference

HERE = os.path.dirname(os.path.abspath(__file__))


def class_named(task):
    if not task.startswith("Chronos"):
        return getattr(transformers, task)
    try:
        import chronos.chronos_bolt
    except ImportError as e:
        sys.exit(f"{task} needs the package chronos-forecasting ({e})")
    return getattr(chronos.chronos_bolt, task)


def make(family, task, config, generator):
    """A model with parameters drawn wide, in float32."""
    compute_in_own_type()
    if family == "tirex":
        model = TiRex(config).eval()
    else:
        configuration = getattr(transformers, FAMILIES[family].config_class)(**config)
        configuration._attn_implementation = "eager"
        model = class_named(task)(configuration).eval()
    redraw_linear(model, generator)
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
            if name.endswith(("cluster_usage", "embed_sum")):
                buffer.copy_(
                    torch.randn(buffer.shape, generator=generator).abs_() + 0.5
                    if buffer.dim() == 1
                    else torch.randn(buffer.shape, generator=generator)
                )
            if name.endswith("running_mean"):
                buffer.copy_(0.3 * torch.randn(buffer.shape, generator=generator))
    return model


def trial(family, task, model, batch, rng, generator):
    return FAMILIES[family].trial(task, model, batch, rng, generator)


# --- PatchTST, PatchTSMixer


def draw_patches(rng):
    length, channels = rng.choice((4, 5, 8)), rng.choice((1, 2, 3))
    stride = rng.choice((length, length // 2, 3))
    return {
        "context_length": length * rng.choice((3, 5)) + rng.choice((0, 1, 3)),
        "patch_length": length,
        "patch_stride": stride,
        "num_input_channels": channels,
        "scaling": rng.choice(("std", "mean", None, True)),
        "prediction_length": rng.choice((2, 7)),
        "num_targets": rng.choice((2, 3)),
        "output_range": rng.choice((None, [-1.0, 2.5])),
        "norm_eps": rng.choice((1e-5, 1e-3)),
        "loss": rng.choice(("mse", "mse", "nll")),
        "distribution_output": rng.choice(("student_t", "normal", "negative_binomial")),
        "mask_type": rng.choice(("random", "forecast")),
        "random_mask_ratio": 0.0,
        "num_forecast_mask_patches": [rng.choice((1, 2))],
        "mask_value": rng.choice((0, 2)),
        "unmasked_channel_indices": rng.choice((None, [0])),
    }


def draw_patchtst(rng):
    heads = rng.choice((1, 2, 3))
    return {
        **draw_patches(rng),
        "d_model": heads * rng.choice((4, 8)),
        "num_attention_heads": heads,
        "num_hidden_layers": rng.choice((1, 2)),
        "ffn_dim": rng.choice((12, 20)),
        "norm_type": rng.choice(("batchnorm", "layernorm")),
        "pre_norm": rng.choice((True, False)),
        "use_cls_token": rng.choice((True, False)),
        "channel_attention": rng.choice((True, False)),
        "share_embedding": rng.choice((True, False)),
        "bias": rng.choice((True, False)),
        "activation_function": rng.choice(("gelu", "relu")),
        "positional_encoding_type": rng.choice(("sincos", "random")),
        "pooling_type": rng.choice(("mean", "max")),
    }


def draw_patchtsmixer(rng):
    heads = rng.choice((1, 2))
    config = draw_patches(rng)
    return {
        **config,
        "d_model": heads * rng.choice((4, 6)),
        "num_layers": rng.choice((1, 2)),
        "expansion_factor": rng.choice((2, 3)),
        "mode": rng.choice(("common_channel", "mix_channel")),
        "gated_attn": rng.choice((True, False)),
        "norm_mlp": rng.choice(("LayerNorm", "BatchNorm")),
        "self_attn": rng.choice((True, False)),
        "self_attn_heads": heads,
        "use_positional_encoding": rng.choice((True, False)),
        "positional_encoding_type": rng.choice(("sincos", "random")),
        "head_aggregation": rng.choice(("use_last", "max_pool", "avg_pool", None)),
        "prediction_channel_indices": rng.choice((None, [config["num_input_channels"] - 1])),
    }


PARAMETERS = {
    "student_t": ("df", "loc", "scale"),
    "normal": ("loc", "scale"),
    "negative_binomial": ("total_count", "logits"),
}


def try_patches(task, model, batch, rng, generator):
    c = model.config
    values = torch.randn(batch, c.context_length, c.num_input_channels, generator=generator) * 3 + 1
    inputs = {"past_values": values}
    heads = ("Classification", "Regression") if "Mixer" in task else ()
    if rng.random() < 0.5 and not task.endswith(heads or ("?",)):
        name = "observed_mask" if "Mixer" in task else "past_observed_mask"
        inputs[name] = (torch.rand(values.shape, generator=generator) < 0.8).long()
    names = (
        "last_hidden_state",
        "prediction_outputs",
        "prediction_output",
        "prediction_logits",
        "regression_outputs",
        "loc",
        "scale",
        "patch_input",
    )

    def run(m):
        out = {}
        for name, value in outputs_of(m, names, **inputs).items():
            if isinstance(value, tuple):
                out.update({f"{name}.{p}": v for p, v in zip(PARAMETERS[c.distribution_output], value)})
            else:
                out[name] = value
        return out

    return Trial(inputs, run)


# --- TimesFM


def draw_timesfm(rng):
    heads = rng.choice((1, 2, 3))
    patch = rng.choice((4, 8))
    return {
        "patch_length": patch,
        "context_length": patch * rng.choice((4, 6)),
        "horizon_length": rng.choice((3, 8)),
        "hidden_size": rng.choice((12, 20)),
        "intermediate_size": rng.choice((16, 24)),
        "head_dim": rng.choice((4, 8)),
        "num_attention_heads": heads,
        "num_hidden_layers": rng.choice((1, 2)),
        "quantiles": [0.1, 0.5, 0.9],
    }


def draw_timesfm1(rng):
    return {**draw_timesfm(rng), "freq_size": 3, "use_positional_embedding": rng.choice((True, False))}


def draw_timesfm2_5(rng):
    config = draw_timesfm(rng)
    return {
        **config,
        "num_key_value_heads": rng.choice((1, config["num_attention_heads"])),
        "attention_bias": rng.choice((True, False)),
        "use_bias": rng.choice((True, False)),
        "output_quantile_len": rng.choice((4, 12)),
        "decode_index": rng.choice((1, 2)),
        "use_continuous_quantile_head": rng.choice((True, False)),
        "force_flip_invariance": rng.choice((True, False)),
        "infer_is_positive": rng.choice((True, False)),
    }


def try_timesfm(task, model, batch, rng, generator):
    c = model.config
    is_first = not hasattr(c, "decode_index")
    forecasts = task.endswith("ForPrediction")
    length = (
        rng.randint(2, c.context_length)
        if forecasts
        else c.patch_length * rng.randint(1, c.context_length // c.patch_length)
    )
    values = torch.randn(batch, length, generator=generator) * 3 + rng.choice((0, 12))
    inputs = {"past_values": values}
    freq = torch.randint(0, 3, (batch,), generator=generator)
    if is_first and rng.random() < 0.7:
        inputs["freq"] = freq if forecasts else freq[:, None]
    if not forecasts and length > c.patch_length:
        padding = torch.zeros(batch, length)
        padding[:, : rng.randint(0, c.patch_length - 1)] = 1
        inputs["past_values_padding"] = padding.long()

    def run(m):
        dtype = next(m.parameters()).dtype
        if forecasts:
            given = [v for v in values.to(dtype)]
            more = {"freq": inputs["freq"].tolist()} if "freq" in inputs else {}
            out = m(past_values=given, **more)
            return {k: out[k] for k in ("mean_predictions", "full_predictions")}
        padding = inputs.get("past_values_padding", torch.zeros(batch, length))
        more = {"freq": inputs.get("freq", torch.zeros(batch, 1)).long()} if is_first else {}
        out = m(past_values=values.to(dtype), past_values_padding=padding.to(dtype if is_first else torch.long), **more)
        return {k: out[k] for k in ("last_hidden_state", "loc", "scale", "context_mu", "context_sigma") if k in out}

    return Trial(inputs, run)


# --- Chronos-Bolt, of the package chronos-forecasting 2.3.2


def draw_chronos_bolt(rng):
    patch = rng.choice((4, 8))
    return {
        "d_model": rng.choice((8, 12)),
        "d_ff": 16,
        "d_kv": rng.choice((4, 6)),
        "num_heads": rng.choice((1, 2)),
        "num_layers": rng.choice((1, 2)),
        "num_decoder_layers": rng.choice((1, 2)),
        "feed_forward_proj": rng.choice(("relu", "gated-gelu")),
        "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": rng.choice((6, 20)),
        "decoder_start_token_id": 0,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "chronos_config": {
            "context_length": 60,
            "prediction_length": rng.choice((5, 8)),
            "input_patch_size": patch,
            "input_patch_stride": patch,
            "quantiles": [0.1, 0.5, 0.9],
            "use_reg_token": rng.choice((True, False)),
        },
    }


def try_chronos_bolt(task, model, batch, rng, generator):
    values = torch.randn(batch, rng.randint(3, 60), generator=generator) * 3 + 5
    inputs = {"context": values}
    if rng.random() < 0.5:
        values[torch.rand(values.shape, generator=generator) < 0.2] = float("nan")
    elif rng.random() < 0.7:
        inputs["mask"] = (torch.rand(values.shape, generator=generator) < 0.8).long()
    return Trial(inputs, lambda m: outputs_of(m, ("quantile_preds",), **inputs))


# --- TiRex, of the package tirex-ts 1.4.2


def run_cells(self, inputs, state):
    """TiRex's cells in the type of their inputs; its own round them to bfloat16."""
    from tirex.models.slstm.cell import sLSTMCellTorch

    c = self.config
    bias = self._bias_.reshape(c.num_heads, c.num_gates, c.head_dim).permute(1, 0, 2).reshape(-1)
    flat = inputs.reshape(inputs.shape[0], inputs.shape[1], -1)
    return sLSTMCellTorch.slstm_forward(flat, state, self._recurrent_kernel_, bias)


class TiRex(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        try:
            from tirex.models.slstm.cell import sLSTMCell
            from tirex.models.tirex import TiRexZero
        except ImportError as e:
            sys.exit(f"TiRex needs the package tirex-ts ({e})")
        sLSTMCell._impl_torch = run_cells
        self.config = config
        own = {k: v for k, v in config.items() if k != "train_ctx_len"}
        self.model = TiRexZero("torch", own, train_ctx_len=config["train_ctx_len"])

    def forward(self, context):
        return {"quantile_preds": self.model._forecast_single_step(context)}

    def save_pretrained(self, folder):
        os.makedirs(folder)
        with open(os.path.join(folder, "config.json"), "w") as f:
            json.dump({"model_type": "tirex", **self.config}, f, indent=2)
        save_file(self.model.state_dict(), os.path.join(folder, "model.safetensors"))


def draw_tirex(rng):
    heads, patch = rng.choice((1, 2)), rng.choice((4, 8))
    return {
        "input_patch_size": patch,
        "output_patch_size": patch,
        "quantiles": [0.1, 0.5, 0.9],
        "block_kwargs": {
            "embedding_dim": heads * rng.choice((4, 6)),
            "num_heads": heads,
            "num_blocks": rng.choice((1, 2)),
            "ffn_proj_factor": rng.choice((2.6667, 9.0)),
        },
        "input_ff_dim": 12,
        "train_ctx_len": patch * rng.choice((4, 7)),
    }


def try_tirex(task, model, batch, rng, generator):
    values = torch.randn(batch, rng.randint(3, model.config["train_ctx_len"]), generator=generator) * 3 + 5
    if rng.random() < 0.5:
        values[torch.rand(values.shape, generator=generator) < 0.2] = float("nan")
    inputs = {"context": values}
    return Trial(inputs, lambda m: outputs_of(m, ("quantile_preds",), **inputs))


FAMILIES = {
    "patchtst": Family(
        "PatchTSTConfig",
        (
            "PatchTSTForPrediction",
            "PatchTSTModel",
            "PatchTSTForRegression",
            "PatchTSTForClassification",
            "PatchTSTForPretraining",
        ),
        draw_patchtst,
        try_patches,
    ),
    "patchtsmixer": Family(
        "PatchTSMixerConfig",
        (
            "PatchTSMixerForPrediction",
            "PatchTSMixerModel",
            "PatchTSMixerForRegression",
            "PatchTSMixerForTimeSeriesClassification",
            "PatchTSMixerForPretraining",
        ),
        draw_patchtsmixer,
        try_patches,
    ),
    "timesfm": Family("TimesFmConfig", ("TimesFmModelForPrediction", "TimesFmModel"), draw_timesfm1, try_timesfm),
    "timesfm2_5": Family(
        "TimesFm2_5Config", ("TimesFm2_5ModelForPrediction", "TimesFm2_5Model"), draw_timesfm2_5, try_timesfm
    ),
    **SOUND,
    "chronos_bolt": Family("T5Config", ("ChronosBoltModelForForecasting",), draw_chronos_bolt, try_chronos_bolt),
    "tirex": Family("", ("TiRexZero",), draw_tirex, try_tirex),
}


KEPT = [name for name in FAMILIES if name not in ("unispeech", "unispeech_sat", "parakeet_encoder")]


def main():
    for package, version in PINNED.items():
        have = {"transformers": transformers, "torch": torch}[package].__version__.split("+")[0]
        if have != version:
            sys.exit(f"{package} {have}, wanted {version}")
    for family in sys.argv[1:] or KEPT:
        rng, generator = random.Random(f"{family} {SEED}"), torch.Generator().manual_seed(SEED)
        task = FAMILIES[family].tasks[0]
        transformers.set_seed(SEED)
        model = make(family, task, FAMILIES[family].draw(rng), generator)
        t = trial(family, task, model, 1 if "moonshine" in family else 2, rng, generator)
        outputs, difference = reference(model, t.run)
        folder = os.path.join(HERE, "series", family)
        shutil.rmtree(folder, ignore_errors=True)
        model.save_pretrained(folder)
        tensors = {f"in.{k}": narrow(v) for k, v in t.inputs.items()}
        tensors.update({f"out.{k}": narrow(v.long() if k == "audio_codes" else v) for k, v in outputs.items()})
        tensors["difference"] = torch.tensor([difference])
        save_file(tensors, os.path.join(folder, "call.safetensors"))
        for name in os.listdir(folder):
            if name not in ("config.json", "model.safetensors", "call.safetensors"):
                os.remove(os.path.join(folder, name))
        print(family, task, sum(os.path.getsize(os.path.join(folder, n)) for n in os.listdir(folder)))


if __name__ == "__main__":
    main()
