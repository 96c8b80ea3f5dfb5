#!/usr/bin/env bash
# What GPUs' compilers make of the hot shaders, without a GPU: registers, waves, private memory, loads and instructions of a multiply-add in the
# inner loop, cycles of Mali's pipes. AMD's compiler is Debian's; gpu_compilers.sh makes those of Adreno and Mali.
#   bash tests/bench/shaders.sh [--compilers FOLDER] [--only PATTERN] [--devices PATTERN]   prints the tables
#   ... --save FILE, --before FILE      keeps the figures; shows kept ones beside
#   ... --markdown                      writes the tables into shaders/README.md
#   bash tests/bench/shaders.sh --check holds AMD's figures to the budgets (no scratch, nothing spilled, 64 registers where Mali has no more, few loads in products)
# A compiler that is not there is named.
set -euo pipefail
cd "$(dirname "$0")/../.."

options=()
while [ $# -gt 0 ]; do
  case $1 in
    --check | --markdown) options+=("$1") ;;
    --compilers | --only | --devices | --save | --before | --shaders) options+=("$1" "$2"); shift ;;
    *) sed -n '2,9s/^# *//p' "$0" >&2; exit 2 ;;
  esac
  shift
done

bash tests/install.sh build
mkdir -p build
g++ -std=c++17 -O1 -Wall tests/bench/shader_stats.cpp -o build/shader_stats -lvulkan
exec python3 tests/bench/shaders.py --program build/shader_stats "${options[@]}"
