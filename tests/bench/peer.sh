#!/usr/bin/env bash
# Gets llama.cpp's sources from the llama-cpp-python sdist on PyPI and builds its bench and quantise programs for this very machine
# (GGML_NATIVE) into build/peer; with peer_targets=llama the libraries alone, with peer_targets=none the sources alone. Prints nothing when
# all is there. Sourced: sets version, peer and source_dir, and brings build_peer and link_peer.
version=0.3.36
peer=build/peer
source_dir=$peer/llama_cpp_python-$version/vendor/llama.cpp
if [ ! -d "$source_dir" ]; then
  mkdir -p "$peer"
  python3 -m pip download --no-deps --no-binary llama-cpp-python --dest "$peer" "llama-cpp-python==$version" >&2
  tar -xzf "$peer/llama_cpp_python-$version.tar.gz" -C "$peer"
fi
# build_peer FOLDER "TARGETS" [CMAKE OPTION...]
build_peer() {
  local folder=$1 targets=$2
  shift 2
  cmake -S "$source_dir" -B "$folder" -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=OFF -DLLAMA_OPENSSL=OFF \
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_BUILD_APP=OFF "$@" >&2
  # shellcheck disable=SC2086  # several targets
  cmake --build "$folder" --target $targets >&2
}
# link_peer PROGRAM SOURCE: a program of ours with its libraries, when it is not there or older than its source.
link_peer() {
  if [ -x "$1" ] && [ ! "$2" -nt "$1" ]; then return; fi
  local libraries
  mapfile -t libraries < <(find "$peer/build/" -name 'libllama.a' -o -name 'libggml*.a')
  g++ -std=c++17 -O2 "$2" -I"$source_dir/include" -I"$source_dir/ggml/include" -o "$1" -Wl,--start-group "${libraries[@]}" -Wl,--end-group -fopenmp -lpthread -ldl
}
case ${peer_targets:-programs} in
  none) ;;
  llama) [ -f "$peer/build/src/libllama.a" ] || build_peer "$peer/build" llama ;;
  programs) [ -x "$peer/build/bin/llama-quantize" ] || build_peer "$peer/build" "llama-bench llama-quantize" ;;
esac
