#!/usr/bin/env bash
# Colours a file by the kind of content of each character:
#   bash examples/typeseg/run.sh [FILE]            FILE: default a page with CSS, JavaScript, SQL and Python in it
#   bash examples/typeseg/run.sh --model           only makes build/typeseg/typeseg.rnl and labels.txt
#   bash examples/typeseg/run.sh --check           labels and logits against the package's own NumPy code
# Gets the typeseg 0.2.7 package (Apache-2.0, 1.36 million weights) from PyPI, converts it, builds the example.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=build/typeseg
bash tests/install.sh build fetch
mkdir -p "$build"
[ -f build/release/build.ninja ] || cmake --preset release >&2
cmake --build --preset release --target runnel_convert runnel_cli >&2
if [ ! -x "$build/venv/bin/python" ]; then python3 -m venv "$build/venv"; fi
if [ ! -f "$build/venv/done" ]; then
  "$build/venv/bin/python" -m pip install --quiet typeseg==0.2.7 numpy
  touch "$build/venv/done"
fi
data=$("$build/venv/bin/python" -c 'import os, typeseg; print(os.path.join(os.path.dirname(typeseg.__file__), "data"))')
if [ ! -f "$build/typeseg.rnl" ] || [ build/release/bin/runnel-convert -nt "$build/typeseg.rnl" ] || [ examples/typeseg/export.py -nt "$build/typeseg.rnl" ]; then
  "$build/venv/bin/python" examples/typeseg/export.py "$data" "$build"
  for weights in f32 q8; do
    build/release/bin/runnel-convert "$build/typeseg.json" --weights-file "$build/typeseg.safetensors" --weights $weights -o "$build/typeseg-$weights.rnl" >&2
  done
  cp "$build/typeseg-f32.rnl" "$build/typeseg.rnl"
fi
[ "${1:-}" != --model ] || exit 0
cmake -S examples/typeseg -B "$build/program" -G Ninja -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_C_COMPILER=clang >/dev/null
cmake --build "$build/program" --target typeseg >&2
if [ "${1:-}" = --check ]; then
  exec "$build/venv/bin/python" examples/typeseg/check.py "$build" build/release/bin/runnel
fi
exec "$build/program/typeseg" "$build/typeseg.rnl" "$build/labels.txt" "${1:-examples/typeseg/mixed.txt}"
