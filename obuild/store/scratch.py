"""Directories in `tmp/`: each belongs to the process that holds its lock, and is garbage once nobody does."""

from __future__ import annotations

import _thread
import atexit
import os
import time

from obuild.disk import Lock, remove_tree, same_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Scratch", "Sweeper", "clean_up", "clean_up_containers", "drop_all", "kill_container"]


_HANDS = 4
"""Threads that remove things together; more do not make it quicker."""


class Scratch:
    """A directory in `tmp/` that is ours until `release`, or until the process dies.

    Its mode is 0700: what is built in it may have setuid programs, which only the owner of the store may reach.
    """

    __slots__ = ("_lock", "new", "path")

    def __init__(self, path: str, lock: Lock, *, new: bool) -> None:
        self.path, self._lock = path, lock
        self.new = new
        """Whether it was made just now, and so is empty."""

    @classmethod
    def claim(cls, path: str) -> Scratch | None:
        """Make the directory or take over what a dead process left of it; None when a living one has it."""
        while True:
            new = True
            try:
                os.mkdir(path, 0o700)
            except FileExistsError:
                new = False
            try:
                lock = Lock.attempt(path)
            except FileNotFoundError:
                continue  # published or removed by the one who had it
            return cls(path, lock, new=new) if lock else None

    @classmethod
    def fresh(cls, store: str, kind: str) -> Scratch:
        """A new, empty one; `kind` is the beginning of its name."""
        while True:
            path = f"{store}/tmp/{kind}-{os.urandom(8).hex()}"
            os.mkdir(path, 0o700)
            try:
                return cls(path, Lock.take(path), new=True)  # waiting for `fsck`, which tries the lock of all it finds
            except FileNotFoundError:
                continue  # taken for garbage before it was locked

    def owned(self) -> bool:
        """Whether it is still in its place, neither published nor removed."""
        return same_file(self._lock.fd, self.path)

    def release(self) -> None:
        """It is no longer ours: published elsewhere, or removed."""
        self._lock.release()


class Sweeper:
    """Removes directories while something else goes on.

    rmdir(2) puts its caller to sleep where rename(2) does not, and on a busy machine who sleeps waits for a turn: five
    directories cost a step up to 20 ms. A process that ends in good order waits for it.
    """

    def __init__(self, store: str) -> None:
        self._store = store
        self._lock = _thread.allocate_lock()
        self._scratch: Scratch | None = None
        self._names: list[str] = []
        self._running = 0

    def take(self, path: str) -> None:
        """Take a directory out of its place; it is removed soon."""
        with self._lock:
            if self._scratch is None:
                self._scratch = Scratch.fresh(self._store, "gone")
                atexit.unregister(self.wait)
                atexit.register(self.wait)
                self._running += 1
                _thread.start_new_thread(self._run, (self._scratch,))
            name = f"{self._scratch.path}/{len(self._names)}-{os.urandom(4).hex()}"
            os.rename(path, name)
            self._names.append(name)

    def wait(self) -> None:
        """Wait until nothing is left to remove."""
        while self._running:
            time.sleep(0.0005)

    def _run(self, scratch: Scratch) -> None:
        try:
            while name := self._next():
                remove_tree(name)
            os.rmdir(scratch.path)
        except OSError:
            pass  # it stays garbage, which the next start removes
        finally:
            scratch.release()
            with self._lock:
                self._running -= 1

    def _next(self) -> str:
        with self._lock:
            if self._names:
                return self._names.pop()
            self._scratch = None
            return ""


def drop_all(paths: list[str], drop: Callable[[str], None]) -> None:
    """Drop several directories, a few at a time: one sleeps while another works."""
    waiting, errors = paths[::-1], list[OSError]()

    def work() -> None:
        while waiting:
            try:
                drop(waiting.pop())
            except IndexError:
                return  # somebody else took the last one
            except OSError as error:
                errors.append(error)

    if len(paths) > 2:
        import threading

        threads = [threading.Thread(target=work) for _ in range(_HANDS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    work()
    if errors:
        raise errors[0]


def kill_container(path: str) -> None:
    """Kill what still runs in the draft `path`: its file `container` says "RUNTIME STATE-ROOT ID"."""
    try:
        with open(f"{path}/container", encoding="utf-8") as file:
            runtime, state, name = file.read().split()
    except (FileNotFoundError, ValueError):
        return  # none was started, or the process died before it could start one
    if not os.path.isdir(state):
        return  # it has been removed already
    from obuild import system

    system.run([runtime, "--root", state, "delete", "--force", name], timeout=30, check=False)


def clean_up_containers(store: str) -> list[str]:
    """Kill what still runs for dead processes and remove what is left of it; the paths of what was removed."""
    try:
        names = os.listdir(f"{store}/run")
    except FileNotFoundError:
        return []  # no step has run yet
    if names in ([], ["networks"]):
        return []
    from obuild.sandbox import leftover

    return leftover.clean_up(f"{store}/run")


def clean_up(store: str, drop: Callable[[str], None]) -> list[str]:
    """Remove what dead processes left in `tmp/`, with their containers; the names of what was removed."""
    names = []
    for name in os.listdir(f"{store}/tmp"):
        path = f"{store}/tmp/{name}"
        if not os.path.isdir(path) or os.path.islink(path):
            continue
        scratch = Scratch.claim(path)
        if scratch:
            kill_container(path)
            try:
                drop(path)
                names.append(name)
            except OSError:
                pass  # something is mounted in it, or runs: `fsck` names it
            scratch.release()
    return names
