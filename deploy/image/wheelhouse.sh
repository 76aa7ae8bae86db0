#!/usr/bin/env bash
# Collect the wheels of an image into var/wheelhouse/TARGET, at the versions of constraints.txt: wheelhouse.sh client|cpu|gpu
#
# PyPI's torch for Linux is a CUDA build, of several GB. For a small `cpu` image put a CPU build of torch into
# var/wheelhouse/cpu first: a torch that is there is taken as it is, and CUDA's wheels are left out.
set -euo pipefail
cd "$(dirname "$0")/../.."

target=${1:?client, cpu or gpu}
python=${PYTHON:-python3.11}
folder=var/wheelhouse/$target
mkdir -p "$folder"
rm -f "$folder"/earlybird-*.whl

constraints=$(mktemp)
trap 'rm -f "$constraints"' EXIT
if compgen -G "$folder/torch-*.whl" > /dev/null; then
  grep -v -E '^(torch|triton|nvidia-|cuda-)' constraints.txt > "$constraints"
else
  cp constraints.txt "$constraints"
fi

wanted=(".")
# redis asks for async-timeout below Python 3.11.3 only; Debian bookworm's Python is 3.11.2, this one may be later.
[ "$target" = client ] || wanted=(".[engine,stream,views,pull,registry,archive,traces]" async-timeout)
"$python" -m pip wheel --quiet --disable-pip-version-check --find-links "$folder" --wheel-dir "$folder" \
  --constraint "$constraints" "${wanted[@]}"
echo "$folder: $(find "$folder" -name '*.whl' | wc -l) wheels, $(du -sh "$folder" | cut -f1)"
