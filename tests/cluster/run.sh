#!/usr/bin/env bash
# `make test-cluster`: on the cluster of $KUBECONFIG, or on one that it brings up here, with the images built from this
# checkout, and takes down again unless it was up before. Arguments go to pytest.
#
# On a cluster of yours: kubectl and helm in the PATH, and EMOJI_OVERLAY the folder of a kustomization that names
# images which the cluster can pull. EMOJI_INGRESS=host:port where Kourier's Service has no address to be reached at.
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${PYTHON:=python3}" "${MAKE:=make}"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # the judge's; the pods have their own

build_images() {
    if ! command -v docker podman buildah > /dev/null && command -v apt-get > /dev/null; then
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends buildah mmdebstrap
    fi
    # Where no registry can be reached there is no base image until one is made.
    "$MAKE" image-archives TORCH=cpu || { "$MAKE" base-image && "$MAKE" image-archives TORCH=cpu; }
}

if [ -z "${KUBECONFIG:-}" ]; then
    if ! (eval "$(cluster/env)" && kubectl get --raw /readyz) > /dev/null 2>&1; then
        trap '"$MAKE" cluster-down' EXIT
    fi
    "$MAKE" cluster-up
    build_images
    cluster/import-image build/images/emoji-{predictor,transformer,weights}.tar
    eval "$(cluster/env)"
    export EMOJI_INGRESS=${KNATIVE_URL#http://}
fi
"$PYTHON" -m pytest -m cluster -v "$@" tests/cluster
echo "The evidence: out/cluster/report.md"
