#!/usr/bin/env bash
# Runnel beside llama.cpp on the same model, the same threads and the same machine, in turn:
#   bash tests/bench/versus_llama_cpp.sh [--rounds 3] [--threads 1,2] [--markdown]
# The peer comes from the llama-cpp-python sdist on PyPI, which holds llama.cpp's sources, and is built for this very machine
# (GGML_NATIVE). Needs what examples/quickstart.sh makes, and makes it when it is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
gguf=models/gemma-3-270m-q4_k_m.gguf
requantised=models/gemma-3-270m-q4_0.gguf

bash tests/install.sh build fetch
if [ ! -f "$gguf" ] || [ ! -f models/gemma-3-270m.rnl ]; then bash examples/quickstart.sh >/dev/null; fi
cmake --preset release >/dev/null
cmake --build --preset release --target runnel_cli >/dev/null

source tests/bench/peer.sh
link_peer "$peer/first_token" tests/bench/peer_first_token.cpp
if [ ! -f "$requantised" ]; then
  "$peer/build/bin/llama-quantize" --allow-requantize "$gguf" "$requantised.partial" Q4_0 2 >&2
  mv "$requantised.partial" "$requantised"
fi
exec python3 tests/bench/versus_llama_cpp.py --runnel build/release/bin/runnel --model models/gemma-3-270m.rnl \
  --bench "$peer/build/bin/llama-bench" --first-token "$peer/first_token" --shipped "$gguf" --requantised "$requantised" "$@"
