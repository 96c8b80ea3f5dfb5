#!/usr/bin/env bash
# Installs what is missing, builds everything and runs every test: bash tests/run.sh [--all]
#   default  the format of the C++ code; release build with all tests; the platforms' own tests as far as their tools are there; units, operators, converter and fuzzers under ASan and UBSan; sessions and threads under
#            TSan; operators for aarch64 by clang under emulation, every kernel (NEON, dotprod, i8mm), and some again on CPUs that have fewer
#   --all    also the GCC build, clang-tidy, the tokenizer of the real Gemma 3 (a download of 240 MB), every test that the builds for aarch64 and armv7 have, by
#            clang and by GCC, their operators on each kind of CPU, budgets of cycles, and ten times longer fuzzing
# The last line says `N passed, N failed`, summed over all runs; the exit code is 0 only when nothing failed.
set -uo pipefail
cd "$(dirname "$0")/.."
all=0
for argument in "$@"; do
  case $argument in
    --all) all=1 ;;
    *) echo "usage: bash tests/run.sh [--all]" >&2; exit 2 ;;
  esac
done
jobs=$(nproc)
passed=0
failed=0
started=$SECONDS

note() { printf '\n== %s (%d s)\n' "$*" $((SECONDS - started)); }

# build PRESET [TARGET...]: a failure counts as one failed test.
build() {
  local preset=$1
  shift
  note "$preset: build"
  local targets=()
  [ $# -gt 0 ] && targets=(--target "$@")
  if ! cmake --preset "$preset" >"build/$preset.configure.log" 2>&1; then
    cat "build/$preset.configure.log"
  elif cmake --build --preset "$preset" -j "$jobs" "${targets[@]}" >"build/$preset.build.log" 2>&1; then
    return 0
  else
    grep -E -A 12 'error|FAILED|undefined' "build/$preset.build.log" | head -n 120
  fi
  echo "$preset does not build"
  failed=$((failed + 1))
  return 1
}

# check PRESET [CTEST OPTION...]: runs tests and adds to the sums. No tests at all count as one failed.
check() {
  local preset=$1
  shift
  note "$preset: tests"
  local log=build/$preset.test.log
  ctest --test-dir "build/$preset" -j "$jobs" --output-on-failure --no-tests=error "$@" >"$log" 2>&1
  local code=$?
  local bad total
  bad=$(sed -n 's/.*tests passed, \([0-9]*\) tests failed out of \([0-9]*\).*/\1/p' "$log" | tail -n 1)
  total=$(sed -n 's/.*tests passed, \([0-9]*\) tests failed out of \([0-9]*\).*/\2/p' "$log" | tail -n 1)
  if [ -z "$total" ]; then
    bad=1 total=1
    tail -n 20 "$log"
  elif [ "$code" -ne 0 ]; then
    [ "$bad" -eq 0 ] && bad=1
    grep -v -E '^ *[0-9]+/[0-9]+ Test .* Passed|^ *Start ' "$log" | tail -n 200
  fi
  passed=$((passed + total - bad))
  failed=$((failed + bad))
  echo "$preset: $((total - bad)) passed, $bad failed"
}

# emulated PRESET CPU "TARGETS" [CTEST OPTION...]: tests of an Arm build on an emulated CPU, which has these targets' kernels (tests/ops/targets_test.cpp).
emulated() {
  local preset=$1 cpu=$2 targets=$3
  shift 3
  note "$preset on $cpu: $targets"
  QEMU_CPU=$cpu RUNNEL_TEST_TARGETS=$targets check "$preset" "$@"
}

# CPUs of the cross builds, those with the most kernels first: max has all of them, a Cortex-A53 is Armv8.0, a Cortex-A9 lacks fused multiply-adds.
cpus_of() {
  case $1 in
    aarch64*) printf '%s\n' 'max neon_i8mm neon_dotprod neon' 'cortex-a76 neon_dotprod neon' 'cortex-a53 neon' ;;
    armv7*) printf '%s\n' 'max neon scalar' 'cortex-a7 neon scalar' 'cortex-a9 scalar' ;;
  esac
}

# every_cpu PRESET "CTEST OPTIONS of the first CPU" "of the others"
every_cpu() {
  local options=$2 cpu targets
  while read -r cpu targets; do
    # shellcheck disable=SC2086  # several options
    emulated "$1" "$cpu" "$targets" $options </dev/null
    options=$3
  done < <(cpus_of "$1")
}

# platform NAME: the tests of platforms/NAME beside the release build. One whose tools are missing says so (77) and counts as nothing.
platform() {
  local name=$1 log=build/platform-$1.log options=() line code
  [ $all -eq 1 ] && options=(--all)
  note "platforms/$name"
  bash "platforms/$name/test.sh" build/release "${options[@]}" >"$log" 2>&1
  code=$?
  line=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$log" | tail -n 1)
  if [ $code -eq 77 ]; then
    grep 'left out' "$log" | tail -n 1
    return
  fi
  if [ -z "$line" ] || { [ $code -ne 0 ] && [[ $line == *' 0 failed' ]]; }; then line='0 passed, 1 failed'; fi
  [[ $line == *' 0 failed' ]] || tail -n 100 "$log"
  passed=$((passed + ${line%% *}))
  failed=$((failed + $(sed 's/.*, \([0-9]*\) failed/\1/' <<<"$line")))
  echo "$name: $line"
}

bash tests/install.sh build checks packages python || exit 1
mkdir -p build

note "format"
if bash tests/format.sh --check; then passed=$((passed + 1)); else failed=$((failed + 1)); fi

# On a Vulkan device that is a CPU some cases take minutes.
short=(-LE long)
[ $all -eq 1 ] && short=()
if build release; then
  check release "${short[@]}"
  for script in platforms/*/test.sh; do platform "$(basename "$(dirname "$script")")"; done
fi
if build asan all_tests; then
  export RUNNEL_FUZZ_SECONDS=$((all ? 60 : 6))
  check asan -L 'unit|ops|converter|models|fuzz'
fi
if build tsan thread_tests; then check tsan -L threads; fi
if [ $all -eq 0 ]; then
  if build aarch64-ops op_tests; then every_cpu aarch64-ops '-L ops' '-L ops -R Targets|RmsNorm|Rope'; fi
else
  for preset in aarch64 aarch64-gcc armv7 armv7-gcc; do
    if build $preset; then every_cpu $preset '' '-L ops'; fi
  done
  if build gcc; then check gcc; fi
  note "clang-tidy"
  if bash tests/tidy.sh; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
  note "Arm: budgets of cycles"
  if bash tests/bench/arm.sh --check; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
  note "Gemma 3: download, conversion, tokenizer"
  if bash examples/quickstart.sh && python3 tests/e2e/gemma3_tokenizer.py build/release/bin/runnel models/gemma-3-270m.rnl; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
  fi
fi

note "done"
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
