#!/usr/bin/env bash
# One fuzzer for TIMES times RUNNEL_FUZZ_SECONDS (6): smoke.sh PROGRAM SCRATCH CORPUS TIMES. A crashing input is left in SCRATCH and named.
# entropic: how libFuzzer weighs its inputs by default goes through an input's features for each feature of a run, a third of the time where graphs run.
set -euo pipefail
program=$1 scratch=$2 corpus=$3 times=$4
mkdir -p "$scratch/new"
folders=("$scratch/new")
[ -d "$corpus" ] && folders+=("$corpus")
exec "$program" -seed=1 -max_total_time=$((${RUNNEL_FUZZ_SECONDS:-6} * times)) -timeout=20 -rss_limit_mb=2048 -max_len=65536 -entropic=0 -print_final_stats=1 \
  -artifact_prefix="$scratch/" "${folders[@]}"
