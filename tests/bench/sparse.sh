#!/usr/bin/env bash
# What --sparse and --kv-policy cost and save on a real model, as a table in Markdown:
#   bash tests/bench/sparse.sh SmolLM2-135M-Instruct.gguf [TEXT] [METHOD ...]
# TEXT (default the GPL-3 of Debian) is read as one stream: perplexity, and the time of a pass over it in attention and
# the choice of keys, exact and sparse in turn. Of policies also the bytes of the state and decode behind TEXT's length.
set -euo pipefail
cd "$(dirname "$0")/../.."
bin=build/release/bin
source=${1:?the source of the model}
text=${2:-/usr/share/common-licenses/GPL-3}
shift; [ $# -gt 0 ] && shift
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
exec python3 tests/bench/sparse.py "$bin" "$source" "$text" "$folder" "$@"
