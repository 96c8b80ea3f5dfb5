#!/usr/bin/env bash
# Time of an image in vision transformers with fewer tokens, beside the whole model's, as a table in Markdown:
#   bash tests/bench/tokens.sh [MODEL=small|tiny] [METHOD ...]
# The model has the shape of ViT-S (or ViT-Ti) for 224 x 224 pixels in patches of 16, and random weights, so times are
# real and classes are none. Work: multiplications of all layers, pruned against whole; time must follow it. Seconds
# are medians over 9 calls of each file in turn, with 1 thread.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/bench/venv.sh
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" tests/bench/tokens.py build/release/bin "$folder" "$@"
