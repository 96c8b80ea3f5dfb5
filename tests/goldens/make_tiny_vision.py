#!/usr/bin/env python3
"""Writes the tiny random checkpoints of models of images, tests/goldens/vision/NAME, saved by the original modelling code (transformers 5.23.0, torch
2.15.0, safetensors 0.8.0):

  config.json, model.safetensors   as save_pretrained writes them, float32
  calls.safetensors                one call: inputs `in.pixel_values` (two images) and what else the model takes; outputs `out.logits` ... from a
                                   float64 run with eager attention; `difference` float32 [1]: largest |float32 run - float64 run| over the outputs,
                                   relative to the largest value

  OMP_NUM_THREADS=1 python3 tests/goldens/make_tiny_vision.py [name ...]
"""

import os
import sys

import torch
import transformers
from make_tiny_models import PINNED, SEED
from safetensors.torch import save_file
from transformers import AutoConfig
from vary_kit import narrow, outputs_of, reference

HERE = os.path.dirname(os.path.abspath(__file__))
OUTPUTS = (
    "last_hidden_state",
    "pooler_output",
    "logits",
    "cls_logits",
    "distillation_logits",
    "reconstruction",
    "cls_token_value",
    "image_embeds",
    "text_embeds",
    "logits_per_image",
    "logits_per_text",
    "predicted_depth",
    "heatmaps",
    "pred_boxes",
    "enc_topk_logits",
    "enc_topk_bboxes",
    "mask",
    "ids_restore",
)
SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "image_size": 16,
    "patch_size": 8,
}
PLAIN = ("Model", "ForImageClassification")
PYRAMID = {
    "image_size": 32,
    "num_encoder_blocks": 2,
    "depths": [1, 1],
    "sr_ratios": [2, 1],
    "hidden_sizes": [8, 12],
    "patch_sizes": [7, 3],
    "strides": [4, 2],
    "num_attention_heads": [1, 2],
    "mlp_ratios": [2, 2],
    "decoder_hidden_size": 8,
    "drop_path_rate": 0.0,
}
SWIN = {
    "image_size": 21,
    "patch_size": 3,
    "embed_dim": 8,
    "depths": [2, 1],
    "num_heads": [1, 2],
    "window_size": 3,
    "mlp_ratio": 2.0,
    "drop_path_rate": 0.0,
}
TEXT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "max_position_embeddings": 10,
    "vocab_size": 40,
    "eos_token_id": 39,
    "bos_token_id": 38,
    "pad_token_id": 1,
}
DETR = {
    "image_size": [32, 29],
    "backbone_config": {
        "model_type": "rt_detr_resnet",
        "embedding_size": 8,
        "hidden_sizes": [8, 8, 8, 8],
        "depths": [1, 1, 1, 1],
        "layer_type": "bottleneck",
        "out_indices": [2, 3, 4],
    },
    "encoder_hidden_dim": 8,
    "encoder_in_channels": [8, 8, 8],
    "hidden_expansion": 0.5,
    "encoder_ffn_dim": 12,
    "encoder_attention_heads": 2,
    "d_model": 8,
    "decoder_in_channels": [8, 8, 8],
    "decoder_ffn_dim": 12,
    "decoder_attention_heads": 2,
    "decoder_layers": 2,
    "decoder_n_points": 2,
    "num_queries": 5,
    "num_denoising": 0,
}

# Model type, what the names of its classes begin with, their endings, configuration. The first class is kept.
FAMILIES = {
    "vit": (
        "vit",
        "ViT",
        ("ForImageClassification", "Model", "ForMaskedImageModeling"),
        {**SMALL, "encoder_stride": 8},
    ),
    "deit": (
        "deit",
        "DeiT",
        ("ForImageClassificationWithTeacher", "ForImageClassification", "Model", "ForMaskedImageModeling"),
        SMALL,
    ),
    "vit_msn": ("vit_msn", "ViTMSN", PLAIN, SMALL),
    "ijepa": ("ijepa", "IJepa", PLAIN, SMALL),
    "dinov2": ("dinov2", "Dinov2", PLAIN, {**SMALL, "mlp_ratio": 2, "use_swiglu_ffn": True}),
    "dinov2_with_registers": (
        "dinov2_with_registers",
        "Dinov2WithRegisters",
        ("ForImageClassification", "Model"),
        {**SMALL, "mlp_ratio": 2, "num_register_tokens": 3},
    ),
    "beit": (
        "beit",
        "Beit",
        ("ForImageClassification", "Model", "ForMaskedImageModeling"),
        {**SMALL, "use_relative_position_bias": True, "vocab_size": 20},
    ),
    "data2vec_vision": (
        "data2vec-vision",
        "Data2VecVision",
        PLAIN,
        {**SMALL, "use_shared_relative_position_bias": True},
    ),
    "clip": (
        "clip",
        "CLIP",
        ("Model", "ForImageClassification"),
        {"vision_config": SMALL, "text_config": TEXT, "projection_dim": 12},
    ),
    "clip_vision": (
        "clip_vision_model",
        "CLIPVision",
        ("ModelWithProjection", "Model"),
        {**SMALL, "projection_dim": 12},
    ),
    "clip_text": ("clip_text_model", "CLIPText", ("ModelWithProjection", "Model"), {**TEXT, "projection_dim": 12}),
    "metaclip_2": (
        "metaclip_2",
        "MetaClip2",
        ("Model", "ForImageClassification"),
        {"vision_config": SMALL, "text_config": {**TEXT, "eos_token_id": 2}, "projection_dim": 12},
    ),
    "metaclip_2_text": (
        "metaclip_2_text_model",
        "MetaClip2Text",
        ("ModelWithProjection", "Model"),
        {**TEXT, "projection_dim": 12},
    ),
    "siglip": ("siglip", "Siglip", ("Model", "ForImageClassification"), {"vision_config": SMALL, "text_config": TEXT}),
    "siglip_vision": ("siglip_vision_model", "SiglipVision", ("Model",), SMALL),
    "siglip_text": ("siglip_text_model", "SiglipText", ("Model",), TEXT),
    "aimv2": ("aimv2_vision_model", "Aimv2Vision", ("Model",), SMALL),
    "segformer": ("segformer", "Segformer", ("ForSemanticSegmentation", "ForImageClassification", "Model"), PYRAMID),
    "glpn": ("glpn", "GLPN", ("ForDepthEstimation", "Model"), {**PYRAMID, "image_size": 32}),
    "pvt_v2": ("pvt_v2", "PvtV2", ("ForImageClassification", "Model"), PYRAMID),
    "mobilevit": (
        "mobilevit",
        "MobileViT",
        ("ForImageClassification", "Model", "ForSemanticSegmentation"),
        {
            "image_size": 64,
            "hidden_sizes": [8, 12, 8],
            "neck_hidden_sizes": [4, 4, 8, 8, 12, 8, 16],
            "num_attention_heads": 2,
            "expand_ratio": 1.0,
            "mlp_ratio": 1.0,
            "aspp_out_channels": 8,
        },
    ),
    "mobilevitv2": (
        "mobilevitv2",
        "MobileViTV2",
        ("ForImageClassification", "Model", "ForSemanticSegmentation"),
        {
            "image_size": 64,
            "width_multiplier": 0.125,
            "n_attn_blocks": [1, 1, 1],
            "base_attn_unit_dims": [64, 128, 64],
            "expand_ratio": 1.0,
            "ffn_multiplier": 2,
            "aspp_out_channels": 8,
        },
    ),
    "levit": (
        "levit",
        "Levit",
        ("ForImageClassificationWithTeacher", "ForImageClassification", "Model"),
        {
            "image_size": 48,
            "hidden_sizes": [16, 16, 24],
            "num_attention_heads": [2, 2, 3],
            "depths": [1, 1, 1],
            "key_dim": [4, 4, 4],
        },
    ),
    "cvt": (
        "cvt",
        "Cvt",
        ("ForImageClassification", "Model"),
        {
            "image_size": 32,
            "embed_dim": [8, 12],
            "num_heads": [1, 2],
            "depth": [1, 2],
            "patch_sizes": [7, 3],
            "patch_stride": [4, 2],
            "patch_padding": [2, 1],
            "mlp_ratio": [2.0, 2.0],
            "attention_drop_rate": [0.0, 0.0],
            "drop_rate": [0.0, 0.0],
            "drop_path_rate": [0.0, 0.0],
            "qkv_bias": [True, True],
            "cls_token": [False, True],
            "qkv_projection_method": ["dw_bn", "dw_bn"],
            "kernel_qkv": [3, 3],
            "padding_kv": [1, 1],
            "stride_kv": [2, 2],
            "padding_q": [1, 1],
            "stride_q": [1, 1],
        },
    ),
    "swin": ("swin", "Swin", ("ForImageClassification", "Model", "ForMaskedImageModeling"), SWIN),
    "swinv2": ("swinv2", "Swinv2", ("ForImageClassification", "Model", "ForMaskedImageModeling"), SWIN),
    "hiera": (
        "hiera",
        "Hiera",
        ("ForImageClassification", "Model"),
        {
            "image_size": [32, 32],
            "embed_dim": 8,
            "depths": [1, 2],
            "num_heads": [1, 2],
            "num_query_pool": 1,
            "masked_unit_size": [4, 4],
            "masked_unit_attention": [True, False],
            "mlp_ratio": 2.0,
        },
    ),
    "vitpose": (
        "vitpose",
        "VitPose",
        ("ForPoseEstimation",),
        {
            "backbone_config": {
                **SMALL,
                "model_type": "vitpose_backbone",
                "image_size": [16, 24],
                "patch_size": [8, 8],
                "mlp_ratio": 2,
                "out_indices": [2],
            }
        },
    ),
    "depth_anything": (
        "depth_anything",
        "DepthAnything",
        ("ForDepthEstimation",),
        {
            "backbone_config": {
                **SMALL,
                "model_type": "dinov2",
                "mlp_ratio": 2,
                "out_indices": [1, 2],
                "reshape_hidden_states": False,
            },
            "patch_size": 8,
            "reassemble_hidden_size": 16,
            "reassemble_factors": [2, 0.5],
            "neck_hidden_sizes": [4, 8],
            "fusion_hidden_size": 8,
            "head_hidden_size": 4,
        },
    ),
    "rt_detr": ("rt_detr", "RTDetr", ("ForObjectDetection", "Model"), DETR),
    "rt_detr_v2": ("rt_detr_v2", "RTDetrV2", ("ForObjectDetection", "Model"), {**DETR, "decoder_method": "discrete"}),
    "vit_mae": (
        "vit_mae",
        "ViTMAE",
        ("ForPreTraining", "Model"),
        {
            **SMALL,
            "image_size": 24,
            "mask_ratio": 0.6,
            "decoder_hidden_size": 8,
            "decoder_num_attention_heads": 2,
            "decoder_num_hidden_layers": 1,
            "decoder_intermediate_size": 12,
        },
    ),
    "dinat": (
        "dinat",
        "Dinat",
        ("ForImageClassification", "Model"),
        {
            "image_size": [29, 32],
            "embed_dim": 8,
            "depths": [2, 1],
            "num_heads": [2, 4],
            "kernel_size": 3,
            "dilations": [[1, 2], [2]],
            "mlp_ratio": 2.0,
            "layer_scale_init_value": 0.5,
        },
    ),
    "dinov3_vit": ("dinov3_vit", "DINOv3ViT", ("Model",), {**SMALL, "num_register_tokens": 2, "use_gated_mlp": True}),
}


def neighbourhood_attention(self, hidden_states, output_attentions=False):
    """In the place of NATTEN's kernels, which have no build for CPUs of today: on each axis a place sees kernel_size
    places, dilation apart, around it or, at an edge, those of the same remainder that are nearest to the edge. The bias
    is chosen by how many of those lie between key and query."""
    size, step = self.kernel_size, self.dilation
    batch, *sides, width = hidden_states.shape
    ids, biases = [], []
    for n in sides:
        place = torch.arange(n)
        rest, own = place % step, place // step
        count = (n - rest + step - 1) // step
        begin = torch.minimum(own - size // 2, count - size).clamp(min=0)
        seen = begin[:, None] + torch.arange(size)
        ids.append(rest[:, None] + step * seen)
        biases.append(seen - own[:, None] + size - 1)

    def of_heads(linear):
        return linear(hidden_states).view(batch, *sides, self.num_attention_heads, self.attention_head_size)

    def around(x):
        return x[:, ids[0][:, None, :, None], ids[1][None, :, None, :]]

    q, k, v = of_heads(self.query), around(of_heads(self.key)), around(of_heads(self.value))
    bias = self.rpb[:, biases[0][:, None, :, None], biases[1][None, :, None, :]]
    scores = torch.einsum("bijhd,bijklhd->bhijkl", q, k) / self.attention_head_size**0.5 + bias
    weights = scores.flatten(-2).softmax(-1).view(scores.shape)
    return (torch.einsum("bhijkl,bijklhd->bijhd", weights, v).reshape(batch, *sides, width),)


def without_natten():
    """DiNAT runs without the package, whose kernels are replaced by their formula."""
    dinat = transformers.models.dinat.modeling_dinat
    dinat.requires_backends = lambda *_: None
    dinat.NeighborhoodAttention.forward = neighbourhood_attention


def make(family, ending, options, generator):
    """A model with parameters drawn wide, in float32."""
    model_type, prefix, _, own = FAMILIES[family]
    if "vision_config" in own:
        options = {
            "vision_config": {**own["vision_config"], **options},
            "text_config": {**own["text_config"], **options.get("text_config", {})},
        }
        options["vision_config"].pop("text_config", None)
    if "backbone_config" in own:
        options = {**options, "backbone_config": {**own["backbone_config"], **options.get("backbone_config", {})}}
    config = {k: v for k, v in {**own, **options, "num_labels": 3}.items() if v is not None}
    transformers.set_seed(SEED)
    without_natten()
    config = AutoConfig.for_model(model_type, **config)
    config._attn_implementation = "eager"
    model = getattr(transformers, prefix + ending)(config).eval()
    redraw(model, generator)
    return model


def redraw(model, generator):
    """Wide random parameters: matrices at 1.2 / sqrt(inputs), norms around 1, batch norms with statistics of their own."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if p.dim() < 2:
                start = 1.0 if name.endswith("weight") or "scale" in name or "lambda" in name else 0.0
                p.copy_(start + 0.3 * noise)
            elif "token" in name or "position" in name or "embedding" in ("." + name).rsplit(".", 2)[-2]:
                p.copy_(0.5 * noise)
            else:
                p.copy_(1.2 * noise / (p.numel() / p.shape[0]) ** 0.5)
        for name, b in model.named_buffers():
            if name.endswith((".weight", ".bias")):  # of frozen batch norms
                b.copy_(b + 0.3 * torch.randn(b.shape, generator=generator))
            if name.endswith("running_mean"):
                b.copy_(0.3 * torch.randn(b.shape, generator=generator))
            if name.endswith("running_var"):
                b.copy_(0.5 + torch.rand(b.shape, generator=generator))


def sides(config):
    """Height and width of the model's images, and their channels."""
    own, config = config, getattr(config, "vision_config", getattr(config, "backbone_config", config))
    size = getattr(own, "image_size", None) or getattr(config, "image_size", None) or 64
    return (*(size if isinstance(size, (list, tuple)) else (size, size)), config.num_channels)


def inputs_of(model, batch, generator):
    inputs = {}
    if "Text" not in type(model).__name__:
        height, width, channels = sides(model.config)
        inputs["pixel_values"] = torch.randn(batch, channels, height, width, generator=generator)
    if "MAE" in type(model).__name__:
        patches = model.vit.embeddings if hasattr(model, "vit") else model.embeddings
        inputs["noise"] = torch.rand(batch, patches.patch_embeddings.num_patches, generator=generator)
    config = getattr(model.config, "text_config", model.config)
    if hasattr(config, "max_position_embeddings") and "ForImage" not in type(model).__name__:
        # One text more than images; ends of text behind each, at places of their own.
        tokens = config.max_position_embeddings - batch % 2 * 3
        ids = torch.randint(2, min(config.vocab_size, 38), (batch + 1, tokens), generator=generator)
        for i in range(batch + 1):
            is_largest = config.eos_token_id == 2 and "MetaClip2" not in type(model).__name__
            ids[i, tokens - 1 - i :] = config.vocab_size - 1 if is_largest else config.eos_token_id
        inputs["input_ids"] = ids
    return inputs


def write_all(families, draw, packages=()):
    """Writes the families that the command line names, or all of them; draw(family, generator) gives a model and the
    inputs of its call. packages: what else makes these files, as pairs of a module and its version."""
    transformers.utils.logging.disable_progress_bar()
    for module, version in [(transformers, PINNED["transformers"]), (torch, PINNED["torch"]), *packages]:
        have = module.__version__.split("+")[0]
        if have != version:
            sys.exit(f"{module.__name__} {version} makes these files, found {have}")
    for family in sys.argv[1:] or families:
        model, inputs = draw(family, torch.Generator().manual_seed(SEED))
        wanted, difference = reference(model, lambda m, given=inputs: outputs_of(m, OUTPUTS, **given))
        folder = os.path.join(HERE, "vision", family)
        model.save_pretrained(folder)
        tensors = {f"in.{k}": narrow(v) for k, v in inputs.items()}
        tensors.update({f"out.{k}": v.float().clone() for k, v in wanted.items()})
        save_file({**tensors, "difference": torch.tensor([difference])}, os.path.join(folder, "calls.safetensors"))
        print(family, f"{difference:.1e}")


def draw_trial(family, generator):
    model = make(family, FAMILIES[family][2][0], {}, generator)
    return model, inputs_of(model, 2, generator)


if __name__ == "__main__":
    write_all(FAMILIES, draw_trial)
