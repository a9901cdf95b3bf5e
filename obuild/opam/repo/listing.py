"""Which packages a repository has, found as opam finds them: without reading a single opam file.

Any depth below `packages/` is looked at; the first directory with a file called `opam` is a package, and its own name
gives the package's name and version. Whatever else lies around, hidden files apart, is passed over with a note.

A listing is made of what `marshal` can write, so that it can be kept:

    packages := {name: {version: (directory, blob id of its opam file, files)}}
    files    := (real path of its directory "files", git id of that or b""), or None without one
    notes    := (text, …)

Names and versions are in opam's order. Of versions that opam can not tell apart only the first is there.
"""

from __future__ import annotations

import os

from obuild.errors import OpamError, Problem
from obuild.opam.cache import Draft
from obuild.opam.package import name_key, valid_name
from obuild.opam.version import valid_version, version_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol, TypeAlias

    from obuild.opam.cache import Table

    Entry: TypeAlias = tuple[str, str, bytes]
    Files: TypeAlias = tuple[str, bytes] | None
    Place: TypeAlias = tuple[str, bytes, Files]
    Packages: TypeAlias = dict[str, dict[str, Place]]
    Listing: TypeAlias = tuple[Packages, tuple[str, ...]]
else:
    Protocol = object

__all__ = ["DIRECTORY", "FILE", "LINK", "OTHER", "Source", "find", "printable", "scan", "walk"]

FILE, DIRECTORY, LINK, OTHER = "file", "directory", "link", "other"
DEPTH = 32
"""How deep directories are searched, and how many symbolic links a path may go through."""
LINKS = 1000
"""How many links are followed in the search of one directory of `packages/`."""


class Source(Protocol):
    """Where a repository's files come from. Paths are relative to it, with `/`; ids are git's, b"" where unknown."""

    where: str
    root: bytes

    def identity(self) -> str:
        """A name for all the contents together, "" when only a scan can tell what they are."""

    def entries(self, path: str, id: bytes) -> list[Entry]:
        """(name, kind, id) of everything in a directory. Raises `OpamError`."""

    def read(self, path: str, id: bytes) -> bytes:
        """The contents of a file, links followed as far as they stay in the repository. Raises `OpamError`."""

    def target(self, path: str, id: bytes) -> str:
        """What a symbolic link says. Raises `OpamError`."""

    def blob_id(self, path: str, id: bytes) -> bytes:
        """The git id of a file's contents, computed where the source does not know it."""

    def remember(self) -> str:
        """A scan has ended: keep what makes the next one quicker, and say what `identity` will be until then."""

    def shown(self, path: str) -> str:
        """The path as messages name it."""


def scan(source: Source, known: Table) -> Listing:
    """The packages of a repository. Raises `OpamError` for what is not one at all.

    `known` is where the contents of directories that have a git id are remembered: a new commit changes few of them.
    """
    top = find(source, "packages")
    if top is None or top[1] != DIRECTORY:
        raise OpamError([Problem('not an opam repository: it has no directory "packages"', source.where)])
    remembered = dict(known.items()) if top[2] else {}
    fresh = Draft()
    places: list[Place] = []
    notes: list[str] = []
    for entry in sorted(source.entries(top[0], top[2])):
        key = entry[2] + os.fsencode(entry[0]) if entry[1] == DIRECTORY and entry[2] else b""
        part = remembered.get(key)
        if part is None:
            search = _Search(source)
            search.visit("packages", top[0], entry, 1)
            part = (tuple(search.places), tuple(search.notes))
            if key and not search.through_link:
                fresh[key] = part
        places += part[0]
        notes += part[1]
    known.add(fresh)
    return _packages(places, notes), tuple(map(printable, notes))


def printable(path: str) -> str:
    """A path, or a text with paths, as it can be written in UTF-8: what is no UTF-8 is replaced."""
    return os.fsencode(path).decode("utf-8", "replace")


def _packages(places: list[Place], notes: list[str]) -> Packages:
    """The packages at these places; adds notes on those that do not count."""
    found: dict[str, dict[tuple[int, ...], tuple[str, Place]]] = {}
    for place in places:
        directory = place[0]
        name, dot, version = directory.rpartition("/")[2].partition(".")
        if not (dot and valid_name(name) and valid_version(version)):
            notes.append(f'"{directory}" is not called NAME.VERSION')
            continue
        first = found.setdefault(name, {}).setdefault(version_key(version), (version, place))
        if first[1] is not place:
            same = "the same package" if first[0] == version else "to opam the same version"
            notes.append(f'"{directory}" is {same} as "{first[1][0]}", which counts')
    ordered = [(name, found[name]) for name in sorted(found, key=name_key)]
    return {name: dict([versions[key] for key in sorted(versions)]) for name, versions in ordered}


class _Search:
    """The search for packages in one source; links are followed, but not to where the search comes from."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.places: list[Place] = []
        self.notes: list[str] = []
        self.through_link = False
        self.links = 0

    def visit(self, parent: str, real: str, entry: Entry, depth: int) -> None:
        """Look at one entry of the directory called `parent`, which is at `real` when links are followed."""
        path = f"{parent}/{entry[0]}"
        directory = self._resolve(real, entry)
        if directory[1] == LINK or self._leads_back(entry, directory[0], real):
            self.notes.append(f'"{path}" is a symbolic link that leads to nothing in the repository')
        elif directory[1] == DIRECTORY and depth <= DEPTH:
            self._visit_directory(path, directory, depth)
        elif directory[1] == DIRECTORY or not entry[0].startswith("."):
            self.notes.append(f'"{path}" is not a package')

    def _leads_back(self, entry: Entry, target: str, real: str) -> bool:
        """Whether a link leads to where it is, or is one of too many: links to each other multiply with every step."""
        if entry[1] != LINK:
            return False
        self.links += 1
        return not target or f"{real}/".startswith(f"{target}/") or self.links > LINKS

    def _visit_directory(self, path: str, directory: Entry, depth: int) -> None:
        entries = sorted(self.source.entries(directory[0], directory[2]))
        if self._is_package(path, directory[0], entries):
            return
        if not entries:
            self.notes.append(f'"{path}" is empty')
        for entry in entries:
            self.visit(path, directory[0], entry, depth + 1)

    def _is_package(self, path: str, real: str, entries: list[Entry]) -> bool:
        opam = files = ("", OTHER, b"")
        for entry in entries:
            if entry[0] == "opam":
                opam = self._resolve(real, entry)
            elif entry[0] == "files":
                files = self._resolve(real, entry)
        if opam[1] != FILE:
            return False
        beside = (files[0], files[2]) if files[1] == DIRECTORY else None
        self.places.append((path, self.source.blob_id(opam[0], opam[2]), beside))
        return True

    def _resolve(self, directory: str, entry: Entry) -> Entry:
        path = f"{directory}/{entry[0]}"
        if entry[1] != LINK:
            return path, entry[1], entry[2]
        self.through_link = True
        return find(self.source, path) or (path, LINK, b"")


def find(source: Source, path: str) -> Entry | None:
    """The real path, kind and id of what is at `path`, links followed as long as they stay in the repository.

    None when nothing is there, also when links lead out of the repository or go round.
    """
    todo = path.split("/")[::-1]
    trail: list[Entry] = [("", DIRECTORY, source.root)]
    hops = 0
    while todo:
        name = todo.pop()
        if name in ("", "."):
            continue
        if name == "..":
            trail.pop()
            if not trail:
                return None
            continue
        entry = _entry(source, trail[-1], name)
        if entry is None:
            return None
        if entry[1] != LINK:
            trail.append(entry)
            continue
        hops += 1
        target = source.target(entry[0], entry[2])
        if hops > DEPTH or target.startswith("/"):
            return None
        todo += target.split("/")[::-1]
    return trail[-1]


def _entry(source: Source, directory: Entry, name: str) -> Entry | None:
    path, kind, tree = directory
    if kind == DIRECTORY:
        for entry in source.entries(path, tree):
            if entry[0] == name:
                return f"{path}/{name}" if path else name, entry[1], entry[2]
    return None


def walk(source: Source, path: str, id: bytes) -> Iterator[Entry]:
    """Every file below a directory, links followed: its name relative to `path`, its real path, its id."""
    todo = [("", path, id, 0)]
    while todo:
        prefix, directory, tree, depth = todo.pop()
        for name, kind, blob in source.entries(directory, tree):
            real = f"{directory}/{name}"
            entry = (kind == LINK and find(source, real)) or (real, kind, blob)
            if entry[1] == FILE:
                yield prefix + name, entry[0], entry[2]
            elif entry[1] == DIRECTORY and depth < DEPTH:
                todo.append((f"{prefix}{name}/", entry[0], entry[2], depth + 1))
