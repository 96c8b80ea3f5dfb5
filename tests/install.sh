#!/usr/bin/env bash
# Installs the Debian or Ubuntu packages that a task needs: bash tests/install.sh TASK...
#   build   the library, the programs and their tests (clang is the reference compiler)
#   fetch   packages of model files and of the peer
#   plots   what Python needs to make files of random weights
#   peer    what llama.cpp's Vulkan backend needs to be built
#   checks  the formatter and clang-tidy, sanitizers, GCC, the Arm cross builds with their emulator (clang takes GCC's libraries and linker), and a Vulkan driver that needs no GPU
#           (lavapipe) with the validation layers
#   cycles  models of Arm cores
#   packages  what makes and examines Debian packages, and the reference of the interface
#   compilers  what Mesa's drivers need to be built as compilers of shaders (tests/bench/gpu_compilers.sh)
#   python  the interpreter's headers, for the Python package
# Does nothing when nothing is missing. Packages come from the machine's own apt configuration.
set -euo pipefail

build=(ca-certificates cmake ninja-build clang g++ flatbuffers-compiler libflatbuffers-dev nlohmann-json3-dev libcli11-dev libgtest-dev libicu-dev libprotobuf-dev protobuf-compiler libvulkan-dev glslang-tools spirv-tools python3)
fetch=(ca-certificates python3 python3-pip)
plots=(python3-venv)
peer=(glslc spirv-headers libvulkan-dev)
checks=(binutils lld clang-format-14 clang-tidy-14 g++-aarch64-linux-gnu g++-arm-linux-gnueabihf qemu-user-static mesa-vulkan-drivers vulkan-validationlayers)
cycles=(llvm-14 llvm-19)
packages=(dpkg-dev file binutils doxygen)
compilers=(bison flex libdrm-dev libexpat1-dev libudev-dev libzstd-dev pkg-config python3-venv xz-utils zlib1g-dev)
python=(python3-dev python3-venv)

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

if ! command -v apt-get >/dev/null; then
  echo "install.sh: this machine has no apt-get; install these by other means: ${build[*]} ${checks[*]}" >&2
  exit 1
fi

wanted=()
for task in "$@"; do
  case $task in
    build) wanted+=("${build[@]}") ;;
    fetch) wanted+=("${fetch[@]}") ;;
    plots) wanted+=("${plots[@]}") ;;
    peer) wanted+=("${peer[@]}") ;;
    cycles) wanted+=("${cycles[@]}") ;;
    packages) wanted+=("${packages[@]}") ;;
    compilers) wanted+=("${compilers[@]}") ;;
    python) wanted+=("${python[@]}") ;;
    checks) wanted+=("${checks[@]}") ;;
    *) echo "install.sh: unknown task $task" >&2; exit 2 ;;
  esac
done

missing=()
for package in $(printf '%s\n' "${wanted[@]}" | sort -u); do installed "$package" || missing+=("$package"); done
# The sanitizers' runtime belongs to the compiler's version, and clang only recommends it.
if [[ " $* " == *" checks "* ]]; then
  version=$(clang -dumpversion 2>/dev/null || apt-cache depends clang 2>/dev/null | sed -n 's/.*Depends: clang-\([0-9]*\)$/\1/p' | head -n 1)
  runtime=libclang-rt-${version%%.*}-dev
  if [ -z "$version" ]; then missing+=(clang); elif ! installed "$runtime"; then missing+=("$runtime"); fi
fi
[ ${#missing[@]} -eq 0 ] && exit 0

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "install.sh: run this as root, or install sudo; missing packages: ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
echo "Installing: ${missing[*]}"
# Package lists may be old; only then is a refresh worth its time.
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o Dpkg::Use-Pty=0)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  cat "$log" >&2
  exit 1
fi
