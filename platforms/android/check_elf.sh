#!/usr/bin/env bash
# Is a librunnel.so fit for an app? bash check_elf.sh FILE...: segments aligned for pages of 16 KiB, the C interface and JNI_OnLoad exported and
# nothing else, no library needed that Android lacks. READELF names another readelf, such as the NDK's llvm-readelf.
set -euo pipefail
readelf=${READELF:-readelf}
here=$(cd "$(dirname "$0")" && pwd)
functions=$(sed -n 's/^RNL_API .*[ *]\(rnl_[a-z_0-9]*\)(.*/\1/p' "$here/../../runtime/include/runnel/runnel.h")
wanted=$(printf '%s\n' JNI_OnLoad $functions | sort)
failed=0
fail() { echo "$file: $1" >&2; failed=1; }
for file in "$@"; do
  loads=$("$readelf" -lW "$file" | awk '$1 == "LOAD" { print $NF }')
  [ -n "$loads" ] || fail "no segments"
  for align in $loads; do
    [ $((align)) -ge 16384 ] && [ $((align % 16384)) -eq 0 ] || fail "a segment is aligned to $align"
  done
  exported=$("$readelf" --dyn-syms -W "$file" | awk '$7 != "UND" && ($5 == "GLOBAL" || $5 == "WEAK") { sub(/@.*/, "", $8); print $8 }' | sort)
  difference=$(diff <(echo "$wanted") <(echo "$exported") | grep '^[<>]' || true)
  [ -z "$difference" ] || fail "exported symbols differ (< missing, > too many): $(echo $difference)"
  for library in $("$readelf" -dW "$file" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
    case $library in
      libc.so* | libm.so* | libdl.so* | liblog.so | libpthread.so*) ;;
      ld-linux* | libstdc++.so.6 | libgcc_s.so.1) ;;  # of a host; the NDK links its own C++ library in
      *) fail "needs $library" ;;
    esac
  done
  [ "$failed" -ne 0 ] || echo "$file: $(echo "$exported" | wc -l) symbols, segments at $(echo $loads | tr ' ' '\n' | sort -u | tr '\n' ' ')bytes $(stat -c %s "$file")"
done
exit $failed
