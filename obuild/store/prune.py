"""What to delete when room is needed, and deleting it: the least recently used first, never what is in use."""

from __future__ import annotations

import os
import time

from obuild.disk import Lock, measure
from obuild.errors import StoreError
from obuild.store.cache import list_caches
from obuild.store.cache import remove as remove_cache
from obuild.store.chain import flat_owner
from obuild.store.layer import Layer, escape, unescape
from obuild.store.package import bases
from obuild.store.stock import list_sources
from obuild.store.stock import remove as remove_source
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from obuild.store.store import Store

__all__ = ["Pruned", "Usage", "delete", "list_failed", "prune", "usage"]


@value
class Pruned:
    """What was deleted: a "layer", "failed" tree, "cache" or "source", its name, bytes on disk, its last use."""

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
    sources: int
    images: int
    other: int
    free: int
    total: int


class _Item:
    """Something that can be deleted, once nothing is made from it."""

    def __init__(
        self,
        kind: str,
        id: str,
        path: str,
        used: int,
        *,
        size: int,
        parents: Iterable[str] = (),
        steps: Iterable[str] = (),
    ) -> None:
        self.kind, self.id, self.path, self.used, self.size = kind, id, path, used, size
        self.parents, self.steps = tuple(parents), tuple(steps)
        self.children: list[_Item] = []

    def pruned(self) -> Pruned:
        """What is said of it once it is gone."""
        return Pruned(self.kind, self.id, self.size, self.used / 1e9)


class _Inventory:
    """All that can be deleted, and what is made from what."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.layers: dict[str, _Item] = {}
        self.others: list[_Item] = []
        self.refresh()
        for layer in list_failed(store):
            self._add(self._item("failed", layer))
        for name in list_caches(store):
            self._add(_cache(name, f"{store.path}/cache/{escape(name)}"))
        for source in list_sources(store.path):
            self._add(_Item("source", source.name, source.path, source.used, size=source.size))

    @property
    def items(self) -> list[_Item]:
        """All of it."""
        return [*self.layers.values(), *self.others]

    def refresh(self) -> None:
        """Take in the layers that were finished since the last time.

        Under the lock of an item this shows all its children: making another needs that lock.
        """
        new = [layer for layer in self._store.layers() if layer.id not in self.layers]
        items = [item for layer in new if (item := self._item("layer", layer))]
        self.layers.update({item.id: item for item in items})
        for item in items:
            self._add(item)

    def _item(self, kind: str, layer: Layer) -> _Item | None:
        try:
            meta = layer.meta()
            size = self._store.backend.size(layer.path, int(meta.get("size", 0)))
            used = os.stat(f"{layer.path}/layer.json").st_mtime_ns
        except (StoreError, OSError):
            return None  # deleted meanwhile, or damaged: that is for `fsck`
        steps = (*meta.get("steps", ()), meta.get("step", ""))  # what is kept of a package that failed
        return _Item(kind, layer.id, layer.path, used, size=size, parents=meta["parents"], steps=steps)

    def _add(self, item: _Item | None) -> None:
        if item is None:
            return
        if item.kind != "layer":
            self.others.append(item)
        for parent in self.parents(item):
            parent.children.append(item)

    def of_packages(self) -> set[_Item]:
        """Layers and failed trees of packages, their steps, and all that is made from them."""
        made = [item for item in self.items if item.kind in ("layer", "failed")]
        packages = [item for item in made if "/" in item.id]
        steps = {name for item in packages for name in item.steps}
        found, waiting = set[_Item](), [item for item in made if "/" in item.id or item.id in steps]
        while waiting:
            item = waiting.pop()
            if item not in found:
                found.add(item)
                waiting += item.children
        return found

    def parents(self, item: _Item) -> set[_Item]:
        """What an item was made from."""
        return {self.layers[name] for name in item.parents if name in self.layers}


def _cache(name: str, path: str) -> _Item | None:
    try:
        return _Item("cache", name, path, os.stat(path).st_mtime_ns, size=measure(path).blocks)
    except FileNotFoundError:
        return None  # deleted meanwhile


def prune(
    store: Store,
    *,
    max_age: float | None,
    max_count: int | None,
    max_size: int | None,
    dry_run: bool,
    keep: Collection[str] = (),
    only_packages: bool = False,
) -> list[Pruned]:
    """See `Store.prune`."""
    store.clean_up()
    inventory = _Inventory(store)
    based = bases(store.path)
    candidates = inventory.of_packages() if only_packages else set(inventory.items)

    def free(item: _Item) -> bool:
        kept = item.children or item.id in based or os.path.relpath(item.path, store.path) in keep
        return item in candidates and not kept

    leaves = list(filter(free, inventory.items))
    count, size = len(inventory.layers), sum(item.size for item in inventory.items)
    oldest = 0 if max_age is None else time.time_ns() - int(max_age * 1e9)
    pruned, errors = list[Pruned](), list[StoreError]()
    while leaves:
        item = min(leaves, key=lambda item: item.used)
        leaves.remove(item)
        crowded = item.kind == "layer" and max_count is not None and count > max_count
        large = max_size is not None and size > max_size
        if not (crowded or large or item.used < oldest):
            continue
        try:
            if not _remove(store, inventory, item, dry_run=dry_run):
                continue
        except StoreError as error:  # out of the store, or not: the others are none the worse for it
            errors.append(error)
            continue
        pruned.append(item.pruned())
        count, size = count - (item.kind == "layer"), size - item.size
        for parent in inventory.parents(item):
            parent.children.remove(item)
            if free(parent):
                leaves.append(parent)
    if errors:
        raise StoreError(f"{errors[0].message}; all else that was to go is gone", hint=errors[0].hint)
    return pruned


def _remove(store: Store, inventory: _Inventory, item: _Item, *, dry_run: bool) -> bool:
    """Delete an item unless it is in use, or was used since it was listed."""
    if item.kind == "cache":
        return remove_cache(store, item.id, dry_run=dry_run)
    if item.kind == "source":
        return remove_source(store, item.id, dry_run=dry_run)
    with _Locks() as locks:
        if not locks.add(item):
            return False
        inventory.refresh()
        if item.children or os.stat(f"{item.path}/layer.json").st_mtime_ns != item.used:
            return False
        if not dry_run:
            _discard(store, item)
    return True


def delete(store: Store, id: str, *, children: bool) -> list[str]:
    """See `Store.delete`."""
    inventory = _Inventory(store)
    failed = (item for item in inventory.others if (item.kind, item.id) == ("failed", id))
    first = inventory.layers.get(id) or next(failed, None)
    if first is None:
        raise store.unknown(id)
    items = _descendants(first)
    kept = bases(store.path)
    for item in items:
        if item.kind == "layer" and item.id in kept:
            hint = f"obuild platform delete {kept[item.id]}"
            raise StoreError(f'"{item.id}" is the base of platform "{kept[item.id]}"', hint=hint)
    made = [item.id for item in items if item.kind == "layer" or item is first]
    if len(made) > 1 and not children:
        count = len(made) - 1
        hint = "delete what is made from it too, with --children"
        raise StoreError(f'{count} layer{"s are" if count > 1 else " is"} made from "{id}"', hint=hint)
    with _Locks() as locks:
        busy = next((item for item in items if not locks.add(item)), None)
        inventory.refresh()
        if busy is None and len(_descendants(first)) > len(items):
            busy = first
        if busy:
            raise StoreError(f'layer "{busy.id}" is in use', hint="try again when the builds that use it have ended")
        _discard(store, *items)
    return made


def _descendants(item: _Item) -> list[_Item]:
    """An item and all that is made from it, each before what it was made from."""
    order, waiting = dict[_Item, None](), [item]
    while waiting:
        item = waiting.pop()
        order.pop(item, None)  # what is reached twice counts where it is deepest
        order[item] = None
        waiting.extend(item.children)
    return list(order)[::-1]


class _Locks:
    """The locks of things that are about to be deleted, for the time of a `with` block."""

    def __init__(self) -> None:
        self._locks: list[Lock] = []

    def add(self, item: _Item) -> bool:
        """Lock one more; False when somebody uses it, or has just deleted it."""
        try:
            lock = Lock.attempt(item.path)
        except FileNotFoundError:
            return False
        if lock:
            self._locks.append(lock)
        return lock is not None

    def __enter__(self) -> _Locks:
        return self

    def __exit__(self, *_: object) -> None:
        for lock in self._locks:
            lock.release()


def _discard(store: Store, *items: _Item) -> None:
    gone = {item.id for item in items if item.kind == "layer"}
    flats = [f"{store.path}/flat/{name}" for name in os.listdir(f"{store.path}/flat") if flat_owner(name) in gone]
    store.discard(*(item.path for item in items), *flats)


def list_failed(store: Store) -> list[Layer]:
    """All kept trees of failed steps."""
    names = [unescape(name) for name in os.listdir(f"{store.path}/failed")]
    return [layer for layer in map(store.failed_layer, names) if layer]


def usage(store: Store) -> Usage:
    """See `Store.usage`."""
    items = _Inventory(store).items
    room = os.statvfs(store.path)

    def total(kind: str) -> int:
        return sum(item.size for item in items if item.kind == kind)

    def folders(*names: str) -> int:
        return sum(measure(f"{store.path}/{name}").blocks for name in names if os.path.isdir(f"{store.path}/{name}"))

    return Usage(
        layers=total("layer"),
        failed=total("failed"),
        caches=total("cache"),
        sources=total("source"),
        images=folders("images"),
        other=folders("flat", "index", "runs"),
        free=room.f_bavail * room.f_frsize,
        total=room.f_blocks * room.f_frsize,
    )
