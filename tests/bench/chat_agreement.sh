#!/usr/bin/env bash
# Answers of `runnel chat` beside llama.cpp's on the same GGUF, greedy, 32 tokens for each of 20 questions, by hand:
#   bash tests/bench/chat_agreement.sh MODEL.gguf
# llama.cpp comes from the llama-cpp-python sdist (peer.sh). Each difference is held against the measured difference of the logits.
set -euo pipefail
gguf=$(realpath "$1")
cd "$(dirname "$0")/../.."
cmake --preset release >/dev/null
cmake --build --preset release --target runnel_cli runnel_convert budget_shared_all >/dev/null
source tests/bench/peer.sh
if [ ! -x "$peer/chat" ] || [ tests/bench/peer_chat.cpp -nt "$peer/chat" ]; then
  mapfile -t libraries < <(find "$peer/build/" -name 'libllama.a' -o -name 'libggml*.a')
  g++ -std=c++17 -O2 tests/bench/peer_chat.cpp -I"$source_dir/include" -I"$source_dir/ggml/include" -o "$peer/chat" \
    -Wl,--start-group "${libraries[@]}" -Wl,--end-group -fopenmp -lpthread -ldl
fi
exec python3 tests/bench/chat_agreement.py --gguf "$gguf" --peer "$peer/chat" --bin build/release/bin --library "$(find build/release -name libbudget_shared_all.so)"
