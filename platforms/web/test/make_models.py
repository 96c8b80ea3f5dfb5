"""Small models with fixed weights for the tests of the page: make_models.py FOLDER, with RUNNEL_BIN in the environment.

A Llama and a Qwen 3.5 (delta rule and attention) with a vocabulary of 613 tokens and a chat template, as f32; the Llama as q4 too; and the
golden models whose outputs were computed by the original code."""

import os
import shutil
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../../../tests/e2e"))
import support  # noqa: E402

folder = sys.argv[1]
shutil.rmtree(folder, ignore_errors=True)
os.makedirs(folder)
support.Case.folder = folder
for name, source in (("llama", "tiny_llama"), ("qwen", "tiny_qwen3_5")):
    support.Case.chat_model(name, source, max_position_embeddings=8192)
    for weights in ("f32", "q4"):
        support.run(
            "runnel-convert",
            os.path.join(folder, name),
            "-o",
            os.path.join(folder, f"{name}-{weights}.rnl"),
            "--weights",
            weights,
        )
support.Case.model("tiny_mamba2")
typeseg = os.path.join(support.GOLDENS, "typeseg")
support.run(
    "runnel-convert",
    os.path.join(typeseg, "typeseg.json"),
    "--weights-file",
    os.path.join(typeseg, "typeseg.safetensors"),
    "--weights",
    "f32",
    "-o",
    os.path.join(folder, "typeseg-golden.rnl"),
)
