#!/bin/bash
# Installs what scaling by the engine's queue needs: Prometheus with its operator, in the namespace `monitoring`, and KEDA.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../settings.sh
. "$(dirname "$(readlink -f "$0")")/../settings.sh"
keda=$(version github.com/kedacore/keda/v2 keda)
operator=$(version github.com/prometheus-operator/prometheus-operator keda)
prometheus=$(version github.com/prometheus/prometheus keda)
kedas=$(module github.com/kedacore/keda/v2 keda)
operators=$(module github.com/prometheus-operator/prometheus-operator keda)
rendered=$STATE/rendered/keda
certificates=/etc/ssl/certs/ca-certificates.crt
# image NAME:TAG FOLDER/PROGRAM PATH: an image with this program there
image() { "$CLUSTER/images/make.sh" "$1" --entrypoint "$3" "$BIN/$2=$3" $certificates=$certificates; }
# render FOLDER: its kustomization with this cluster's values, into one file
render() {
  for file in "$CLUSTER/keda/$1"/*.yaml; do
    sed -e "s#@IMAGES@#$IMAGES#g; s#@KEDA@#$keda#g; s#@OPERATOR@#$operator#g; s#@PROMETHEUS@#$prometheus#g; s#@RELEASE@#$release#g" \
      "$file" > "$rendered/$1/${file##*/}"
  done
  kubectl kustomize "$rendered/$1" > "$rendered/$1.yaml"
}
release=$(sed -E 's/^v0\.(.)0?/v\1./' <<< "$prometheus") # as a module Prometheus 3.5.0 is v0.305.0

image "prometheus:$prometheus" prometheus/prometheus /bin/prometheus
image "prometheus-operator:$operator" prometheus/operator /bin/operator
image "prometheus-config-reloader:$operator" prometheus/prometheus-config-reloader /bin/prometheus-config-reloader
image "keda-operator:$keda" keda/operator /keda
image "keda-adapter:$keda" keda/adapter /keda-adapter
image "keda-webhooks:$keda" keda/webhooks /keda-admission-webhooks

for file in "$operators"/example/prometheus-operator-crd/*.yaml; do
  apply "$file"
  established "$file"
done
mkdir -p "$rendered/prometheus"
cp -r --no-preserve=mode -T "$operators/example/rbac" "$rendered/prometheus/rbac"
render prometheus
apply "$rendered/prometheus.yaml"

mkdir -p "$rendered/keda"
cp -r --no-preserve=mode -T "$kedas/config" "$rendered/keda/config"
render keda
apply "$rendered/keda.yaml"
for deployment in keda-operator keda-metrics-apiserver keda-admission; do
  kubectl -n keda rollout status "deploy/$deployment" --timeout=600s
done
kubectl wait --for=condition=Available apiservice/v1beta1.external.metrics.k8s.io --timeout=600s
kubectl -n monitoring wait --for=condition=Available prometheus/prometheus --timeout=600s

# KServe's manager looks once, at start, whether there are ScaledObjects to watch. The annotation starts it anew, once.
kubectl -n kserve patch deploy/kserve-controller-manager \
  -p "{\"spec\": {\"template\": {\"metadata\": {\"annotations\": {\"keda\": \"$keda\"}}}}}"
kubectl -n kserve rollout status deploy/kserve-controller-manager --timeout=600s
