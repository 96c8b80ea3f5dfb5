"""Models of sound for make_tiny_series.py: how their configurations are drawn, and calls of them."""

import torch
from series_kit import Family, Trial
from vary_kit import outputs_of


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


def draw_spectrogram(rng):
    heads = rng.choice((1, 2, 3))
    return {
        "hidden_size": heads * rng.choice((4, 8)),
        "num_hidden_layers": rng.choice((1, 2)),
        "num_attention_heads": heads,
        "intermediate_size": rng.choice((12, 20)),
        "patch_size": rng.choice((3, 4)),
        "frequency_stride": rng.choice((2, 3, 5)),
        "time_stride": rng.choice((2, 4)),
        "num_mel_bins": rng.choice((8, 13)),
        "max_length": rng.choice((19, 24)),
        "hidden_act": rng.choice(("gelu", "relu")),
        "layer_norm_eps": rng.choice((1e-12, 1e-5)),
        "qkv_bias": rng.choice((True, False)),
        "num_labels": 3,
    }


def try_spectrogram(task, model, batch, rng, generator):
    shape = batch, model.config.max_length, model.config.num_mel_bins
    inputs = {"input_values": torch.randn(shape, generator=generator)}
    return Trial(inputs, lambda m: outputs_of(m, ("last_hidden_state", "pooler_output", "logits"), **inputs))


SPEECH = ("ForCTC", "Model", "ForSequenceClassification", "ForAudioFrameClassification", "ForXVector")

SOUND = {
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
    "spectrogram": Family("ASTConfig", ("ASTForAudioClassification", "ASTModel"), draw_spectrogram, try_spectrogram),
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
}
