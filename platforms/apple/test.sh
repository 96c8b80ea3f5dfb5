#!/usr/bin/env bash
# Tests of the Swift package: bash platforms/apple/test.sh [BUILD_DIR] [--root DIR] [--all]
#   BUILD_DIR    a release build of the repository, by default build/release
#   --root DIR   the tests run in a Debian 13 in DIR, which has Swift; it is made with debootstrap where it is not there
#                yet (as root, 2.5 GB). Without it the machine's own swift is taken.
#   --all        also compiles the library's C and C++ for macOS on arm64 and links a program with it
set -euo pipefail
cd "$(dirname "$0")/../.."
build=build/release root= all=
while [ $# -gt 0 ]; do
  case $1 in
    --root) root=$2; shift ;;
    --all) all=1 ;;
    -*) echo "usage: bash platforms/apple/test.sh [BUILD_DIR] [--root DIR] [--all]" >&2; exit 2 ;;
    *) build=$1 ;;
  esac
  shift
done
passed=0 failed=0

left_out() { echo "apple: left out: $1"; [ -n "$all" ] || exit 77; }
swift_tests() {
  export RUNNEL_BIN=$build/bin
  python3 platforms/web/test/make_models.py "$out/models" || return
  "$build/bin/runnel" run "$out/models/llama-f32.rnl" -p 'Once upon a time' -n 40 >"$out/models/native.txt" || return
  # Inside the root the folders have the same names.
  in_root env RUNNEL_LIBRARY="$build/runtime" RUNNEL_MODELS="$out/models" HOME="$out" \
    swift test --package-path "$PWD/platforms/apple" --scratch-path "$out/swift" 2>&1 | tee "$out/swift.log" | grep -vE "^\[|warning: unhandled" || true
  # The last summary is that of all.
  local line
  line=$(grep -E "Executed [0-9]+ tests?, with" "$out/swift.log" | tail -1) || return
  local ran wrong
  ran=$(sed -E 's/.*Executed ([0-9]+).*/\1/' <<<"$line") wrong=$(sed -E 's/.*with ([0-9]+) failure.*/\1/' <<<"$line")
  passed=$((passed + ran - wrong)) failed=$((failed + wrong))
}
# Runs a command in the root, with this folder and /proc, and in a mount name space of its own: nothing stays mounted.
in_root() {
  [ -n "$root" ] || { "$@"; return; }
  unshare -m bash -c 'root=$1 here=$2; shift 2
    mkdir -p "$root$here" && mount --bind "$here" "$root$here" && mount -t proc proc "$root/proc" && mount --bind /dev "$root/dev" &&
    exec chroot "$root" env -C "$here" "$@"' - "$root" "$PWD" "$@"
}
make_root() {
  # Seen from inside: its links are absolute.
  chroot "$root" test -x /usr/bin/swift 2>/dev/null && return
  local mirror
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m1 '/debian/*$')
  debootstrap --variant=minbase trixie "$root" "$mirror" >&2
  chroot "$root" apt-get install -y --no-install-recommends swiftlang libstdc++-14-dev >&2
}

[ -x "$build/bin/runnel-convert" ] || { echo "apple: there is no release build in $build" >&2; exit 2; }
build=$(realpath "$build") out=$(realpath -m "$build/apple")
mkdir -p "$out"
if [ -n "$root" ] && [ "$(id -u)" != 0 ]; then left_out "making and entering a root needs root's rights"
elif [ -n "$root" ] && ! command -v debootstrap >/dev/null; then left_out "debootstrap is missing"
elif [ -z "$root" ] && ! command -v swift >/dev/null; then left_out "swift is missing (--root DIR takes it from Debian 13)"
else
  if [ -n "$root" ]; then mkdir -p "$root"; root=$(realpath "$root"); make_root; fi
  swift_tests || failed=$((failed + 1))
  # The example's syntax: there is no SwiftUI here.
  if in_root swiftc -parse examples/ios/RunnelChat/*.swift; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
fi
if [ -n "$all" ]; then
  if bash platforms/apple/compile_macos.sh "$build"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
