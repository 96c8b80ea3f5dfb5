"""Writes the tiny models that the tests run into a folder: python3 models.py BIN FOLDER (BIN: the folder of runnel-convert)."""

import os
import shutil
import sys

bin_folder, target = map(os.path.abspath, sys.argv[1:3])
os.environ["RUNNEL_BIN"] = bin_folder
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..", "tests", "e2e"))

from support import GOLDENS, Case, read_safetensors, run  # noqa: E402


class Models(Case):
    """support.py makes models of test cases; these stay."""

    folder = target


shutil.rmtree(target, ignore_errors=True)
os.makedirs(target)
# Text models with a vocabulary that writes any Unicode text, and a chat format: attention, a window, and a recurrence, whose stream has no end.
Models.chat_model("llama", max_position_embeddings=8192)
Models.chat_model("gemma3", source="tiny_gemma3")
Models.chat_model("griffin", source="tiny_recurrent_gemma")
# A program on tensors.
graph = os.path.join(GOLDENS, "graphs", "gla")
run(
    "runnel-convert",
    os.path.join(graph, "graph.json"),
    "--weights-file",
    os.path.join(graph, "weights.safetensors"),
    "-o",
    os.path.join(target, "gla.rnl"),
)
for name, (shape, values) in read_safetensors(os.path.join(graph, "io.safetensors")).items():
    with open(os.path.join(target, f"gla.{name}"), "wb") as f:
        values.tofile(f)
