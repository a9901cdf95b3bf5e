"""The directories that an overlay of a layer is mounted from, few enough for any number of steps.

A lookup in an overlay asks every lower that has the directory: with 450 of them the start of one shell takes 10 ms
longer. So wherever a chain has grown by `SPAN` directories, these are put together into one, `flat/<id>`. Parents
stay the truth: a flat directory is derived from them and made again when it is missing.
"""

from __future__ import annotations

import os

from obuild.store.layer import Layer, escape, layer_path, unescape
from obuild.store.scratch import Scratch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["MOST", "SPAN", "Chain", "flat_name", "flat_owner"]

SPAN = 32
"""Lowers put together into one. A chain of 450 then has at most 46, and costs about what one of 20 does."""

_LARGE = 64 << 20
"""Bytes on disk above which layers are not put together: their copies would cost more than the lookups."""

_TOO_MANY = 300
"""Lowers above which also large ones are put together."""

MOST = 490
"""The kernel takes 500."""


class _Stack:
    """The lowers of one layer: those `above` the last place where some were put together, and all below it."""

    __slots__ = ("above", "below", "mark", "size")

    def __init__(self, above: tuple[str, ...], below: tuple[str, ...], size: int) -> None:
        self.above, self.below, self.size = above, below, size
        self.mark: tuple[int, int] = (0, 0)


class Chain:
    """Finds the lowers of layers, and remembers them: the next step asks for one more than the last."""

    def __init__(self, store: str, drop: Callable[[str], None]) -> None:
        self._store, self._drop = store, drop
        self._known: dict[str, _Stack] = {}

    def lowers(self, parents: tuple[str, ...]) -> list[str]:
        """The directories of `parents` stacked upon each other, the uppermost first; somebody has to hold them."""
        if not parents:
            return []
        known = self._known.get(parents[0])
        if known and known.mark != _mark(self._layer(parents[0]).path):
            self._known = {}  # deleted and built again since; what it was made from too, perhaps
        stack = self._stack(parents[0])
        return [*self._beside(parents[1:], stack), *stack.above, *stack.below]

    def _beside(self, parents: Sequence[str], stack: _Stack) -> list[str]:
        """The directories of layers that do not stand on each other, the uppermost first; put together if too many.

        They stand on `stack`, and a chain may grow on them.
        """
        found = [f"{layer_path(self._store, name)}/fs" for name in parents]
        excess = max(0, len(found) + len(stack.above) + len(stack.below) + SPAN - MOST)
        groups = min(-(-excess // (SPAN - 1)), -(-len(found) // SPAN))
        for start in range(groups):  # each time SPAN become one
            names = parents[start * SPAN : (start + 1) * SPAN]
            above = tuple(self._layer(name).fs for name in names)[::-1]
            marks = [str(_mark(os.path.dirname(path))) for path in above]
            found[start : start + len(names)] = [self._flat(flat_name(*names, marks=marks), above)]
        return found[::-1]

    def _layer(self, id: str) -> Layer:
        return Layer(id, layer_path(self._store, id))

    def _stack(self, id: str) -> _Stack:
        """The lowers of the layer `id`: down to one that is known or has no parents, then up again."""
        path: list[tuple[Layer, list[str], int]] = []
        stack = self._known.get(id)
        parents = [id]
        while stack is None and parents:
            layer = self._layer(parents[0])
            meta = layer.meta()
            parents = meta["parents"]
            path.append((layer, parents, int(meta.get("size", 0))))
            stack = self._known.get(parents[0]) if parents else None
        for layer, parents, size in reversed(path):
            if stack and len(parents) > 1:
                stack = _Stack((), (*self._beside(parents[1:], stack), *stack.above, *stack.below), 0)
            stack = self._known[layer.id] = self._push(stack, layer, size)
            stack.mark = _mark(layer.path)
        assert stack is not None
        return stack

    def _push(self, stack: _Stack | None, layer: Layer, size: int) -> _Stack:
        if stack is None:
            return _Stack((), (layer.fs,), 0)
        above, size = (layer.fs, *stack.above), stack.size + size
        if len(above) < SPAN:
            return _Stack(above, stack.below, size)
        if size > _LARGE and len(above) + len(stack.below) <= _TOO_MANY:
            return _Stack((), above + stack.below, 0)
        return _Stack((), (self._flat(flat_name(layer.id), above), *stack.below), 0)

    def _flat(self, name: str, above: tuple[str, ...]) -> str:
        """The directory that stands for `above`, made now unless somebody has made it."""
        target = f"{self._store}/flat/{name}"
        if not os.path.isdir(target):
            from obuild.store.merge import squash

            scratch = Scratch.fresh(self._store, "flat")
            try:
                os.mkdir(f"{scratch.path}/fs", 0o755)
                squash(above, f"{scratch.path}/fs")
                os.rename(scratch.path, target)
            except OSError:
                self._drop(scratch.path)
                if not os.path.isdir(target):  # somebody else's is as good
                    raise
            finally:
                scratch.release()
        return f"{target}/fs"


def flat_name(*names: str, marks: Sequence[str] = ()) -> str:
    """The file name of the directory that stands for a layer and what it stands on, or for several layers.

    `marks` tell those layers from others that have had their names: one of a package can be replaced.
    """
    if len(names) == 1:
        return escape(names[0])
    import hashlib

    return (
        f"{escape(names[-1])}%g{hashlib.sha256(repr((names, marks)).encode()).hexdigest()[:16]}"  # no escape has a "%g"
    )


def flat_owner(name: str) -> str:
    """The layer with which the directory `flat_name` goes."""
    return unescape(name.partition("%g")[0])


def _mark(path: str) -> tuple[int, int]:
    """What tells a layer's directory from another that has its name later."""
    info = os.stat(path)
    return info.st_ino, info.st_mtime_ns
