"""Trains small models on MQAR and saves them as transformers does, one folder each:

    pip install torch==2.15.0 transformers==5.23.0 safetensors numpy
    python tests/bench/mqar/train.py FOLDER [--models attention,mamba2,...] [--steps 3000] [--rate 0.002]

Two layers of 64 channels, trained on a CPU in three to eight minutes each; Mamba, whose reference code goes token by token, takes most of an hour
and is only trained when named. The delta rule learns late: --models gated_delta --steps 8000 --rate 0.003 (20 minutes). Weights are saved in
bfloat16. Then tests/bench/mqar/evaluate.py.
"""

import argparse
import os
import sys
import time

import numpy as np
import torch
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    Mamba2Config,
    MambaConfig,
    MistralConfig,
    Qwen3NextConfig,
    RecurrentGemmaConfig,
)

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from task import VOCAB, sequences  # noqa: E402

COMMON = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
ATTENTION = {
    "intermediate_size": 128,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": True,
}
MODELS = {
    "attention": lambda: LlamaConfig(**ATTENTION, **COMMON),
    "window": lambda: MistralConfig(sliding_window=16, **ATTENTION, **COMMON),
    "mamba": lambda: MambaConfig(state_size=16, conv_kernel=4, expand=2, **COMMON),
    "mamba2": lambda: Mamba2Config(
        state_size=32,
        num_heads=4,
        head_dim=32,
        n_groups=1,
        conv_kernel=4,
        expand=2,
        chunk_size=64,
        tie_word_embeddings=True,
        **COMMON,
    ),
    "gated_delta": lambda: Qwen3NextConfig(
        intermediate_size=128,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=32,
        linear_num_key_heads=2,
        linear_num_value_heads=2,
        linear_key_head_dim=32,
        linear_value_head_dim=32,
        num_experts=0,
        mlp_only_layers=[0, 1],
        layer_types=["linear_attention"] * 2,
        tie_word_embeddings=True,
        **COMMON,
    ),
    "rg_lru": lambda: RecurrentGemmaConfig(
        intermediate_size=256,
        num_attention_heads=2,
        lru_width=64,
        attention_window_size=16,
        block_types=["recurrent"],
        max_position_embeddings=1024,
        **COMMON,
    ),
}
# (pairs, tokens), from easy to hard; a batch is of one of those that its step has reached.
LESSONS = ((2, 32), (4, 32), (8, 32), (8, 64), (16, 64), (32, 128))


def train(name, folder, steps, rate, count, device):
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(MODELS[name](), attn_implementation="eager").to(device).train()
    rng, begun = np.random.RandomState(7), time.time()
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        reached = min(len(LESSONS), 1 + step * 2 * len(LESSONS) // steps)
        pairs, length = LESSONS[rng.randint(reached)]
        ids, answers = (torch.from_numpy(v).to(device) for v in sequences(rng, count * 32 // length, pairs, length))
        logits = model(input_ids=ids, use_cache=False).logits
        asked = answers >= 0
        loss = torch.nn.functional.cross_entropy(logits[asked].float(), answers[asked])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if (step + 1) % 200 == 0:
            recall = (logits[asked].argmax(-1) == answers[asked]).float().mean().item()
            print(
                f"{name}: step {step + 1}, {pairs} pairs, {length} tokens, loss {loss.item():.3f}, recall {recall:.3f}, {time.time() - begun:.0f} s",
                flush=True,
            )
    model.to(torch.bfloat16).save_pretrained(os.path.join(folder, name))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--models", default="attention,window,mamba2,gated_delta,rg_lru")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--count", type=int, default=64, help="sequences of 32 tokens in a batch; fewer of longer ones")
    arguments = parser.parse_args()
    os.makedirs(arguments.folder, exist_ok=True)
    for name in arguments.models.split(","):
        train(
            name,
            arguments.folder,
            arguments.steps,
            arguments.rate,
            arguments.count,
            "cuda" if torch.cuda.is_available() else "cpu",
        )


if __name__ == "__main__":
    main()
