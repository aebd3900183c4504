#!/bin/bash
# Installs KServe: its types, controller and webhooks, with the settings that render.py gives.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../settings.sh
. "$(dirname "$(readlink -f "$0")")/../settings.sh"
kserve=$(version github.com/kserve/kserve)
rendered=$STATE/rendered/kserve
certificates=/etc/ssl/certs/ca-certificates.crt

for program in manager router; do
  "$CLUSTER/images/make.sh" "kserve-$program:$kserve" --entrypoint "/$program" "$BIN/$program=/$program" $certificates=$certificates
done
/usr/bin/python3 "$CLUSTER/kserve/render.py" --module "$(module github.com/kserve/kserve)" --version "$kserve" \
  --pki "$PKI" --images $IMAGES --out "$rendered"
apply "$rendered/1-crds.yaml"
established "$rendered/1-crds.yaml"
apply "$rendered/2-core.yaml"
kubectl -n kserve rollout status deploy/kserve-controller-manager --timeout=600s
apply "$rendered/3-webhooks.yaml"
