"""What the `install:` commands of a package did to the prefix.

Opam looks at the whole prefix before and after. Here the state before is what the records of the other packages say,
`.changes` files that are in their layers: what a switch has from the start, and what they added. A change of mode alone
is in no record, and not seen.
"""

from __future__ import annotations

import os
import posixpath

from obuild.errors import ObuildError, OpamError
from obuild.opam.changes import Change, digest, records
from obuild.opam.lexer import Unreadable
from obuild.opam.shape import WrongShape
from obuild.opam.state import DIRECTORIES
from obuild.switch.tree import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from obuild.opam.package import Package
    from obuild.switch.tree import Tree

__all__ = ["changed_since", "owners"]

_META = ".opam-switch"


def changed_since(tree: Tree, prefix: bytes, packages: Iterable[Package]) -> dict[str, Change]:
    """The changes to `prefix` that none of `packages` has recorded, by path."""
    before = _Before(tree, prefix, packages)
    changes: dict[str, Change] = {}
    there = set()
    for path, info, link in tree.walk(prefix, skip=_META):
        now = digest(info, link) if info else "D"
        there.add(path)
        if kind := before.kind(path, now):
            changes[path] = Change(kind, now)
    for path in before.recorded.keys() - there - before.removed:
        changes[path] = Change("removed")
    return changes


class _Before:
    """What was in a prefix: each path with the digests it may have, directories that nobody recorded, what was removed.

    A path has several digests when one package changed what another had installed.
    """

    def __init__(self, tree: Tree, prefix: bytes, packages: Iterable[Package]) -> None:
        self.recorded: dict[str, set[str]] = {}
        self.removed: set[str] = set()
        for _, kind, path, found in _records(tree, prefix, packages):
            if kind == "removed":
                self.removed.add(path)
            else:
                self.recorded.setdefault(path, set()).add(found)
        self._implied = set(DIRECTORIES)
        for path in self.recorded:
            parent = posixpath.dirname(path)
            while parent and parent not in self._implied:
                self._implied.add(parent)
                parent = posixpath.dirname(parent)

    def kind(self, path: str, now: str) -> str:
        """What happened to a path whose digest now is `now`; "" when nothing."""
        was = self.recorded.get(path)
        if was is None:
            known = path in self._implied
            return "" if known and now == "D" else "kind-changed" if known else "added"
        if now in was or any(_copied(each, now) for each in was):
            return ""
        return "contents-changed" if any(each[0] == now[0] for each in was) else "kind-changed"


def _copied(was: str, now: str) -> bool:
    """Whether two digests of files differ in the fraction of a second alone, which an archive can have taken away."""
    return now.endswith(".") and was.startswith("F") and was[: len(now)] == now


def _records(tree: Tree, prefix: bytes, packages: Iterable[Package]) -> Iterator[tuple[Package, str, str, str]]:
    """Every record of every package but those of opam's own files: the package, the kind, the path, the digest."""
    place = prefix + f"/{_META}/install".encode()
    folder = tree.directory(place)
    try:
        for package in packages:
            for record in _read(tree, folder, place, f"{package.name}.changes".encode("latin-1")):
                yield package, *record
    finally:
        os.close(folder)


_read_once: dict[tuple[bytes, int, int, int], tuple[tuple[str, str, str], ...]] = {}
"""The records of files by name, inode, time of change and size: a dependency's are wanted for all built upon it."""
_MOST_READ = 10_000


def _read(tree: Tree, folder: int, place: bytes, name: bytes) -> tuple[tuple[str, str, str], ...]:
    try:
        info = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return ()
    mark = name, info.st_ino, info.st_ctime_ns, info.st_size
    if mark not in _read_once:
        if len(_read_once) == _MOST_READ:
            _read_once.clear()
        _read_once[mark] = _parsed(tree.read(place + b"/" + name) or b"", place + b"/" + name)
    return _read_once[mark]


def _parsed(data: bytes, place: bytes) -> tuple[tuple[str, str, str], ...]:
    try:
        found = list(records(data.decode("latin-1")))
    except (Unreadable, OpamError, WrongShape):
        raise ObuildError(f'"{shown(place)}" is not a record of changes') from None
    return tuple([record for record in found if not record[1].startswith(_META + "/")])


def owners(tree: Tree, prefix: bytes, packages: Iterable[Package]) -> dict[str, Package]:
    """The package that each recorded path belongs to: the last that changed it; directories belong to nobody."""
    return {path: package for package, _, path, digest in _records(tree, prefix, packages) if digest != "D"}
