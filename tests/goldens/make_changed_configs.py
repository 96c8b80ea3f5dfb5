#!/usr/bin/env python3
"""Writes tests/goldens/changed_configs.safetensors: what transformers computes from the tiny checkpoints of this folder when an option of their config.json is
another one. A tensor is called FOLDER:NAME of the change (the table below; tests/converter/facts_test.cpp has the same) and holds the logits, or for models without
a head the last hidden states, of the first 24 ids of FOLDER/ids.safetensors; float32 [tokens, width], from a float64 run with eager attention.

transformers 5.23.0, torch 2.15.0, safetensors 0.8.0.

  OMP_NUM_THREADS=1 python3 tests/goldens/make_changed_configs.py
"""

import json
import shutil
import tempfile
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
TOKENS = 24
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
HYBRIDS = (
    "jamba",
    "bamba",
    "granite_hybrid",
    "falcon_h1",
    "qwen3_next",
    "qwen3_5",
    "olmo_hybrid",
    "kimi_linear",
    "mamba",
    "mamba2",
    "recurrent_gemma",
    "minimax",
    "zamba2",
    "nemotron_h",
)
ACTIVATIONS = {"recurrent_gemma": "hidden_activation", "nemotron_h": "mamba_hidden_act"}
CHANGES = [(f"tiny_{name}", "gelu", {ACTIVATIONS.get(name, "hidden_act"): "gelu"}) for name in HYBRIDS]
CHANGES += [(f"tiny_{name}", "yarn", {"rope_parameters": YARN}) for name in ("qwen3_next", "qwen3_5", "zamba2")]
CHANGES += [(f"tiny_{name}", "both_ways", {"is_causal": False}) for name in ("qwen3", "mistral", "qwen2", "llama")]


def main():
    assert transformers.__version__ == "5.23.0", transformers.__version__
    out = {}
    for folder, name, change in CHANGES:
        config = json.loads((HERE / folder / "config.json").read_text())
        for key, value in change.items():
            config[key] = {**config[key], **value} if isinstance(value, dict) else value
        ids = load_file(HERE / folder / "ids.safetensors")["ids"][:TOKENS].long()
        with tempfile.TemporaryDirectory() as tmp:
            (Path(tmp) / "config.json").write_text(json.dumps(config))
            shutil.copy(HERE / folder / "model.safetensors", tmp)
            kind = transformers.AutoModel if name == "both_ways" else transformers.AutoModelForCausalLM
            model = kind.from_pretrained(tmp, dtype=torch.float64, attn_implementation="eager").eval()
        if hasattr(model, "set_experts_implementation"):
            model.set_experts_implementation("eager")
        with torch.no_grad():
            result = model(input_ids=ids[None], use_cache=False)
        out[f"{folder}:{name}"] = (
            (result.last_hidden_state if name == "both_ways" else result.logits)[0].float().contiguous()
        )
        print(folder, name, tuple(out[f"{folder}:{name}"].shape), float(out[f"{folder}:{name}"].abs().max()))
    save_file(out, HERE / "changed_configs.safetensors")


if __name__ == "__main__":
    main()
