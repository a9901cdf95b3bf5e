"""Finding and putting right what is wrong with a store, whatever made it so."""

from __future__ import annotations

import os
import time

from obuild import kernel
from obuild.disk import Lock, measure
from obuild.errors import StoreError
from obuild.store.cache import generations, settle
from obuild.store.cache import remove as remove_cache
from obuild.store.chain import flat_owner
from obuild.store.layer import Layer, list_layers, unescape
from obuild.store.package import bases
from obuild.store.scratch import clean_up, clean_up_containers
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from obuild.store.store import Store

__all__ = ["Finding", "fsck"]

_MOMENT = 0.3
"""Seconds, in which who has made a directory has locked it too."""


@value
class Finding:
    """One thing that is wrong: a path inside the store, in what way, and whether it has been put right."""

    path: str
    message: str
    repaired: bool = False


class _Problem:
    """A finding, and what puts it right."""

    def __init__(self, path: str, message: str, repair: Callable[[], bool]) -> None:
        self.path, self.message, self.repair = path, message, repair


def fsck(store: Store, *, repair: bool) -> list[Finding]:
    """See `Store.fsck`. What can be made again is removed rather than patched: a built layer is right."""
    findings: dict[str, Finding] = {}
    while True:
        new = [problem for problem in _confirmed(store) if problem.path not in findings]
        for problem in new:
            path = os.path.relpath(problem.path, store.path)
            findings[problem.path] = Finding(path, problem.message, repair and problem.repair())
        if not (new and repair):  # what was made from a layer that is removed now is the next round's
            return list(findings.values())


def _confirmed(store: Store) -> list[_Problem]:
    """What is wrong, and still is a moment later: what others are doing just now may look like damage."""
    seen = {(problem.path, problem.message) for problem in _problems(store)}
    if not seen:
        return []
    time.sleep(_MOMENT)
    return [problem for problem in _problems(store) if (problem.path, problem.message) in seen]


def _problems(store: Store) -> Iterator[_Problem]:
    for check in (_mounts, _containers, _drafts, _layers, _bases, _flats, _caches):
        yield from check(store)


def _mounts(store: Store) -> Iterator[_Problem]:
    """Mounts below the store that everybody sees; obuild's own are private."""
    for path in _mount_points("/proc/1/mountinfo"):
        if path.startswith(store.path + "/"):
            yield _Problem(path, "something is mounted there", lambda path=path: _unmount(path))  # type: ignore[misc]


def _mount_points(table: str) -> list[str]:
    try:
        with open(table, encoding="utf-8", errors="surrogateescape") as file:
            return [_plain(line.split(" ")[4]) for line in file]
    except PermissionError:
        return []


def _plain(text: str) -> str:
    """A path of the mount table with its octal escapes (backslash 040 for a space) undone."""
    head, *rest = text.split("\\")
    return head + "".join([chr(int(part[:3], 8)) + part[3:] for part in rest])


def _unmount(path: str) -> bool:
    try:
        kernel.unmount(path, detach=True)
    except OSError:
        return False
    return True


def _drafts(store: Store) -> Iterator[_Problem]:
    for entry in os.scandir(f"{store.path}/tmp"):
        if not _in_use(entry.path):
            message = "left by a process that died"
            yield _Problem(entry.path, message, lambda path=entry.path: _drop(store, path))  # type: ignore[misc]


def _containers(store: Store) -> Iterator[_Problem]:
    """Containers of dead processes that could not be removed when the store was opened."""
    if os.path.isdir(f"{store.path}/run"):
        for entry in os.scandir(f"{store.path}/run"):
            if entry.name != "networks" and not _in_use(entry.path):
                message = "a container left by a process that died"
                yield _Problem(entry.path, message, lambda path=entry.path: _kill(store, path))  # type: ignore[misc]


def _drop(store: Store, path: str) -> bool:
    clean_up(store.path, store.backend.drop)
    return not os.path.exists(path)


def _kill(store: Store, path: str) -> bool:
    clean_up_containers(store.path)
    return not os.path.exists(path)


def _layers(store: Store) -> Iterator[_Problem]:
    kept = [Layer(unescape(entry.name), entry.path) for entry in os.scandir(f"{store.path}/failed")]
    for layer in (*list_layers(store.path), *kept):
        message = _wrong_with(store, layer)
        if message:
            yield _Problem(layer.path, message, lambda layer=layer: _discard(store, layer))  # type: ignore[misc]


def _bases(store: Store) -> Iterator[_Problem]:
    for base, platform in bases(store.path).items():
        if not store.exists(base):
            path = f"{store.path}/{platform}/base"
            message = f'the base of a platform, "{base}", is missing'
            yield _Problem(path, message, lambda path=path: os.unlink(path) is None)  # type: ignore[misc,func-returns-value]


def _wrong_with(store: Store, layer: Layer) -> str:
    """What is wrong with a layer, "" when nothing is."""
    try:
        missing = [name for name in ("layer.json", "build.log", "fs") if not os.path.exists(f"{layer.path}/{name}")]
        if missing:
            return f"a layer without {missing[0]}"
        meta = layer.meta()
        layer.env()
        gone = [parent for parent in meta["parents"] if not store.exists(parent)]
        if gone:
            return f'what it was made from, "{gone[0]}", is missing'
        return _wrong_size(store, layer, meta)
    except StoreError as error:
        return error.message
    except FileNotFoundError:
        return ""  # deleted meanwhile


def _wrong_size(store: Store, layer: Layer, meta: dict[str, Any]) -> str:
    if not meta.get("entries"):
        return ""  # nothing in it, or btrfs, which knows itself whether its data are whole
    size = measure(layer.fs)
    if size.entries != meta["entries"]:
        return f"{size.entries} files and directories where {meta['entries']} were written"
    if store.backend.stacked and size.length != meta["length"]:
        return f"{size.length} bytes in files where {meta['length']} were written"
    return ""


def _flats(store: Store) -> Iterator[_Problem]:
    for entry in os.scandir(f"{store.path}/flat"):
        if not store.exists(flat_owner(entry.name)):
            message = "derived from a layer that is missing"
            yield _Problem(entry.path, message, lambda path=entry.path: _discard_path(store, path))  # type: ignore[misc]


def _caches(store: Store) -> Iterator[_Problem]:
    for entry in os.scandir(f"{store.path}/cache"):
        name = unescape(entry.name)
        numbers = generations(entry.path)
        whole = [number for number in numbers if os.path.isdir(f"{entry.path}/{number}/fs")]
        bases = [number for number in numbers if os.path.exists(f"{entry.path}/{number}/base")]
        if len(whole) < len(numbers) or (store.backend.stacked and numbers and not bases):
            yield _Problem(entry.path, "a cache that is not whole", lambda name=name: remove_cache(store, name))  # type: ignore[misc]
        elif len(numbers) > 1 and not any(_in_use(f"{entry.path}/{number}") for number in numbers):
            message = "changes to a cache that were not put together"
            yield _Problem(entry.path, message, lambda path=entry.path: settle(store, path))  # type: ignore[misc]


def _in_use(path: str) -> bool:
    try:
        lock = Lock.attempt(path)
    except FileNotFoundError:
        return True  # until just now: who had it has removed or published it
    except OSError:
        return False
    if lock:
        lock.release()
    return lock is None


def _discard(store: Store, layer: Layer) -> bool:
    return _discard_path(store, layer.path)


def _discard_path(store: Store, path: str) -> bool:
    if _in_use(path):
        return False
    store.discard(path)
    return True
