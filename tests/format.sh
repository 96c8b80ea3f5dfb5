#!/usr/bin/env bash
# Formats the C++ code as .clang-format says: bash tests/format.sh [--check]; with --check it changes nothing and fails where code
# would change. Versions of the formatter differ, so it is 14 everywhere.
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-} in
  '') how=(-i) ;;
  --check) how=(--dry-run -Werror) ;;
  *) echo "usage: bash tests/format.sh [--check]" >&2; exit 2 ;;
esac
git ls-files -z '*.cpp' '*.h' '*.inl' | xargs -0 -P "$(nproc)" -n 40 clang-format-14 --style=file "${how[@]}"
