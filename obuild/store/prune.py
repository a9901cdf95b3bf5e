"""What to delete when room is needed, and deleting it: the least recently used first, never what is in use."""

from __future__ import annotations

import os
import time

from obuild.disk import Lock, measure
from obuild.errors import StoreError
from obuild.store.cache import list_caches
from obuild.store.cache import remove as remove_cache
from obuild.store.layer import Layer, escape, unescape
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from obuild.store.store import Store

__all__ = ["Pruned", "Usage", "delete", "list_failed", "prune", "usage"]


@value
class Pruned:
    """What was deleted: a "layer", "failed" tree or "cache", its name, bytes on disk, when it was last used."""

    kind: str
    id: str
    size: int
    used: float


@value
class Usage:
    """Bytes on disk by kind, and of the file system: its room and what of it is free."""

    layers: int
    failed: int
    caches: int
    images: int
    other: int
    free: int
    total: int


class _Item:
    """Something that can be deleted, once nothing is made from it."""

    def __init__(self, kind: str, id: str, path: str, used: float, *, size: int, parents: Iterable[str] = ()) -> None:
        self.kind, self.id, self.path, self.used, self.size = kind, id, path, used, size
        self.parents = tuple(parents)
        self.children: list[_Item] = []


def prune(
    store: Store, *, max_age: float | None, max_count: int | None, max_size: int | None, dry_run: bool
) -> list[Pruned]:
    """See `Store.prune`."""
    store.clean_up()
    items = _items(store)
    leaves = [item for item in items if not item.children]
    layers = {item.id: item for item in items if item.kind == "layer"}
    count, size, oldest = len(layers), sum(item.size for item in items), _oldest(max_age)
    pruned = []
    while leaves:
        item = min(leaves, key=lambda item: item.used)
        leaves.remove(item)
        crowded = item.kind == "layer" and max_count is not None and count > max_count
        large = max_size is not None and size > max_size
        if not (crowded or large or item.used < oldest) or not _remove(store, item, dry_run=dry_run):
            continue
        pruned.append(Pruned(item.kind, item.id, item.size, item.used))
        count, size = count - (item.kind == "layer"), size - item.size
        for parent in {layers[name] for name in item.parents if name in layers}:
            parent.children.remove(item)
            if not parent.children:
                leaves.append(parent)
    return pruned


def _oldest(max_age: float | None) -> float:
    return 0.0 if max_age is None else time.time() - max_age


def delete(store: Store, id: str, *, children: bool) -> list[str]:
    """See `Store.delete`."""
    found = {item.id: item for item in _items(store) if item.kind == "layer"}
    if id not in found:
        raise store.unknown(id)
    items = _descendants(found[id])
    layers = [item for item in items if item.kind == "layer"]
    if len(layers) > 1 and not children:
        count = len(layers) - 1
        hint = "delete what is made from it too, with --children"
        raise StoreError(f'{count} layer{"s are" if count > 1 else " is"} made from "{id}"', hint=hint)
    locks = []
    for item in items:
        lock = _lock(item)
        if lock is None:
            raise StoreError(f'layer "{item.id}" is in use', hint="try again when the builds that use it have ended")
        locks.append(lock)
    for item in items:
        _discard(store, item)
    return [item.id for item in layers]


def _descendants(item: _Item) -> list[_Item]:
    """An item and all that is made from it, the deepest first."""
    order, waiting, seen = list[_Item](), [item], set[int]()
    while waiting:
        item = waiting.pop()
        order.append(item)
        waiting.extend(item.children)
    # What is reached twice counts where it is deepest.
    return [item for item in reversed(order) if id(item) not in seen and not seen.add(id(item))]  # type: ignore[func-returns-value]


def _items(store: Store) -> list[_Item]:
    """All that can be deleted, with what is made from each."""
    items = [_layer_item("layer", layer) for layer in store.layers()]
    known = {item.id: item for item in items}
    items += [_layer_item("failed", layer) for layer in list_failed(store)]
    for item in items:
        for parent in {known[name] for name in item.parents if name in known}:
            parent.children.append(item)
    for name in list_caches(store):
        path = f"{store.path}/cache/{escape(name)}"
        items.append(_Item("cache", name, path, os.stat(path).st_mtime, size=measure(path).blocks))
    return items


def _layer_item(kind: str, layer: Layer) -> _Item:
    used = os.stat(f"{layer.path}/layer.json").st_mtime
    meta = layer.meta()
    return _Item(kind, layer.id, layer.path, used, size=int(meta.get("size", 0)), parents=meta["parents"])


def _remove(store: Store, item: _Item, *, dry_run: bool) -> bool:
    """Delete an item unless somebody uses it, or has since it was listed."""
    if item.kind == "cache":
        return remove_cache(store, item.id, dry_run=dry_run)
    lock = _lock(item)
    if lock is None:
        return False
    with lock:
        if os.stat(f"{item.path}/layer.json").st_mtime != item.used:
            return False
        if not dry_run:
            _discard(store, item)
    return True


def _lock(item: _Item) -> Lock | None:
    try:
        return Lock.attempt(item.path)
    except FileNotFoundError:
        return None  # somebody else has just deleted it


def _discard(store: Store, item: _Item) -> None:
    store.discard(item.path)
    flat = f"{store.path}/flat/{escape(item.id)}"
    if item.kind == "layer" and os.path.exists(flat):
        store.discard(flat)


def list_failed(store: Store) -> list[Layer]:
    """All kept trees of failed steps."""
    names = [unescape(name) for name in os.listdir(f"{store.path}/failed")]
    return [layer for layer in map(store.failed_layer, names) if layer]


def usage(store: Store) -> Usage:
    """See `Store.usage`."""
    items = _items(store)
    room = os.statvfs(store.path)

    def total(kind: str) -> int:
        return sum(item.size for item in items if item.kind == kind)

    def folders(*names: str) -> int:
        return sum(measure(f"{store.path}/{name}").blocks for name in names if os.path.isdir(f"{store.path}/{name}"))

    return Usage(
        layers=total("layer"),
        failed=total("failed"),
        caches=total("cache"),
        images=folders("images"),
        other=folders("flat", "index", "sources", "runs"),
        free=room.f_bavail * room.f_frsize,
        total=room.f_blocks * room.f_frsize,
    )
