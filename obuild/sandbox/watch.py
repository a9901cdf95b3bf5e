"""Waiting for a container while passing on what it writes, until it ends or a limit is broken."""

from __future__ import annotations

import os
import select
import time

from obuild.errors import Cancelled, LimitExceeded, ObuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from obuild.cancel import Cancel
    from obuild.sandbox import Limits

__all__ = ["Watch"]

_PIECE = 1 << 16
_HELD = 4096
"""A runtime's or the reaper's error is shorter than this; longer output is the step's."""

_KILL_AGAIN = 0.02
"""Seconds: a container that is just being set up may not have the process yet that has to be killed."""


class Watch:
    """One pipe for everything that a container writes, read in the calling thread.

    What comes before `started` says that the container's own program runs may be an error of the runtime, and is held
    back until that is known; so is a first piece that begins with `suspect`, the reaper's complaint.
    """

    def __init__(
        self,
        log: Callable[[bytes], None],
        limits: Limits,
        cancel: Cancel | None,
        owner: tuple[int, int],
        suspect: bytes,
    ) -> None:
        self._log, self._limits, self._cancel, self._suspect = log, limits, cancel, suspect
        self._reader, self.writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._reader, False)
        # Opening /dev/stderr is opening this pipe again, which its owner may: the step's user.
        os.fchown(self.writer, *owner)
        self._deadline = None if limits.seconds is None else time.monotonic() + limits.seconds
        self.started: Callable[[], bool] = bool
        self.held = b""
        self.error: ObuildError | None = None
        self._passing = False
        self._total = 0

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close_writer()
        os.close(self._reader)
        if kind is None:
            self.release()
            if self.error is not None:
                raise self.error

    def close_writer(self) -> None:
        """Only the container writes from now on."""
        if self.writer >= 0:
            os.close(self.writer)
            self.writer = -1

    def until_end(self, pid: int, kill: Callable[[], None]) -> None:
        """Return when the child `pid` has ended (it is not reaped) and everything written until then is passed on.

        A broken limit or a cancel is left in `error`; then `kill` is called again and again until `pid` ends. An
        exception of the log (a full disk) ends it in the same way and is raised.
        """
        end = os.pidfd_open(pid)
        try:
            try:
                self._follow(end)
            except BaseException:
                self._kill(end, kill)
                raise
            if self.error is not None:
                self._kill(end, kill)
            while self._read():
                pass
        finally:
            os.close(end)

    def release(self) -> None:
        """What was held back is the step's output after all."""
        data, self.held, self._passing = self.held, b"", True
        if data:
            self._log(data)

    def _follow(self, end: int) -> None:
        poll = select.poll()
        for fd in (end, self._reader, *(() if self._cancel is None else (self._cancel.fd,))):
            poll.register(fd, select.POLLIN)
        while self.error is None:
            ready = [fd for fd, _ in poll.poll(self._patience())]
            if self._reader in ready and not self._read():
                poll.unregister(self._reader)
            if end in ready:
                return
            self._check()

    def _patience(self) -> float | None:
        """Milliseconds until the time is up."""
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic()) * 1000 + 1

    def _check(self) -> None:
        if self._cancel:
            self.error = Cancelled(self._cancel.reason)
        elif self._deadline is not None and time.monotonic() >= self._deadline:
            self.error = LimitExceeded(f"time limit: the step took more than {self._limits.seconds:g} seconds")

    @staticmethod
    def _kill(end: int, kill: Callable[[], None]) -> None:
        kill()
        while not select.select([end], [], [], _KILL_AGAIN)[0]:
            kill()

    def _read(self) -> bool:
        """Pass on one piece; False when there is none."""
        try:
            data = os.read(self._reader, _PIECE)
        except BlockingIOError:
            return False
        if data:
            self._take(data)
        return bool(data)

    def _take(self, data: bytes) -> None:
        limit = self._limits.log
        if limit is not None and self._total + len(data) > limit:
            data = data[: limit - self._total]
            self.error = self.error or LimitExceeded(f"log limit: the step wrote more than {limit} bytes")
        self._total += len(data)
        if self._passing:
            self._log(data)
            return
        self.held += data
        if len(self.held) > _HELD or (self.started() and not self.held.startswith(self._suspect)):
            self.release()
