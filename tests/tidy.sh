#!/usr/bin/env bash
# Holds the C++ code of runtime/ and converter/ against the checks of .clang-tidy: bash tests/tidy.sh [FILE...]. A file that is compiled for several
# CPU targets is read for the last of them.
set -euo pipefail
cd "$(dirname "$0")/.."
build=build/tidy
cmake --preset release -B $build -DCMAKE_EXPORT_COMPILE_COMMANDS=ON -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON -DRUNNEL_TESTS=OFF >/dev/null
cmake --build $build --target runnel_schema >/dev/null
python3 - $build/compile_commands.json <<'PYTHON'
import json, sys

with open(sys.argv[1]) as f:
    once = {entry["file"]: entry for entry in json.load(f)}
with open(sys.argv[1], "w") as f:
    json.dump(list(once.values()), f)
PYTHON
files=("$@")
[ $# -gt 0 ] || mapfile -t files < <(git ls-files 'runtime/*.cpp' 'converter/*.cpp')
# What is not compiled here, such as what stands in for parts that are left out, has no command.
known=()
for file in "${files[@]}"; do if grep -q "\"$PWD/$file\"" $build/compile_commands.json; then known+=("$file"); fi; done
echo "${#known[@]} of ${#files[@]} files"
printf '%s\0' "${known[@]}" | xargs -0 -P "$(nproc)" -n 4 clang-tidy-14 -p $build --quiet 2> >(grep -v 'warnings\? generated' >&2)
