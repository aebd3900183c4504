#!/usr/bin/env bash
# `make test-cluster`: on the cluster of $KUBECONFIG, or on one that it brings up here, with the images built from this
# checkout, and takes down again unless it was up before. Arguments go to pytest.
#   STANDARD=1                  Standard mode, here with Envoy Gateway; otherwise Knative mode
#   KEDA=1                      Standard mode, here with KEDA and Prometheus; without them their tests are skipped
#   S3=1                        here with what downloads weights and an S3 server; without them their tests are skipped
# On a cluster of yours, with kubectl and helm in the PATH, in namespaces t-…:
#   EMOJI_REGISTRY=HOST/FOLDER  where `make images REGISTRY=HOST/FOLDER` and a push have put the images
#   EMOJI_INGRESS=HOST:PORT     the gateway, where its Service has no address to be reached at
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${PYTHON:=python3}" "${MAKE:=make}" "${STANDARD:=}" "${KEDA:=}" "${S3:=}"
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # the judge's; the pods have their own
export EMOJI_MODE=Knative
report=out/cluster/report.md
[ -z "$KEDA" ] || STANDARD=1
if [ -n "$STANDARD" ]; then EMOJI_MODE=Standard report=out/cluster-standard/report.md; fi

# shellcheck disable=SC2317  # the trap calls it
take_away() {
    trap '' INT TERM # make passes a signal on once more
    "$MAKE" cluster-down
}
is_up() { [ -e "$own" ] && (eval "$(cluster/env)" && kubectl get --raw /readyz --request-timeout=10s) > /dev/null 2>&1; }

own=$(eval "$(cluster/env)" && echo "$KUBECONFIG")
if [ "${KUBECONFIG:-$own}" = "$own" ]; then
    cluster/preflight.sh
    images/build.sh prepare
    "$MAKE" image-archives TORCH=cpu REGISTRY=dev.local
    if ! is_up; then
        trap take_away EXIT
        trap 'exit 130' INT TERM
    fi
    "$MAKE" cluster-up STANDARD="$STANDARD" KEDA="$KEDA"
    cluster/import-image build/images/emoji-{predictor,transformer,weights}.tar
    [ -z "$S3" ] || cluster/storage/install.sh
    eval "$(cluster/env)"
    url=$KNATIVE_URL
    [ -z "$STANDARD" ] || url=$STANDARD_URL
    export EMOJI_LOCAL=1 EMOJI_INGRESS=${url#http://}
else
    for program in kubectl helm; do
        command -v "$program" > /dev/null || { echo "test-cluster needs $program in the PATH" >&2; exit 1; }
    done
    kubectl get crd inferenceservices.serving.kserve.io > /dev/null # says what is wrong where there is no KServe
fi
status=0
"$PYTHON" -m pytest -m cluster -v "$@" tests/cluster || status=$?
echo "The evidence: $report"
exit $status
