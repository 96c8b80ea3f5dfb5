#!/usr/bin/env bash
# What the two demos take with the models of models.sh: bash examples/raspberrypi/measure.sh [BUILD_DIR] [FOLDER]
#   BUILD_DIR   with bin/ (default build/release; /usr on a board where the packages are installed)    FOLDER   with the models (default build/raspberrypi)
# Prints the table of README.md.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
bin=${1:-build/release}/bin folder=${2:-build/raspberrypi}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/state"
# The numbers of a line "anonymous memory A MB, planned P MB; weights ... W MB, ...; largest resident size R MB".
numbers() { sed -n 's/.*anonymous memory \([0-9.]*\) MB, planned \([0-9.]*\) MB; weights and vocabulary \([0-9.]*\) MB.*size \([0-9.]*\) MB/| \2 MB | \1 MB | \3 MB | \4 MB |/p' "$1"; }

for i in $(seq 12); do echo "Tell me fact number $i about rivers."; done >"$scratch/questions"
"$bin/runnel-assistant" "$folder/smollm2.rnl" --tokens 120 --state "$scratch/state" <"$scratch/questions" >/dev/null 2>"$scratch/said"
echo "And the sea?" | "$bin/runnel-assistant" "$folder/smollm2.rnl" --tokens 20 --state "$scratch/state" >/dev/null 2>"$scratch/again"
for i in $(seq 200); do cat "$here/../typeseg/mixed.txt"; done >"$scratch/text"
"$bin/runnel-colour" "$folder/typeseg.rnl" "$folder/labels.txt" --time --idle 0 <"$scratch/text" >/dev/null 2>"$scratch/coloured"

echo "| program | planned | measured, anonymous | mapped from the file | VmHWM |"
echo "|---|---|---|---|---|"
echo "| assistant, SmolLM2 135M, a conversation that fills its context of 2,048 $(numbers "$scratch/said")"
echo "| colour, typeseg, $(($(stat -c %s "$scratch/text") / 1000)) KB of text $(numbers "$scratch/coloured")"
echo
echo "After a restart: $(sed -n 's/^assistant: \(restored.*\)/\1/p' "$scratch/again"); $(sed -n 's/^assistant: \(saved.*\)/\1/p' "$scratch/said")."
