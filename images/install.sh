#!/bin/bash
# In a build stage: installs requirements into a folder and byte-compiles them there.
# Usage: install.sh FOLDER REQUIREMENTS [PIP OPTION...]
set -euo pipefail
folder=$1 requirements=$2
shift 2

# Where a proxy signs the connections with a certificate of its own: images/build.sh hands it over as a secret.
if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi

# The locks are complete, hence --no-deps: nothing that is not in them gets in.
python3 -m pip --disable-pip-version-check install --quiet --root-user-action ignore --no-cache-dir \
    --no-deps --only-binary :all: --no-compile --target "$folder" --requirement "$requirements" "$@"

# Without .pyc files importing KServe takes four times as long, and a read-only pod could not keep them.
# Unchecked: nothing changes in an image, so Python needn't look at the source's time stamps, which COPY may alter.
# Some packages carry files in the syntax of a newer Python: those stay as they are.
python3 -m compileall -qq -j 0 --invalidation-mode unchecked-hash "$folder" || true
