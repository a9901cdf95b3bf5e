#!/bin/sh
# Packs the sources into cache/, laid out as opam looks for archives, and prints the checksums for the opam files.
set -eu
cd "$(dirname "$0")"

keep() {
    for kind in ${3:-sha256}; do
        sum=$("${kind}sum" "$1" | cut -d ' ' -f 1)
        folder=../cache/$kind/$(printf %.2s "$sum")
        mkdir -p "$folder"
        cp "$1" "$folder/$sum"
        echo "$kind=$sum $2"
    done
}

pack() {
    tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX -c "$1"
}

scratch=$(mktemp -d)
for name in *-*/; do
    name=${name%/}
    case $name in
    greet-shout-*)
        pack "$name" | xz -9e >"$scratch/archive"
        keep "$scratch/archive" "$name.tar.xz" "md5 sha512"
        ;;
    greet-sections-*)
        pack "$name" | bzip2 -9 >"$scratch/archive"
        keep "$scratch/archive" "$name.tar.bz2"
        ;;
    greet-pack-*)
        cp -r "$name" "$scratch/$name"
        chmod -R u=rwX,go=rX "$scratch/$name"
        find "$scratch/$name" -exec touch -d '1980-01-01 UTC' {} +
        (cd "$scratch" && find "$name" -type f | sort | TZ=UTC zip -q -X -D -9 archive.zip -@)
        keep "$scratch/archive.zip" "$name.zip" md5
        ;;
    *)
        pack "$name" | gzip -9n >"$scratch/archive"
        keep "$scratch/archive" "$name.tar.gz"
        ;;
    esac
done
keep phrases.txt phrases.txt
rm -r "$scratch"
