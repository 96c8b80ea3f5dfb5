#!/usr/bin/env bash
# Python with numpy and gguf, of pinned versions, in build/bench-venv. Sourced: sets python.
python=build/bench-venv/bin/python
if [ ! -x "$python" ]; then
  python3 -m venv build/bench-venv 2>/dev/null || { bash tests/install.sh plots; python3 -m venv build/bench-venv; }
  "$python" -m pip install -q gguf==0.19.0 >&2
fi
