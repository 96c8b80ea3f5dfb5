#!/usr/bin/env bash
# Linear-time models beside llama.cpp, same file, same threads, in turn, on random weights of real shapes:
#   bash tests/bench/linear_time.sh [--rounds 3] [--threads 1,2] [--types q8_0,q4_0] [--models mamba-130m,...] [--markdown]
#   bash tests/bench/linear_time.sh --lengths [--tokens 2048,...,1048576] [--model mamba-130m]     time and memory against length, with a plot
# The peer is built from the llama-cpp-python sdist on PyPI; the files are made by make_random_ggufs.py (numpy and gguf from PyPI).
set -euo pipefail
cd "$(dirname "$0")/../.."

bash tests/install.sh build fetch
cmake --preset release >/dev/null
cmake --build --preset release --target runnel_cli runnel_convert >/dev/null
source tests/bench/peer.sh
source tests/bench/venv.sh
exec "$python" tests/bench/linear_time.py --bin build/release/bin --peer "$peer/build/bin/llama-bench" --folder build/random "$@"
