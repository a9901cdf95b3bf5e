"""Keeping layers from being deleted while they are in use: one lock on each in this process, however many want it.

A package stands on hundreds of layers, and several are built at once on the same ones: a descriptor for each use would
be more than a process may have.
"""

from __future__ import annotations

import _thread
import os
import time

from obuild.disk import Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Hold", "Holds"]


class Hold:
    """One use of a layer; `release` ends it, and so does the end of a `with` block, or of the process."""

    __slots__ = ("_release",)

    def __init__(self, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """Let it go; safe to call again."""
        release, self._release = self._release, None
        if release:
            release()

    def __enter__(self) -> Hold:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __del__(self) -> None:
        self.release()


class _Shared:
    __slots__ = ("lock", "mark", "users")

    def __init__(self, lock: Lock, mark: tuple[int, int]) -> None:
        self.lock, self.mark, self.users = lock, mark, 0


class Holds:
    """The layers that this process holds, by the paths of their directories."""

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()
        self._known: dict[str, _Shared] = {}

    def attempt(self, path: str) -> Hold | None:
        """Hold the layer at `path`; None while somebody deletes or publishes it. Raises `FileNotFoundError`.

        Who is the first in this process to hold it stamps it as used: after that, so that `prune` sees it has been.
        """
        with self._lock:
            shared = self._known.get(path)
            if shared is None or shared.mark != _mark(os.stat(path)):  # another has its name, and that its own users
                lock = Lock.attempt(path, shared=True)
                if lock is None:
                    return None
                shared = self._known[path] = _Shared(lock, _mark(os.fstat(lock.fd)))
                _stamp(path)
            shared.users += 1
        return Hold(lambda: self._leave(path, shared))

    def _leave(self, path: str, shared: _Shared) -> None:
        with self._lock:
            shared.users -= 1
            if not shared.users:
                shared.lock.release()
                if self._known.get(path) is shared:
                    del self._known[path]


def _mark(info: os.stat_result) -> tuple[int, int]:
    return info.st_dev, info.st_ino


def _stamp(path: str) -> None:
    now = time.time_ns()
    try:
        os.utime(f"{path}/layer.json", ns=(now, now))
    except OSError:
        pass  # a store that may only be read
