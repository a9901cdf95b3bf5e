"""Local directories as sources, as opam has them: symlinks become what they lead to, some names stay behind."""

from __future__ import annotations

import os
import stat

from obuild.copy import copy
from obuild.download.git import MARK
from obuild.errors import FetchError
from obuild.manifest import Index, Scan, fingerprint, scan
from obuild.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from obuild.manifest import Entry

__all__ = ["folder_digest", "put_folder"]

LEFT = (".git", "_darcs", ".hg", ".#*", "_opam*", "_build")
"""What opam leaves out of a directory: repositories, locks of editors, local switches, build products."""


def folder_digest(path: str, below: str, index: str) -> str:
    """A digest of what `put_folder` would put; files that did not change are not read again, `index` remembers them."""
    found = _scan(path, below)
    known, key = Index(index, path), fingerprint(found)
    return known.known(key) or known.digest(found, key)


def put_folder(path: str, root: str, target: str, *, below: str, user: tuple[int, int]) -> None:
    """Copy the directory `below` in `path` into the directory `target` of `root`. A git work tree keeps its `.git`."""
    copy(_scan(path, below), root, target, into=True, user=user)


def _scan(path: str, below: str) -> Scan:
    folder = os.path.normpath(f"{path}/{below}")
    if not os.path.isdir(folder):
        raise FetchError(f'no directory "{below}" in "{path}"')
    if os.path.exists(f"{path}/{MARK}"):
        return scan(folder, (".",), into=True)
    found = scan(folder, (".",), into=True, exclude=LEFT)
    return replace(found, entries=tuple(_followed(found.entries, (os.path.realpath(folder),))))


def _followed(entries: tuple[Entry, ...], around: tuple[str, ...]) -> Iterator[Entry]:
    """The entries with what symlinks lead to in their place; those that lead nowhere are left out, as rsync does."""
    for entry in entries:
        if entry.kind != "l":
            yield entry
            continue
        try:
            info = os.stat(entry.source)
        except OSError:
            continue
        real = os.path.realpath(entry.source)
        if stat.S_ISREG(info.st_mode):
            (found,) = scan(os.path.dirname(real), (os.path.basename(real),), into=False).entries
            yield found._replace(path=entry.path)
        elif stat.S_ISDIR(info.st_mode):
            if any(f"{folder}/".startswith(f"{real}/") for folder in (*around, os.path.realpath(f"{entry.source}/.."))):
                raise FetchError(f'"{entry.source}" leads in circles')
            inner = scan(real, (".",), into=True, exclude=LEFT).entries
            moved = tuple(item._replace(path=f"{entry.path}/{item.path}".rstrip("/")) for item in inner)
            yield from _followed(moved, (*around, real))
