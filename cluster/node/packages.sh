#!/bin/bash
# Installs the Debian packages of packages.txt that are missing.
set -euo pipefail
cd "$(dirname "$(readlink -f "$0")")"
missing=()
while read -r package; do
  dpkg -s "$package" > /dev/null 2>&1 || missing+=("$package")
done < <(grep -v '^#' packages.txt)
[ ${#missing[@]} -gt 0 ] || exit 0
wait_for_lock=(-o DPkg::Lock::Timeout=600)
apt-get "${wait_for_lock[@]}" update -q
DEBIAN_FRONTEND=noninteractive apt-get "${wait_for_lock[@]}" install -y --no-install-recommends "${missing[@]}"
