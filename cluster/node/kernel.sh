#!/bin/bash
# The machine's settings for the node: kernel parameters (their old values are kept for `down`), its link and address.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../settings.sh
. "$(dirname "$(readlink -f "$0")")/../settings.sh"
mkdir -p "$STATE/sysctl"

keep() { # NAME: the value from before the first run
  [ -e "$STATE/sysctl/$1" ] || cat "/proc/sys/${1//.//}" > "$STATE/sysctl/$1.new"
  [ ! -e "$STATE/sysctl/$1.new" ] || mv "$STATE/sysctl/$1.new" "$STATE/sysctl/$1"
}
change() { # NAME VALUE
  keep "$1"
  echo "$2" > "/proc/sys/${1//.//}"
}
change net.ipv4.ip_forward 1
change net.bridge.bridge-nf-call-iptables 1
change fs.inotify.max_user_instances 8192
# What the kubelet sets by itself:
for name in vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys kernel.keys.root_maxbytes; do
  keep $name
done

ip link show $NODE_LINK > /dev/null 2>&1 || ip link add $NODE_LINK type bridge
ip addr replace $NODE_IP/32 dev $NODE_LINK
ip link set $NODE_LINK up
# Services work from the machine itself, also from one with no default route.
ip route replace $SERVICE_CIDR dev $NODE_LINK src $NODE_IP
