#!/bin/bash
# Gives the cluster, which is up, two images: KServe's storage initializer, which downloads weights, by the name that
# kserve/render.py has put into KServe's settings; and an S3 server for the tests. It needs docker, podman or buildah.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../settings.sh
. "$(dirname "$(readlink -f "$0")")/../settings.sh"
cd "$CLUSTER/.."
kserve=$(version github.com/kserve/kserve)
archive=build/images/storage-initializer.tar
export CA_BUNDLE=${CA_BUNDLE:-${PIP_CERT:-}}
grep -q "^kserve-storage==${kserve#v} " cluster/storage/requirements.txt \
  || { echo "cluster/storage/requirements.txt has another kserve-storage than $kserve" >&2; exit 1; }

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
cp cluster/storage/{Dockerfile,requirements.txt} "$context"
cp images/install.sh "$context/install_packages.sh"
cp --no-preserve=mode "$(module github.com/kserve/kserve)/python/storage-initializer/scripts/initializer-entrypoint" "$context"
images/build.sh archive "$context" "$IMAGES/storage-initializer:$kserve" $archive
cluster/import-image $archive

# A module of its own: its versions of what all Go programs share must not become Kubernetes' ones.
CGO_ENABLED=0 GOFLAGS="-mod=readonly -buildvcs=false -trimpath -gcflags=all=-dwarf=false" GOGC=400 \
  go build -C cluster/programs/s3 -ldflags "-s -w" -o "$BIN/" tool
cluster/images/make.sh s3-server:test --entrypoint /versitygw "$BIN/versitygw=/versitygw"
