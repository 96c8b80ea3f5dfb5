#!/usr/bin/env bash
# Builds Mesa's drivers for Adreno (turnip) and Mali (panvk) into FOLDER, with stand-ins for the kernel's side, from the source package of Debian's
# backports: as compilers for shaders.sh, nothing runs on them. Some ten minutes on two idle processors.
#   bash tests/bench/gpu_compilers.sh [FOLDER]      build/gpu_compilers without one
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-build/gpu_compilers}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
bash tests/install.sh build compilers
cd "$folder"

if ! ls mesa-*/meson.build >/dev/null 2>&1; then
  # The list of sources of its own, so that the machine's apt configuration stays as it is.
  uri=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME)' | awk '$2 == "bookworm" {print $1; exit}')
  [ -n "$uri" ] || { echo "gpu_compilers.sh: apt knows no source of Debian 12; run apt-get update" >&2; exit 1; }
  mkdir -p sources lists/partial cache/archives/partial
  printf '%s\n' 'Types: deb-src' "URIs: $uri" 'Suites: bookworm-backports' 'Components: main' \
    'Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg' >sources/backports.sources
  printf '%s\n' 'Dir::Etc::sourcelist "/dev/null";' "Dir::Etc::sourceparts \"$folder/sources\";" "Dir::State::Lists \"$folder/lists\";" \
    "Dir::Cache \"$folder/cache\";" >apt.conf
  APT_CONFIG=$folder/apt.conf apt-get update -q >apt.log 2>&1
  APT_CONFIG=$folder/apt.conf apt-get source --tar-only --download-only mesa >>apt.log 2>&1
  tar -xJf mesa_*.orig.tar.xz
fi
if [ ! -x venv/bin/meson ]; then
  python3 -m venv venv
  venv/bin/pip install -q meson mako pyyaml packaging
fi
PATH=$folder/venv/bin:$PATH
off=(-D{gles1,gles2,glx,egl,gbm,llvm,shader-cache}=disabled)
[ -f b/build.ninja ] || meson setup b mesa-*/ -Dbuildtype=release -Dvulkan-drivers=freedreno,panfrost -Dgallium-drivers= -Dplatforms= -Dtools=drm-shim \
  -Dopengl=false -Dvideo-codecs= "${off[@]}" >setup.log 2>&1 || { tail -n 20 setup.log >&2; exit 1; }
ninja -C b >build.log 2>&1 || { tail -n 20 build.log >&2; exit 1; }
