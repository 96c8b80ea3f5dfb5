#!/usr/bin/env bash
# examples/typeseg beside onnxruntime on the graph that the typeseg package brings, in turn, and memory against the text's length:
#   bash tests/bench/typeseg.sh [--rounds 3] [--threads 1,2]
set -euo pipefail
cd "$(dirname "$0")/../.."
bash examples/typeseg/run.sh >/dev/null
build=build/typeseg
[ -f "$build/onnxruntime" ] || { "$build/venv/bin/python" -m pip install --quiet onnxruntime==1.23.2 >&2; touch "$build/onnxruntime"; }
exec "$build/venv/bin/python" tests/bench/typeseg_bench.py "$build" examples/typeseg/mixed.txt "$@"
