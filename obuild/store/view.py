"""Looking at layers, and trying things out on them."""

from __future__ import annotations

from contextlib import contextmanager

from obuild.store.layer import is_partial
from obuild.store.scratch import Scratch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from obuild.store.hold import Hold
    from obuild.store.layer import Layer
    from obuild.store.store import Store

__all__ = ["view", "writable"]


@contextmanager
def view(store: Store, layer: Layer) -> Iterator[str]:
    """Where the whole tree of `layer`, finished or failed, can be read."""
    with _open(store, layer, "view", store.backend.view) as path:
        yield path


@contextmanager
def writable(store: Store, layer: Layer) -> Iterator[str]:
    """A copy of the whole tree of `layer` that is thrown away afterwards."""
    with _open(store, layer, "shell", store.backend.prepare) as path:
        yield path


@contextmanager
def _open(store: Store, layer: Layer, kind: str, make: Callable[[str, Sequence[str]], str]) -> Iterator[str]:
    """What `make` makes of the layer in a directory of ours; the layer and what it is made from are held meanwhile."""
    holds: list[Hold] = []
    scratch = Scratch.fresh(store.path, kind)
    try:
        try:
            holds = [store.hold(layer)]
            if store.layer(layer.id).path != layer.path:  # a failed one keeps nothing that it was made from
                holds += [store.hold(parent) for parent in layer.parents]
            path = _make(store, layer, scratch.path, make)
        except OSError as error:
            raise store.explain(error, f'can not open layer "{layer.id}"') from error
        yield path
    finally:
        store.backend.drop(scratch.path)
        scratch.release()
        for hold in holds:
            hold.release()


def _make(store: Store, layer: Layer, path: str, make: Callable[[str, Sequence[str]], str]) -> str:
    if store.backend.stacked:
        return make(path, [layer.fs, *store.lowers(layer.parents)])
    if is_partial(layer.path):
        return store.backend.prepare(path, [layer.fs, *store.lowers(layer.parents)])
    return make(path, [layer.fs])
