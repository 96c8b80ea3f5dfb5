#!/usr/bin/env bash
# Builds the wheel around the library of BUILD_DIR, installs it into an environment below BUILD_DIR and runs its tests.
#   bash platforms/python/test.sh [BUILD_DIR] [--all]
#   --all   also the types of the package and the examples (mypy), Ray, and a plain `pip install` that compiles everything
# PYTHON chooses the interpreter. The last line says `N passed, N failed`; exit code 77: left out, with the reason.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=$here/../../build/release
all=0
for argument in "$@"; do
  case $argument in
    --all) all=1 ;;
    -*) echo "usage: bash platforms/python/test.sh [BUILD_DIR] [--all]" >&2; exit 2 ;;
    *) build=$argument ;;
  esac
done
build=$(cd "$build" && pwd)
python=${PYTHON:-python3}

left_out() { echo "python: left out: $*"; exit 77; }
command -v "$python" >/dev/null || left_out "no $python"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || left_out "$python is older than Python 3.10"
"$python" -c 'import venv, ensurepip' 2>/dev/null || left_out "$python has no venv (Debian: python3-venv)"
"$python" -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null || left_out "$python has no headers (Debian: python3-dev)"

version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
work=$build/python/$version
mkdir -p "$work"
packages="scikit-build-core nanobind ninja numpy pillow pytest scipy typing_extensions"
[ $all = 1 ] && packages="$packages mypy onnx ray[data]"
if [ "$(cat "$work/packages" 2>/dev/null)" != "$packages" ]; then
  [ -x "$work/venv/bin/python" ] || "$python" -m venv "$work/venv"
  # shellcheck disable=SC2086
  "$work/venv/bin/pip" install -q --disable-pip-version-check $packages >"$work/pip.log" 2>&1 || { tail -n 5 "$work/pip.log"; left_out "pip cannot fetch $packages"; }
  echo "$packages" >"$work/packages"
fi

# What breaks before the tests counts as one of them.
step() {
  "$@" >"$work/step.log" 2>&1 && return
  tail -n 60 "$work/step.log"
  echo "0 passed, 1 failed"
  exit 1
}
step cmake --install "$build" --prefix "$work/prefix"
step "$work/venv/bin/pip" install --disable-pip-version-check --no-build-isolation --no-deps --force-reinstall --config-settings=build-dir="$work/wheel" \
  --config-settings=cmake.define.RUNNEL_PREFIX="$work/prefix" "$here"

selection=(-m "not slow")
[ $all = 1 ] && selection=()
code=0
# The tests of the folders, each with its own conftest.py.
for folder in "$here/tests" "$here/../../examples"; do
  report=$work/report-$(basename "$folder").xml
  RUNNEL_BIN=$build/bin PYTHONDONTWRITEBYTECODE=1 "$work/venv/bin/python" -m pytest -q -p no:cacheprovider --junitxml "$report" \
    -c "$here/tests/pytest.ini" --rootdir "$folder" "${selection[@]}" "$folder" || code=$?
done
"$work/venv/bin/python" - "$work"/report-{tests,examples}.xml <<'PYTHON'
import sys
import xml.etree.ElementTree as tree

passed = failed = 0
for path in sys.argv[1:]:
    suite = tree.parse(path).getroot()[0]
    bad = int(suite.get("failures")) + int(suite.get("errors"))
    passed += int(suite.get("tests")) - bad - int(suite.get("skipped"))
    failed += bad
print(f"{passed} passed, {failed} failed")
PYTHON
exit $((code != 0))
