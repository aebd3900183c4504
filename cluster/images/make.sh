#!/bin/bash
# Makes one of the cluster's own images from files of this machine and imports it into containerd, unless an image of
# the same files and settings is there. usage: images/make.sh NAME:TAG ARGUMENT... (those of archive.py)
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../settings.sh
. "$(dirname "$(readlink -f "$0")")/../settings.sh"
image=$IMAGES/$1
stamp=$STATE/images/$1
shift
mkdir -p "$STATE/images"
inputs=$(for argument in "$@"; do
  echo "$argument"
  [[ $argument != *=* ]] || stat -L -c '%s %Y' "${argument%%=*}"
done)
if [ "$(cat "$stamp" 2> /dev/null)" = "$inputs" ] && [ -n "$(ctr images ls -q "name==$image")" ]; then exit; fi
/usr/bin/python3 "$CLUSTER/images/archive.py" "$image" "$@" | ctr images import -
echo "$inputs" > "$stamp"
