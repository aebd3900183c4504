#!/bin/bash
# Installs what Standard mode needs: Envoy Gateway with the Gateway of KServe, and metrics-server for the HPA.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../settings.sh
. "$(dirname "$(readlink -f "$0")")/../settings.sh"
gateway=$(version github.com/envoyproxy/gateway)
metrics=$(version sigs.k8s.io/metrics-server)
rendered=$STATE/rendered/standard
certificates=/etc/ssl/certs/ca-certificates.crt
fill() { # FILE: the template with this cluster's values
  sed -e "s#@IMAGES@#$IMAGES#g; s#@STANDARD_PORT@#$STANDARD_PORT#g; s#@ENVOY@#$ENVOY#g; s#@GATEWAY@#$gateway#g; s#@METRICS@#$metrics#g" \
    "$CLUSTER/standard/$1" > "$rendered/$1"
}

"$CLUSTER/images/make.sh" "envoy-gateway:$gateway" --entrypoint envoy-gateway "$BIN/envoy-gateway=/usr/local/bin/envoy-gateway" $certificates=$certificates
"$CLUSTER/images/make.sh" "metrics-server:$metrics" --entrypoint /metrics-server "$BIN/metrics-server=/metrics-server"

mkdir -p "$rendered/metrics-server"
fill envoy-gateway.yaml
fill gateway.yaml
fill metrics-server/kustomization.yaml
cp -r --no-preserve=mode -T "$(module sigs.k8s.io/metrics-server)/manifests/base" "$rendered/metrics-server/base"

for file in "$(module github.com/envoyproxy/gateway)"/charts/gateway-helm/charts/crds/crds/generated/*.yaml; do
  apply "$file"
  established "$file"
done
apply "$rendered/envoy-gateway.yaml"
# The control plane's certificates: the gateway's own command, run here as the cluster's administrator.
ENVOY_GATEWAY_NAMESPACE=envoy-gateway-system KUBERNETES_CLUSTER_DOMAIN=cluster.local \
  "$BIN/envoy-gateway" certgen --disable-topology-injector
kubectl -n envoy-gateway-system rollout status deploy/envoy-gateway --timeout=600s
apply "$rendered/gateway.yaml"
kubectl -n kserve wait --for=condition=Programmed gateway/kserve-ingress-gateway --timeout=600s

kubectl kustomize "$rendered/metrics-server" > "$rendered/metrics-server.yaml"
apply "$rendered/metrics-server.yaml"
kubectl -n kube-system rollout status deploy/metrics-server --timeout=600s
kubectl wait --for=condition=Available apiservice/v1beta1.metrics.k8s.io --timeout=600s
