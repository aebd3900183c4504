#!/bin/bash
# In a build stage: installs torch into a folder, byte-compiled. Usage: install_torch.sh FOLDER LOCK, with
#   TORCH_INDEX=URL  torch, in the lock's version, from that package index, say one of CPU builds
#   TORCH=cuda       as locked: with all CUDA libraries
#   TORCH=cpu        as locked, but without the CUDA libraries that cuda_stubs.py then makes stubs of
set -euo pipefail
folder=$1 lock=$2
here=$(dirname "$0")

if [ -n "${TORCH_INDEX:-}" ]; then
    # Another build of the same version has other hashes than those of the lock.
    sed -n 's/^\(torch==[^ ]*\).*/\1/p' "$lock" > /tmp/torch.txt
    exec "$here/install.sh" "$folder" /tmp/torch.txt --index-url "$TORCH_INDEX"
fi
case ${TORCH:-} in
cuda)
    "$here/install.sh" "$folder" "$lock" --require-hashes
    ;;
cpu)
    awk '/^[a-z]/ { wanted = /^(torch|nvidia-cuda-runtime|nvidia-cuda-cupti)==/ } wanted' "$lock" > /tmp/torch.txt
    "$here/install.sh" "$folder" /tmp/torch.txt --require-hashes
    ;;
*)
    echo "TORCH=${TORCH:-}: must be cuda or cpu" >&2
    exit 1
    ;;
esac
