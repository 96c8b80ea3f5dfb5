#!/usr/bin/env bash
# All that can be run of the Android binding without Android: bash platforms/android/test.sh [BUILD_DIR] [--all]
#   always  the JNI library built for this machine and its ELF file checked; the Kotlin sources of the AAR compiled and tested on this JVM against it
#           and real models
#   --all   the same sources compiled against Android 7.0's own classes; the AAR packed, shrunk with its rules and turned into Android's bytecode; the
#           example's activity under Robolectric; the JNI library cross-built for aarch64
# BUILD_DIR: a release build of the repository (default build/release). What Maven fetches goes below it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
build=$root/build/release
all=
for argument in "$@"; do
  case $argument in
    --all) all=1 ;;
    *) build=$(cd "$argument" && pwd) ;;
  esac
done
out=$build/android
passed=0
failed=0
left_out() { echo "android: left out: $1"; exit 77; }
pass() { echo "passed: $1"; passed=$((passed + 1)); }
fail() { echo "FAILED: $1"; failed=$((failed + 1)); }
check() {  # NAME COMMAND...
  local name=$1
  shift
  if "$@"; then pass "$name"; else fail "$name"; fi
}

for tool in java javac mvn cmake python3 readelf; do command -v "$tool" >/dev/null || left_out "$tool is missing"; done
for file in bin/runnel bin/runnel-convert runtime/librunnel.a; do [ -e "$build/$file" ] || left_out "$build/$file is missing: cmake --preset release && cmake --build --preset release"; done
java_home=$(dirname "$(dirname "$(readlink -f "$(command -v javac)")")")
[ -e "$java_home/include/jni.h" ] || left_out "$java_home/include/jni.h is missing (a full JDK)"
mkdir -p "$out"
maven=(mvn -B -q -Dmaven.repo.local="$out/m2")
host=("${maven[@]}" -f "$here/host/pom.xml" -Drunnel.out="$out/host" -Drunnel.library="$out/jni/librunnel.so" -Drunnel.models="$out/models" -Drunnel.bin="$build/bin")
"${maven[@]}" -f "$here/host/pom.xml" -Drunnel.out="$out/host" dependency:resolve >"$out/resolve.log" 2>&1 || left_out "Maven cannot fetch packages: $(grep -m 1 ERROR "$out/resolve.log")"

native() {
  cmake -S "$here/runnel/src/main/cpp" -B "$out/jni" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ \
    -DRUNNEL_BUILD="$build" -DRUNNEL_JNI_INCLUDE="$java_home/include" >"$out/jni.log" && cmake --build "$out/jni" >>"$out/jni.log" || { tail -n 30 "$out/jni.log"; return 1; }
}

# Maven's own tests, counted; with -Xcheck:jni the JVM says on its output what the native side does wrong.
maven_tests() {  # NAME DIRECTORY COMMAND...
  local name=$1 directory=$2 log="$out/$1.log" rc=0 counts
  shift 2
  rm -rf "$directory/surefire-reports"
  "$@" >"$log" 2>&1 || rc=$?
  counts=$(cat "$directory"/surefire-reports/*.txt 2>/dev/null | awk -F'[:,]' '/^Tests run:/ { run += $2; bad += $4 + $6; skipped += $8 } END { print run + 0, bad + 0, skipped + 0 }')
  read -r run bad skipped <<<"$counts"
  passed=$((passed + run - bad - skipped))
  failed=$((failed + bad))
  grep -ho '10,000 times.*\|[a-z0-9]*: [0-9]* bytes restored in.*' "$log" || true
  if [ "$rc" -ne 0 ]; then
    grep -E '^\[ERROR\]|error:|FAIL' "$log" | head -n 40 || true
    [ "$bad" -gt 0 ] || fail "$name: see $log"
  elif [ "$run" -eq 0 ]; then
    fail "$name ran no test"
  else
    echo "passed: $name, $run tests"
  fi
  if grep -hs 'WARNING in native method\|FATAL ERROR in native method\|JNI local refs' "$log" "$directory"/surefire-reports/*dump*; then
    fail "$name: the JVM's check of JNI calls"
  else
    pass "$name: the JVM's check of JNI calls"
  fi
}

if python3 "$here/host/models.py" "$build/bin" "$out/models"; then pass "tiny models"; else fail "tiny models"; fi
check "JNI library" native
check "ELF file of this machine" bash "$here/check_elf.sh" "$out/jni/librunnel.so"
maven_tests jvm "$out/host" "${host[@]}" test
[ -z "$all" ] || . "$here/host/all.sh"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
