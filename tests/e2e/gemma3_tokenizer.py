"""Compares `runnel tokenize` of a converted Gemma 3 with the ids that sentencepiece gives: gemma3_tokenizer.py RUNNEL MODEL"""

import json
import os
import subprocess
import sys
import tempfile

GOLDENS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "goldens")
compared = 0
with tempfile.TemporaryDirectory() as scratch:
    for name, options in (("tokenizer_gemma3.jsonl", []), ("tokenizer_gemma3_special.jsonl", ["--special"])):
        golden, got = os.path.join(GOLDENS, name), os.path.join(scratch, "out.jsonl")
        subprocess.run([sys.argv[1], "tokenize", sys.argv[2], "--in", golden, "--out", got, *options], check=True)
        with open(golden) as a, open(got) as b:
            for want, have in zip(map(json.loads, a), map(json.loads, b), strict=True):
                for key in ("ids", "text") if not options else ("ids",):
                    if want[key] != have[key]:
                        sys.exit(f"{name}: {want} but {have}")
                compared += 1
print(f"Gemma 3 tokenizer: {compared} texts as sentencepiece")
sys.exit(0 if compared > 90 else "too few texts")
