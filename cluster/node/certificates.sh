#!/bin/bash
# Makes the keys, certificates and kubeconfigs that are missing. Nothing here leaves the state folder.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../settings.sh
. "$(dirname "$(readlink -f "$0")")/../settings.sh"
mkdir -p "$PKI" "$CONF"
cd "$PKI"
umask 077

# A file counts as made only under its final name: an interrupted run leaves nothing half-written.
key() { # NAME
  [ -s "$1.key" ] && return
  openssl ecparam -name prime256v1 -genkey -noout -out "$1.key.new"
  mv "$1.key.new" "$1.key"
}
authority() { # NAME
  key "$1"
  [ -s "$1.crt" ] && return
  openssl req -x509 -new -key "$1.key" -days 3650 -subj "/CN=$1" -out "$1.crt.new" \
    -addext keyUsage=critical,keyCertSign,cRLSign,digitalSignature
  mv "$1.crt.new" "$1.crt"
}
certificate() { # NAME AUTHORITY SUBJECT USAGE [SUBJECT_ALT_NAMES]
  key "$1"
  [ -s "$1.crt" ] && return
  openssl req -new -key "$1.key" -subj "$3" \
    | openssl x509 -req -CA "$2.crt" -CAkey "$2.key" -set_serial "0x$(openssl rand -hex 8)" -days 3650 -out "$1.crt.new" \
      -extfile <(printf 'keyUsage=critical,digitalSignature,keyEncipherment\nextendedKeyUsage=%s\n%s\n' "$4" "${5:+subjectAltName=$5}")
  mv "$1.crt.new" "$1.crt"
}

authority ca
authority front-proxy-ca
service=kubernetes.default.svc
certificate apiserver ca /CN=kube-apiserver serverAuth \
  "DNS:kubernetes,DNS:kubernetes.default,DNS:$service,DNS:$service.cluster.local,DNS:localhost,DNS:$NODE,IP:127.0.0.1,IP:$NODE_IP,IP:$API_SERVICE_IP"
certificate apiserver-kubelet ca /O=system:masters/CN=kube-apiserver-kubelet-client clientAuth
certificate front-proxy front-proxy-ca /CN=front-proxy-client clientAuth
certificate admin ca /O=system:masters/CN=admin clientAuth
for name in kube-controller-manager kube-scheduler kube-proxy; do
  certificate $name ca /CN=system:$name clientAuth
done
certificate kubelet ca "/O=system:nodes/CN=system:node:$NODE" clientAuth,serverAuth "DNS:$NODE,IP:$NODE_IP,IP:127.0.0.1"
webhook=kserve-webhook-server-service.kserve.svc
certificate kserve-webhook ca /CN=$webhook serverAuth DNS:$webhook

# The pair that signs service account tokens
if [ ! -s sa.pub ]; then
  openssl genrsa -out sa.key 2048
  openssl rsa -in sa.key -pubout -out sa.pub.new
  mv sa.pub.new sa.pub
fi

for name in admin kube-controller-manager kube-scheduler kube-proxy kubelet; do
  cat > "$CONF/$name.kubeconfig.new" <<K
apiVersion: v1
kind: Config
clusters:
- name: emoji
  cluster: {server: "https://$NODE_IP:6443", certificate-authority-data: $(base64 -w0 ca.crt)}
users:
- name: $name
  user: {client-certificate-data: $(base64 -w0 "$name.crt"), client-key-data: $(base64 -w0 "$name.key")}
contexts:
- name: emoji
  context: {cluster: emoji, user: $name}
current-context: emoji
K
  mv "$CONF/$name.kubeconfig.new" "$CONF/$name.kubeconfig"
done
