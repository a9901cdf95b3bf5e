"""The sources of packages that a store keeps, as things to be deleted: what fetched them knows them by their checksums.

Nothing is made from a source, and one that is wanted again is fetched again; so all that counts is not to take one away
while somebody unpacks it. Who asks for one stamps it as used.
"""

from __future__ import annotations

import os
import time

from obuild.disk import Lock, measure
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from obuild.store.store import Store

__all__ = ["Stocked", "list_sources", "remove"]

BUSY = 600 * 10**9
"""Nanoseconds after its use for which a source counts as in use: unpacking the largest takes a minute."""


@value
class Stocked:
    """A source that is kept: its name (`sha256/01fc…`), where it is, bytes on disk, last use in nanoseconds."""

    name: str
    path: str
    size: int
    used: int


def list_sources(store: str) -> Iterator[Stocked]:
    """All sources in a store, also those that have only begun to arrive, in no order."""
    for kind in _names(f"{store}/sources"):
        for folder in _names(f"{store}/sources/{kind}"):
            for name in _names(f"{store}/sources/{kind}/{folder}"):
                path = f"{store}/sources/{kind}/{folder}/{name}"
                try:
                    info = os.lstat(path)
                    size = measure(path).blocks if os.path.isdir(path) else info.st_blocks * 512
                except OSError:
                    continue  # it was finished, or deleted, meanwhile
                yield Stocked(f"{kind}/{name}", path, size, info.st_mtime_ns)


def remove(store: Store, name: str, *, dry_run: bool) -> bool:
    """Delete the source `name`, unless it is in use."""
    kind, _, digest = name.partition("/")
    path = f"{store.path}/sources/{kind}/{digest[:2]}/{digest}"
    try:
        if os.lstat(path).st_mtime_ns > time.time_ns() - BUSY:
            return False
        lock = Lock.attempt(path)
    except OSError:
        return False
    if lock is None:
        return False
    with lock:
        if not dry_run:
            store.discard(path)
    return True


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
