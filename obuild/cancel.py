"""A token that says "give up", which a thread can wait for together with its pipes and processes.

It is an eventfd, so `poll` wakes at once when somebody cancels, and nothing of `threading` is needed to have one.
"""

from __future__ import annotations

import os
import select
from _weakref import ref

from obuild.errors import Cancelled

__all__ = ["Cancel"]


class _Event:
    """An eventfd that is closed when nobody has it any more."""

    __slots__ = ("fd",)

    def __init__(self) -> None:
        self.fd = -1
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def __del__(self) -> None:
        if self.fd >= 0:  # none when there were too many open files already
            os.close(self.fd)


class Cancel:
    """Set once, never cleared; cancelling a token also cancels its children."""

    def __init__(self) -> None:
        # Not closed by a `__del__` of this class: a weak reference still gives an object whose `__del__` is running.
        self._event = _Event()
        self.fd = self._event.fd
        self.reason = "cancelled"
        self._children: list[ref[Cancel]] = []
        self._set = False

    def __bool__(self) -> bool:
        return self._set

    def set(self, reason: str = "cancelled") -> None:
        """Give up, for `reason`; safe in a signal handler and to call again."""
        if not self._set:
            self.reason, self._set = reason, True
            os.eventfd_write(self.fd, 1)
        for child in tuple(self._children):
            token = child()
            if token is not None:
                token.set(reason)

    def child(self) -> Cancel:
        """A token that is cancelled with this one, or alone; it is forgotten when nobody else has it."""
        token = Cancel()
        self._children.append(ref(token, self._children.remove))
        if self._set:
            token.set(self.reason)
        return token

    def check(self) -> None:
        """Raise `Cancelled` when set."""
        if self._set:
            raise Cancelled(self.reason)

    def wait(self, seconds: float) -> bool:
        """Sleep for `seconds`, less when cancelled; whether it is set."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        poll.poll(max(0, int(seconds * 1000)))
        return self._set
