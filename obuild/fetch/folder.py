"""`dir:PATH`: a root file system in a directory."""

from __future__ import annotations

import os
import stat
import time

from obuild import disk
from obuild.digest import sha256
from obuild.errors import FetchError, UsageError
from obuild.fetch.record import RACY, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from obuild.cancel import Cancel
    from obuild.image import Image

__all__ = ["FolderFetcher"]


class FolderFetcher:
    """A directory. Its key covers names, kinds, modes, owners, attributes and content, but no times, as in a `copy`.

    Reading everything is done once: while `lstat` of every entry (30 ms for a small Debian) says what it said then,
    the remembered digest holds.
    """

    def __init__(self, path: str, *, images: str) -> None:
        self._path = os.path.realpath(os.path.expanduser(path))
        self._record = Record(images, f"dir {self._path}")
        self._found: tuple[str, str] | None = None

    def key(
        self, log: Callable[[bytes], None] | None = None, *, pull: bool = False, cancel: Cancel | None = None
    ) -> str:
        """The digest of the tree."""
        del log, pull
        if self._found is None:
            self._found = self._look(cancel)
        return f"dir sha256:{self._found[1]}"

    def fetch(self, root: str, log: Callable[[bytes], None], *, cancel: Cancel | None = None) -> Image:
        """Copy the tree. Raises `FetchError` when it is not the one that `key` saw."""
        from obuild.image import PLAIN, Image, host_platform

        del log
        if f"{os.path.realpath(root)}/".startswith(f"{self._path}/"):
            raise UsageError(f'"dir:{self._path}" holds the store itself', hint="use a store outside of it: --store")
        self.key(cancel=cancel)
        assert self._found is not None
        fingerprint, digest = self._found
        try:
            disk.copy_tree(self._path, root, copied=lambda *_: cancel.check() if cancel is not None else None)
        except OSError as error:
            raise FetchError(f'can not copy "{self._path}": {error}') from None
        if _fingerprint(_entries(self._path)) != fingerprint:
            raise FetchError(f'"{self._path}" changed while it was copied', hint="start again", temporary=True)
        return Image(env=PLAIN, digest=f"sha256:{digest}", platform=host_platform())

    def _look(self, cancel: Cancel | None) -> tuple[str, str]:
        """What tells the tree from a later one, and its digest."""
        started = time.time_ns()
        entries = _entries(self._path)
        fingerprint = _fingerprint(entries)
        known = self._record.load()
        if known.get("tree") == fingerprint and "sha256" in known:
            return fingerprint, known["sha256"]
        try:
            digest = _digest(self._path, entries, cancel)
        except OSError as error:
            raise FetchError(f'can not read "{self._path}": {error}') from None
        if all(info.st_ctime_ns < started - RACY for info in entries.values()):
            self._record.save({"path": self._path, "tree": fingerprint, "sha256": digest})
        return fingerprint, digest


def _entries(root: str) -> dict[str, os.stat_result]:
    """The `lstat` of everything in a tree, by path relative to it; "" is the root."""
    try:
        found = {"": os.stat(root)}
        folders = {found[""].st_ino: ""}
        for fd, entries in disk.walk(root):
            folder = folders[os.fstat(fd).st_ino]
            for entry in entries:
                info, path = entry.stat(follow_symlinks=False), f"{folder}{entry.name}"
                if info.st_dev != found[""].st_dev:
                    raise FetchError(f'"{root}/{path}" is another file system', hint="unmount it, or give a copy")
                found[path] = info
                if stat.S_ISDIR(info.st_mode):
                    folders[info.st_ino] = f"{path}/"
    except OSError as error:
        raise FetchError(f'can not read "{root}": {error.strerror}') from None
    return found


def _fingerprint(entries: dict[str, os.stat_result]) -> str:
    """A digest of all that changes when an entry changes."""
    lines = [
        (path, info.st_ino, info.st_mode, info.st_uid, info.st_gid, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
        for path, info in entries.items()
    ]
    return sha256(repr(sorted(lines)).encode("utf-8", "surrogateescape")).hexdigest()


def _digest(root: str, entries: dict[str, os.stat_result], cancel: Cancel | None) -> str:
    """A digest of what a copy of the tree would have, times apart."""
    import hashlib  # a cached build does without

    whole = hashlib.sha256()
    for path in sorted(entries):
        if cancel is not None:
            cancel.check()
        info, full = entries[path], f"{root}/{path}"
        content, size = b"", 0
        if stat.S_ISREG(info.st_mode):
            with open(full, "rb", opener=_open_itself) as file:
                content, size = hashlib.file_digest(file, "sha256").digest(), info.st_size
        elif stat.S_ISLNK(info.st_mode):
            content = os.readlink(os.fsencode(full))
        names = sorted(os.listxattr(full, follow_symlinks=False))
        attributes = [(name, os.getxattr(full, name, follow_symlinks=False)) for name in names]
        line = (os.fsencode(path), info.st_mode, info.st_uid, info.st_gid, info.st_rdev, size, content, attributes)
        whole.update(repr(line).encode() + b"\n")
    return whole.hexdigest()


def _open_itself(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW)
