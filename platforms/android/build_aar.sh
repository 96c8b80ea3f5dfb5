#!/usr/bin/env bash
# Packs runnel.aar: ANDROID_NDK=DIR bash build_aar.sh OUT [ABI...]. Needs the NDK (r27 or later), CMake, Ninja, a JDK, Maven, and the packages of
# `bash tests/install.sh build`; no Gradle, no SDK. ABIs: arm64-v8a armeabi-v7a x86_64.
# RUNNEL_AAR_LIBS=DIR: packs DIR/ABI/librunnel.so instead of building them. RUNNEL_MAVEN: options for Maven, such as its repository.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
[ $# -ge 1 ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
shift
abis=("$@")
[ $# -gt 0 ] || abis=(arm64-v8a armeabi-v7a x86_64)
stl=${RUNNEL_STL:-c++_static}
version=$(sed -n 's/^project(runnel VERSION \([0-9.]*\).*/\1/p' "$root/CMakeLists.txt")
aar=$out/aar
rm -rf "$aar"
mkdir -p "$aar/prefab/modules/runnel/include"

libs=${RUNNEL_AAR_LIBS:-$out/libs}
if [ -z "${RUNNEL_AAR_LIBS:-}" ]; then
  for abi in "${abis[@]}"; do
    cmake -S "$here/runnel/src/main/cpp" -B "$out/$abi" -G Ninja -DCMAKE_BUILD_TYPE=Release \
      -DCMAKE_TOOLCHAIN_FILE="${ANDROID_NDK:?names the NDK}/build/cmake/android.toolchain.cmake" -DANDROID_ABI="$abi" -DANDROID_PLATFORM=24 -DANDROID_STL="$stl" \
      -DRUNNEL_FLATBUFFERS_INCLUDE=/usr/include -DRUNNEL_VULKAN_INCLUDE=/usr/include -Dnlohmann_json_DIR=/usr/share/cmake/nlohmann_json
    cmake --build "$out/$abi" --target runnel_android
    mkdir -p "$libs/$abi"
    "$ANDROID_NDK"/toolchains/llvm/prebuilt/*/bin/llvm-strip -o "$libs/$abi/librunnel.so" "$out/$abi/librunnel.so"
  done
fi

# prefab: the C interface for an app's own C++ code, find_package(runnel) in its CMake.
printf '{"schema_version": 2, "name": "runnel", "version": "%s", "dependencies": []}\n' "$version" >"$aar/prefab/prefab.json"
printf '{"export_libraries": [], "library_name": "librunnel"}\n' >"$aar/prefab/modules/runnel/module.json"
mkdir -p "$aar/prefab/modules/runnel/include/runnel"
cp "$root"/runtime/include/runnel/runnel.h* "$aar/prefab/modules/runnel/include/runnel/"
for abi in "${abis[@]}"; do
  bash "$here/check_elf.sh" "$libs/$abi/librunnel.so"
  mkdir -p "$aar/jni/$abi" "$aar/prefab/modules/runnel/libs/android.$abi"
  cp "$libs/$abi/librunnel.so" "$aar/jni/$abi/"
  cp "$libs/$abi/librunnel.so" "$aar/prefab/modules/runnel/libs/android.$abi/"
  printf '{"abi": "%s", "api": 24, "ndk": 27, "stl": "%s", "static": false}\n' "$abi" "$stl" >"$aar/prefab/modules/runnel/libs/android.$abi/abi.json"
done

mvn -B -q ${RUNNEL_MAVEN:-} -f "$here/host/pom.xml" -Drunnel.out="$out/kotlin" compile
(cd "$out/kotlin/classes" && jar --create --no-manifest --file "$aar/classes.jar" org META-INF/*.kotlin_module)
cp "$here/runnel/consumer-rules.pro" "$aar/proguard.txt"
cat >"$aar/AndroidManifest.xml" <<'M'
<manifest xmlns:android="http://schemas.android.com/apk/res/android" package="org.runnel">
    <uses-sdk android:minSdkVersion="24" />
</manifest>
M
: >"$aar/R.txt"
(cd "$aar" && jar --create --no-manifest --file "$out/runnel.aar" *)
echo "$out/runnel.aar: $(stat -c %s "$out/runnel.aar") bytes, ${abis[*]}"
