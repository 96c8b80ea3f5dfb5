#!/usr/bin/env bash
# Builds the package into DIR/package: bash platforms/web/build.sh [DIR], by default build/web. Needs emcc, node, cmake, ninja and flatc.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${1:-build/web}
# Debian keeps the modules that its emcc runs here.
if [ -d /usr/share/nodejs ]; then export NODE_PATH=/usr/share/nodejs; fi
[ -f "$out/build.ninja" ] || emcmake cmake -S platforms/web -B "$out" -G Ninja -DCMAKE_BUILD_TYPE=Release >&2
cmake --build "$out" >&2
node platforms/web/size.mjs "$out/package"
