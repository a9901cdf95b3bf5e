"""Directories in `tmp/`: each belongs to the process that holds its lock, and is garbage once nobody does."""

from __future__ import annotations

import os

from obuild.disk import Lock, same_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Scratch", "clean_up", "kill_container"]


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
            scratch = cls.claim(f"{store}/tmp/{kind}-{os.urandom(8).hex()}")
            if scratch:
                return scratch

    @classmethod
    def remains(cls, store: str, path: str) -> Scratch:
        """Take the directory `path` out of the store in one rename, to be removed at leisure."""
        scratch = cls.fresh(store, "gone")
        os.rename(path, f"{scratch.path}/it")
        return scratch

    def owned(self) -> bool:
        """Whether it is still in its place, neither published nor removed."""
        return same_file(self._lock.fd, self.path)

    def release(self) -> None:
        """It is no longer ours: published elsewhere, or removed."""
        self._lock.release()


def kill_container(path: str) -> None:
    """Kill what still runs in the draft `path`: its file `container` says "RUNTIME STATE-ROOT ID"."""
    try:
        with open(f"{path}/container", encoding="utf-8") as file:
            runtime, state, name = file.read().split()
    except (FileNotFoundError, ValueError):
        return  # none was started, or the process died before it could start one
    from obuild import system

    system.run([runtime, "--root", state, "delete", "--force", name], timeout=30, check=False)


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
