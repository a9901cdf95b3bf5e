"""Sharing work within a process: whoever asks for an id that is being made joins, and hears its log from the start.

A flight ends early only when the last one who wanted it has given up. Between processes the store's locks do the same.
"""

from __future__ import annotations

import os
import select
import threading
from contextlib import contextmanager

from obuild.cancel import Cancel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Listener = Callable[[bytes], None]

__all__ = ["Flight", "Flights", "Slots"]


class Flight:
    """One piece of work in its own thread: `cancel` is set when nobody wants it any more."""

    def __init__(self, work: Callable[[Flight], Any]) -> None:
        self.cancel = Cancel()
        self.users = 0
        self._work = work
        self._done = Cancel()
        self._lock = threading.Lock()
        self._listeners: list[Listener] = []
        self._followed: list[bytes] = []
        self._log = -1
        self._result: Any = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Do the work; the result or the error is for everybody who waits."""
        try:
            self._result = self._work(self)
        except BaseException as error:  # noqa: BLE001 (it is raised in every waiter)
            self._error = error
        finally:
            self._done.set("done")

    def close(self) -> None:
        """Forget the log; nobody can join any more."""
        if self._log >= 0:
            os.close(self._log)
            self._log = -1

    def logged(self, path: str) -> None:
        """From now on the log is also in the file `path`, where a late listener finds what it missed."""
        # Held open, because the file moves when its layer is published.
        self._log = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def write(self, data: bytes, keep: Callable[[bytes], None]) -> None:
        """Give a piece of log to `keep`, which appends it to the file, and to everybody who listens."""
        with self._lock:
            keep(data)
            for listener in self._listeners:
                listener(data)

    def follow(self, data: bytes) -> None:
        """Pass on a piece of the log of another process, which has the file."""
        self.write(data, self._followed.append)

    def attach(self, listener: Listener) -> None:
        """Let `listener` hear the log: first what it missed, then the rest as it comes."""
        with self._lock:
            for piece in self._followed + _pieces(self._log):
                listener(piece)
            self._listeners.append(listener)

    def detach(self, listener: Listener) -> None:
        """No longer call `listener`."""
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)

    def wait(self, cancel: Cancel | None) -> None:
        """Wait until it is over or `cancel` is set."""
        poll = select.poll()
        poll.register(self._done.fd, select.POLLIN)
        if cancel is not None:
            poll.register(cancel.fd, select.POLLIN)
        poll.poll()

    def result(self) -> Any:
        """What the work returned; raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._result


class Flights:
    """The flights of one process, by id."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, Flight] = {}

    def join(
        self, id: str, work: Callable[[Flight], Any], *, listener: Listener, note: Callable[[str], None], cancel: Cancel
    ) -> Any:
        """The result of `work`, or of the same id's work that is already under way.

        Raises `Cancelled` once `cancel` is set: when nobody else waits the work is cancelled too and has ended.
        """
        flight = self._board(id, work, note, cancel)
        try:
            flight.attach(listener)
            flight.wait(cancel)
        finally:
            self._leave(flight, listener, cancel.reason)
        cancel.check()
        return flight.result()

    def _board(self, id: str, work: Callable[[Flight], Any], note: Callable[[str], None], cancel: Cancel) -> Flight:
        """The running flight of `id`, or a new one; one that is being cancelled is waited for first."""
        while True:
            cancel.check()
            with self._lock:
                flight = self._running.get(id)
                if flight is None:
                    flight = self._running[id] = Flight(lambda flight: self._land(id, work, flight))
                    threading.Thread(target=flight.run, name=f"step {id[:12]}", daemon=True).start()
                if not flight.cancel:
                    flight.users += 1
                    return flight
            note("Waiting for previous build to finish cancelling")
            flight.wait(cancel)

    def _leave(self, flight: Flight, listener: Listener, reason: str) -> None:
        """Wait no longer; the last one to leave ends what is not over yet, and sees to its end."""
        flight.detach(listener)
        with self._lock:
            flight.users -= 1
            last = not flight.users
            if last:
                flight.cancel.set(reason)
        if last:
            flight.wait(None)
            flight.close()

    def _land(self, id: str, work: Callable[[Flight], Any], flight: Flight) -> Any:
        # Removed before waiters wake: a later request starts anew and never sees an old failure.
        try:
            return work(flight)
        finally:
            with self._lock:
                del self._running[id]


class Slots:
    """At most `count` at once; waiting for a turn ends when nobody wants it any more."""

    def __init__(self, count: int) -> None:
        self._free = threading.Semaphore(count)

    @contextmanager
    def take(self, cancel: Cancel) -> Iterator[None]:
        """Hold one slot for the time of the block. Raises `Cancelled`."""
        while not self._free.acquire(timeout=0.2):
            cancel.check()
        try:
            yield
        finally:
            self._free.release()


def _pieces(fd: int) -> list[bytes]:
    """What is in a file, from its start."""
    pieces: list[bytes] = []
    while fd >= 0 and (piece := os.pread(fd, 1 << 16, sum(map(len, pieces)))):
        pieces.append(piece)
    return pieces
