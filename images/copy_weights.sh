#!/bin/sh
# /bin/copy-weights of the weights image: fills a folder, say a volume of a cluster, with the embedded model.
# Usage: copy-weights [--replace] FOLDER
#
# FOLDER gets base/ and loras/, which may be volumes of their own. What goes into them, the parts of the base and one
# folder for each LoRA, appears whole, by a rename. Safe to run again: a part that is there stays, a LoRA also with
# versions and aliases that were added to it. One that is there and differs stays as well, and the exit status is 1;
# --replace replaces it, a LoRA with all that was added to it.
set -eu
replace=no
if [ "${1:-}" = --replace ]; then
    replace=yes
    shift
fi
if [ $# != 1 ] || [ ! -d "$1" ]; then
    echo "usage: copy-weights [--replace] FOLDER" >&2
    exit 2
fi
target=$1
source=${MODELS:-/models}
status=0

# Whether $2 holds every file of $1 with the same content. A LoRA's index says what else is there: it may differ.
holds() {
    find "$1" -type f ! -name index.json | while IFS= read -r file; do
        cmp -s "$file" "$2${file#"$1"}" || exit 1
    done
}

# The base comes last: a server that waits for it then finds every LoRA.
for path in "$source"/loras/* "$source"/base/*; do
    part=${path#"$source"/}
    there=$target/$part
    folder=$target/${part%/*}
    draft=$folder/.copy-${part##*/}
    mkdir -p "$folder"
    rm -rf "$draft"
    if [ -e "$there" ] && holds "$path" "$there"; then
        echo "$there: already there"
    elif [ -e "$there" ] && [ "$replace" = no ]; then
        echo "$there: differs from this image's, left as it is (--replace replaces it)" >&2
        status=1
    else
        cp -r "$path" "$draft"
        rm -rf "$there"
        mv "$draft" "$there"
        echo "$there: copied"
    fi
done
exit $status
