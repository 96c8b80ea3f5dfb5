#!/usr/bin/env bash
# Runs the operators' tests and the benchmark on an Arm machine and writes a table to send back:
#   bash platforms/linux/measure.sh [OPTION...] MODEL.rnl
#     --ssh USER@HOST    there, over ssh; the programs are those of a cross build, copied
#     --adb [SERIAL]     on a phone, over adb (USB debugging); likewise. Without either: on this machine
#     --build FOLDER     with bin/runnel and tests/ (default: build/aarch64, on this machine build/release)
#     --threads 1,2,4    --prompt 256    --gen 48    --out FILE (default: measured.md)
# A cross build is made by cmake --preset aarch64 && cmake --build --preset aarch64 --target runnel_cli op_tests (armv7 for 32-bit systems).
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
usage() { sed -n '2,8s/^# *//p' "$0" >&2; exit 2; }

way=local host= build= threads=1,2,4 prompt=256 gen=48 out=measured.md model=
while [ $# -gt 0 ]; do
  case $1 in
    --ssh) way=ssh host=${2:?}; shift ;;
    --adb) way=adb; if [ $# -gt 2 ] && [[ $2 != -* ]]; then host=$2; shift; fi ;;
    --build) build=${2:?}; shift ;;
    --threads) threads=${2:?}; shift ;;
    --prompt) prompt=${2:?}; shift ;;
    --gen) gen=${2:?}; shift ;;
    --out) out=${2:?}; shift ;;
    -*) usage ;;
    *) [ -z "$model" ] || usage; model=$1 ;;
  esac
  shift
done
[ -f "$model" ] || { echo "measure.sh: no model file ${model:-given}" >&2; usage; }
build=${build:-$root/build/$([ $way = local ] && echo release || echo aarch64)}
tests=()
for source in "$root"/tests/ops/*_test.cpp; do tests+=("$(basename "$source" .cpp)"); done
for file in bin/runnel "${tests[@]/#/tests/}"; do
  [ -x "$build/$file" ] || { echo "measure.sh: $build/$file is not there; build the targets runnel_cli and op_tests" >&2; exit 1; }
done

adb_() { adb ${host:+-s "$host"} "$@"; }
# on COMMAND: runs it in a shell over there; its exit code comes back.
on() {
  case $way in
    local) sh -c "$1" ;;
    ssh) ssh "$host" "$1" </dev/null ;;
    adb) adb_ shell "$1" </dev/null ;;
  esac
}
# put FILE...: copies into the folder over there.
put() {
  case $way in
    ssh) scp -q "$@" "$host:$folder/" ;;
    adb) adb_ push "$@" "$folder/" >/dev/null ;;
  esac
}

if [ $way = local ]; then
  runnel=$build/bin/runnel test_folder=$build/tests goldens=$root there=$model
else
  folder=$([ $way = adb ] && echo /data/local/tmp/runnel-measure || echo /tmp/runnel-measure)
  runnel=$folder/runnel test_folder=$folder goldens=$folder there=$folder/$(basename "$model")
  echo "Copying to $folder" >&2
  on "mkdir -p $folder/tests/goldens/operators"
  put "$build/bin/runnel" "${tests[@]/#/$build/tests/}" "$model"
  target=$folder
  folder=$target/tests/goldens/operators put "$root"/tests/goldens/operators/*.safetensors
  on "chmod 755 $runnel ${tests[*]/#/$target/}"
fi

# number_of KEY JSON [DIVISOR]
number_of() { sed -n "s/.*\"$1\": *\([0-9.e+]*\).*/\1/p" <<<"$2" | awk -v by="${3:-1}" '{printf "%.1f", $1 / by}'; }

bad=0
{
  echo "## $(on "cat /proc/device-tree/model /sys/firmware/devicetree/base/model 2>/dev/null | tr '\\000' '\\n' | head -n 1; uname -srm" | tr '\n' ' ')"
  echo
  echo "$(on "$runnel --version" | head -n 1), $(basename "$model"), prompt $prompt, $gen tokens generated."
  echo
  echo '```'
  on "$runnel devices" || bad=1
  on 'for f in /sys/devices/system/cpu/cpu[0-9]*/cpufreq; do [ -d $f ] && echo "${f%/cpufreq}: $(cat $f/cpuinfo_max_freq) kHz, $(cat $f/scaling_governor)"; done; grep -E "^(CPU part|Model)" /proc/cpuinfo | sort | uniq -c; grep MemTotal /proc/meminfo; true' 2>/dev/null || true
  echo '```'
  echo
  echo '| operators'"'"' tests | passed | failed |'
  echo '|---|---|---|'
  for name in "${tests[@]}"; do
    echo "$name" >&2
    code=0
    log=$(on "RUNNEL_TEST_SOURCE=$goldens $test_folder/$name --gtest_brief=1 2>&1") || code=$?
    passed=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) tests\{0,1\}.*/\1/p' <<<"$log" | tail -n 1)
    failed=$(sed -n 's/^\[  FAILED  \] \([0-9]*\) tests\{0,1\}, listed.*/\1/p' <<<"$log" | tail -n 1)
    [ -z "$failed" ] && [ $code -ne 0 ] && failed="ended with code $code"
    [ -n "$failed" ] && bad=1 && printf '%s\n' "$log" | tail -n 20 >&2
    echo "| $name | ${passed:-0} | ${failed:-0} |"
  done
  echo
  echo '| threads | prompt, tokens/s | decode, tokens/s | load, ms | first token, ms | peak, MB |'
  echo '|---|---|---|---|---|---|'
  for n in ${threads//,/ }; do
    echo "$n threads" >&2
    json=$(on "$runnel bench $there --prompt $prompt --gen $gen --threads $n --json" | tr -d '\n') || { bad=1; echo "| $n | failed | | | | |"; continue; }
    echo "| $n | $(number_of prefill_tokens_per_s "$json") | $(number_of decode_tokens_per_s "$json") | $(number_of load_ms "$json") | $(number_of first_token_ms "$json") | $(number_of peak_bytes "$json" 1e6) |"
  done
} >"$out.partial"
mv "$out.partial" "$out"
cat "$out"
[ $bad -eq 0 ] || { echo "measure.sh: something failed; the table is in $out all the same" >&2; exit 1; }
echo "Written to $out; please send it back." >&2
