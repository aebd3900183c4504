#!/bin/bash
# Builds and saves the images with docker, podman or buildah, whichever works here. Usage, from the repository's root:
#   images/build.sh prepare          a builder and the image $BASE, where they are missing: what a bare Debian machine lacks
#   images/build.sh base             the image $BASE of Debian's packages, for a machine that reaches no registry
#   images/build.sh build [NAME...]  $REGISTRY/emoji-NAME:$VERSION of NAME/Dockerfile; all three without NAME
#   images/build.sh save [NAME...]   each as build/images/emoji-NAME.tar, with its bill of materials beside it
#   images/build.sh archive FOLDER IMAGE FILE   another IMAGE, of FOLDER/Dockerfile and what lies beside it, as FILE
#   images/build.sh list             the builder that works here and the images' names
# `make help` says what the variables are for. It does not know Kubernetes; cluster/ imports what this saves.
set -euo pipefail
cd "$(dirname "$0")/.."

: "${REGISTRY:=dev.local}" "${VERSION:=0.1.0}" "${BASE:=python:3.11-slim}"
out=build/images
names=(predictor transformer weights)

die() {
    echo "images: $*" >&2
    exit 1
}

find_builder() {
    for builder in ${BUILDER:-docker podman buildah}; do
        # docker's client is often there without its daemon
        if [ "$builder" = docker ]; then probe=version; else probe=info; fi
        if command -v "$builder" > /dev/null && "$builder" "$probe" > /dev/null 2>&1; then return; fi
    done
    echo "images: needs ${BUILDER:-docker, podman or buildah} in working order (on Debian: apt-get install buildah)" >&2
    return 1
}

prepare() {
    if ! find_builder 2> /dev/null; then
        install_packages buildah
        find_builder
    fi
    if "$builder" inspect --type image "$BASE" > /dev/null 2>&1 || "$builder" pull --quiet "$BASE"; then return; fi
    command -v mmdebstrap > /dev/null || install_packages mmdebstrap
    make_base
}

install_packages() {
    command -v apt-get > /dev/null || die "cannot install $*: there is no apt-get"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@"
}

make_base() {
    local suite=bookworm container
    command -v mmdebstrap > /dev/null || die "base needs mmdebstrap (on Debian: apt-get install mmdebstrap)"
    archive=$(mktemp --suffix .tar) # not local: removed when the script ends
    trap 'rm -f "$archive"' EXIT
    mmdebstrap --quiet --variant=minbase --include=ca-certificates,python3,python3-pip \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        "$suite" "$archive"
    if [ "$builder" = buildah ]; then
        container=$(buildah from scratch)
        buildah add --quiet "$container" "$archive" / > /dev/null
        buildah config --cmd python3 "$container"
        buildah commit --quiet --rm "$container" "$BASE" > /dev/null
    else
        "$builder" import --change 'CMD ["python3"]' "$archive" "$BASE"
    fi
    echo "$BASE: made of Debian $suite"
}

build() {
    local name=$1 options=() revision
    # As labels of the command: buildah takes a LABEL of a changed ARG from its cache.
    options+=(--label "org.opencontainers.image.version=$VERSION")
    if revision=$(git rev-parse HEAD 2> /dev/null); then
        options+=(--label "org.opencontainers.image.revision=$revision")
    fi
    if [ -n "${SOURCE:-}" ]; then options+=(--label "org.opencontainers.image.source=$SOURCE"); fi
    build_image "$REGISTRY/emoji-$name:$VERSION" "${options[@]}" --file "$name/Dockerfile" \
        --build-arg VERSION="$VERSION" \
        --build-arg TORCH="${TORCH:-cuda}" --build-arg TORCH_INDEX="${TORCH_INDEX:-}" \
        --build-arg SEQ2SEQ="${SEQ2SEQ:-no}" .
}

# build_image IMAGE OPTION... CONTEXT
build_image() {
    local image=$1 options=() began=$SECONDS
    shift
    if [ "$builder" = buildah ]; then options+=(--isolation chroot --network host --layers); fi
    # A proxy that signs connections with a certificate of its own: pip has to know it, the image hasn't.
    if [ -n "${CA_BUNDLE:-}" ]; then options+=(--secret "id=ca,src=$CA_BUNDLE"); fi
    "$builder" build "${options[@]}" --tag "$image" --build-arg BASE="$BASE" "$@"
    echo "$image: built in $((SECONDS - began)) s"
}

save() {
    local image=$REGISTRY/emoji-$1:$VERSION bill=/usr/share/sbom/emoji-$1.cdx.json container
    save_image "$image" "$out/emoji-$1.tar"
    if [ "$builder" = buildah ]; then
        container=$(buildah from --pull-never "$image")
        buildah run --isolation chroot "$container" -- cat "$bill" > "$out/${bill##*/}"
        buildah rm "$container" > /dev/null
    else
        "$builder" run --rm --entrypoint cat "$image" "$bill" > "$out/${bill##*/}"
    fi
}

# save_image IMAGE FILE
save_image() {
    mkdir -p "$(dirname "$2")"
    rm -f "$2"
    if [ "$builder" = buildah ]; then
        buildah push --quiet "$1" "docker-archive:$2:$1"
    else
        "$builder" save --output "$2" "$1"
    fi
    echo "$2: $(du -m "$2" | cut -f 1) MB"
}

command=${1:-}
shift || true
case $command in
prepare) prepare ;;
base) find_builder; make_base ;;
build) find_builder; for name in "${@:-${names[@]}}"; do build "$name"; done ;;
list) find_builder; echo "$builder"; for name in "${names[@]}"; do echo "$REGISTRY/emoji-$name:$VERSION"; done ;;
save) find_builder; for name in "${@:-${names[@]}}"; do save "$name"; done ;;
archive)
    [ $# = 3 ] || die "usage: images/build.sh archive FOLDER IMAGE FILE"
    find_builder
    build_image "$2" "$1"
    save_image "$2" "$3"
    ;;
*) die "usage: images/build.sh prepare | base | build [NAME...] | save [NAME...] | archive FOLDER IMAGE FILE | list" ;;
esac
