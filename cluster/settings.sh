# shellcheck shell=bash disable=SC2034
# Paths, names and addresses of the local cluster, for every script here to source. It starts nothing and knows no
# step. The versions of what is built from Go are in programs/go.mod and programs/keda/go.mod.

CLUSTER=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
STATE=$(dirname "$CLUSTER")/.cluster        # all that `up` writes; only the Go caches are elsewhere
BIN=$STATE/bin CONF=$STATE/conf PKI=$STATE/pki RUN=$STATE/run LOG=$STATE/log

NODE=emoji-node
NODE_IP=172.31.254.1                        # on a link of its own: nothing depends on the machine's address
NODE_LINK=emojinode0
POD_LINK=emojipods0
POD_CIDR=10.244.0.0/16
SERVICE_CIDR=10.96.0.0/16
API_SERVICE_IP=10.96.0.1
DNS_IP=10.96.0.10
KNATIVE_PORT=31080                          # NodePorts on NODE_IP: Kourier,
STANDARD_PORT=31081                         # and Envoy Gateway

IMAGES=dev.local                            # Knative never resolves the tags of this registry's images
ENVOY=1.40.0                                # of the wheel in programs/envoy.txt

export KUBECONFIG=$CONF/admin.kubeconfig
export PATH=$BIN:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin:$PATH:/usr/local/go/bin

# A proxy of the machine's must not be asked for what is in the cluster: by kubectl, the API server and curl alike.
if [[ ${NO_PROXY:=${no_proxy:-}} != *$NODE_IP* ]]; then
  NO_PROXY+=${NO_PROXY:+,}localhost,127.0.0.1,$NODE_IP,$POD_CIDR,$SERVICE_CIDR,.svc,.cluster.local
fi
export NO_PROXY no_proxy=$NO_PROXY

ctr() { command ctr --address "$RUN/containerd.sock" --namespace k8s.io "$@"; }
# apply FILE: once for each content of the file, since controllers change some of what they are given (the rules of their
# webhooks, say). Server-side: the big CRDs do not fit into the annotation of a client-side apply.
apply() {
  local stamp=$STATE/applied/${1//\//_}
  ! cmp -s "$1" "$stamp" || return 0
  kubectl apply --server-side --force-conflicts -f "$1"
  mkdir -p "$STATE/applied"
  cp "$1" "$stamp"
}
# established FILE: waits for the types in it. `kubectl wait` fails on one so new that it has no conditions yet.
established() {
  for _ in {1..120}; do
    kubectl wait --for=condition=Established -f "$1" --timeout=60s > /dev/null 2>&1 && return
    sleep 0.5
  done
  echo "not established: the types in $1" >&2
  return 1
}
# module PATH [FOLDER]: the folder in the module cache of one of the modules in go.mod of programs/FOLDER
module() { (cd "$CLUSTER/programs/${2:-}" && go mod download "$1" && go list -m -f '{{.Dir}}' "$1"); }
# version PATH [FOLDER]: the version of a module there
version() { (cd "$CLUSTER/programs/${2:-}" && go list -m -f '{{with .Replace}}{{.Version}}{{else}}{{.Version}}{{end}}' "$1"); }
# pod_cgroups: the cgroup of all pods, of each controller with cgroups v1
pod_cgroups() { find /sys/fs/cgroup -maxdepth 2 -type d -name kubepods 2> /dev/null; }
# pod_processes: the processes in them; one of another PID namespace is shown as 0, which `kill` takes for its caller's group
pod_processes() {
  pod_cgroups | while read -r folder; do find "$folder" -name cgroup.procs -exec cat {} + 2> /dev/null; done | grep -vx 0 | sort -u
}
