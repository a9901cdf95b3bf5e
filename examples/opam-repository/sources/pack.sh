#!/bin/sh
# Packs the sources into cache/, laid out as opam looks for archives, and prints the checksums for the opam files.
set -eu
cd "$(dirname "$0")"

keep() {
    sum=$(sha256sum "$1" | cut -d ' ' -f 1)
    folder=../cache/sha256/$(printf %.2s "$sum")
    mkdir -p "$folder"
    cp "$1" "$folder/$sum"
    echo "sha256=$sum $2"
}

scratch=$(mktemp -d)
for name in *-*; do
    tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX -c "$name" | gzip -9n >"$scratch/tar"
    keep "$scratch/tar" "$name.tar.gz"
done
keep phrases.txt phrases.txt
rm -r "$scratch"
