"""Images as manifests, configurations and layers on disk: choosing, checking and unpacking them.

The same for an OCI layout and for what skopeo saved: only where a blob lies differs.
"""

from __future__ import annotations

import hashlib
import json
import os

from obuild.errors import FetchError
from obuild.image import parse_config
from obuild.reference import parse_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from obuild.cancel import Cancel
    from obuild.image import Image

    Json = dict[str, Any]

__all__ = ["choose", "config_digest", "items", "parse_json", "read_blob", "unpack_image"]

LARGEST = 16 << 20
"""Bytes; a manifest or configuration is a few thousand, and is read into memory."""


def parse_json(data: bytes, name: str) -> Json:
    """A JSON object. Raises `FetchError` naming what should have been one."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise FetchError(f'"{name}" is not a JSON object')
    return found


def read_blob(path: str, digest: str) -> bytes:
    """A small blob, checked. Raises `FetchError` when it is missing, large or not what its digest says."""
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise FetchError(f'can not read blob "{digest}": {error.strerror}') from None
    algorithm, digits = parse_digest(digest)
    if len(data) > LARGEST or hashlib.new(algorithm, data).hexdigest() != digits:
        raise FetchError(f'blob "{digest}" is damaged: its content has another digest')
    return data


def choose(index: Json, platform: str, name: str) -> str:
    """The digest of the manifest for `platform` in an index of several. Raises `FetchError` that lists them."""
    _, architecture, variant = f"{platform}/".split("/")[:3]
    found: dict[str, str] = {}
    for item in items(index, "manifests", name):
        what = item.get("platform") or {}
        if what.get("os") != "unknown":  # attestations of BuildKit
            key = "/".join(filter(None, (what.get("os"), what.get("architecture"), what.get("variant"))))
            found.setdefault(key, _digest(item, name))
    plain = f"linux/{architecture}"
    fitting = [key for key in found if key == plain or (key.startswith(f"{plain}/") and not variant)]
    key = platform if platform in found else fitting[0] if fitting else ""
    if key:
        return found[key]
    if list(found) == [""]:  # an index of one that does not say what it is for
        return found[""]
    raise FetchError(f'"{name}" has no image for {platform}', hint=f"it has {', '.join(sorted(filter(None, found)))}")


def config_digest(manifest: Json, name: str) -> str:
    """The digest of an image's configuration: it covers environment and all files, whatever the compression."""
    if "fsLayers" in manifest:
        raise FetchError(f'"{name}" is in the format of before 2016', hint="pull and push it again with Docker")
    config = manifest.get("config")
    if not isinstance(config, dict):
        raise FetchError(f'the manifest of "{name}" names no configuration: it is not an image')
    return _digest(config, name)


def unpack_image(
    blob: Callable[[str], str],
    manifest: Json,
    root: str,
    name: str,
    log: Callable[[bytes], None],
    *,
    platform: str,
    cancel: Cancel | None = None,
) -> Image:
    """Unpack the layers of an image into `root`, every digest checked; `blob` gives the path of one.

    Raises `FetchError` naming the blob that is missing or damaged.
    """
    digest = config_digest(manifest, name)
    config = parse_json(read_blob(blob(digest), digest), name)
    image = parse_config(config, digest)
    if image.platform and image.platform.split("/")[:2] != platform.split("/")[:2]:
        log(f'"{name}" is for {image.platform}, not {platform}\n'.encode())
    layers = items(manifest, "layers", name)
    contents = (config.get("rootfs") or {}).get("diff_ids") or []
    if len(contents) != len(layers):
        raise FetchError(f'"{name}" has {len(layers)} layers, but its configuration lists {len(contents)}')
    for number, (layer, content) in enumerate(zip(layers, contents, strict=True), 1):
        what = f"layer {number} of {len(layers)}"
        log(f"{what}: {_digest(layer, name)} {layer.get('size', 0) / 1e6:.1f} MB\n".encode())
        _unpack(blob(_digest(layer, name)), layer, str(content), root, f"{what} of {name}", log, cancel)
    return image


def _unpack(
    path: str, layer: Json, content: str, root: str, name: str, log: Callable[[bytes], None], cancel: Cancel | None
) -> None:
    from obuild.archive import open_archive
    from obuild.unpack import unpack

    if "tar" not in layer.get("mediaType", "tar") or "encrypted" in layer.get("mediaType", ""):
        raise FetchError(f'{name} is not a file system: its type is "{layer["mediaType"]}"')
    algorithm, digits = parse_digest(_digest(layer, name))
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise FetchError(f"can not read {name}: {error.strerror}") from None
    with open(fd, "rb") as file:
        if hashlib.file_digest(file, algorithm).hexdigest() != digits:
            raise FetchError(f"{name} is damaged: its content has another digest")
        with open_archive(fd, name, cancel=cancel, digest=True) as stream:
            unpack(stream, root, name, layer=True, checked=True, note=lambda text: log(f"{text}\n".encode()))
            stream.drain()
            if content != f"sha256:{stream.hexdigest}":
                raise FetchError(f"{name} is damaged: unpacked, it is not what the configuration says")


def items(found: Json, field: str, name: str) -> list[Json]:
    """The objects listed in a field. Raises `FetchError` when it is no such list."""
    listed = found.get(field)
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise FetchError(f'"{name}" makes no sense: its "{field}" is not a list of objects')
    return listed


def _digest(item: Json, name: str) -> str:
    digest = item.get("digest")
    try:
        parse_digest(str(digest))
    except ValueError as error:
        raise FetchError(f'"{name}" makes no sense: {error}') from None
    return str(digest)
