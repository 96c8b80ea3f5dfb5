#!/usr/bin/env bash
# Answers of `runnel chat` beside llama.cpp's on the same GGUF, greedy, 32 tokens for each of 20 questions, by hand:
#   bash tests/bench/chat_agreement.sh MODEL.gguf
# llama.cpp comes from the llama-cpp-python sdist (peer.sh). Each difference is held against the measured error of quantisation.
set -euo pipefail
gguf=$(realpath "$1")
cd "$(dirname "$0")/../.."
bash tests/install.sh build fetch
cmake --preset release >/dev/null
cmake --build --preset release --target runnel_cli runnel_convert budget_shared_all >/dev/null
peer_targets=llama
source tests/bench/peer.sh
source tests/bench/venv.sh
link_peer "$peer/chat" tests/bench/peer_chat.cpp
exec "$python" tests/bench/chat_agreement.py --gguf "$gguf" --peer "$peer/chat" --bin build/release/bin --library "$(find build/release -name libbudget_shared_all.so)"
