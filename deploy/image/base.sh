#!/usr/bin/env bash
# Make a base image without a registry: Debian bookworm with Python, from Debian's packages (root, mmdebstrap, buildah).
# Usage: base.sh NAME. Options of buildah stand in BUILDAH_OPTIONS. The root file system is kept in ~/.cache/earlybird.
set -euo pipefail

name=${1:?name of the image}
root="$HOME/.cache/earlybird/bookworm-python.tar"
read -ra options <<< "${BUILDAH_OPTIONS:-}"
if [ ! -e "$root" ]; then
  mkdir -p "$(dirname "$root")"
  # dpkg need not wait for the disk after each package.
  mmdebstrap --quiet --variant=minbase --dpkgopt=force-unsafe-io --include=python3,python3-venv,ca-certificates \
    bookworm "$root.part.tar"
  mv "$root.part.tar" "$root"
fi
container=$(buildah "${options[@]}" from scratch)
buildah "${options[@]}" add --quiet "$container" "$root" / > /dev/null
buildah "${options[@]}" config --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
buildah "${options[@]}" commit --quiet --rm "$container" "$name" > /dev/null
