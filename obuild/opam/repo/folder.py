"""A repository in a directory, as it is on disk now.

The size and time of every directory and file that a scan looked at are remembered, and what opam files are called in
git: when none of them changed, the last listing holds, and a file that did not change is not read again. As in git's
own index, what changed in the last moment before is not trusted: it might change again within a tick of the clock.
"""

from __future__ import annotations

import hashlib
import os

from obuild.errors import OpamError, Problem
from obuild.opam.repo.listing import DIRECTORY, FILE, LINK, OTHER, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from obuild.opam.cache import Cache
    from obuild.opam.repo.listing import Entry

    Signature: TypeAlias = tuple[int, int, int]
    Seen: TypeAlias = dict[str, tuple[Signature, bytes]]

__all__ = ["FolderSource", "blob_id"]

_MOMENT = 2_000_000_000
"""Nanoseconds: more than the coarsest clock of a file system, that of FAT."""
KEEP = 16
"""How many directories are remembered."""


class FolderSource:
    """A directory of the host."""

    root = b""

    def __init__(self, path: str, cache: Cache) -> None:
        self.where = path
        self._path = os.path.realpath(path)
        self._cache = cache
        self._record = f"folder-{hashlib.sha1(os.fsencode(self._path)).hexdigest()}"
        self._root = os.path.join(self._path, "")
        self._known: Seen | None = None
        self._seen: Seen = {}
        self._name = ""
        self._trusted = 0

    def identity(self) -> str:
        """The name of the last scan, if everything is as it was then."""
        for path, (signature, _) in self._load().items():
            if signature[1] >= self._trusted or self._signature(path) != signature:
                return ""
        return self._name

    def remember(self) -> str:
        """Keep what the scan has seen, under a new name."""
        self._name = f"folder {self._path} {os.urandom(16).hex()}"
        self._cache.save(self._record, (self._name, self._seen), keep=KEEP)
        return self._name

    def _load(self) -> Seen:
        if self._known is None:
            self._trusted = self._cache.written(self._record) - _MOMENT
            self._name, self._known = self._cache.load(self._record) or ("", {})
        return self._known

    def _signature(self, path: str) -> Signature:
        """What no change of a file or directory leaves as it was: nobody can set the time of the last change."""
        try:
            found = os.stat(self._root + path, follow_symlinks=False)
        except OSError:
            return (0, 0, 0)
        return found.st_size, found.st_ctime_ns, found.st_ino

    def entries(self, path: str, id: bytes) -> list[Entry]:
        """What is in a directory."""
        self._seen[path] = (self._signature(path), b"")
        try:
            with os.scandir(self._root + path) as found:
                return [(entry.name, _kind(entry), b"") for entry in found]
        except OSError as error:
            raise self._error(path, error) from None

    def read(self, path: str, id: bytes) -> bytes:
        """The contents of a file."""
        real = os.path.realpath(self._root + path)
        if not real.startswith(self._root):
            raise OpamError([Problem("this link leads out of the repository", self.shown(path))])
        try:
            with open(real, "rb") as file:
                return file.read()
        except OSError as error:
            raise self._error(path, error) from None

    def target(self, path: str, id: bytes) -> str:
        """What a link says."""
        try:
            return os.readlink(self._root + path)
        except OSError as error:
            raise self._error(path, error) from None

    def blob_id(self, path: str, id: bytes) -> bytes:
        """The git id of a file, from memory when it did not change."""
        signature = self._signature(path)
        known = self._load().get(path)
        if known is None or known[0] != signature or signature[1] >= self._trusted:
            known = (signature, blob_id(self.read(path, b"")))
        self._seen[path] = known
        return known[1]

    def shown(self, path: str) -> str:
        """The file's own path."""
        return printable(os.path.join(self.where, path))

    def _error(self, path: str, error: OSError) -> OpamError:
        return OpamError([Problem(f"can not be read: {error.strerror}", self.shown(path))])


def _kind(entry: os.DirEntry[str]) -> str:
    if entry.is_symlink():
        return LINK
    if entry.is_dir():
        return DIRECTORY
    return FILE if entry.is_file() else OTHER


def blob_id(data: bytes) -> bytes:
    """The id that git gives to a file's contents."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).digest()
