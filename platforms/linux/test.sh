#!/usr/bin/env bash
# Tests of Linux as a platform: bash platforms/linux/test.sh [--all] [BUILD_DIR]     BUILD_DIR: a release build, default build/release
#   default  the installed library in other people's projects, shared and static; the Debian packages of this machine; the examples for small boards;
#            smallest builds for model files; the reference of the interface
#   --all    also the Debian packages for arm64 and armhf, sizes for arm64, and the packages installed and used in an arm64 Debian under emulation
#            (as root; that system is made in BUILD_DIR/arm64 with some 300 MB from Debian's mirror)
# The last line says `N passed, N failed`; exit code 0 only when nothing failed, 77 when tools are missing.
set -uo pipefail
cd "$(dirname "$0")/../.."
all=0 build=build/release
for argument in "$@"; do
  case $argument in
    --all) all=1 ;;
    -*) sed -n '2,6s/^# *//p' "$0" >&2; exit 2 ;;
    *) build=$argument ;;
  esac
done
needed=(cmake ninja python3 file dpkg-deb dpkg-shlibdeps readelf flatc doxygen)
[ $all -eq 0 ] || needed+=(aarch64-linux-gnu-g++ arm-linux-gnueabihf-g++ qemu-aarch64-static debootstrap)
for tool in "${needed[@]}"; do
  command -v "$tool" >/dev/null || { echo "linux: left out: $tool is missing (bash tests/install.sh build checks packages)"; exit 77; }
done
[ -f "$build/build.ninja" ] || { echo "linux: left out: $build is no build (cmake --preset release && cmake --build --preset release)"; exit 77; }
build=$(cd "$build" && pwd)
passed=0 failed=0

# check NAME COMMAND...: one test; what it said is shown when it fails.
check() {
  local name=$1 log
  shift
  log=$build/linux.$(tr -c 'a-z0-9\n' _ <<<"$name").log
  if "$@" >"$log" 2>&1; then
    passed=$((passed + 1))
    echo "passed: $name"
  else
    failed=$((failed + 1))
    tail -n 40 "$log"
    echo "FAILED: $name"
  fi
}

# packages FOLDER ARCHITECTURE [COMPILER]
packages() {
  rm -rf "$1/packages"
  cpack --config "$1/CPackConfig.cmake" -B "$1/packages" >/dev/null && python3 platforms/linux/debs_test.py "$1/packages" "$2" ${3:+"$3"}
}

cross_packages() {
  cmake --preset "deb-$1" && cmake --build --preset "deb-$1" && packages "build/deb-$1" "$1"
}

check "what the tests need builds" cmake --build "$build" --target runnel runnel_other runnel_cli runnel_convert runnel_assistant runnel_colour
check "installed library" ctest --test-dir "$build" --no-tests=error --output-on-failure -R '^e2e\.install$'
check "examples for small boards" ctest --test-dir "$build" --no-tests=error --output-on-failure -L '^examples$'
check "smallest builds for model files" python3 platforms/linux/models_test.py "$build"
check "reference of the interface" python3 platforms/linux/reference_test.py "$build"
check "Debian packages of this machine" packages "$build" "$(dpkg --print-architecture)" "${CC:-cc}"
if [ $all -eq 1 ]; then
  for architecture in arm64 armhf; do check "Debian packages for $architecture" cross_packages $architecture; done
  check "sizes on x86-64 and arm64" bash platforms/linux/sizes.sh
  if [ "$(id -u)" -eq 0 ]; then
    check "packages in an arm64 Debian" bash platforms/linux/arm64_acceptance.sh --root "$build/arm64" --packages build/deb-arm64/packages --build "$build"
  else
    echo "packages in an arm64 Debian: left out: only root can make such a system"
  fi
fi
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
