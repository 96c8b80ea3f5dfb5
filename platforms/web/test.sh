#!/usr/bin/env bash
# Tests of the package for the web: bash platforms/web/test.sh [BUILD_DIR] [--all] [--model MODEL.rnl]
#   BUILD_DIR   a release build of the repository, by default build/release; all that is made or fetched goes to BUILD_DIR/web
#   --all       also the operators' tests under node, the types, and the demo with typeseg (from PyPI), whose picture is BUILD_DIR/web/demo.png
#   --model     the language model of the demo, and of a table of tokens a second beside the native program
set -euo pipefail
cd "$(dirname "$0")/../.."
build=build/release all= model=
while [ $# -gt 0 ]; do
  case $1 in
    --all) all=1 ;;
    --model) model=$(realpath "$2"); shift ;;
    -*) echo "usage: bash platforms/web/test.sh [BUILD_DIR] [--all] [--model MODEL.rnl]" >&2; exit 2 ;;
    *) build=$1 ;;
  esac
  shift
done
chromium=${CHROMIUM:-/usr/bin/chromium}
for tool in emcc node npm "$chromium"; do
  command -v "$tool" >/dev/null || { echo "web: left out: $tool is missing"; exit 77; }
done
[ -x "$build/bin/runnel-convert" ] || { echo "web: there is no release build in $build" >&2; exit 2; }
build=$(realpath "$build") out=$build/web
models=$out/models tools=$out/tools
passed=0 failed=0
# Runs a test program and adds what its last line says.
count() {
  local log=$out/log.txt line
  "$@" 2>&1 | tee "$log" || true
  line=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$log" | tail -1) || line='0 passed, 1 failed'
  passed=$((passed + ${line%% *})) failed=$((failed + $(sed -E 's/.*, ([0-9]+) failed/\1/' <<<"$line")))
}
check() { if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAIL  $*"; fi; }

bash platforms/web/build.sh "$out"
mkdir -p "$tools"
[ -d "$tools/node_modules/playwright-core" ] || npm install --prefix "$tools" --no-audit --no-fund --silent playwright-core
RUNNEL_BIN=$build/bin python3 platforms/web/test/make_models.py "$models"
programs=("$out/package" "$models" "$build/bin/runnel" "$tools")
export CHROMIUM=$chromium
count node platforms/web/test/page_test.mjs "${programs[@]}"

typeseg() {
  local venv=$out/venv
  [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
  "$venv/bin/python" -m pip install --quiet typeseg==0.2.7 numpy
  "$venv/bin/python" examples/typeseg/export.py "$("$venv/bin/python" -c 'import os, typeseg; print(os.path.join(os.path.dirname(typeseg.__file__), "data"))')" "$models"
  "$build/bin/runnel-convert" "$models/typeseg.json" --weights-file "$models/typeseg.safetensors" --weights q8 -o "$models/typeseg.rnl"
}
types() {
  [ -d "$tools/node_modules/typescript" ] || npm install --prefix "$tools" --no-audit --no-fund --silent typescript
  cp platforms/web/test/types.ts "$out/package/"
  "$tools/node_modules/.bin/tsc" --strict --noEmit --target es2022 --module nodenext --lib es2023,dom "$out/package/types.ts"
}
operators() {
  [ ! -d /usr/share/nodejs ] || export NODE_PATH=/usr/share/nodejs
  [ -f "$out/ops/build.ninja" ] || emcmake cmake -S platforms/web -B "$out/ops" -G Ninja -DCMAKE_BUILD_TYPE=Release -DRUNNEL_TESTS=ON >/dev/null
  cmake --build "$out/ops" --target op_tests >/dev/null && ctest --test-dir "$out/ops" -L ops --no-tests=error --output-on-failure | tail -4
}
if [ -n "$all" ]; then
  check typeseg
  check types
  check operators
fi
if [ -n "$all$model" ]; then count node platforms/web/test/demo_test.mjs "${programs[@]}" "$out/demo.png" ${model:+"$model"}; fi
if [ -n "$model" ]; then node platforms/web/test/speed.mjs "${programs[@]}" "$model"; fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
