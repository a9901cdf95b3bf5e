"""Copying the files that a `.install` file lists from the build directory into the prefix."""

from __future__ import annotations

import os
import posixpath
import stat

from obuild import kernel
from obuild.errors import ObuildError
from obuild.opam.dotinstall import SECTIONS, DotInstall, Entry, destination
from obuild.switch.tree import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from obuild.opam.package import Package
    from obuild.switch.tree import Tree

__all__ = ["check", "place"]


def _entries(wanted: DotInstall, name: str, prefix: bytes) -> Iterator[tuple[Entry, bytes, int]]:
    """Each entry with its path and mode, in the order in which opam installs: a later one replaces an earlier."""
    for section in (*SECTIONS, "misc"):
        mode = SECTIONS[section][1] if section in SECTIONS else 0o644
        for entry in wanted.sections.get(section, ()):
            yield entry, posixpath.join(prefix, destination(section, entry, name).encode("latin-1")), mode


def _source(build: bytes, entry: Entry) -> bytes:
    return build + b"/" + entry.source.encode("latin-1")  # opam takes an absolute name for one below, too


def check(tree: Tree, package: Package, wanted: DotInstall, build: bytes, prefix: bytes) -> None:
    """Look at every source and destination first. Raises one `ObuildError` for all that are wrong."""
    problems = []
    for entry, path, _ in _entries(wanted, package.name, prefix):
        state = tree.state(_source(build, entry))
        file, to = shown(entry.source.encode("latin-1")), shown(path)
        if not state or not stat.S_ISREG(state.st_mode):
            if state or not entry.optional:
                what = "is missing" if not state else "is a directory" if stat.S_ISDIR(state.st_mode) else "is no file"
                problems.append(f'"{file}" {what}, and should go to "{to}"')
        elif posixpath.normpath(path) != path or not path.startswith(prefix + b"/"):
            problems.append(f'"{file}" should go to "{to}", which is outside of the prefix')
    if problems:
        listed = "".join(f"\n  {problem}" for problem in problems)
        raise ObuildError(f'some files in "{package.name}.install" can not be installed:{listed}')


def place(tree: Tree, package: Package, wanted: DotInstall, build: bytes, prefix: bytes) -> None:
    """Copy all files, with the modes of their sections. Raises `ObuildError` for a destination that can not be."""
    for entry, path, mode in _entries(wanted, package.name, prefix):
        source = tree.open(_source(build, entry))
        if source is None:
            continue
        try:
            _copy(tree, source, path, mode, prefix)
        finally:
            os.close(source)


def _copy(tree: Tree, source: int, path: bytes, mode: int, prefix: bytes) -> None:
    folder, name = posixpath.split(path)
    tree.make(folder)
    directory = tree.directory(folder)
    try:
        if not tree.holds(prefix, directory):
            raise ObuildError(f'"{shown(path)}" would be outside of the prefix: a symlink leads there')
        try:
            target = tree.create(directory, name, mode)
        except IsADirectoryError:
            raise ObuildError(f'can not install to "{shown(path)}": it is a directory') from None
    finally:
        os.close(directory)
    try:
        _fill(source, target)
    finally:
        os.close(target)


def _fill(source: int, target: int) -> None:
    size = os.fstat(source).st_size
    if size > 1 << 16 and kernel.reflink(source, target):
        return
    done = 0
    while done < size:
        count = os.sendfile(target, source, done, min(size - done, 1 << 30))
        if not count:
            return
        done += count
