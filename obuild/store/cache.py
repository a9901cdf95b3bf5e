"""Cache directories: each use works on a private copy, and the first to end with it gives the next their content.

    cache/<escaped name>/<n>/fs    generation n; the highest is what the next use begins with

Publishing is one rename to the next number, so of those who began with the same generation one succeeds. In a stacked
store a generation is only what changed since the one before; `base` in it says that it is whole. When nobody uses a
cache all is put together into one plain directory, without copying where nothing was renamed. A generation is locked,
shared, by who reads it; no lock is needed to publish.
"""

from __future__ import annotations

import errno
import os
import time
from contextlib import contextmanager

from obuild import kernel
from obuild.disk import Lock, remove_tree
from obuild.errors import StoreError, nearest
from obuild.store.layer import escape, unescape
from obuild.store.scratch import Scratch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from obuild.store.store import Store

__all__ = ["delete", "generations", "list_caches", "remove", "settle", "use"]

_MOST_CHANGES = 16
"""Generations upon each other before a whole one is made although the cache is always in use."""


@contextmanager
def use(store: Store, name: str, user: tuple[int, int]) -> Iterator[str]:
    """A private writable copy for the time of the block; see `Store.cache`."""
    folder = _folder(store, name)
    scratch = Scratch.fresh(store.path, "cache")
    holds: list[tuple[int, Lock]] = []
    try:
        try:
            holds = _take(store, folder)
            root = store.backend.prepare(scratch.path, [f"{folder}/{number}/fs" for number, _ in holds])
            os.chown(root, *user)
            os.utime(folder)  # what `prune` goes by
        except OSError as error:
            raise store.explain(error, f'can not use the cache "{name}"') from error
        if not store.backend.stacked:
            holds[0][1].release()  # the copy no longer needs what it was copied from
        try:
            yield root
        finally:
            _publish(store, scratch.path, folder, [number for number, _ in holds])
    finally:
        for _, lock in holds:
            lock.release()
        if scratch.owned():
            store.backend.drop(scratch.path)
        scratch.release()
        settle(store, folder)


def delete(store: Store, name: str) -> None:
    """Delete a cache; see `Store.delete_cache`."""
    if not os.path.isdir(_folder(store, name)):
        raise StoreError(f'no cache "{name}" in the store', hint=nearest(name, list_caches(store)))
    if not remove(store, name):
        raise StoreError(f'the cache "{name}" is in use', hint="try again when the builds that use it have ended")


def remove(store: Store, name: str, *, dry_run: bool = False) -> bool:
    """Remove a cache unless somebody uses it; whether it was (with `dry_run`: would be) removed."""
    folder = _folder(store, name)
    locks = _lock_all(folder, generations(folder))
    if locks is not None and not dry_run:
        store.discard(folder)
    return locks is not None


def list_caches(store: Store) -> list[str]:
    """The names of all caches."""
    return [unescape(name) for name in os.listdir(f"{store.path}/cache")]


def settle(store: Store, folder: str) -> bool:
    """Put the generations of a cache together into one, unless somebody uses them; whether they are one now."""
    numbers = generations(folder)
    if len(numbers) < 2:
        return True
    locks = _lock_all(folder, numbers)
    try:
        if locks is None or generations(folder) != numbers:
            return False
        _settle(store, folder, numbers)
    except OSError:
        return False  # what is left is still right, and is settled after the next use
    finally:
        for lock in locks or ():
            lock.release()
    return True


def _folder(store: Store, name: str) -> str:
    escaped = escape(name)
    if not name or len(escaped) > 255:
        raise StoreError(f'"{name}" can not be the name of a cache', hint="a name has 1 to 255 bytes")
    return f"{store.path}/cache/{escaped}"


def generations(folder: str) -> list[int]:
    """The numbers of all generations, the newest first."""
    try:
        return sorted((int(name) for name in os.listdir(folder) if name.isdigit()), reverse=True)
    except FileNotFoundError:
        return []


def _take(store: Store, folder: str) -> list[tuple[int, Lock]]:
    """The generations that are the cache now, the newest first, each locked; an empty first one is made."""
    while True:
        held: list[tuple[int, Lock]] = []
        for number in generations(folder) or _begin(store, folder):
            lock = _try(f"{folder}/{number}", shared=True)
            if lock is None:
                break  # being settled or deleted
            held.append((number, lock))
            if _whole(store, f"{folder}/{number}"):
                return held
        for _, lock in held:
            lock.release()
        time.sleep(0.001)


def _whole(store: Store, path: str) -> bool:
    """Whether a generation needs no other to be a whole tree."""
    return not store.backend.stacked or os.path.exists(f"{path}/base")


def _begin(store: Store, folder: str) -> list[int]:
    os.makedirs(folder, exist_ok=True)
    scratch = Scratch.fresh(store.path, "cache")
    try:
        store.backend.prepare(scratch.path, ())
        store.backend.seal(scratch.path)
        os.mkdir(f"{scratch.path}/base")
        _rename(scratch.path, f"{folder}/0")
    finally:
        if scratch.owned():
            store.backend.drop(scratch.path)
        scratch.release()
    return [0]


def _publish(store: Store, draft: str, folder: str, numbers: list[int]) -> None:
    """Make a draft the next generation, unless there is one already."""
    try:
        store.backend.seal(draft)
        for name in os.listdir(draft):
            if name != "fs":
                remove_tree(f"{draft}/{name}")
        if len(numbers) > _MOST_CHANGES:
            whole = _flatten(draft, [f"{draft}/fs", *(f"{folder}/{number}/fs" for number in numbers)])
            remove_tree(f"{draft}/fs")
            os.rename(f"{whole}/fs", f"{draft}/fs")
            os.rename(f"{whole}/base", f"{draft}/base")
            os.rmdir(whole)
        _rename(draft, f"{folder}/{numbers[0] + 1}")
    except OSError:
        pass  # no room, or a process that does not end: the next use begins with what there was


def _flatten(path: str, lowers: list[str]) -> str:
    """A whole generation, made in the directory `path`, of the directories `lowers`, the uppermost first."""
    from obuild.store.merge import squash

    whole = f"{path}/whole"
    os.makedirs(f"{whole}/fs")
    os.mkdir(f"{whole}/base")
    squash(lowers, f"{whole}/fs", whole=True, link=True)
    return whole


def _settle(store: Store, folder: str, numbers: list[int]) -> None:
    """Make the newest generation whole and remove the others; everything is locked.

    It may be cut short anywhere: the generations always mean the same together.
    """
    whole = next(number for number in numbers if _whole(store, f"{folder}/{number}"))
    for number in reversed(numbers[: numbers.index(whole)]):
        _apply(store, f"{folder}/{number}", f"{folder}/{whole}")
        whole = number
    for number in numbers[numbers.index(whole) + 1 :]:
        store.discard(f"{folder}/{number}")


def _apply(store: Store, path: str, whole: str) -> None:
    """Make the generation `path` a whole one, of the changes in it and the whole one before."""
    from obuild.store.merge import apply, has_redirects

    if has_redirects(f"{path}/fs"):
        scratch = Scratch.fresh(store.path, "cache")
        kernel.exchange(_flatten(scratch.path, [f"{path}/fs", f"{whole}/fs"]), path)
        store.backend.drop(scratch.path)
        scratch.release()
    else:
        apply(f"{path}/fs", f"{whole}/fs")
        kernel.exchange(f"{path}/fs", f"{whole}/fs")  # nothing upon all becomes all upon nothing
        os.mkdir(f"{path}/base")


def _rename(source: str, target: str) -> None:
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise  # otherwise somebody came first


def _try(path: str, *, shared: bool) -> Lock | None:
    try:
        return Lock.attempt(path, shared=shared)
    except FileNotFoundError:
        return None


def _lock_all(folder: str, numbers: list[int]) -> list[Lock] | None:
    """The locks of all generations for us alone, or None."""
    locks = []
    for number in numbers:
        lock = _try(f"{folder}/{number}", shared=False)
        if lock is None:
            return None  # those that were taken go out of use, and so are released
        locks.append(lock)
    return locks
