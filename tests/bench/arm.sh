#!/usr/bin/env bash
# Cycles that models of Arm cores take for the hot kernels of a token (llvm-mca; no core is needed, and no cache miss is counted), as clang and
# GCC make them, beside llama.cpp's:
#   bash tests/bench/arm.sh [--only PATTERN] [--no-peer | --peer FOLDER]   prints the tables; FOLDER holds llama.cpp's sources
#   bash tests/bench/arm.sh --markdown                                    writes them into platforms/raspberrypi/README.md
#   bash tests/bench/arm.sh --check                                       holds clang's figures to tests/budgets/arm_cycles.txt
#   bash tests/bench/arm.sh --budgets                                     writes that file anew: today's figures and 3%
# Kernels and units stand in arm_kernels.py. The peer is the llama-cpp-python sdist on PyPI, made by clang for the same machine as ours.
set -euo pipefail
cd "$(dirname "$0")/../.."

options=() presets=(aarch64 aarch64-gcc armv7) with_peer=1 source_dir=
while [ $# -gt 0 ]; do
  case $1 in
    --no-peer) with_peer=0 ;;
    --peer) source_dir=$2; shift ;;
    --only) options+=("$1" "$2"); shift ;;
    --check | --budgets) options+=("$1"); presets=(aarch64) with_peer=0 ;;
    --markdown) options+=("$1") ;;
    *) sed -n '2,8s/^# *//p' "$0" >&2; exit 2 ;;
  esac
  shift
done

bash tests/install.sh build checks cycles
mkdir -p build
for preset in "${presets[@]}"; do
  mapfile -t objects < <(python3 tests/bench/arm_cycles.py --objects "$preset")
  { cmake --preset "$preset" && cmake --build "build/$preset" --target "${objects[@]}"; } >"build/$preset.arm.log" 2>&1 || { tail -n 20 "build/$preset.arm.log" >&2; exit 1; }
done

if [ $with_peer -eq 1 ]; then
  if [ -z "$source_dir" ]; then peer_targets=none source tests/bench/peer.sh; fi
  ggml=$source_dir/ggml
  folder=build/peer/arm
  mkdir -p "$folder"
  for target in neon:armv8-a neon_dotprod:armv8.2-a+dotprod neon_i8mm:armv8.2-a+dotprod+i8mm; do
    flags=(--target=aarch64-linux-gnu -march="${target#*:}" -O3 -DNDEBUG -D_GNU_SOURCE -fPIC -w -I"$ggml/include" -I"$ggml/src" -I"$ggml/src/ggml-cpu")
    clang "${flags[@]}" -std=c11 -c "$ggml/src/ggml-cpu/arch/arm/quants.c" -o "$folder/quants.${target%%:*}.o"
    clang++ "${flags[@]}" -std=c++17 -c "$ggml/src/ggml-cpu/arch/arm/repack.cpp" -o "$folder/repack.${target%%:*}.o"
  done
  options+=(--peer "$folder")
fi
exec python3 tests/bench/arm_cycles.py "${options[@]}"
