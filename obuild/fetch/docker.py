"""`debian:13` and `docker:REF`: through a Docker engine when one answers, otherwise straight from the registry.

The key is the digest of the image's configuration, which covers its environment and all its files: it is the same
whichever way the image comes, and on every machine. An image is always fetched by digest, never again by its tag.

A cached build needs only the record of an earlier one, so everything else is imported where it is used.
"""

from __future__ import annotations

import os

from obuild.errors import FetchError, nearest
from obuild.fetch import KINDS
from obuild.fetch.record import Record
from obuild.reference import parse_reference
from obuild.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from obuild.cancel import Cancel
    from obuild.docker_engine import Engine
    from obuild.image import Image

    Log = Callable[[bytes], None]

__all__ = ["DockerFetcher"]

NEITHER = "install skopeo, start Docker, or take another base: --image NAME=debootstrap:trixie"


class DockerFetcher:
    """An image named by a Docker reference."""

    def __init__(self, text: str, *, images: str, engine: str, platform: str) -> None:
        self._reference = parse_reference(text)
        self._name = str(self._reference)
        self._record = Record(images, f"{self._name} {platform}")
        self._url, self._platform = engine, platform
        self._found: dict[str, Any] = {}

    def key(self, log: Log | None = None, *, pull: bool = False, cancel: Cancel | None = None) -> str:
        """The digest of the image's configuration, asked for once; again with `pull`, unless the name has a digest."""
        self._found = self._found or self._record.load()
        if "image" not in self._found or (pull and not self._reference.digest):
            image, manifest = self._resolve(log or _unheard, pull, cancel)
            found = {"reference": self._name, "platform": self._platform, "image": image, "manifest": manifest}
            self._found = self._record.save(found)
        return f"image {self._found['image']}"

    def fetch(self, root: str, log: Log, *, cancel: Cancel | None = None) -> Image:
        """Unpack what `key` found, by its digest."""
        from obuild.fetch import engine
        from obuild.retry import retry

        self.key(log, cancel=cancel)
        digest, manifest = self._found["image"], self._found["manifest"]
        pinned = str(replace(self._reference, tag="", digest=manifest)) if manifest else ""
        running = engine.open_engine(self._url)
        if running:
            image = engine.recall(running, digest, pinned, self._platform, log, cancel=cancel)
            if image is not None:
                return engine.export(running, image, self._name, root, log, cancel=cancel)
        if not pinned:
            raise FetchError(f'image "{self._name}" ({digest}) is gone', hint="take what the name means now: --pull")
        return retry(lambda: self._download(manifest, root, log, cancel), note=_noting(log), cancel=cancel)

    def _resolve(self, log: Log, pull: bool, cancel: Cancel | None) -> tuple[str, str]:
        """What the reference stands for now: the image's digest, and its manifest's where a registry has one."""
        from obuild.docker_engine import open_engine
        from obuild.retry import retry

        def ask() -> tuple[str, str]:
            engine = open_engine(self._url)
            try:
                return self._ask_engine(engine, log, pull, cancel) if engine else self._ask_registry(cancel)
            except FetchError as error:
                raise self._explained(error) from None

        return retry(ask, note=_noting(log), cancel=cancel)

    def _ask_engine(self, running: Engine, log: Log, pull: bool, cancel: Cancel | None) -> tuple[str, str]:
        from obuild.fetch import engine

        image = engine.ask(running, self._name, self._platform, log, pull=pull, cancel=cancel)
        return image.digest, running.manifest(image.digest, self._reference.name)

    def _ask_registry(self, cancel: Cancel | None) -> tuple[str, str]:
        from obuild.fetch import registry
        from obuild.fetch.layers import config_digest

        if not registry.available():
            raise FetchError(
                f'no Docker engine answers and skopeo is missing, so "{self._name}" can not be had', hint=NEITHER
            )
        digest, manifest = registry.inspect(self._reference, self._platform, cancel=cancel)
        return config_digest(manifest, self._name), digest

    def _explained(self, error: FetchError) -> FetchError:
        """The error, with another hint when the name looks like a mistyped kind of base: `debotstrap:trixie`."""
        if error.temporary or "/" in self._reference.name:
            return error
        return FetchError(error.message, hint=nearest(self._reference.name, KINDS) or error.hint)

    def _download(self, manifest: str, root: str, log: Log, cancel: Cancel | None) -> Image:
        """Save the blobs beside `root`, unpack them, remove them."""
        from obuild import disk
        from obuild.fetch import registry
        from obuild.fetch.layers import config_digest, unpack_image

        name = replace(self._reference, tag="", digest=manifest)
        digest, content = registry.inspect(name, self._platform, cancel=cancel)
        if self._found["image"] not in (config_digest(content, str(name)), digest, manifest):
            raise FetchError(f'"{name}" is not "{self._found["image"]}"', hint="take what the name means now: --pull")
        folder = f"{root}.blobs"
        disk.remove_tree(folder)  # of an attempt before
        os.mkdir(folder)
        try:
            registry.download(replace(name, digest=digest), folder, log, cancel=cancel)
            blob = f"{folder}/{{}}".format
            return unpack_image(
                lambda digest: blob(digest.partition(":")[2]),
                content,
                root,
                self._name,
                log,
                platform=self._platform,
                cancel=cancel,
            )
        finally:
            disk.remove_tree(folder)


def _unheard(_: bytes) -> None:
    """The log when nobody listens."""


def _noting(log: Log) -> Callable[[str], None]:
    return lambda text: log(f"{text}\n".encode())
