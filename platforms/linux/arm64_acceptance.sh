#!/usr/bin/env bash
# The Debian packages for arm64 as someone installs them: bash platforms/linux/arm64_acceptance.sh --root ROOT --packages DIR [--build DIR] [MODEL.rnl...]
#   --root ROOT       an arm64 Debian, made when it is not there (arm64_root.sh; needs root)
#   --packages DIR    with the .deb files (cmake --preset deb-arm64 && cmake --build --preset deb-arm64 && cpack --config build/deb-arm64/CPackConfig.cmake
#                     -B build/deb-arm64/packages)
#   --build DIR       a release build of this machine, default build/release: what it computes is compared
#   MODEL.rnl         further models whose perplexity on tests/bench's text is compared (emulated: minutes each)
# Installs the packages, compiles a C program against them, runs both demos, and compares logits, perplexities, answers and labels with this machine's.
set -euo pipefail
cd "$(dirname "$0")/../.."
root= packages= build=build/release models=()
while [ $# -gt 0 ]; do
  case $1 in
    --root) root=${2:?}; shift ;;
    --packages) packages=${2:?}; shift ;;
    --build) build=${2:?}; shift ;;
    -*) sed -n '2,8s/^# *//p' "$0" >&2; exit 2 ;;
    *) models+=("$1") ;;
  esac
  shift
done
[ -n "$root" ] && [ -n "$packages" ] || { sed -n '2,8s/^# *//p' "$0" >&2; exit 2; }
build=$(cd "$build" && pwd)
export PYTHONPATH=tests/e2e RUNNEL_BIN=$build/bin PYTHONDONTWRITEBYTECODE=1
here() { "$build/bin/$1" "${@:2}"; }
there() { bash platforms/linux/arm64_root.sh run "$root" "$@"; }

bash platforms/linux/arm64_root.sh make "$root" libstdc++6 gcc libc6-dev libstdc++-12-dev
rm -rf "$root/runnel"
mkdir -p "$root/runnel"
cp "$packages"/*_arm64.deb tests/e2e/consumer/main.c examples/typeseg/mixed.txt "$root/runnel/"
echo "== install"
there sh -c 'dpkg -i /runnel/*.deb && ldconfig -p | grep librunnel && runnel --version && runnel devices'
echo "== a program of one's own"
there sh -c 'cc /runnel/main.c -o /runnel/shared -lrunnel && /runnel/shared && cc /runnel/main.c -o /runnel/static -l:librunnel.a -lstdc++ -lm && /runnel/static'

echo "== models"
python3 platforms/linux/acceptance_models.py "$root/runnel"
for model in "${models[@]}"; do ln -f "$model" "$root/runnel/" 2>/dev/null || cp "$model" "$root/runnel/"; done

echo "== logits"
for name in gemma3 mamba2 qwen3_next; do
  here runnel eval "$root/runnel/$name.rnl" --in "$root/runnel/$name.ids" --out "$root/runnel/$name.here"
  there runnel eval "/runnel/$name.rnl" --in "/runnel/$name.ids" --out "/runnel/$name.there"
  python3 platforms/linux/acceptance_models.py --compare "$root/runnel/$name.here" "$root/runnel/$name.there"
done

echo "== assistant: three questions, the service ended and started in between"
answer() { "$@" | tr '\0\n' '@ '; }
rm -rf "$root/runnel/kept"
mkdir "$root/runnel/kept"
questions=("Hello there" "What is a river?" "Say it again.")
wanted=$(printf '%s\n' "${questions[@]}" | answer here runnel-assistant "$root/runnel/chat.rnl" --tokens 40)
got=
for question in "${questions[@]}"; do
  got+=$(echo "$question" | answer there runnel-assistant /runnel/chat.rnl --tokens 40 --state /runnel/kept)
done
[ "$wanted" = "$got" ] || { echo "the answers differ: $wanted / $got"; exit 1; }
echo "the same three answers: ${#got} bytes"

echo "== colour"
wanted=$(here runnel-colour "$root/runnel/typeseg.rnl" "$root/runnel/labels.txt" --labels --idle 0 <examples/typeseg/mixed.txt | sha256sum)
got=$(there sh -c 'runnel-colour /runnel/typeseg.rnl /runnel/labels.txt --labels --idle 0 </runnel/mixed.txt' | sha256sum)
[ "$wanted" = "$got" ] || { echo "the labels differ"; exit 1; }
echo "the same labels"

for model in "${models[@]}"; do
  name=$(basename "$model")
  head -c 2000 CONTRIBUTING.md >"$root/runnel/text"
  echo "== perplexity of $name on 2,000 bytes: here, there"
  a=$(here runnel perplexity "$model" --file "$root/runnel/text" --json)
  b=$(there runnel perplexity "/runnel/$name" --file /runnel/text --json)
  echo "$a"; echo "$b"
  python3 - "$a" "$b" <<'PYTHON'
import json, sys
a, b = (json.loads(text)["perplexity"] for text in sys.argv[1:])
print(f"{abs(a - b) / a:.1e} of it apart")
sys.exit(abs(a - b) > 2e-3 * a)
PYTHON
done
echo "accepted"
