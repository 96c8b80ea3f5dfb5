#!/usr/bin/env bash
# The Vulkan backend: bytes of its shaders, time to start, and speed beside llama.cpp's and ncnn's on the same device.
#   bash tests/bench/vulkan.sh [--rounds 3] [--prompt 64] [--gen 16] [--models mamba-130m,...] [--no-peer] [--markdown]
# The device is the one that RUNNEL_VULKAN_DEVICE names, else the most capable one; the peer is told to take the first device that its driver
# lists. ncnn runs no such models, only the matrix products of Gemma's shapes. Gemma 3 270M takes part when examples/quickstart.sh has been
# run; the other models have random weights of real shapes.
set -euo pipefail
cd "$(dirname "$0")/../.."

bash tests/install.sh build fetch
cmake --preset release >/dev/null
cmake --build --preset release --target runnel_cli runnel_convert >/dev/null
llama=
if [[ " $* " != *" --no-peer "* ]]; then
  bash tests/install.sh peer
  peer_targets=none source tests/bench/peer.sh
  llama=$peer/build_vulkan/bin/llama-bench
  # Debian 12's headers do not know VK_EXT_layer_settings, which the peer uses for its own validation runs alone.
  sed -i -e '/std::vector<vk::LayerSettingEXT> settings/,/layer_setting_info(settings);/d' -e 's/, &layer_setting_info);/);/' "$source_dir/ggml/src/ggml-vulkan/ggml-vulkan.cpp"
  if [ ! -x "$llama" ]; then build_peer "$peer/build_vulkan" llama-bench -DGGML_VULKAN=ON; fi
fi
source tests/bench/venv.sh
if [ -n "$llama" ]; then "$python" -m pip install -q ncnn==1.0.20261020 >&2; fi
exec "$python" tests/bench/vulkan.py --bin build/release/bin --peer "$llama" --folder build/random --shaders build/release/gen/shaders "$@"
