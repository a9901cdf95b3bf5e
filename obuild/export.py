"""Taking a layer's file system out of the store: as a directory, a tar, an OCI layout, a Docker archive or image.

The same tree and image give the same bytes, and so the same digests, everywhere. What is written appears under its
name only when it is whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tarfile

from obuild import disk
from obuild.archive import pack
from obuild.compress import gzip_chunks
from obuild.docker_engine import open_engine
from obuild.errors import FetchError, ObuildError, UsageError, nearest
from obuild.image import format_config
from obuild.reference import parse_reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from obuild.cancel import Cancel
    from obuild.image import Image

__all__ = ["FORMATS", "check", "export", "load", "new_folder"]

FORMATS = ("dir", "tar", "oci", "docker")
STDOUT = 1
OCI = "application/vnd.oci.image"
LAYOUT = {"imageLayoutVersion": "1.0.0"}
PADDING = tarfile.BLOCKSIZE


def export(
    tree: str,
    image: Image,
    dest: str,
    format: str,
    *,
    name: str = "",
    created: str = "",
    cancel: Cancel | None = None,
) -> str:
    """Write the file system `tree` to `dest`; the digest of the image's configuration, "" for "dir" and "tar".

    `dest` "-" is standard output, for "tar" and "docker". A file is replaced, a directory with something in it never.
    `name` is a Docker reference that a Docker archive's or layout's image gets; `created` (RFC 3339) is written into
    its configuration, which has no time otherwise. Raises `UsageError` for a `dest` that can not be.
    """
    check(dest, format)
    try:
        match format:
            case "dir":
                with new_folder(dest) as folder:
                    disk.copy_tree(tree, folder, copied=lambda *_: cancel.check() if cancel is not None else None)
                return ""
            case "tar":
                with _output(dest) as write, pack(tree, cancel=cancel) as chunks:
                    for chunk in chunks:
                        write(chunk)
                return ""
            case "oci":
                with new_folder(dest) as folder:
                    return _write_layout(folder, tree, image, name, created, cancel)
            case _:
                size, layer = _measure(tree, cancel)
                config = _config(image, layer, created)
                with _output(dest) as write:
                    for chunk in _docker_archive(tree, size, layer, config, name, cancel):
                        write(chunk)
                return f"sha256:{hashlib.sha256(config).hexdigest()}"
    except OSError as error:
        raise ObuildError(f'can not write "{dest}": {error.strerror}') from None


def load(
    tree: str, image: Image, name: str, *, engine: str = "", created: str = "", cancel: Cancel | None = None
) -> str:
    """Give a Docker engine the file system `tree` as the image `name`; the image's digest.

    `engine` as in `open_engine`. Raises `FetchError` when none answers.
    """
    found = open_engine(engine)
    if found is None:
        raise FetchError("no Docker engine answers", hint="start it, or export to a file: --format docker -o FILE")
    size, layer = _measure(tree, cancel)
    config = _config(image, layer, created)
    found.load(_docker_archive(tree, size, layer, config, name, cancel))
    return f"sha256:{hashlib.sha256(config).hexdigest()}"


def check(dest: str, format: str) -> None:
    """Raise `UsageError` when `export` can not write `format` to `dest`: a build asks before it begins."""
    if format not in FORMATS:
        raise UsageError(f'unknown format "{format}"', hint=nearest(format, FORMATS) or f"one of {', '.join(FORMATS)}")
    folder = format in ("dir", "oci")
    if dest == "-":
        if folder:
            raise UsageError(f'format "{format}" is a directory and can not go to standard output')
        return
    if not dest or not os.path.isdir(os.path.dirname(os.path.abspath(dest))):
        raise UsageError(f'can not write "{dest}": there is no directory "{os.path.dirname(dest)}"')
    if os.path.isdir(dest) and not folder:
        raise UsageError(f'"{dest}" is a directory', hint="give the name of a file")
    if folder and os.path.lexists(dest) and not (os.path.isdir(dest) and not os.listdir(dest)):
        raise UsageError(f'"{dest}" exists already', hint="give a new name, or remove it first")


@contextlib.contextmanager
def new_folder(dest: str) -> Iterator[str]:
    """A new directory that gets its name once it is filled."""
    folder = f"{os.path.abspath(dest)}.{os.urandom(4).hex()}.new"
    os.mkdir(folder)
    try:
        yield folder
        os.rename(folder, dest)
    except BaseException:
        disk.remove_tree(folder)
        raise


@contextlib.contextmanager
def _output(dest: str) -> Iterator[Callable[[bytes], None]]:
    """A new file that gets its name once it is written, or standard output."""
    new = f"{os.path.abspath(dest)}.{os.urandom(4).hex()}.new"
    fd = STDOUT if dest == "-" else os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)

    def write(data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]

    if fd == STDOUT:
        yield write
        return
    try:
        try:
            yield write
        finally:
            os.close(fd)
        os.rename(new, dest)
    except BaseException:
        os.unlink(new)
        raise


def _write_layout(folder: str, tree: str, image: Image, name: str, created: str, cancel: Cancel | None) -> str:
    """Write an OCI layout with one layer."""
    blobs = f"{folder}/blobs/sha256"
    os.makedirs(blobs)
    content = hashlib.sha256()
    with pack(tree, cancel=cancel) as chunks:
        layer = _write_blob(blobs, gzip_chunks(_hashed(chunks, content)))
    config = _config(image, content.hexdigest(), created)
    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{OCI}.manifest.v1+json",
        "config": {"mediaType": f"{OCI}.config.v1+json", **_write_blob(blobs, [config])},
        "layers": [{"mediaType": f"{OCI}.layer.v1.tar+gzip", **layer}],
    }
    entry = {"mediaType": manifest["mediaType"], **_write_blob(blobs, [_json(manifest)])}
    if name:
        reference = parse_reference(name)
        entry["annotations"] = {"org.opencontainers.image.ref.name": reference.tag or reference.digest}
    for file, found in {"index.json": {"schemaVersion": 2, "manifests": [entry]}, "oci-layout": LAYOUT}.items():
        disk.write_atomic(f"{folder}/{file}", _json(found))
    return f"sha256:{hashlib.sha256(config).hexdigest()}"


def _write_blob(blobs: str, chunks: Iterable[bytes]) -> dict[str, Any]:
    """Write a blob under its digest, which is known only at its end."""
    digest, size, new = hashlib.sha256(), 0, f"{blobs}/new"
    with open(new, "wb") as file:
        for chunk in _hashed(chunks, digest):
            size += file.write(chunk)
    os.rename(new, f"{blobs}/{digest.hexdigest()}")
    return {"digest": f"sha256:{digest.hexdigest()}", "size": size}


def _docker_archive(
    tree: str, size: int, layer: str, config: bytes, name: str, cancel: Cancel | None
) -> Iterator[bytes]:
    """The archive that `docker load` takes. The size of the layer must be known before its first byte is."""
    config_name, layer_name = f"{hashlib.sha256(config).hexdigest()}.json", f"{layer}.tar"
    reference = str(parse_reference(name)) if name else ""
    manifest = [{"Config": config_name, "RepoTags": [reference] if reference else None, "Layers": [layer_name]}]
    yield from _member(config_name, [config], len(config))
    digest = hashlib.sha256()
    with pack(tree, cancel=cancel) as chunks:
        yield from _member(layer_name, _hashed(chunks, digest), size)
    if digest.hexdigest() != layer:
        raise ObuildError(f'"{tree}" changed while it was exported')
    yield from _member("manifest.json", [_json(manifest)], len(_json(manifest)))
    yield bytes(2 * PADDING)


def _member(name: str, chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    header = tarfile.TarInfo(name)
    header.size = size
    yield header.tobuf(tarfile.GNU_FORMAT)
    yield from chunks
    yield bytes(-size % PADDING)


def _measure(tree: str, cancel: Cancel | None) -> tuple[int, str]:
    """Size and digest of the tree's tar."""
    digest, size = hashlib.sha256(), 0
    with pack(tree, cancel=cancel) as chunks:
        for chunk in _hashed(chunks, digest):
            size += len(chunk)
    return size, digest.hexdigest()


def _hashed(chunks: Iterable[bytes], digest: Any) -> Iterator[bytes]:
    """The chunks, each added to the digest as it passes."""
    for chunk in chunks:
        digest.update(chunk)
        yield chunk


def _config(image: Image, layer: str, created: str) -> bytes:
    return _json(format_config(image, [f"sha256:{layer}"], created=created))


def _json(found: object) -> bytes:
    return json.dumps(found, separators=(",", ":"), sort_keys=True).encode()
