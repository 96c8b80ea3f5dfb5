#!/usr/bin/env bash
# Makes CRunnel.xcframework beside Package.swift, on a Mac with Xcode, CMake, Ninja and flatc: bash platforms/apple/build_xcframework.sh [--vulkan]
# Slices: iOS, its simulator and macOS on arm64. --vulkan: with the Vulkan backend (headers needed), for apps that bring MoltenVK along.
set -euo pipefail
cd "$(dirname "$0")/../.."
vulkan=OFF
[ "${1:-}" = --vulkan ] && vulkan=ON
out=build/apple
headers=$out/headers
mkdir -p "$headers/runnel"
cp runtime/include/runnel/runnel.h "$headers/runnel/"
printf 'module CRunnel {\n  header "runnel/runnel.h"\n  export *\n}\n' >"$headers/module.modulemap"
slices=()
for sdk in iphoneos iphonesimulator macosx; do
  system=iOS least=15.0
  [ $sdk = macosx ] && system=Darwin least=12.0
  cmake -S . -B "$out/$sdk" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_SYSTEM_NAME=$system -DCMAKE_SYSTEM_PROCESSOR=arm64 -DCMAKE_OSX_SYSROOT=$sdk \
    -DCMAKE_OSX_ARCHITECTURES=arm64 -DCMAKE_OSX_DEPLOYMENT_TARGET=$least -DCMAKE_FIND_ROOT_PATH_MODE_INCLUDE=BOTH -DCMAKE_FIND_ROOT_PATH_MODE_PROGRAM=NEVER \
    -DRUNNEL_VULKAN=$vulkan -DRUNNEL_CONVERTER=OFF -DRUNNEL_TESTS=OFF
  cmake --build "$out/$sdk" --target runnel
  slices+=(-library "$out/$sdk/runtime/librunnel.a" -headers "$headers")
done
rm -rf platforms/apple/CRunnel.xcframework
xcodebuild -create-xcframework "${slices[@]}" -output platforms/apple/CRunnel.xcframework
