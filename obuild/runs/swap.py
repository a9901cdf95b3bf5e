"""Replacing a whole directory, or what a symlink leads to, in one step: a reader sees the old or the new one.

The new tree grows beside the target as `.<name>.new.<pid>.<random>`, under a lock that ends with its process, and
changes places with it by renameat2(RENAME_EXCHANGE). Where a file system has no such call (NFS, some FUSE) two renames
do, and `recover` puts the old tree back after a crash between them.
"""

from __future__ import annotations

import errno
import os
import re

from obuild import kernel
from obuild.disk import Lock, remove_tree
from obuild.errors import UsageError

__all__ = ["Swap", "clean", "point", "recover"]

_NEW, _OLD = "new", "old"
_STAGING = re.compile(r"\.(.+)\.(new|old)\.([0-9]+)\.[0-9a-f]{8}").fullmatch


class Swap:
    """A directory that is being replaced: `with Swap(target) as staging:` fills the directory `staging`.

    Leaving the block puts it in the target's place and removes the old one; an exception removes what is new.
    """

    def __init__(self, target: str) -> None:
        self.target = os.path.abspath(target)
        if os.path.islink(self.target):
            raise UsageError(f'"{target}" is a symlink', hint="change where it leads to with swap.point")
        self._staging = ""
        self._lock: Lock | None = None

    def prepare(self) -> str:
        """A new, empty directory to fill; one prepared before by this object is dropped."""
        self.rollback()
        recover(self.target)
        while True:
            path = _beside(self.target, _NEW)
            os.mkdir(path)
            try:
                self._staging, self._lock = path, Lock.take(path)
                return path
            except FileNotFoundError:
                continue  # somebody cleaned up before we had the lock

    def commit(self) -> bool:
        """Put what was prepared in the target's place; False when nothing was. Raises `OSError`, the target as it was.

        Of two that are committed at the same time the later one stays.
        """
        if not self._staging:
            return False
        old = _exchange(self._staging, self.target)
        self._staging = ""
        self._release()
        if old:
            _remove(old)
        return True

    def rollback(self) -> None:
        """Drop what was prepared."""
        if self._staging:
            remove_tree(self._staging)
        self._staging = ""
        self._release()

    def _release(self) -> None:
        if self._lock:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> str:
        return self.prepare()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind:
            self.rollback()
        else:
            self.commit()


def _exchange(staging: str, target: str) -> str:
    """Put `staging` at `target`; where the old tree is now, or "" when there was none."""
    while True:
        try:
            kernel.exchange(staging, target)
            return staging
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP) and os.path.lexists(target):
                return _exchange_in_two(staging, target)
            if error.errno not in (errno.ENOENT, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
                raise
        try:
            os.rename(staging, target)  # replaces an empty directory at most
            return ""
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


def _exchange_in_two(staging: str, target: str) -> str:
    old = _beside(target, _OLD)
    with Lock.take(target):  # it goes with the tree, and tells `recover` that somebody is at work
        os.rename(target, old)
        try:
            os.rename(staging, target)
        except OSError:
            os.rename(old, target)
            raise
    return old


def recover(target: str) -> bool:
    """Put the old tree back when a crash left the target without one; whether that was so."""
    folder, name = os.path.split(os.path.abspath(target))
    if os.path.lexists(target):
        return False
    for item in _leftovers(folder):
        match = _STAGING(item)
        if match and match.group(1, 2) == (name, _OLD):
            lock = Lock.attempt(f"{folder}/{item}")
            if lock:
                with lock:
                    os.rename(f"{folder}/{item}", target)
                return True
    return False


def clean(folder: str) -> list[str]:
    """Remove what dead processes left in a directory of targets, after bringing back targets they left without.

    Only names of this module's own pattern are touched, and none that a living process works on.
    """
    removed = []
    for item in _leftovers(folder):
        match = _STAGING(item)
        if match is None or (match[2] == _OLD and recover(f"{folder}/{match[1]}")):
            continue
        if _abandoned(f"{folder}/{item}", match[3]):
            _remove(f"{folder}/{item}")
            removed.append(item)
    return removed


def _abandoned(path: str, pid: str) -> bool:
    if os.path.islink(path):  # of `point`, which has no lock
        return not os.path.exists(f"/proc/{pid}")
    try:
        lock = Lock.attempt(path)
    except OSError:
        return False  # gone, or nothing of ours
    if lock:
        lock.release()
    return lock is not None


def point(link: str, to: str) -> None:
    """Make the symlink `link` lead to `to`, in one step also when it exists. Raises `OSError`."""
    temporary = _beside(link, _NEW)
    os.symlink(to, temporary)
    try:
        os.rename(temporary, link)
    except OSError:
        os.unlink(temporary)
        raise


def _beside(path: str, kind: str) -> str:
    folder, name = os.path.split(path)
    return f"{folder}/.{name}.{kind}.{os.getpid()}.{os.urandom(4).hex()}"


def _leftovers(folder: str) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if _STAGING(name))
    except FileNotFoundError:
        return []


def _remove(path: str) -> None:
    try:
        remove_tree(path)
    except OSError:
        pass  # the swap itself is done; the next `clean` tries again
