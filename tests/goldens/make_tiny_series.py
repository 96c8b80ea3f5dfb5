#!/usr/bin/env python3
"""Writes the tiny random checkpoints of models of time series and of sound, tests/goldens/series/NAME, saved by the
original modelling code (transformers 5.23.0, torch 2.15.0, safetensors 0.8.0; chronos-forecasting 2.3.2):

  config.json, model.safetensors   as save_pretrained writes them, float32
  call.safetensors                 inputs `in.NAME`, outputs of a float64 run `out.NAME`, and `difference` float32 [1]:
                                   the largest |float32 run - float64 run| over the outputs, relative to the largest
                                   value

  OMP_NUM_THREADS=1 python3 tests/goldens/make_tiny_series.py [name ...]
"""

import os
import random
import shutil
import sys
from dataclasses import dataclass

import torch
import transformers
from make_tiny_models import PINNED, SEED, redraw_linear
from safetensors.torch import save_file
from vary_kit import narrow, outputs_of, reference

HERE = os.path.dirname(os.path.abspath(__file__))


@dataclass
class Family:
    """draw(rng): keyword arguments of a configuration; tasks: names of classes; trial(task, model, ...): a Trial."""

    config_class: str
    tasks: tuple
    draw: object
    trial: object


@dataclass
class Trial:
    """inputs as the program takes them; run(model) gives outputs by name; options of `runnel eval`."""

    inputs: dict
    run: object
    options: tuple = ()


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


def attend(module, query, key, value, attention_mask, scaling, dropout=0.0, **kwargs):
    """Eager attention in the type of its inputs: some models take the softmax in float32, where masks of a float64 run
    are infinite."""
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
    scores = query @ key.transpose(2, 3) * scaling
    weights = torch.softmax(scores if attention_mask is None else scores + attention_mask, dim=-1)
    return (weights @ value).transpose(1, 2).contiguous(), weights


def nearest(self, hidden_states):
    """Mimi's own takes distances by a product in float32, which is off by more than two codes may lie apart."""
    return torch.cdist(hidden_states, self.embed, compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=-1)


def compute_in_own_type():
    models = transformers.models
    models.mimi.modeling_mimi.MimiEuclideanCodebook.quantize = nearest
    models.timesfm.modeling_timesfm.simple_eager_attention_forward = attend
    for module in (
        models.timesfm2_5.modeling_timesfm2_5,
        models.moonshine.modeling_moonshine,
        models.moonshine_streaming.modeling_moonshine_streaming,
        models.parakeet.modeling_parakeet,
    ):
        module.eager_attention_forward = attend


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


# --- sound


def sound(batch, length, generator):
    return torch.randn(batch, length, generator=generator)


def shorter(batch, length, least, rng):
    """A mask for sounds that end earlier; the first of several is as long as the batch."""
    mask = torch.ones(batch, length, dtype=torch.long)
    for i in range(1 if batch > 1 else 0, batch):
        mask[i, rng.randint(least, length) :] = 0
    return mask


def draw_wav2vec2(rng):
    heads = rng.choice((1, 2))
    groups = rng.choice((1, 2))
    return {
        "vocab_size": 17,
        "hidden_size": heads * 4 * groups,
        "num_hidden_layers": rng.choice((1, 2)),
        "num_attention_heads": heads,
        "intermediate_size": rng.choice((12, 20)),
        "feat_extract_norm": rng.choice(("group", "layer")),
        "conv_dim": [8, 6, 8],
        "conv_stride": [3, 2, 2],
        "conv_kernel": rng.choice(([5, 3, 2], [4, 2, 3])),
        "conv_bias": rng.choice((True, False)),
        "num_conv_pos_embeddings": rng.choice((4, 5)),
        "num_conv_pos_embedding_groups": groups,
        "do_stable_layer_norm": rng.choice((True, False)),
        "classifier_proj_size": 6,
        "tdnn_dim": [8, 6],
        "tdnn_kernel": [3, 1],
        "tdnn_dilation": [2, 1],
        "xvector_output_dim": 5,
        "use_weighted_layer_sum": rng.choice((True, False)),
        "num_labels": 3,
        "layer_norm_eps": rng.choice((1e-5, 1e-3)),
    }


def draw_hubert(rng):
    return {
        **draw_wav2vec2(rng),
        "feat_proj_layer_norm": rng.choice((True, False)),
        "conv_pos_batch_norm": rng.choice((True, False)),
    }


def draw_wavlm(rng):
    return {**draw_wav2vec2(rng), "num_buckets": 16, "max_bucket_distance": rng.choice((10, 40)), "add_adapter": False}


def draw_data2vec_audio(rng):
    config = {**draw_wav2vec2(rng), "conv_pos_kernel_size": rng.choice((3, 4)), "num_conv_pos_embeddings": 2}
    del config["do_stable_layer_norm"], config["feat_extract_norm"]
    return config


def draw_adapter(rng):
    return {
        **draw_wav2vec2(rng),
        "add_adapter": True,
        "num_adapter_layers": 2,
        "output_hidden_size": rng.choice((6, 8)),
        "adapter_attn_dim": rng.choice((None, 4)),
    }


def try_samples(task, model, batch, rng, generator):
    length = rng.randint(150, 400)
    inputs = {"input_values": sound(batch, length, generator)}
    if rng.random() < 0.7:
        inputs["attention_mask"] = shorter(batch, length, 120, rng)
    names = ("last_hidden_state", "extract_features", "logits", "embeddings")
    return Trial(inputs, lambda m: outputs_of(m, names, **inputs))


def draw_whisper(rng):
    heads = rng.choice((1, 2))
    return {
        "vocab_size": 31,
        "num_mel_bins": rng.choice((5, 8)),
        "d_model": heads * rng.choice((4, 8)),
        "encoder_layers": rng.choice((1, 2)),
        "decoder_layers": rng.choice((1, 2)),
        "encoder_attention_heads": heads,
        "decoder_attention_heads": heads,
        "encoder_ffn_dim": 12,
        "decoder_ffn_dim": 20,
        "max_source_positions": rng.choice((9, 14)),
        "max_target_positions": 12,
        "activation_function": rng.choice(("gelu", "relu")),
        "classifier_proj_size": 6,
        "use_weighted_layer_sum": rng.choice((True, False)),
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "decoder_start_token_id": 3,
    }


def try_whisper(task, model, batch, rng, generator):
    c = model.config
    inputs = {"input_features": torch.randn(batch, c.num_mel_bins, 2 * c.max_source_positions, generator=generator)}
    if "Classification" not in task:
        inputs["decoder_input_ids"] = torch.randint(0, c.vocab_size, (batch, rng.randint(1, 12)), generator=generator)
    names = (
        ("last_hidden_state", "logits")
        if "Classification" in task
        else ("last_hidden_state", "logits", "encoder_last_hidden_state")
    )
    return Trial(inputs, lambda m: outputs_of(m, names, **inputs))


def draw_moonshine(rng):
    heads = rng.choice((1, 2))
    return {
        "vocab_size": 31,
        "hidden_size": heads * rng.choice((4, 8)),
        "intermediate_size": 12,
        "encoder_num_hidden_layers": rng.choice((1, 2)),
        "decoder_num_hidden_layers": rng.choice((1, 2)),
        "encoder_num_attention_heads": heads,
        "decoder_num_attention_heads": heads,
        "encoder_hidden_act": rng.choice(("gelu", "silu")),
        "attention_bias": rng.choice((True, False)),
        "pad_head_dim_to_multiple_of": rng.choice((None, 8)),
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": rng.choice((10000.0, 500.0)),
            "partial_rotary_factor": rng.choice((0.9, 0.5, 1.0)),
        },
    }


def try_moonshine(task, model, batch, rng, generator):
    length = rng.randint(1600, 2600)
    inputs = {"input_values": sound(batch, length, generator)}
    if rng.random() < 0.7:
        inputs["attention_mask"] = shorter(batch, length, 1400, rng)
    inputs["decoder_input_ids"] = torch.randint(
        0, model.config.vocab_size, (batch, rng.randint(1, 12)), generator=generator
    )
    names = ("last_hidden_state", "logits", "encoder_last_hidden_state")
    return Trial(inputs, lambda m: outputs_of(m, names, **inputs))


def draw_moonshine_streaming(rng):
    heads = rng.choice((1, 2))
    layers = rng.choice((1, 2))
    config = draw_moonshine(rng)
    shared = {"hidden_size": heads * 8, "num_attention_heads": heads, "num_key_value_heads": heads}
    return {
        **{k: config[k] for k in ("vocab_size", "intermediate_size", "attention_bias", "rope_parameters")},
        **shared,
        "num_hidden_layers": layers,
        "max_position_embeddings": 40,
        "encoder_config": {
            **shared,
            "hidden_size": heads * rng.choice((8, 4)),
            "intermediate_size": 12,
            "num_hidden_layers": layers,
            "frame_ms": 0.5,
            "max_position_embeddings": 40,
            "sliding_windows": [rng.choice(([3, 2], [4, 0])) for _ in range(layers)],
        },
    }


def try_moonshine_streaming(task, model, batch, rng, generator):
    t = try_moonshine(task, model, batch, rng, generator)
    length = 8 * rng.randint(30, 90)
    t.inputs["input_values"] = t.inputs["input_values"][:, :length].contiguous()
    if "attention_mask" in t.inputs:
        t.inputs["attention_mask"] = shorter(batch, length, 100, rng)
    return t


def draw_parakeet_encoder(rng):
    heads = rng.choice((1, 2))
    return {
        "hidden_size": heads * rng.choice((4, 8)),
        "num_hidden_layers": rng.choice((1, 2)),
        "num_attention_heads": heads,
        "intermediate_size": 12,
        "attention_bias": rng.choice((True, False)),
        "convolution_bias": rng.choice((True, False)),
        "conv_kernel_size": rng.choice((3, 5)),
        "subsampling_factor": rng.choice((4, 8)),
        "subsampling_conv_channels": 4,
        "num_mel_bins": rng.choice((16, 24)),
        "scale_input": rng.choice((True, False)),
    }


def draw_parakeet(rng):
    return {"vocab_size": 19, "pad_token_id": 18, "encoder_config": draw_parakeet_encoder(rng)}


def try_parakeet(task, model, batch, rng, generator):
    length = rng.randint(40, 90)
    bins = (model.config.encoder_config if "CTC" in task else model.config).num_mel_bins
    inputs = {"input_features": torch.randn(batch, length, bins, generator=generator)}
    if rng.random() < 0.7:
        inputs["attention_mask"] = shorter(batch, length, 20, rng)
    return Trial(inputs, lambda m: outputs_of(m, ("last_hidden_state", "logits"), **inputs))


def draw_mimi(rng):
    heads = rng.choice((1, 2))
    width = heads * rng.choice((4, 8))
    return {
        "hidden_size": width,
        "num_filters": 4,
        "upsampling_ratios": rng.choice(([3, 2], [2, 4])),
        "num_residual_layers": rng.choice((1, 2)),
        "codebook_size": rng.choice((16, 32)),
        "codebook_dim": 4,
        "vector_quantization_hidden_dimension": 4,
        "num_quantizers": rng.choice((2, 4)),
        "upsample_groups": width,
        "num_hidden_layers": rng.choice((1, 2)),
        "intermediate_size": 12,
        "num_attention_heads": heads,
        "num_key_value_heads": rng.choice((1, heads)),
        "sliding_window": rng.choice((3, 8)),
        "use_conv_shortcut": rng.choice((True, False)),
        "layer_scale_initial_scale": 0.5,
    }


def try_mimi(task, model, batch, rng, generator):
    inputs = {"input_values": sound(batch, rng.randint(40, 300), generator)[:, None]}

    def run(m):
        for module in m.modules():
            if hasattr(module, "_embed"):
                module._embed = None  # kept in the type of the run before
        return outputs_of(m, ("audio_codes", "audio_values"), **inputs)

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


SPEECH = ("ForCTC", "Model", "ForSequenceClassification", "ForAudioFrameClassification", "ForXVector")

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
    "wav2vec2": Family("Wav2Vec2Config", tuple(f"Wav2Vec2{t}" for t in SPEECH), draw_wav2vec2, try_samples),
    "wav2vec2_adapter": Family("Wav2Vec2Config", ("Wav2Vec2ForCTC", "Wav2Vec2Model"), draw_adapter, try_samples),
    "hubert": Family("HubertConfig", tuple(f"Hubert{t}" for t in SPEECH[:3]), draw_hubert, try_samples),
    "wavlm": Family("WavLMConfig", tuple(f"WavLM{t}" for t in SPEECH), draw_wavlm, try_samples),
    "data2vec_audio": Family(
        "Data2VecAudioConfig", tuple(f"Data2VecAudio{t}" for t in SPEECH), draw_data2vec_audio, try_samples
    ),
    "unispeech": Family("UniSpeechConfig", tuple(f"UniSpeech{t}" for t in SPEECH[:3]), draw_wav2vec2, try_samples),
    "unispeech_sat": Family(
        "UniSpeechSatConfig", tuple(f"UniSpeechSat{t}" for t in SPEECH), draw_wav2vec2, try_samples
    ),
    "whisper": Family(
        "WhisperConfig",
        ("WhisperForConditionalGeneration", "WhisperModel", "WhisperForAudioClassification"),
        draw_whisper,
        try_whisper,
    ),
    "moonshine": Family(
        "MoonshineConfig", ("MoonshineForConditionalGeneration", "MoonshineModel"), draw_moonshine, try_moonshine
    ),
    "moonshine_streaming": Family(
        "MoonshineStreamingConfig",
        ("MoonshineStreamingForConditionalGeneration", "MoonshineStreamingModel"),
        draw_moonshine_streaming,
        try_moonshine_streaming,
    ),
    "parakeet": Family("ParakeetCTCConfig", ("ParakeetForCTC",), draw_parakeet, try_parakeet),
    "parakeet_encoder": Family("ParakeetEncoderConfig", ("ParakeetEncoder",), draw_parakeet_encoder, try_parakeet),
    "mimi": Family("MimiConfig", ("MimiModel",), draw_mimi, try_mimi),
    "chronos_bolt": Family("T5Config", ("ChronosBoltModelForForecasting",), draw_chronos_bolt, try_chronos_bolt),
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
