#!/usr/bin/env bash
# Compiles librunnel, without Vulkan, for macOS on arm64 and links a program with it: bash platforms/apple/compile_macos.sh BUILD_DIR
# The compiler, with the system's headers, is the ziglang package of PyPI, which goes to BUILD_DIR/apple/zig. Nothing can be run here:
# it shows that the code compiles and links, and no more.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=$(realpath -m "$1/apple")
tools=$out/zig
mkdir -p "$tools"
if [ ! -x "$tools/venv/bin/python" ]; then python3 -m venv "$tools/venv"; fi
"$tools/venv/bin/python" -c 'import ziglang' 2>/dev/null || "$tools/venv/bin/python" -m pip install --quiet ziglang
for tool in cc c++ ar ranlib; do
  target=; case $tool in c*) target="-target aarch64-macos" ;; esac
  # This compiler names a CPU where others name an architecture.
  cat >"$tools/$tool" <<EOF
#!/usr/bin/env bash
exec "$tools/venv/bin/python" -m ziglang $tool $target "\${@/#-march=armv8.2-a/-mcpu=generic+v8_2a}"
EOF
  chmod +x "$tools/$tool"
done
export ZIG_GLOBAL_CACHE_DIR=$tools/cache ZIG_LOCAL_CACHE_DIR=$tools/cache
cmake -S . -B "$out/macos" -G Ninja -DCMAKE_TOOLCHAIN_FILE="$PWD/platforms/apple/macos.cmake" -DRUNNEL_ZIG="$tools" -DCMAKE_BUILD_TYPE=Release \
  -DRUNNEL_VULKAN=OFF -DRUNNEL_CONVERTER=OFF -DRUNNEL_TESTS=OFF >/dev/null
cmake --build "$out/macos" --target runnel
"$tools/cc" -I runtime/include platforms/apple/link_check.c "$out/macos/runtime/librunnel.a" -lc++ -o "$out/macos/link_check"
file "$out/macos/link_check" 2>/dev/null || true
# Mach-O for 64 bits: 0xfeedfacf, and 0x0100000c is arm64.
[ "$(od -An -tx4 -N8 "$out/macos/link_check" | tr -d ' ')" = feedfacf0100000c ]
echo "librunnel compiles for macOS on arm64: $(stat -c %s "$out/macos/link_check") bytes of program"
