"""Base images: filling an empty root file system from a Docker reference, a tar, a directory, an OCI layout, Debian.

`open_fetcher(source)` parses the user's string once and imports the one back-end that it needs:

    debian:13, docker:REF     a Docker reference: through a Docker engine when one answers, otherwise from the registry
    debootstrap:SUITE[?include=a,b]   a minimal Debian or Ubuntu, made by mmdebstrap
    tar:FILE   dir:PATH       a root file system
    oci:PATH[:TAG|@DIGEST]    an OCI image layout

A fetcher first says what its source stands for *now* (`key`, which goes into the id of the `from` step) and then, when
no layer has that id, makes it (`fetch`). A name that moves, such as a tag, is resolved once and remembered in
the store's `images/`, so that the next build asks no engine and no network; `pull` resolves it again.
"""

from __future__ import annotations

from obuild.errors import UsageError, nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from obuild.cancel import Cancel
    from obuild.image import Image
else:
    Protocol = object

__all__ = ["KINDS", "Fetcher", "open_fetcher"]

KINDS = ("docker", "debootstrap", "tar", "dir", "oci")
"""What may stand before the colon of a base; anything else is a Docker reference."""

FORMS = "a base is one of NAME:TAG, docker:REF, debootstrap:SUITE, tar:FILE, dir:PATH, oci:PATH"


class Fetcher(Protocol):
    """One source of a base image. Used by one thread at a time; two processes may fetch the same source at once."""

    def key(
        self, log: Callable[[bytes], None] | None = None, *, pull: bool = False, cancel: Cancel | None = None
    ) -> str:
        """The words that stand for the source's content in a step's id: equal for equal content, also elsewhere.

        `pull` asks again what a moving name stands for. `log` hears about programs and transfers. Raises `FetchError`
        when the source does not exist or can not be asked.
        """

    def fetch(self, root: str, log: Callable[[bytes], None], *, cancel: Cancel | None = None) -> Image:
        """Fill the empty directory `root` with exactly what `key` answered.

        Temporary files go beside `root`, under its name and `.blobs`, and are gone at the end. Raises `FetchError` and
        leaves a partly filled `root` for the caller to delete when the source can not be had, is damaged, or changed
        since.
        """


def open_fetcher(source: str, *, images: str, engine: str = "", platform: str = "") -> Fetcher:
    """The fetcher of a base `source`; `images` is the directory that remembers what moving names stand for.

    `engine` is the URL of a Docker engine (`unix:///run/docker.sock`, `tcp://host:2375`), "" for the usual socket and
    "none" to go straight to registries. `platform` (`linux/arm64`) chooses from images for several; "" is this
    machine's. Relative paths are relative to the working directory. Raises `UsageError` for what is no source.
    """
    from obuild.image import parse_platform

    platform = parse_platform(platform)
    kind, colon, rest = source.partition(":")
    if not colon or kind not in KINDS:
        _check_kind(source, kind, rest)
        kind, rest = "docker", source
    if not rest:
        raise UsageError(f'base "{source}" names nothing after "{kind}:"', hint=FORMS)
    match kind:
        case "tar":
            from obuild.fetch.tar import TarFetcher

            return TarFetcher(rest, images=images)
        case "dir":
            from obuild.fetch.folder import FolderFetcher

            return FolderFetcher(rest, images=images)
        case "oci":
            from obuild.fetch.layout import LayoutFetcher

            return LayoutFetcher(rest, platform=platform)
        case "debootstrap":
            from obuild.fetch.debian import DebianFetcher

            return DebianFetcher(rest, images=images, platform=platform)
    from obuild.fetch.docker import DockerFetcher

    return DockerFetcher(rest, images=images, engine=engine, platform=platform)


def _check_kind(source: str, kind: str, rest: str) -> None:
    """Refuse what can only be a mistyped kind or a bare path: as a Docker reference it would only fail much later."""
    if not source:
        raise UsageError("a base can not be empty", hint=FORMS)
    if source.startswith(("/", "./", "../", "~")):
        raise UsageError(f'base "{source}" looks like a path', hint=f'write "dir:{source}" or "tar:{source}"; {FORMS}')
    if "//" in rest:
        raise UsageError(f'unknown kind of base "{kind}:"', hint=nearest(kind, KINDS) or FORMS)
