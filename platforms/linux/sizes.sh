#!/usr/bin/env bash
# Prints the table of sizes in README.md, and with --write puts it there: bash platforms/linux/sizes.sh [--write] [PRESET...]
#   PRESET    release and aarch64 unless others are named (release, gcc, aarch64, aarch64-gcc, armv7, armv7-gcc)
# Stripped sizes in KiB of shared libraries with the operators of one model each, with Vulkan and without, and of a program that generates text
# (tests/budgets/program.c), linked with the static library without Vulkan, chats and grammars.
set -euo pipefail
cd "$(dirname "$0")/../.."
write=0 presets=()
for argument in "$@"; do
  case $argument in
    --write) write=1 ;;
    -*) sed -n '2,5s/^# *//p' "$0" >&2; exit 2 ;;
    *) presets+=("$argument") ;;
  esac
done
[ ${#presets[@]} -gt 0 ] || presets=(release aarch64)
# name, source of a model whose operators are those of its class, what the table says
rows=("gemma3|tiny_gemma3|Gemma 3" "mamba|tiny_mamba|Mamba" "qwen3_5|tiny_qwen3_5|Qwen 3.5 (attention, delta rule)" "typeseg|typeseg/typeseg.json|typeseg (Mamba both ways)")

models=$PWD/build/sizes
mkdir -p "$models"
[ -f build/release/build.ninja ] || cmake --preset release >&2
cmake --build build/release --target runnel_convert >&2
list=
for row in "${rows[@]}"; do
  IFS='|' read -r name source _ <<<"$row"
  weights=()
  [[ $source != *.json ]] || weights=(--weights-file "tests/goldens/${source%.json}.safetensors")
  build/release/bin/runnel-convert "tests/goldens/$source" "${weights[@]}" -o "$models/$name.rnl" >&2
  list+="${list:+;}$name=$models/$name.rnl"
done
for preset in "${presets[@]}"; do
  cmake --preset "$preset" -DRUNNEL_SIZES="$list" >&2
  cmake --build "build/$preset" --target sizes >&2
  cmake -B "build/$preset" -DRUNNEL_SIZES= >&2
done

# size FILE PRESET: KiB without symbols.
size() {
  local strip=strip copy
  case $2 in aarch64*) strip=aarch64-linux-gnu-strip ;; armv7*) strip=arm-linux-gnueabihf-strip ;; esac
  copy=$(mktemp)
  cp "$1" "$copy"
  "$strip" "$copy"
  echo $((($(stat -c %s "$copy") + 1023) / 1024))
  rm "$copy"
}

table=$models/table.md
{
  head="| KiB, stripped |" rule="|---|"
  for preset in "${presets[@]}"; do head+=" $preset: library | with Vulkan | program |" rule+="---|---|---|"; done
  echo "$head"
  echo "$rule"
  for row in "all||every operator" "${rows[@]}"; do
    IFS='|' read -r name _ title <<<"$row"
    line="| $title |"
    for preset in "${presets[@]}"; do
      folder=build/$preset/sizes
      line+=" $(size "$folder/libsize_$name.so" "$preset") | $(size "$folder/libsize_${name}_vulkan.so" "$preset") |"
      line+=" $(size "$folder/libsize_${name}_program.so" "$preset") |"
    done
    echo "$line"
  done
} >"$table"
cat "$table"
if [ $write -eq 1 ]; then
  python3 - platforms/linux/README.md "$table" <<'PYTHON'
import re, sys
page, table = (open(path).read() for path in sys.argv[1:])
page = re.sub(r"(<!-- sizes: [^\n]*-->\n).*?(<!-- end of sizes -->)", lambda m: m[1] + table + m[2], page, flags=re.S)
open(sys.argv[1], "w").write(page)
PYTHON
fi
