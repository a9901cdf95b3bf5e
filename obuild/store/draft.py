"""A layer being written: waited for, begun, published in one rename, or thrown away."""

from __future__ import annotations

import errno
import json
import os
import time

from obuild.disk import remove_tree
from obuild.errors import Cancelled, StepFailed, StoreError
from obuild.store import boot
from obuild.store.layer import Layer, escape, layer_path
from obuild.store.scratch import Scratch, kill_container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

    from obuild.cancel import Cancel
    from obuild.store.hold import Hold
    from obuild.store.store import Store

__all__ = ["Draft"]

_KEPT = frozenset(("layer.json", "build.log", "env.json", "fs"))
"""What a finished layer consists of; all else in a draft's directory is the sandbox's and goes with it."""

_LONGEST_PAUSE = 0.02
"""Seconds between two looks at a layer that somebody else is making."""


class Draft:
    """What `Store.new` gives to its `with` block.

    `layer` is the finished layer: inside the block only when somebody else has made it (then there is nothing to do),
    after it always. `root` is the writable root file system, `path` the draft's own directory, which may hold a
    `container` file (see `scratch`), `log` the path of its build log. `meta` is merged into `layer.json`; `env` is
    kept for `Layer.env`.
    """

    def __init__(
        self,
        store: Store,
        id: str,
        parents: tuple[str, ...],
        *,
        keep_failed: bool,
        follow: Callable[[bytes], None] | None,
        cancel: Cancel | None,
        terms: str = "",
    ) -> None:
        self.id, self.parents = id, parents
        self.layer: Layer | None = None
        self._root = ""
        self.path = f"{store.path}/tmp/{escape(id)}"
        self.meta: dict[str, Any] = {}
        self.env: tuple[tuple[str, str], ...] = ()
        self._store, self._keep_failed, self._follow, self._cancel = store, keep_failed, follow, cancel
        self._target = layer_path(store.path, id)
        self._scratch: Scratch | None = None
        self._holds: list[Hold] = []
        self._log = -1
        self._settled: Layer | None = None
        self._terms = terms
        self._before: int | None = None
        """The inode of the failed tree that was there when waiting began, 0 for none."""
        self._kept: frozenset[str] = _KEPT

    @property
    def made(self) -> bool:
        """Whether the layer was, or is going to be, made here and not found."""
        return self._scratch is not None and self._settled is None

    @property
    def root(self) -> str:
        """The writable root file system. A finished layer has none, and "" would be the host's."""
        if not self._root:
            raise StoreError(f'layer "{self.id}" is not being written')
        return self._root

    @property
    def log(self) -> str:
        """The path of the build log, of the finished layer once there is one."""
        return f"{self.layer.path if self.layer else self.path}/build.log"

    def settle(self, id: str) -> bool:
        """The layer turns out to be called `id`: it was begun before all that it is made of was known.

        Whether there is one already, which is then kept as it is: nothing more has to be written. Whoever makes `id`
        meanwhile is not waited for; the first of the two to finish is kept.
        """
        self.id, self._target = id, layer_path(self._store.path, id)
        found = self._store.get(id)
        if found:
            try:
                self._holds.append(self._store.hold(found))  # from now on it can not be pruned
            except StoreError:
                return False
            self._settled = found
        return found is not None

    def write(self, data: bytes) -> None:
        """Append to the build log; whoever follows it sees it at once."""
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._log, view) :]
        except OSError as error:
            raise self._store.explain(error, "can not write the build log") from None

    def __enter__(self) -> Self:
        tail = _Tail(f"{self.path}/build.log", self._follow)
        try:
            self._scratch = self._claim(tail)
            self.layer = self._found()
            if self.layer:
                tail.end(self.layer.log)
                self._end()
            else:
                self._raise_failure(tail)
                self._begin()
        except OSError as error:
            self._end()
            raise self._store.explain(error, f'can not begin layer "{self.id}"') from error
        except BaseException:
            self._end()
            raise
        finally:
            tail.close()
        return self

    def _found(self) -> Layer | None:
        """What somebody else has finished."""
        return self._store.get(self.id)

    def _raise_failure(self, tail: _Tail) -> None:
        """Fail as the one that was waited for has failed, if it was made in the way that is wanted here."""
        if self._before is None or not self._terms or _inode(self._failed) in (0, self._before):
            return
        failed = Layer(self.id, self._failed)
        try:
            meta = failed.meta()
        except StoreError:
            return  # pruned meanwhile
        if meta.get("terms") == self._terms and isinstance(meta.get("status"), int):
            tail.end(failed.log)
            said, hint = str(meta.get("said", "")), str(meta.get("hint", ""))
            raise StepFailed(said, id=self.id, status=meta["status"], log=failed.log, hint=hint)

    def _begin(self) -> None:
        for parent in self.parents:
            self._holds.append(self._store.hold(parent))
        boot.keep_synced(self._store.path)
        self._log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._root = self._store.backend.prepare(self.path, self._store.lowers(self.parents))

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if self._scratch is None:
            return
        try:
            if error is None:
                self._publish()
            elif self._keep_failed and isinstance(error, Exception) and self._worth_keeping(error):
                self._keep(error)
        except OSError as problem:
            if error is None:
                raise self._store.explain(problem, f'can not finish layer "{self.id}"') from problem
        finally:
            self._root = ""
            self._end()

    def _publish(self) -> None:
        if self._settled:
            self.layer = self._settled
            return
        self._finish(self.meta)
        try:
            self._move(self._target)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise  # otherwise somebody put it there without asking for the lock: theirs is as good
        self.layer = Layer(self.id, self._target)

    def _worth_keeping(self, error: Exception) -> bool:
        """Not what was cancelled, and not what has filled the disk: the next build would have no room."""
        room = os.statvfs(self._store.path)
        full = room.f_bavail * 100 < room.f_blocks
        return not full and not isinstance(error, Cancelled | StoreError)

    def _keep(self, error: Exception) -> None:
        """Keep the tree of a failed step in `failed/`, in the place of an earlier one."""
        target = self._failed
        facts = {"error": str(error), "status": getattr(error, "status", None)}
        if self._terms and isinstance(error, StepFailed):
            facts |= {"terms": self._terms, "said": error.said, "hint": error.hint}
        self._finish(self.meta | facts)
        if os.path.exists(target):
            self._store.discard(target)
        self._move(target)
        if isinstance(error, StepFailed) and error.log == self.log:
            error.log = f"{target}/build.log"

    def _finish(self, meta: dict[str, Any]) -> None:
        """Make the directory what a finished layer is; only the rename is left to do."""
        os.close(self._log)
        self._log = -1
        size = self._store.backend.seal(self.path)
        if self.env:
            _write(f"{self.path}/env.json", [list(pair) for pair in self.env])
        facts = {"id": self.id, "parents": self.parents, "created": round(time.time(), 3)}
        sizes = {"entries": size.entries, "length": size.length, "size": size.blocks}
        _write(f"{self.path}/layer.json", facts | sizes | meta)
        for name in os.listdir(self.path):
            if name not in self._kept:
                remove_tree(f"{self.path}/{name}")

    @property
    def _failed(self) -> str:
        return f"{self._store.path}/failed/{escape(self.id)}"

    def _move(self, target: str) -> None:
        try:
            os.rename(self.path, target)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(target), exist_ok=True)  # the first layer of a platform
            os.rename(self.path, target)

    def _end(self) -> None:
        """Let go of everything; what is still in `tmp/` is removed."""
        if self._log >= 0:
            os.close(self._log)
            self._log = -1
        scratch, self._scratch = self._scratch, None
        try:
            if scratch and scratch.owned():
                self._store.backend.drop(self.path)
        except OSError:
            pass  # it stays garbage, which the next start removes
        finally:
            if scratch:
                scratch.release()
            for hold in self._holds:
                hold.release()

    def _claim(self, tail: _Tail) -> Scratch:
        """Wait until the draft's directory is ours, and what a dead process left in it is gone."""
        pause = 0.001
        while True:
            scratch = Scratch.claim(self.path)
            if scratch and scratch.new:
                return scratch
            if scratch:
                kill_container(self.path)
                self._store.backend.drop(self.path)
                scratch.release()
                continue
            if self._before is None:
                self._before = _inode(self._failed)
            tail.look()
            if self._cancel:
                self._cancel.wait(pause)
                self._cancel.check()
            else:
                time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)


class _Tail:
    """The log of a layer that somebody else is making, given to `follow` as it grows."""

    def __init__(self, path: str, follow: Callable[[bytes], None] | None) -> None:
        self._path, self._follow, self._fd = path, follow, -1

    def look(self) -> None:
        """Give what has come since the last look; of another attempt's log when the one before has failed."""
        self._open(self._path)
        self._drain()

    def end(self, path: str) -> None:
        """Give the rest of the finished layer's log, all of it when there was no time for a look."""
        self._drain()
        self._open(path)
        self._drain()

    def _open(self, path: str) -> None:
        if not self._follow:
            return
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # not begun, or renamed: the open descriptor still reads it
        if self._fd >= 0 and os.path.sameopenfile(fd, self._fd):
            os.close(fd)
            return
        self._drain()
        self.close()
        self._fd = fd

    def _drain(self) -> None:
        while self._fd >= 0 and self._follow and (data := os.read(self._fd, 1 << 16)):
            self._follow(data)

    def close(self) -> None:
        """No more is wanted."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def _inode(path: str) -> int:
    try:
        return os.stat(path, follow_symlinks=False).st_ino
    except FileNotFoundError:
        return 0


def _write(path: str, content: object) -> None:
    """Write a small JSON file in one call; nobody can see it before its directory is renamed."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        data = json.dumps(content).encode() + b"\n"
        if os.write(fd, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    finally:
        os.close(fd)
