#!/bin/bash
# Starts the node: etcd, containerd, control plane, kubelet, kube-proxy, volumes, DNS. What runs already is left alone.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../settings.sh
. "$(dirname "$(readlink -f "$0")")/../settings.sh"
mkdir -p "$CONF/cni" "$RUN" "$STATE"/{etcd,containerd,kubelet,volumes}

# alive NAME: by the pid file, and only when that process still has the program's name (Linux keeps 15 letters of it)
alive() {
  local pid
  pid=$(cat "$RUN/$1.pid" 2> /dev/null) && [ "$(cat "/proc/$pid/comm" 2> /dev/null)" = "${1:0:15}" ]
}
start() { # NAME ARGUMENT...
  alive "$1" && return
  setsid nohup "$@" >> "$LOG/$1.log" 2>&1 < /dev/null 9>&- &
  echo $! > "$RUN/$1.pid"
}
wait_for() { # SECONDS COMMAND...
  local end=$((SECONDS + $1))
  shift
  until "$@" > /dev/null 2>&1; do
    [ $SECONDS -lt $end ] || { echo "timed out: $*" >&2; return 1; }
    sleep 0.3
  done
}
# fill FILE: the template conf/NAME with this cluster's values. The file is left alone when nothing differs,
# because kube-proxy exits when its own is rewritten.
fill() {
  local text
  text=$(sed -e "s#@STATE@#$STATE#g; s#@IMAGES@#$IMAGES#g; s#@NODE@#$NODE#g; s#@POD_LINK@#$POD_LINK#g; s#@POD_CIDR@#$POD_CIDR#g; s#@DNS_IP@#$DNS_IP#g" \
    "$CLUSTER/node/conf/${1##*/}")
  [ "$text" = "$(cat "$1" 2> /dev/null)" ] || echo "$text" > "$1"
}

"$CLUSTER/node/kernel.sh"
"$CLUSTER/node/certificates.sh"
fill "$CONF/containerd.toml"
fill "$CONF/cni/10-pods.conflist"
fill "$CONF/kubelet.yaml"
fill "$CONF/kube-proxy.yaml"
grep -v '^search' /etc/resolv.conf > "$CONF/resolv.conf"   # the machine's search domains are none of the pods' business

start etcd --name=$NODE --data-dir="$STATE/etcd" --unsafe-no-fsync --log-level=warn \
  --listen-client-urls=http://127.0.0.1:12379 --advertise-client-urls=http://127.0.0.1:12379 \
  --listen-peer-urls=http://127.0.0.1:12380 --initial-advertise-peer-urls=http://127.0.0.1:12380 \
  --initial-cluster=$NODE=http://127.0.0.1:12380
start containerd --config "$CONF/containerd.toml"

wait_for 120 curl -sf http://127.0.0.1:12379/health
start kube-apiserver --etcd-servers=http://127.0.0.1:12379 --advertise-address=$NODE_IP --secure-port=6443 \
  --service-cluster-ip-range=$SERVICE_CIDR --allow-privileged=true \
  --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
  --client-ca-file="$PKI/ca.crt" --tls-cert-file="$PKI/apiserver.crt" --tls-private-key-file="$PKI/apiserver.key" \
  --kubelet-client-certificate="$PKI/apiserver-kubelet.crt" --kubelet-client-key="$PKI/apiserver-kubelet.key" \
  --kubelet-certificate-authority="$PKI/ca.crt" --kubelet-preferred-address-types=InternalIP \
  --service-account-issuer=https://kubernetes.default.svc.cluster.local \
  --service-account-key-file="$PKI/sa.pub" --service-account-signing-key-file="$PKI/sa.key" \
  --requestheader-client-ca-file="$PKI/front-proxy-ca.crt" --requestheader-allowed-names=front-proxy-client \
  --requestheader-extra-headers-prefix=X-Remote-Extra- --requestheader-group-headers=X-Remote-Group \
  --requestheader-username-headers=X-Remote-User \
  --proxy-client-cert-file="$PKI/front-proxy.crt" --proxy-client-key-file="$PKI/front-proxy.key" \
  --cert-dir="$RUN/apiserver-certs"

wait_for 120 ctr version
"$CLUSTER/images/make.sh" pause:1 --user 65535:65535 --entrypoint /pause "$BIN/pause=/pause"
"$CLUSTER/images/make.sh" coredns:1 --user 0:0 --entrypoint /coredns "$BIN/coredns=/coredns"
wait_for 300 kubectl get --raw /readyz

kubeconfigs() { # NAME
  printf -- '--kubeconfig=%s\n--authentication-kubeconfig=%s\n--authorization-kubeconfig=%s\n' "$CONF/$1.kubeconfig"{,,}
}
mapfile -t arguments < <(kubeconfigs kube-controller-manager)
start kube-controller-manager "${arguments[@]}" --bind-address=127.0.0.1 --leader-elect=false \
  --use-service-account-credentials=true --service-account-private-key-file="$PKI/sa.key" --root-ca-file="$PKI/ca.crt" \
  --cluster-signing-cert-file="$PKI/ca.crt" --cluster-signing-key-file="$PKI/ca.key" \
  --requestheader-client-ca-file="$PKI/front-proxy-ca.crt" --cert-dir="$RUN/controller-manager-certs"
mapfile -t arguments < <(kubeconfigs kube-scheduler)
start kube-scheduler "${arguments[@]}" --bind-address=127.0.0.1 --leader-elect=false --cert-dir="$RUN/scheduler-certs"
start kubelet --config="$CONF/kubelet.yaml" --kubeconfig="$CONF/kubelet.kubeconfig" \
  --hostname-override=$NODE --node-ip=$NODE_IP --root-dir="$STATE/kubelet" --cert-dir="$RUN/kubelet-certs"
start kube-proxy --config="$CONF/kube-proxy.yaml"
start volumes --kubeconfig="$CONF/admin.kubeconfig" --node=$NODE --folder="$STATE/volumes"

wait_for 120 kubectl get node $NODE
fill "$CONF/coredns.yaml"
fill "$CONF/storage.yaml"
apply "$CONF/coredns.yaml"
apply "$CONF/storage.yaml"
kubectl wait --for=condition=Ready node/$NODE --timeout=300s
kubectl -n kube-system rollout status deploy/coredns --timeout=300s
