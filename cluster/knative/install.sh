#!/bin/bash
# Installs the Gateway API's types, Knative Serving and Kourier. KServe comes after: its manager looks for these types
# only once, when it starts.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../settings.sh
. "$(dirname "$(readlink -f "$0")")/../settings.sh"
knative=$(version knative.dev/serving)
rendered=$STATE/rendered/knative
certificates=/etc/ssl/certs/ca-certificates.crt

for program in controller autoscaler activator webhook queue kourier; do
  "$CLUSTER/images/make.sh" "knative-$program:$knative" --entrypoint "/$program" "$BIN/$program=/$program" $certificates=$certificates
done
# Envoy's binary comes with the few Debian libraries that it is linked to.
mapfile -t libraries < <(ldd "$BIN/envoy" | awk '$3 ~ /^\// { print $3 "=" $3 } $1 ~ /^\// { print $1 "=" $1 }')
"$CLUSTER/images/make.sh" "envoy:$ENVOY" --entrypoint /usr/local/bin/envoy "$BIN/envoy=/usr/local/bin/envoy" "${libraries[@]}" $certificates=$certificates

for file in "$(module sigs.k8s.io/gateway-api)"/config/crd/experimental/gateway.networking.k8s.io_*.yaml; do apply "$file"; done

/usr/bin/python3 "$CLUSTER/knative/render.py" --out "$rendered" --images $IMAGES --tag "$knative" --envoy $ENVOY --port $KNATIVE_PORT \
  --serving "$(module knative.dev/serving)" --networking "$(module knative.dev/networking)" \
  --caching "$(module knative.dev/caching)" --kourier "$(module knative.dev/net-kourier)"
apply "$rendered/1-crds.yaml"
established "$rendered/1-crds.yaml"
apply "$rendered/2-namespaces.yaml"
apply "$rendered/3-config.yaml"
apply "$rendered/4-workloads.yaml"
for deployment in webhook controller autoscaler activator net-kourier-controller; do
  kubectl -n knative-serving rollout status "deploy/$deployment" --timeout=600s
done
kubectl -n kourier-system rollout status deploy/3scale-kourier-gateway --timeout=600s
apply "$rendered/5-after-the-webhook.yaml"
