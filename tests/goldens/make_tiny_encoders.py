#!/usr/bin/env python3
"""Writes the tiny random checkpoints of encoders, tests/goldens/encoders/NAME_TASK, saved by the original modelling code (transformers 5.23.0, torch 2.15.0,
safetensors 0.8.0):

  config.json, model.safetensors   as save_pretrained writes them, float32
  calls.safetensors                two calls: inputs `plain.ids` and `full.ids`, `full.token_type_ids`, `full.attention_mask` as far as the model takes them, int32;
                                   outputs under the same prefixes (`plain.last_hidden_state`, `full.logits` ...) from a float64 run with eager attention, without
                                   the batch axis; `difference` float32 [1]: largest |float32 run - float64 run| over the outputs, relative to the largest value

  model-f32.gguf                   of some: what llama.cpp's converter makes of it

  OMP_NUM_THREADS=1 python3 tests/goldens/make_tiny_encoders.py LLAMA_CPP [name ...]      a folder of llama.cpp's sources (tests/bench/peer.sh gets them)
"""

import os
import random
import shutil
import sys
import tempfile

import torch
import transformers
from checkpoint_code import JinaBertConfig
from make_tiny_models import PINNED, SEED, redraw_linear
from safetensors.torch import save_file
from transformers import AutoConfig
from vary_models import to_gguf

HERE = os.path.dirname(os.path.abspath(__file__))
SMALL = {
    "vocab_size": 67,
    "hidden_size": 24,
    "intermediate_size": 28,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 48,
    "type_vocab_size": 2,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
T5 = {
    "d_model": 24,
    "d_ff": 28,
    "d_kv": 10,
    "num_layers": 2,
    "num_heads": 2,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16,
    "hidden_size": None,
    "intermediate_size": None,
    "num_hidden_layers": None,
    "num_attention_heads": None,
    "max_position_embeddings": None,
    "type_vocab_size": None,
}
CLASSES = {
    "base": "AutoModel",
    "encoder": "AutoModelForTextEncoding",
    "masked_lm": "AutoModelForMaskedLM",
    "sequence": "AutoModelForSequenceClassification",
    "tokens": "AutoModelForTokenClassification",
    "answers": "AutoModelForQuestionAnswering",
    "pretraining": "AutoModelForPreTraining",
}
ALL = ("base", "masked_lm", "sequence", "tokens", "answers")
OUTPUTS = ("last_hidden_state", "pooler_output", "logits", "prediction_logits", "start_logits", "end_logits")

# Model type, configuration beyond SMALL, tasks; the first task is kept, but of families that are like another.
FAMILIES = {
    "bert": ("bert", {}, (*ALL, "pretraining")),
    "roberta": ("roberta", {"type_vocab_size": 1}, ("sequence", "base", "masked_lm", "tokens", "answers")),
    "xlm_roberta": ("xlm-roberta", {}, ALL),
    "camembert": ("camembert", {}, ALL),
    "data2vec_text": ("data2vec-text", {}, ALL),
    "electra": ("electra", {"embedding_size": 16}, ("pretraining", *ALL)),
    "ernie": ("ernie", {}, ALL),
    "distilbert": (
        "distilbert",
        {"dim": 24, "hidden_dim": 28, "n_layers": 2, "n_heads": 2},
        ("answers", "base", "masked_lm", "sequence", "tokens"),
    ),
    "albert": (
        "albert",
        {"embedding_size": 16, "num_hidden_layers": 3, "num_hidden_groups": 2},
        ("masked_lm", "base", "sequence", "tokens", "answers"),
    ),
    "rembert": (
        "rembert",
        {"input_embedding_size": 16, "output_embedding_size": 20},
        ("tokens", "base", "masked_lm", "sequence", "answers"),
    ),
    "nomic_bert": ("nomic_bert", {}, ("base", "masked_lm", "sequence", "tokens")),
    "gte": ("gte", {}, ("base", "masked_lm", "sequence", "tokens")),
    "jina_v3": ("jina_embeddings_v3", {}, ALL),
    "modernbert": ("modernbert", {"num_hidden_layers": 4, "local_attention": 8}, ALL),
    "eurobert": ("eurobert", {"num_key_value_heads": 1}, ("sequence", "base", "masked_lm", "tokens")),
    "mpnet": ("mpnet", {"type_vocab_size": None}, ALL),
    "roformer": ("roformer", {"embedding_size": 16}, ("masked_lm", "base", "sequence", "tokens", "answers")),
    "megatron_bert": ("megatron-bert", {}, (*ALL, "pretraining")),
    "xlm_roberta_xl": ("xlm-roberta-xl", {}, ("sequence", "base", "masked_lm", "tokens", "answers")),
    "roberta_prelayernorm": ("roberta-prelayernorm", {}, ("tokens", "base", "masked_lm", "sequence", "answers")),
    "t5": ("t5", {**T5, "feed_forward_proj": "relu"}, ("encoder", "tokens")),
    "umt5": ("umt5", {**T5, "feed_forward_proj": "gated-gelu"}, ("encoder", "tokens")),
    "fnet": ("fnet", {"pad_token_id": 3}, ("base", "masked_lm", "sequence", "tokens", "answers")),
    "nystromformer": (
        "nystromformer",
        {"segment_means_seq_len": 24, "num_landmarks": 4, "conv_kernel_size": 5},
        ("base", "masked_lm", "sequence", "tokens", "answers"),
    ),
    "nystromformer_whole": (
        "nystromformer",
        {"segment_means_seq_len": 8, "num_landmarks": 8, "conv_kernel_size": 5},
        ("masked_lm",),
    ),
    "longformer": ("longformer", {"attention_window": 6}, ("sequence", "base", "masked_lm", "tokens", "answers")),
    "jina_v2": ("jina_bert", {"num_attention_heads": 3}, ALL),
    "jina_v2_norms": ("jina_bert", {"num_attention_heads": 3, "has_key_norms": True}, ALL),
    "deberta": (
        "deberta",
        {
            "relative_attention": True,
            "max_relative_positions": 12,
            "pos_att_type": "c2p|p2c",
            "position_biased_input": False,
        },
        ("tokens", "base", "masked_lm", "sequence", "answers"),
    ),
    "deberta_v2": (
        "deberta-v2",
        {
            "type_vocab_size": 0,
            "relative_attention": True,
            "position_buckets": 8,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": "p2c|c2p",
            "position_biased_input": False,
            "conv_kernel_size": 3,
            "conv_act": "gelu",
        },
        ("sequence", "base", "masked_lm", "tokens", "answers"),
    ),
    "big_bird": (
        "big_bird",
        {"attention_type": "block_sparse", "block_size": 4, "num_random_blocks": 1},
        ("tokens", "base", "masked_lm", "sequence"),
    ),
}
NOT_KEPT = ("xlm_roberta", "camembert", "data2vec_text", "ernie")
# With what llama.cpp's converter wants to find in config.json beyond what transformers writes.
IN_GGUF = {
    "bert": {},
    "modernbert": {},
    "nomic_bert": {
        "n_positions": 8192,
        "activation_function": "swiglu",
        "causal": False,
        "qkv_proj_bias": False,
        "mlp_fc1_bias": False,
        "mlp_fc2_bias": False,
        "prenorm": False,
        "rotary_emb_fraction": 1.0,
        "rotary_emb_interleaved": False,
        "rotary_emb_scale_base": None,
    },
}
HAS_TYPES = (
    "bert",
    "roberta",
    "xlm-roberta",
    "camembert",
    "data2vec-text",
    "electra",
    "ernie",
    "albert",
    "rembert",
    "nomic_bert",
    "gte",
    "jina_embeddings_v3",
    "big_bird",
    "longformer",
    "nystromformer",
    "fnet",
    "deberta",
    "deberta-v2",
    "roformer",
    "megatron-bert",
    "xlm-roberta-xl",
    "roberta-prelayernorm",
)


def make(family, task, options, generator):
    """A model with parameters drawn wide, in float32."""
    model_type, own, _ = FAMILIES[family]
    config = {**SMALL, **own, **options, "num_labels": 2 if task == "answers" else 3}
    config = {k: v for k, v in config.items() if v is not None}
    transformers.set_seed(SEED)
    made = JinaBertConfig(**config) if model_type == "jina_bert" else AutoConfig.for_model(model_type, **config)
    model = getattr(transformers, CLASSES[task]).from_config(made, attn_implementation="eager").eval()
    redraw_linear(model, generator)
    mend(model)
    return model


def filled_up(model, inputs):
    """Nystromformer's texts have one length, where it has landmarks: behind a text stand tokens that nobody sees."""
    if model.config.num_landmarks == model.config.segment_means_seq_len:
        return inputs
    n = model.config.segment_means_seq_len - len(inputs["ids"])
    more = {"ids": model.config.pad_token_id, "token_type_ids": 0, "attention_mask": 0}
    inputs = {"attention_mask": torch.ones_like(inputs["ids"]), **inputs}
    return {k: torch.cat([v, torch.full((n,), more[k], dtype=v.dtype)]) for k, v in inputs.items()}


def mend(model):
    """This release of transformers hands over a mask with a row for each token, where landmarks take one row, which is the same for all. RoFormer's table
    of sines and cosines stays what it is."""
    for module in model.modules():
        if type(module).__name__ == "NystromformerSelfAttention":
            module.register_forward_pre_hook(
                lambda _, args: (args[0], None if args[1] is None else args[1][:, :, :1], *args[2:])
            )
        if type(module).__name__ == "RoFormerSinusoidalPositionalEmbedding":
            module.weight.data = module.create_weight()


def run(model, inputs):
    tokens = len(inputs["ids"])
    if model.config.model_type == "nystromformer":
        inputs = filled_up(model, inputs)
    with torch.no_grad():
        out = model(**{{"ids": "input_ids"}.get(k, k): v.long()[None] for k, v in inputs.items()})
    of_text = ("pooler_output", "logits") if "ForSequence" in type(model).__name__ else ("pooler_output",)
    given = {"logits" if k == "prediction_logits" else k: out[k] for k in OUTPUTS if k in out and out[k] is not None}
    return {k: (v if k in of_text else v[0, :tokens]).double().contiguous() for k, v in given.items()}


def calls(model, tokens, generator, rng):
    """The same ids without and with what may be left out; ids are none of the special ones."""
    ids = torch.randint(3, model.config.vocab_size, (tokens,), generator=generator).to(torch.int32)
    full = {"ids": ids}
    if model.config.model_type in HAS_TYPES and model.config.type_vocab_size:
        full["token_type_ids"] = torch.randint(0, model.config.type_vocab_size, (tokens,), generator=generator).to(
            torch.int32
        )
    if model.config.model_type != "fnet":
        # A token whose window holds nothing that is seen gets NaN from transformers.
        least = tokens - model.config.local_attention // 2 if model.config.model_type == "modernbert" else 1
        seen = rng.randint(max(1, least), max(1, tokens - 1))
        full["attention_mask"] = (torch.arange(tokens) < seen).to(torch.int32)
    plain = {"ids": ids}
    if model.config.model_type == "longformer":
        full["global_attention_mask"] = (torch.rand(tokens, generator=generator) < 0.2).to(torch.int32)
        if "Answering" in type(model).__name__:
            plain["global_attention_mask"] = full["global_attention_mask"]
    return {"plain": plain, "full": full}


def compute(model, given):
    """Outputs of a float64 run, and how far float32 is from them."""
    outputs, difference = {}, 0.0
    for name, inputs in given.items():
        narrow = run(model.float(), inputs)
        wide = run(model.double(), inputs)
        model.float()
        for k, v in wide.items():
            outputs[f"{name}.{k}"] = v
            difference = max(difference, float((narrow[k] - v).abs().max() / v.abs().max()))
    return outputs, difference


def gguf_of(sources, model, out, more):
    sys.path.insert(0, sources)
    import conversion.bert

    conversion.bert.NomicBertModel._is_tokenizer_xlmroberta = lambda self: False
    return to_gguf(sources, model, out, more)


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    for package, version in PINNED.items():
        have = {"transformers": transformers, "torch": torch}[package].__version__.split("+")[0]
        if have != version:
            sys.exit(f"{package} {version} makes these files, found {have}")
    for family, (_, _, tasks) in FAMILIES.items():
        if family in NOT_KEPT or (len(sys.argv) > 2 and family not in sys.argv[2:]):
            continue
        folder = os.path.join(HERE, "encoders", family)
        generator, rng = torch.Generator().manual_seed(SEED), random.Random(SEED)
        model = make(family, tasks[0], {}, generator)
        given = calls(model, 19, generator, rng)
        model.save_pretrained(folder)
        outputs, difference = compute(model, given)
        tensors = {f"{call}.{k}": v for call, inputs in given.items() for k, v in inputs.items()}
        tensors.update({k: v.float() for k, v in outputs.items()}, difference=torch.tensor([difference]))
        save_file({k: v.contiguous().clone() for k, v in tensors.items()}, os.path.join(folder, "calls.safetensors"))
        if family in IN_GGUF:
            with tempfile.TemporaryDirectory() as scratch:
                copy = shutil.copytree(folder, scratch + "/model", ignore=shutil.ignore_patterns("*.gguf"))
                if why := gguf_of(sys.argv[1], copy, folder + "/model-f32.gguf", IN_GGUF[family]):
                    sys.exit(f"{family}: {why}")
        print(family, tasks[0], f"{difference:.1e}")


if __name__ == "__main__":
    main()
