"""`oci:PATH[:TAG|@DIGEST]`: an image in an OCI image layout on disk, as `skopeo copy` and `buildah push` write it."""

from __future__ import annotations

import os

from obuild.errors import FetchError, UsageError, nearest
from obuild.fetch.layers import choose, config_digest, items, parse_json, read_blob, unpack_image
from obuild.reference import parse_digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from obuild.cancel import Cancel
    from obuild.image import Image

__all__ = ["LayoutFetcher"]

TAG = "org.opencontainers.image.ref.name"


class LayoutFetcher:
    """An image of an OCI layout. Its key is read anew each time: three small files."""

    def __init__(self, text: str, *, platform: str) -> None:
        self.name = f"oci:{text}"
        self._path, self._tag, self._digest = _parse(text)
        self._platform = platform

    def key(
        self, log: Callable[[bytes], None] | None = None, *, pull: bool = False, cancel: Cancel | None = None
    ) -> str:
        """The digest of the image's configuration."""
        del log, pull, cancel
        return f"image {config_digest(self._manifest(), self.name)}"

    def fetch(self, root: str, log: Callable[[bytes], None], *, cancel: Cancel | None = None) -> Image:
        """Unpack the layers."""
        return unpack_image(self._blob, self._manifest(), root, self.name, log, platform=self._platform, cancel=cancel)

    def _blob(self, digest: str) -> str:
        algorithm, digits = parse_digest(digest)
        return f"{self._path}/blobs/{algorithm}/{digits}"

    def _manifest(self) -> dict[str, Any]:
        found = self._read(self._digest or self._entry())
        while "manifests" in found:  # an index of platforms
            found = self._read(choose(found, self._platform, self.name))
        return found

    def _read(self, digest: str) -> dict[str, Any]:
        return parse_json(read_blob(self._blob(digest), digest), self.name)

    def _entry(self) -> str:
        """The digest that the layout's index has for the tag."""
        path = f"{self._path}/index.json"
        try:
            with open(path, "rb") as file:
                index = parse_json(file.read(), path)
        except OSError as error:
            hint = "an OCI layout is a directory with index.json, oci-layout and blobs/"
            raise FetchError(f'"{self._path}" is not an OCI layout: {error.strerror}', hint=hint) from None
        entries = items(index, "manifests", path)
        tags = {(item.get("annotations") or {}).get(TAG, ""): str(item.get("digest")) for item in entries}
        if not self._tag and len(entries) == 1:
            return _checked(str(entries[0].get("digest")), path)
        if not self._tag and entries and set(tags) == {""}:
            return choose(index, self._platform, self.name)
        tag = self._tag or "latest"
        if tag not in tags:
            known = ", ".join(f'"{tag}"' for tag in sorted(filter(None, tags)))
            hint = nearest(tag, tags) or (f"it has {known}" if known else "")
            raise FetchError(f'the layout "{self._path}" has no image "{tag}"', hint=hint)
        return _checked(tags[tag], path)


def _parse(text: str) -> tuple[str, str, str]:
    """Path, tag and digest; the longest part that is a directory is the path, because it may hold colons itself."""
    path, at, digest = text.rpartition("@")
    if at and not os.path.isdir(text):
        return path, "", _checked(digest, text)
    if not os.path.isdir(text):
        path, colon, tag = text.rpartition(":")
        if colon and path and "/" not in tag:
            return path, tag, ""
    return text, "", ""


def _checked(digest: str, name: str) -> str:
    try:
        parse_digest(digest)
    except ValueError as error:
        raise UsageError(f'"{name}": {error}') from None
    return digest
