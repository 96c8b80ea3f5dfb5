#!/usr/bin/env python3
"""Writes tests/goldens/mqar: a Mamba-2 trained on MQAR by tests/bench/mqar/train.py, sequences of that task and what transformers answers.

python3 -m pip install torch==2.15.0 transformers==5.23.0 safetensors==0.8.0 numpy
python3 tests/bench/mqar/train.py TRAINED --models mamba2
OMP_NUM_THREADS=1 python3 tests/goldens/make_mqar.py TRAINED/mamba2

config.json, model.safetensors   the trained model, bfloat16
sequences.safetensors            ids, answers int32 [sequences, tokens] (answers: -100 where none is asked for)
                                 predicted int32, the largest logit's index, and logits float32 [tokens, vocab] of the first sequence, from a float64 run
"""

import os
import shutil
import sys

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "..", "bench", "mqar"))
from task import test_set  # noqa: E402

PAIRS, LENGTH, COUNT = 8, 96, 12


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = os.path.join(here, "mqar")
    os.makedirs(folder, exist_ok=True)
    for name in ("config.json", "model.safetensors"):
        shutil.copy(os.path.join(sys.argv[1], name), folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).double().eval()
    ids, answers = (torch.from_numpy(x) for x in test_set(PAIRS, LENGTH, COUNT))
    with torch.no_grad():
        logits = model(input_ids=ids, use_cache=False).logits
    predicted = logits.argmax(-1)
    save_file(
        {
            "ids": ids.int(),
            "answers": answers.int(),
            "predicted": predicted.int(),
            "logits": logits[0].float().contiguous(),
        },
        os.path.join(folder, "sequences.safetensors"),
    )
    asked = answers >= 0
    best = logits[asked].topk(2, -1).values
    print(
        f"recall {(predicted[asked] == answers[asked]).float().mean():.3f}, smallest margin of an answer {(best[:, 0] - best[:, 1]).min():.4f}"
    )


if __name__ == "__main__":
    main()
