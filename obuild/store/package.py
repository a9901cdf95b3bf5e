"""Layers of packages: each has only what its package added, in every kind of store, so that any of them go together.

    <platform>/base              a link to the layer that the platform's packages are built on
    <platform>/<key>/            layer.json  build.log  fs/, and what its maker puts beside them
    <platform>/<key>/paths       what is in it, a path a line; says that it is such a layer

A package's layer counts as found only where `layer.json` has the asked facts; another one of its name is replaced.
"""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from functools import lru_cache

from obuild import kernel
from obuild.disk import Lock
from obuild.errors import StoreError
from obuild.store.chain import flat_name
from obuild.store.draft import Draft
from obuild.store.layer import Layer, layer_path
from obuild.store.scratch import Scratch
from obuild.store.survey import Moved, Survey, survey_layers, survey_trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from obuild.cancel import Cancel
    from obuild.store.store import Store

__all__ = ["PackageDraft", "base_link", "bases", "conflicts", "find", "recorded_base"]


def find(store: Store, id: str, facts: Mapping[str, Any]) -> Layer | None:
    """The package layer `id` if it was made with these `facts`, stamped as used now."""
    layer = store.get(id)
    return layer if layer and _agrees(layer.meta(), facts) else None


def _agrees(meta: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
    import json

    plain = json.loads(json.dumps(dict(facts)))  # as it comes back from a file: a tuple is a list there
    return all(meta.get(name) == fact for name, fact in plain.items())


def recorded_base(store: Store, id: str) -> str | None:
    """The id of the base that the package layer `id` was made on; read once for each such layer."""
    path = layer_path(store.path, id)
    info = os.stat(path)
    mark = info.st_ino, info.st_mtime_ns
    known = store.recorded.get(path)
    if known is None or known[0] != mark:
        known = store.recorded[path] = mark, store.layer(id).meta().get("base")
    return known[1]


def conflicts(store: Store, ids: Sequence[str]) -> dict[str, list[str]]:
    """The paths that more than one of these package layers has, each with their ids in the order given."""
    owners: dict[str, list[str]] = {}
    for owner in ids:
        path = f"{layer_path(store.path, owner)}/paths"
        try:
            info = os.stat(path)
        except FileNotFoundError:
            raise StoreError(f'layer "{owner}" is not that of a package, or not in the store') from None
        for name in _files(path, (info.st_ino, info.st_mtime_ns)):
            owners.setdefault(name, []).append(owner)
    return {name: found for name, found in owners.items() if len(found) > 1}


@lru_cache(maxsize=1024)
def _files(path: str, _mark: tuple[int, int]) -> tuple[str, ...]:
    """What a file `paths` names but for directories: that of a dependency is wanted by all that need it.

    The mark tells the file from another that has its name later.
    """
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return tuple([name for name in file.read().splitlines() if not name.endswith("/")])


def base_link(store: str, platform: str) -> str | None:
    """The id of the layer that a platform's packages are built on; None when there is none."""
    try:
        return os.path.basename(os.readlink(f"{store}/{platform}/base"))
    except OSError:
        return None


def bases(store: str) -> dict[str, str]:
    """The layers that platforms stand on, each with the name of its platform."""
    names = [entry.name for entry in os.scandir(store) if entry.is_dir(follow_symlinks=False)]
    return {link: name for name in names if (link := base_link(store, name))}


class PackageDraft(Draft):
    """A package's layer being written: its tree begins empty, and `gather` fills it from the package's own steps.

    `files` are put beside the tree. `parents` are known, and set, when the steps have been made. The layer found on
    entering has the asked `facts`.
    """

    def __init__(
        self,
        store: Store,
        id: str,
        facts: Mapping[str, Any],
        *,
        follow: Callable[[bytes], None] | None = None,
        cancel: Cancel | None = None,
    ) -> None:
        super().__init__(store, id, (), keep_failed=True, follow=follow, cancel=cancel)
        self._facts = facts
        self._retired: list[Scratch] = []
        self.files: dict[str, bytes] = {}

    def _found(self) -> Layer | None:
        return find(self._store, self.id, self._facts)

    def stand_on(self, parents: tuple[str, ...]) -> None:
        """Say, and make sure that it stays, what the layer stands on."""
        self.parents = parents
        for parent in parents:
            self._holds.append(self._store.hold(parent))

    def gather(
        self,
        own: Sequence[Layer],
        before: Layer,
        skip: Callable[[str], bool],
        accept: Callable[[Survey], None],
        retired: Sequence[Layer],
    ) -> None:
        """Fill the tree with what the layers `own`, the last one first, have changed in the tree of the layer `before`.

        `skip` leaves out paths ("/tmp"); `accept` is shown the changes, and may raise. Then the layers `retired`, all
        of them this package's own, leave the store: files are moved, not copied. What somebody looks at meanwhile
        stays, and is copied from.
        """
        with ExitStack() as stack:
            tree = stack.enter_context(self._store.view(before))
            survey = _survey_layers(own, tree, skip) if self._store.backend.stacked else None
            whole = survey is None
            if survey is None:
                after = stack.enter_context(self._store.view(own[0]))
                survey = survey_trees(after, tree, skip)
            accept(survey)
            copied = whole and self._store.backend.stacked
            if copied:  # from a mounted tree nothing can be moved
                survey.fill(self.root, [after], move=False)
        moved = self.retire(retired)
        if not copied:
            layers = [f"{moved.get(layer.path, layer.path)}/fs" for layer in (own[:1] if whole else own)]
            survey.fill(self.root, layers, move=all(layer.path in moved for layer in own))
        self.files["paths"] = "".join([f"{_line(path)}\n" for path in survey.paths]).encode("utf-8", "surrogateescape")

    def retire(self, layers: Sequence[Layer]) -> dict[str, str]:
        """Take layers of this package alone, the uppermost first, out of the store down to one that somebody uses.

        Where each is now, by its path.
        """
        scratch = Scratch.fresh(self._store.path, "own")
        self._retired.append(scratch)
        moved = {}
        for number, layer in enumerate(layers):
            try:
                lock = Lock.attempt(layer.path)
            except FileNotFoundError:
                continue
            if lock is None:
                break  # it stands on those that come now
            os.rename(layer.path, f"{scratch.path}/{number}")
            lock.release()
            moved[layer.path] = f"{scratch.path}/{number}"
            flat = f"{self._store.path}/flat/{flat_name(layer.id)}"
            if os.path.isdir(flat):
                os.rename(flat, f"{scratch.path}/{number}-flat")
        return moved

    def _finish(self, meta: dict[str, Any]) -> None:
        for name, data in self.files.items():
            with open(f"{self.path}/{name}", "wb") as file:
                file.write(data)
        self._kept = self._kept | self.files.keys()
        super()._finish(meta)

    def _publish(self) -> None:
        self._finish(self.meta)
        try:
            self._move(self._target)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            kernel.exchange(self.path, self._target)  # the one that was made with other facts
            self._put_aside(self.path)
        self.layer = Layer(self.id, self._target)

    def _put_aside(self, path: str) -> None:
        """Remove the layer that was replaced, or leave it as garbage to those who still use it."""
        lock = Lock.attempt(path)
        if lock:
            self._store.sweep(path)
            lock.release()
        else:
            os.rename(path, f"{self._store.path}/tmp/gone-{os.urandom(8).hex()}")

    def _end(self) -> None:
        super()._end()
        for scratch in self._retired:
            self._store.sweep(scratch.path)
            scratch.release()
        self._retired = []


def _survey_layers(own: Sequence[Layer], tree: str, skip: Callable[[str], bool]) -> Survey | None:
    try:
        return survey_layers([layer.fs for layer in own], tree, skip)
    except Moved:
        return None


def _line(path: str) -> str:
    """A path on one line."""
    return path.replace("\\", "\\\\").replace("\n", "\\n")
