"""A repository in a directory, as it is on disk now.

What its opam files are called in git is remembered beside their size and times, so that files which did not change are
not read again. As in git's own index, a file changed in the last moment before is not trusted: it might change again
within the same tick of the clock.
"""

from __future__ import annotations

import hashlib
import os

from obuild.errors import OpamError, Problem
from obuild.opam.repo.listing import DIRECTORY, FILE, LINK, OTHER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from obuild.opam.cache import Cache
    from obuild.opam.repo.listing import Entry

    Known: TypeAlias = dict[str, tuple[tuple[int, ...], bytes]]

__all__ = ["FolderSource", "blob_id"]

_MOMENT = 2_000_000_000
"""Nanoseconds: the coarsest clock of a file system, that of FAT."""
KEEP = 16
"""How many directories are remembered."""


class FolderSource:
    """A directory of the host."""

    root = b""

    def __init__(self, path: str, cache: Cache) -> None:
        self.where = path
        self._path = os.path.realpath(path)
        self._cache = cache
        self._record = f"stat-{hashlib.sha1(os.fsencode(self._path)).hexdigest()}"
        self._known: Known | None = None
        self._seen: Known = {}
        self._trusted = 0

    def identity(self) -> str:
        """Nothing says whether a directory changed."""
        return ""

    def entries(self, path: str, id: bytes) -> list[Entry]:
        """What is in a directory."""
        try:
            with os.scandir(os.path.join(self._path, path)) as found:
                return [(entry.name, _kind(entry), b"") for entry in found]
        except OSError as error:
            raise self._error(path, error) from None

    def read(self, path: str, id: bytes) -> bytes:
        """The contents of a file."""
        real = os.path.realpath(os.path.join(self._path, path))
        if not real.startswith(os.path.join(self._path, "")):
            raise OpamError([Problem("this link leads out of the repository", self.shown(path))])
        try:
            with open(real, "rb") as file:
                return file.read()
        except OSError as error:
            raise self._error(path, error) from None

    def target(self, path: str, id: bytes) -> str:
        """What a link says."""
        try:
            return os.readlink(os.path.join(self._path, path))
        except OSError as error:
            raise self._error(path, error) from None

    def blob_id(self, path: str, id: bytes) -> bytes:
        """The git id of a file, from memory when it did not change."""
        if self._known is None:
            self._known = self._cache.load(self._record) or {}
            self._trusted = self._cache.written(self._record) - _MOMENT
        try:
            found = os.stat(os.path.join(self._path, path), follow_symlinks=False)
        except OSError as error:
            raise self._error(path, error) from None
        signature = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
        known = self._known.get(path)
        if known is None or known[0] != signature or max(signature[1:3]) >= self._trusted:
            known = (signature, blob_id(self.read(path, b"")))
        self._seen[path] = known
        return known[1]

    def remember(self) -> None:
        """Keep the ids of the files that were there, after a scan."""
        if self._seen != self._known:
            self._cache.save(self._record, self._seen, keep=KEEP)

    def shown(self, path: str) -> str:
        """The file's own path."""
        return os.path.join(self.where, path)

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
