"""What the last layers of a chain have changed in the tree that they stand on, as data and as a layer of its own.

That layer has nothing of overlayfs in it and stacks on anything: whole files and directories, no marks of what is gone.
"""

from __future__ import annotations

import os
import stat

from obuild.disk import Copier, copy_metadata
from obuild.store.difference import entries, unchanged
from obuild.store.merge import Layers, is_whiteout, keeps, strip
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from obuild.store.merge import Place

    Skip = Callable[[str], bool]

__all__ = ["Moved", "Survey", "survey_layers", "survey_trees"]


class Moved(Exception):
    """A directory of the tree below goes by another name in the layers: they alone do not say what is in it."""


@value
class _Entry:
    """Something that may have changed: its path from the root ("/x"), and what was there before.

    It is called `inside` in the layer with this `number`. `info` is None for what is gone.
    """

    path: str
    number: int
    inside: str
    info: Any
    old: Any


class Survey:
    """The changes: paths from the root, as "home/x", with a slash at the end for directories."""

    def __init__(self, found: Iterator[_Entry], layers: Sequence[str], before: str) -> None:
        self._layers, self._before = layers, before
        self._directories: dict[str, _Entry] = {}
        self._kept: dict[str, _Entry] = {}
        self.changed: list[str] = []
        """Files that were there and are others now."""
        self.removed: list[str] = []
        """What was there and is gone."""
        try:
            for entry in found:
                self._add(entry)
        except RecursionError:
            raise OSError(f'directories nested too deeply in "{layers[0]}"') from None
        self.changed.sort()
        self.removed.sort()

    @property
    def paths(self) -> list[str]:
        """What was added or changed: files, symlinks and such, and new directories with nothing in them."""
        full = {os.path.dirname(path) for path in self._kept}
        return sorted(_name(entry) for path, entry in self._kept.items() if path not in full)

    def _add(self, entry: _Entry) -> None:
        if entry.info is None:
            self.removed.append(_name(entry))
        elif stat.S_ISDIR(entry.info.st_mode):
            self._directories[entry.path] = entry
            if entry.old is None or _access(entry.info) != _access(entry.old):
                self._keep(entry)
        elif entry.old is None:
            self._keep(entry)
        elif not _same(entry, self._source(entry), self._before + entry.path):
            self.changed.append(_name(entry))
            self._keep(entry)

    def _keep(self, entry: _Entry) -> None:
        """Take something into the layer, and the directories that it is in."""
        path, missing = entry.path, [entry]
        while (path := os.path.dirname(path)) not in self._kept and path != "/":
            missing.append(self._directories[path])
        self._kept.update({entry.path: entry for entry in reversed(missing)})

    def _source(self, entry: _Entry) -> str:
        return self._layers[entry.number] + entry.inside

    def fill(self, target: str, layers: Sequence[str], *, move: bool) -> None:
        """Make the layer in the empty directory `target`, moving the files to it, or copying them.

        `layers` is where those are now that were surveyed.
        """
        self._layers = layers
        root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._fill(target, Copier(root, keep=keeps), move=move)
            _copy_attributes(layers[0], target)
        finally:
            os.close(root)

    def _fill(self, target: str, copier: Copier, *, move: bool) -> None:
        made = []
        for path, entry in self._kept.items():
            if stat.S_ISDIR(entry.info.st_mode):
                os.mkdir(target + path, 0o700)
                made.append(entry)
            elif not (move and _move(self._source(entry), target + path)):
                _copy(copier, self._source(entry), target + path, path)
        for entry in reversed(made):  # last: what is put into a directory, or taken out of it, changes its times
            _copy_attributes(self._source(entry), target + entry.path)
            os.utime(target + entry.path, ns=(entry.info.st_atime_ns, entry.info.st_mtime_ns))


def survey_layers(layers: Sequence[str], before: str, skip: Skip) -> Survey:
    """What the overlay layers `layers`, the uppermost first, change in the tree `before`, but for what `skip` names.

    Raises `Moved` where `survey_trees` has to be asked.
    """
    walk = _Walk(layers, before, skip)
    places = [(number, "") for number in range(len(layers))]
    return Survey(walk.directory(places, "", "", known=True), layers, before)


def survey_trees(after: str, before: str, skip: Skip) -> Survey:
    """What the tree `after`, which was made from the tree `before`, has that is not in that, and the other way."""
    return Survey(_differences(after, before, "", skip), (after,), before)


class _Walk(Layers):
    def __init__(self, layers: Sequence[str], before: str, skip: Skip) -> None:
        super().__init__(layers, "")
        self._before, self._skip = before, skip

    def directory(self, places: Sequence[Place], below: str | None, path: str, *, known: bool) -> Iterator[_Entry]:
        """What is in the directory `path`, made of `places`; `known`: there was one before."""
        found: dict[str, int] = {}
        for depth, (number, folder) in enumerate(places):
            for name in os.listdir(self.layers[number] + folder):
                found.setdefault(name, depth)
        for name in sorted(found):
            if not self._skip(f"{path}/{name}"):
                yield from self._entry(places[found[name] :], name, below, f"{path}/{name}", known=known)
        if known and below is None:  # all that was there is hidden
            for name, info in entries(self._before + path).items():
                if name not in found and not self._skip(f"{path}/{name}"):
                    yield _Entry(f"{path}/{name}", 0, "", None, info)

    def _entry(
        self, places: Sequence[Place], name: str, below: str | None, path: str, *, known: bool
    ) -> Iterator[_Entry]:
        number, folder = places[0]
        inside = f"{folder}/{name}"
        info, old = os.lstat(self.layers[number] + inside), _lstat(self._before + path) if known else None
        if is_whiteout(info):
            if old is not None:
                yield _Entry(path, 0, "", None, old)
            return
        yield _Entry(path, number, inside, info, old)
        if stat.S_ISDIR(info.st_mode):
            places, there = self.resolve(places, name, below)
            if there not in (None, path):
                raise Moved
            was = old is not None and stat.S_ISDIR(old.st_mode)
            yield from self.directory(places, there, path, known=was)


def _differences(after: str, before: str, path: str, skip: Skip) -> Iterator[_Entry]:
    new, old = entries(after + path), entries(before + path) if _is_directory(before + path) else {}
    for name in sorted(new):
        here, info, was = f"{path}/{name}", new[name], old.get(name)
        if skip(here):
            continue
        if stat.S_ISDIR(info.st_mode):
            yield _Entry(here, 0, here, info, was)
            yield from _differences(after, before, here, skip)
        elif was is None or not unchanged(info, was):
            yield _Entry(here, 0, here, info, was)
    for name in sorted(old.keys() - new.keys()):
        if not skip(f"{path}/{name}"):
            yield _Entry(f"{path}/{name}", 0, "", None, old[name])


def _name(entry: _Entry) -> str:
    directory = stat.S_ISDIR((entry.info or entry.old).st_mode)
    return entry.path[1:] + "/" * directory


def _access(info: os.stat_result) -> tuple[int, int, int]:
    return info.st_mode, info.st_uid, info.st_gid


def _same(entry: _Entry, source: str, before: str) -> bool:
    """Whether something is what it was, times apart: a file that was opened for writing is copied up unchanged."""
    new, old = entry.info, entry.old
    if _access(new) != _access(old) or new.st_size != old.st_size or new.st_rdev != old.st_rdev:
        return False
    if stat.S_ISLNK(new.st_mode):
        return os.readlink(source) == os.readlink(before)
    if not stat.S_ISREG(new.st_mode):
        return True
    with open(source, "rb", buffering=0) as one, open(before, "rb", buffering=0) as other:
        while piece := one.read(_PIECE):
            if piece != other.read(_PIECE):
                return False
    return True


_PIECE = 1 << 20


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _is_directory(path: str) -> bool:
    info = _lstat(path)
    return info is not None and stat.S_ISDIR(info.st_mode)


def _move(source: str, target: str) -> bool:
    try:
        os.rename(source, target)
    except OSError:
        return False  # another subvolume: a copy shares the blocks
    strip(target)
    return True


def _copy(copier: Copier, source: str, target: str, path: str) -> None:
    folder, name = os.path.split(source)
    here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        there = os.open(os.path.dirname(target), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            copier.copy(here, there, name, path[1:])
        finally:
            os.close(there)
    finally:
        os.close(here)


def _copy_attributes(source: str, target: str) -> None:
    here = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        there = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            copy_metadata(here, there, keep=keeps)
        finally:
            os.close(there)
    finally:
        os.close(here)
