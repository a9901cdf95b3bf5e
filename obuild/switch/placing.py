"""Copying the files that a `.install` file lists from the build directory into the prefix."""

from __future__ import annotations

import os
import posixpath
import stat

from obuild import kernel
from obuild.errors import ObuildError
from obuild.opam.dotinstall import SECTIONS, DotInstall, Entry, destination, folder
from obuild.switch.tree import shown
from obuild.value import replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from obuild.switch.tree import Tree

__all__ = ["Placement", "place", "placements"]

_META = b".opam-switch"


@value
class Placement:
    """A file or, without a source, a directory to be made at `path`; `tracked` when opam records it.

    Both paths are from the root of the tree, `path` without any symlink in it but one at the end that leads nowhere.
    """

    source: bytes
    path: bytes
    mode: int
    tracked: bool = True


def placements(tree: Tree, wanted: DotInstall, name: str, build: bytes, prefix: bytes) -> list[Placement]:
    """What installing package `name` comes to, in opam's order: a later file replaces an earlier one.

    Looks at every source and destination. Raises one `ObuildError` for all that are wrong.
    """
    places = _Places(tree, name, build, prefix)
    for section in (*SECTIONS, "misc"):
        entries = wanted.sections.get(section, ())
        if entries and section != "misc":
            places.add_folder(section)
        for entry in entries:
            places.add(section, entry)
    if places.problems:
        listed = "".join(f"\n  {problem}" for problem in places.problems)
        raise ObuildError(f'some files in "{name}.install" can not be installed:{listed}')
    return places.found


class _Places:
    """The placements found so far, and what is wrong with others."""

    def __init__(self, tree: Tree, name: str, build: bytes, prefix: bytes) -> None:
        self._tree, self._name, self._build, self._prefix = tree, name, build, prefix
        self._home = tree.resolve(prefix)
        self._folders: dict[bytes, bytes] = {}
        self.found: list[Placement] = []
        self.problems: list[str] = []

    def add_folder(self, section: str) -> None:
        """Opam makes the directory of a section also when none of its optional files is there."""
        path = self._real(folder(section, self._name))
        if why := _escape(path, self._home):
            self.problems.append(f'the directory of "{section}", "{shown(path)}", {why}')
        self.found.append(Placement(b"", path, 0o755))

    def add(self, section: str, entry: Entry) -> None:
        """A file of a section, unless it is optional and not there."""
        mode = SECTIONS[section][1] if section in SECTIONS else 0o644
        # An absolute name opam takes for one below the build directory, too.
        source = self._build + b"/" + entry.source.encode("latin-1")
        if mode == 0o755:
            entry, source = _with_suffix(self._tree, entry, source)
        path = self._real(destination(section, entry, self._name))
        why = _obstacle(self._tree, source)
        if entry.optional and why in _FORGIVEN:
            return
        if why := why or _escape(path, self._home):
            self.problems.append(f'"{shown(entry.source.encode("latin-1"))}" {why}, and should go to "{shown(path)}"')
        self.found.append(Placement(source, path, mode, section != "misc"))

    def _real(self, text: str) -> bytes:
        """Where a path below the prefix really is; that of its directory is found out once."""
        path = posixpath.join(self._prefix, text.encode("latin-1"))
        above, name = posixpath.split(path)
        if name in (b"", b"..") or above == b"/":
            return self._tree.resolve(path)
        if above not in self._folders:
            self._folders[above] = self._tree.resolve(above)
        real = posixpath.join(self._folders[above], name)
        found = self._tree.link_state(real)
        return self._tree.resolve(real) if found and stat.S_ISLNK(found[0].st_mode) else real


def _with_suffix(tree: Tree, entry: Entry, source: bytes) -> tuple[Entry, bytes]:
    """A program and its source: one that is missing may be there with `.exe`, and is then installed so, too."""
    if not _obstacle(tree, source) or _obstacle(tree, source + b".exe"):
        return entry, source
    target = entry.target if entry.target is None or entry.target.endswith(".exe") else entry.target + ".exe"
    return replace(entry, source=entry.source + ".exe", target=target), source + b".exe"


_MISSING, _DIRECTORY = _FORGIVEN = ("is missing", "is a directory")


def _obstacle(tree: Tree, source: bytes) -> str:
    """Why a file can not be installed, "" when it can."""
    state = tree.state(source)
    if not state:
        return _MISSING
    if stat.S_ISREG(state.st_mode):
        return ""
    return _DIRECTORY if stat.S_ISDIR(state.st_mode) else "is not a regular file"


def _escape(path: bytes, home: bytes) -> str:
    """Why nothing can be installed at the real path `path` of a switch that is really at `home`."""
    if not path.startswith(home + b"/"):
        return "would be outside of the prefix"
    if path.startswith(home + b"/" + _META + b"/") or path == home + b"/" + _META:
        return "would be among opam's own files"
    return ""


def place(tree: Tree, found: list[Placement]) -> None:
    """Make and copy all. Raises `ObuildError` for a destination that can not be."""
    above, directory = b"", -1
    try:
        for placement in found:
            if not placement.source:
                tree.make(placement.path)
                continue
            if above != (above := posixpath.dirname(placement.path)):
                tree.make(above)
                directory = _instead(directory, tree.directory(above))
            _install(tree, placement, directory)
    finally:
        _instead(directory, -1)


def _instead(old: int, new: int) -> int:
    if old >= 0:
        os.close(old)
    return new


def _install(tree: Tree, placement: Placement, directory: int) -> None:
    source = tree.open(placement.source)
    if source is None:
        raise ObuildError(f'"{shown(placement.source)}" went away while it was installed')
    try:
        _copy(source, tree.overwrite(directory, posixpath.basename(placement.path), placement.mode))
    except IsADirectoryError:
        raise ObuildError(f'can not install to "{shown(placement.path)}": it is a directory') from None
    finally:
        os.close(source)


def _copy(source: int, target: int) -> None:
    try:
        size = os.fstat(source).st_size
        if size > 1 << 16 and kernel.reflink(source, target):
            return
        done = 0
        while done < size and (count := os.sendfile(target, source, done, min(size - done, 1 << 30))):
            done += count
    finally:
        os.close(target)
