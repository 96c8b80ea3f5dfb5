#!/usr/bin/env python3
"""Writes tests/goldens/tiny_lora*: adapters of tiny_llama and tiny_mistral as the package peft saves them, and the logits of the adapted model.

  python3 -m pip install torch==2.15.0 transformers==5.23.0 safetensors==0.8.0 peft==0.21.2 accelerate==1.15.0
  OMP_NUM_THREADS=1 python3 tests/goldens/make_tiny_lora.py

Each folder holds adapter_config.json and adapter_model.safetensors, and in logits.safetensors float32 logits [tokens, vocab] of a float64
run over the ids of the adapted model.
"""

import os

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

ADAPTERS = {
    "tiny_lora": (
        "tiny_llama",
        LoraConfig(
            r=4,
            lora_alpha=10,
            target_modules=["q_proj", "v_proj", "down_proj"],
            rank_pattern={"down_proj": 2},
            alpha_pattern={"layers.1.self_attn.q_proj": 3},
        ),
    ),
    "tiny_lora_embedding": (
        "tiny_mistral",
        LoraConfig(r=3, lora_alpha=6, use_rslora=True, target_modules=["embed_tokens", "o_proj"]),
    ),
    # Modules trained as a whole; the base has embedding and output matrix in common.
    "tiny_lora_whole": (
        "tiny_llama",
        LoraConfig(r=2, lora_alpha=2, target_modules=["q_proj"], modules_to_save=["lm_head", "input_layernorm"]),
    ),
    "tiny_lora_whole_embedding": (
        "tiny_llama",
        LoraConfig(r=2, lora_alpha=2, target_modules=["k_proj"], modules_to_save=["embed_tokens"]),
    ),
}


def main():
    os.chdir(os.path.dirname(os.path.abspath(__file__)))
    for folder, (name, config) in ADAPTERS.items():
        ids = load_file(os.path.join(name, "ids.safetensors"))["ids"].long()
        generator = torch.Generator().manual_seed(7)
        base = AutoModelForCausalLM.from_pretrained(name, attn_implementation="eager", dtype=torch.float32)
        before = base.double()(input_ids=ids[None], use_cache=False).logits[0]
        model = get_peft_model(base.float(), config)
        for parameter_name, parameter in model.named_parameters():
            if "lora_" in parameter_name:
                parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
            elif "modules_to_save" in parameter_name:
                parameter.data = parameter.data + 0.1 * torch.randn(parameter.shape, generator=generator)
        model.save_pretrained(folder)
        if os.path.exists(os.path.join(folder, "README.md")):
            os.remove(os.path.join(folder, "README.md"))
        with torch.no_grad():
            logits = model.double().eval()(input_ids=ids[None], use_cache=False).logits[0]
        save_file({"logits": logits.float().contiguous()}, os.path.join(folder, "logits.safetensors"))
        print(
            f"{folder}: the adapter changes logits by up to {(logits - before).abs().max():.2f} of {logits.abs().max():.2f}"
        )


if __name__ == "__main__":
    main()
