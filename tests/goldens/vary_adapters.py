#!/usr/bin/env python3
"""Adapts random checkpoints with peft and compares all logits with those of the merged file and of the adapter beside its base.

  OMP_NUM_THREADS=1 python3 tests/goldens/vary_adapters.py build/release/bin [--rounds 2] [--seed 1] [name ...]

Packages are those of make_tiny_lora.py; models those of make_tiny_models.py, adapted at random: which modules, ranks and scales, with rslora or without,
ranks and alphas by pattern. Prints one line a model; ends with exit code 1 when one is beyond the tolerance. A refusal that names a module counts as right,
and the adapter is drawn anew without that module.
"""

import argparse
import copy
import os
import random
import re
import subprocess
import sys
import tempfile

import torch
import transformers
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from vary_models import varied
from make_tiny_models import MODELS, logits_of, redraw, redraw_linear

NAMES = (
    "gemma2",
    "gemma3",
    "llama",
    "mistral",
    "qwen3",
    "phi3",
    "mamba",
    "qwen3_next",
    "smollm3",
    "granite",
    "mamba2",
    "exaone4",
)


def adapted(model, rng, generator, without):
    # In Mamba peft refuses out_proj, and transformers multiplies by dt_proj's weight without its adapter; of a mixture it takes these for the experts.
    ends = (
        ("out_proj", "dt_proj")
        if "mamba" in model.config.model_type
        else ("gate_proj", "up_proj", "down_proj")
        if hasattr(model.config, "num_experts")
        else ()
    )
    without = without | {n for n, _ in model.named_modules() if n.endswith(ends)}
    modules = sorted(n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and n not in without)
    kinds = sorted({n.rsplit(".", 1)[-1] for n in modules})
    chosen = rng.sample(kinds, rng.randint(1, len(kinds)))
    targets = [n for n in modules if n.rsplit(".", 1)[-1] in chosen]
    config = LoraConfig(
        r=rng.choice((1, 3, 8, 33)),
        lora_alpha=rng.choice((1, 5, 16)),
        use_rslora=rng.random() < 0.5,
        target_modules=targets,
        rank_pattern={rng.choice(targets): 5},
        alpha_pattern={rng.choice(targets): 3},
    )
    model = get_peft_model(model, config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = 0.15 * torch.randn(parameter.shape, generator=generator)
    return model, f"{chosen} r {config.r} alpha {config.lora_alpha} rslora {config.use_rslora}"


def check(folder, rng, name):
    config = MODELS.get("tiny_" + name)
    if config is None:
        kind, options = varied(rng, name)
        config = AutoConfig.for_model(kind, **options)
    generator = torch.Generator().manual_seed(rng.randrange(1 << 30))
    without = set()
    while True:
        model = transformers.AutoModelForCausalLM.from_config(
            copy.deepcopy(config), dtype=torch.float32, attn_implementation="eager"
        )
        if hasattr(model, "set_experts_implementation"):
            model.set_experts_implementation("eager")
        (redraw if "tiny_" + name in MODELS else redraw_linear)(model, generator)
        model.eval()
        ids = torch.randint(0, config.vocab_size, (40,), generator=generator)
        with tempfile.TemporaryDirectory() as scratch:
            model.save_pretrained(scratch + "/model")
            before = logits_of(model, ids)
            model, text = adapted(model, rng, generator, without)
            model.save_pretrained(scratch + "/adapter")
            model.eval()
            single = logits_of(model, ids)
            exact = logits_of(model.double(), ids)
            save_file({"ids": ids.int()}, scratch + "/in")
            runs = [
                ["runnel-convert", scratch + "/model", "-o", scratch + "/base.rnl"],
                ["runnel-convert", scratch + "/model", "--lora", scratch + "/adapter", "-o", scratch + "/merged.rnl"],
                [
                    "runnel-convert",
                    scratch + "/model",
                    "--adapter",
                    scratch + "/adapter",
                    "-o",
                    scratch + "/adapter.rnl",
                ],
                ["runnel", "eval", scratch + "/merged.rnl", "--in", scratch + "/in", "--out", f"{scratch}/merged"],
            ]
            runs += [
                [
                    "runnel",
                    "eval",
                    scratch + "/base.rnl",
                    "--adapter",
                    scratch + "/adapter.rnl",
                    "--in",
                    scratch + "/in",
                    "--out",
                    f"{scratch}/out{c}",
                    "--chunk",
                    str(c),
                ]
                for c in (1, 7, 64)
            ]
            refused, is_merged = None, True
            for run in runs:
                done = subprocess.run([f"{folder}/{run[0]}", *run[1:]], capture_output=True, text=True)
                if (
                    done.returncode and "lm_head" in done.stderr and "--lora" in run
                ):  # tied: nothing can be merged into it
                    is_merged = False
                    del runs[3]
                elif done.returncode:
                    refused = re.search(r'pair for "([^"]+)" cannot be added at run time: ([^;]*)', done.stderr)
                    if refused:
                        break
                    print(f"FAILED {name} {text}: {done.stderr.strip()[-300:]}", flush=True)
                    return False
            if refused:
                print(f"  {name}: {refused[1]} refused ({refused[2]})", flush=True)
                kind_of = refused[1].rsplit(".", 1)[-1]
                without |= {n for n, _ in model.base_model.model.named_modules() if n.rsplit(".", 1)[-1] == kind_of}
                continue
            worst = {
                k: float((load_file(f"{scratch}/{k}")["logits"] - exact).abs().max())
                for k in ("merged", "out1", "out7", "out64")[not is_merged :]
            }
        largest, noise = float(exact.abs().max()), float((single - exact).abs().max())
        is_close = max(worst.values()) <= max(1e-4 * largest, 10 * noise)
        print(
            f"{'ok' if is_close else 'FAILED'} {name} {text}: off by {max(worst.values()):.1e} of {largest:.1f}, float32 by {noise:.1e}, adapter changes {float((exact - before).abs().max()):.1f}"
            f"{'' if is_close else f' {worst} {config}'}",
            flush=True,
        )
        return is_close


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder")
    p.add_argument("names", nargs="*")
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--seed", type=int, default=1)
    o = p.parse_args()
    transformers.logging.set_verbosity_error()
    os.environ.setdefault("TQDM_DISABLE", "1")
    rng = random.Random(o.seed)
    results = [check(o.folder, rng, name) for _ in range(o.rounds) for name in o.names or NAMES]
    print(f"{sum(results)} of {len(results)} as they should be")
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
