"""Trust across power cuts: what was finished after the last sync before one is thrown away and built again.

Nothing is synced when a layer is finished: that costs 1 to 30 ms for a tiny one and 0.3 to 2 s for 500 MB. Instead the
file `boot` says in which boot of the machine the store was last used, and up to when its layers are surely on the
disk. As long as the machine is up, memory tells the truth. After a new boot, what is younger than that is not trusted.
"""

from __future__ import annotations

import os
import time

from obuild import kernel
from obuild.disk import Lock, write_atomic
from obuild.store.layer import RESERVED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from obuild.store.store import Store

__all__ = ["check", "keep_synced", "start", "sync"]

_PERIOD = 30
"""Seconds of work that a power cut may cost."""

_synced: dict[str, float] = {}


def start(path: str) -> None:
    """Begin to trust the new, empty store at `path`."""
    write_atomic(f"{path}/boot", f"{kernel.boot_id()} {time.time_ns()}\n".encode())


def check(store: Store) -> tuple[str, ...]:
    """After a new boot, remove what may not have reached the disk before; its paths inside the store."""
    if _read(store.path)[0] == kernel.boot_id():
        return ()
    with Lock.take(f"{store.path}/store.json"):
        boot, synced = _read(store.path)
        if boot == kernel.boot_id():
            return ()
        suspects = [path for path in _made(store.path) if os.stat(path, follow_symlinks=False).st_mtime_ns > synced]
        for path in suspects:
            store.discard(path)
        sync(store.path)
    return tuple(os.path.relpath(path, store.path) for path in suspects)


def sync(path: str) -> None:
    """Write the store to the disk; what was finished before the call is trusted from now on."""
    now = time.time_ns()
    kernel.sync(path)
    write_atomic(f"{path}/boot", f"{kernel.boot_id()} {now}\n".encode())


def keep_synced(path: str) -> None:
    """Sync in the background when the last time is some while ago; called where a step begins, which takes longer."""
    now = time.time()
    if now - _synced.get(path, 0.0) < _PERIOD:
        return
    last = _read(path)[1] / 1e9
    _synced[path] = now if now - last >= _PERIOD else last
    if now - last >= _PERIOD:
        import _thread

        _thread.start_new_thread(_sync_quietly, (path,))


def _sync_quietly(path: str) -> None:
    try:
        sync(path)
    except OSError:
        pass  # a full disk or a store that is gone is met, and named, by the step itself


def _read(path: str) -> tuple[str, int]:
    """The boot that the store was last used in, and the time, in nanoseconds, up to which it is on the disk."""
    try:
        with open(f"{path}/boot", encoding="ascii") as file:
            boot, synced = file.read().split()
            return boot, int(synced)
    except (FileNotFoundError, ValueError):
        return "", 0  # lost in a power cut itself: nothing is trusted


def _made(path: str) -> Iterator[str]:
    """The directories of everything that was finished: layers, failed trees, what is derived from them, caches."""
    kept = {"steps", "failed", "flat", "cache"}
    for folder in os.listdir(path):
        if (folder in kept or folder not in RESERVED) and os.path.isdir(f"{path}/{folder}"):
            yield from [entry.path for entry in os.scandir(f"{path}/{folder}") if entry.is_dir(follow_symlinks=False)]
