"""A file that is being filled: `FINAL.part`, which is its own lock, and takes the final name once it is verified.

Whoever opens it holds a flock on it, so one process fills it while others wait, and a file left by a killed process is
gone on with by the next. Only its holder renames or removes it.
"""

from __future__ import annotations

import errno
import os
import stat
import time

from obuild.disk import Lock
from obuild.download.checksum import Hasher
from obuild.errors import FetchError, StoreError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from obuild.cancel import Cancel
    from obuild.download.checksum import Checksum

__all__ = ["Part", "lock_file"]

CHUNK = 1 << 18
PAUSE = 0.05


def lock_file(path: str, *, cancel: Cancel | None = None, waiting: Callable[[], None] | None = None) -> Lock:
    """Lock the file `path`, made when missing. `waiting` hears once that another has it. Raises `Cancelled`."""
    while True:
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        try:
            lock = Lock.attempt(path)
        except FileNotFoundError:
            continue  # it was finished between the two calls
        if lock is not None:
            return lock
        if waiting is not None:
            waiting()
            waiting = None
        if cancel is None:
            time.sleep(PAUSE)
        elif cancel.wait(PAUSE):
            cancel.check()


class Part:
    """The beginning of a file whose whole is to have the `wanted` checksums; used in a `with` block.

    Leaving the block keeps what has arrived, for the next to go on with, unless it was published or dropped.
    """

    def __init__(
        self,
        path: str,
        wanted: Sequence[Checksum],
        *,
        cancel: Cancel | None = None,
        waiting: Callable[[], None] | None = None,
    ) -> None:
        self.path = path
        self.size = 0
        self._wanted, self.cancel = wanted, cancel
        self._hasher = Hasher(wanted)
        self._lock: Lock | None = None
        self._waiting = waiting
        self._fd = -1

    def __enter__(self) -> Part:
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        self._lock = lock_file(self.path, cancel=self.cancel, waiting=self._waiting)
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
        if self._lock is not None:
            self._lock.release()

    def resume(self) -> int:
        """Count what an earlier attempt left, and hash it; its size."""
        self._hasher, self.size = Hasher(self._wanted), 0
        os.lseek(self._fd, 0, os.SEEK_SET)
        while data := os.read(self._fd, CHUNK):
            self._hasher.update(data)
            self.size += len(data)
            if self.cancel is not None:
                self.cancel.check()
        return self.size

    def restart(self) -> None:
        """Forget what has arrived."""
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._hasher, self.size = Hasher(self._wanted), 0

    def write(self, data: bytes) -> None:
        """Add what comes next. Raises `StoreError` when the disk is full, having made room again."""
        if self.cancel is not None:
            self.cancel.check()
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            self.restart()
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                hint = "make room with `obuild prune`, or use a store on a larger disk"
                raise StoreError(f'no space left on the disk of "{self.path}"', hint=hint) from None
            raise StoreError(f'can not write "{self.path}": {error.strerror}') from None
        self._hasher.update(data)
        self.size += len(data)

    def copy(self, path: str) -> None:
        """Take a file of this machine as the whole. Raises `FetchError` when it can not be read."""
        self.restart()
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would wait for a writer
            try:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    raise FetchError(f'"{path}" is not a file')
                while data := os.read(fd, CHUNK):
                    self.write(data)
            finally:
                os.close(fd)
        except OSError as error:
            raise FetchError(f'can not read "{path}": {(error.strerror or str(error)).lower()}') from None

    @property
    def broken(self) -> str:
        """How what has arrived differs from what was promised, "" when it does not."""
        return self._hasher.broken

    @property
    def checksum(self) -> Checksum:
        """The SHA-256 of what has arrived."""
        return self._hasher.sha256

    def check(self, url: str) -> None:
        """Raise `FetchError`, and forget what has arrived, unless it is what was promised."""
        broken = self.broken
        if broken:
            self.restart()
            raise FetchError(f'bad checksum of "{url}": {broken}')

    def publish(self, final: str) -> None:
        """Give the file its final name."""
        os.fchmod(self._fd, 0o644)
        os.makedirs(os.path.dirname(final), exist_ok=True)
        os.rename(self.path, final)

    def drop(self) -> None:
        """Remove the file."""
        os.unlink(self.path)
