"""Which files of a tree know the prefix that they were installed to: those would be wrong at another one.

Opam's own files below `.opam-switch` are left out: whoever makes a switch of a tree writes them anew.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["mentions"]

PIECE = 1 << 20
"""Bytes that are looked at together: large files are never in memory as a whole."""


def mentions(tree: str, prefix: str) -> tuple[str, ...]:
    """The paths, relative to the host directory `tree`, of files and symbolic links that name `prefix`, sorted.

    A longer name that only begins with the prefix's last part (`default-2` for `default`) is none of it.
    """
    wanted = os.fsencode(prefix.rstrip("/"))
    skipped = os.path.join(tree, prefix.strip("/"), ".opam-switch")
    return tuple(sorted(os.path.relpath(path, tree) for path in _files(tree, skipped) if _mentions(path, wanted)))


def _files(folder: str, skipped: str) -> Iterator[str]:
    """The files and symbolic links below a directory; what is neither holds no path."""
    agenda = [folder]
    while agenda:
        with os.scandir(agenda.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if entry.path != skipped:
                        agenda.append(entry.path)
                elif entry.is_symlink() or entry.is_file(follow_symlinks=False):
                    yield entry.path


def _mentions(path: str, wanted: bytes) -> bool:
    if stat.S_ISLNK(os.lstat(path).st_mode):
        return _has(os.fsencode(os.readlink(path)), wanted, last=True)
    with open(path, "rb", buffering=0, opener=_unfollowed) as file:
        kept = b""
        while piece := file.read(PIECE):
            kept += piece
            if _has(kept, wanted, last=False):
                return True
            kept = kept[-len(wanted) :]  # what may go on in the next piece, its next character included
        return _has(kept, wanted, last=True)


def _has(data: bytes, wanted: bytes, *, last: bool) -> bool:
    """Whether `data` names the path; at its very end only if it is the `last` of a file, since more may follow."""
    start = data.find(wanted)
    while start >= 0:
        end = start + len(wanted)
        following = data[end : end + 1]
        if (following and not _goes_on(following)) or (last and not following):
            return True
        start = data.find(wanted, start + 1)
    return False


def _goes_on(char: bytes) -> bool:
    """Whether a character behind the prefix makes its last part a longer name."""
    return char.isalnum() or char in b"-_.+~"


def _unfollowed(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
