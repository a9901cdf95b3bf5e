"""Building a graph with several workers: threads that take what is ready, do it, and tell the schedule what came of it.

What a worker does with a build is not known here: `work` is given the build and its share of the machine and answers
with an outcome. The time of a worker is spent waiting for containers, so Python's lock between threads costs nothing.
"""

from __future__ import annotations

import threading

from obuild.cancel import Cancel
from obuild.errors import Cancelled, StoreError
from obuild.runs.outcome import DependencyFailed
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from obuild.runs.outcome import Outcome
    from obuild.runs.schedule import Schedule

    Work: TypeAlias = Callable[[str, "Share", Cancel], Outcome]

__all__ = ["Halt", "Listener", "Machine", "Share", "execute"]


@value
class Share:
    """What one build may use: so many `jobs` at once, and so many bytes of memory (None: all there is)."""

    jobs: int = 1
    memory: int | None = None


@value
class Machine:
    """What all builds together may use: `workers` builds at a time, `cores`, bytes of memory (None: all there is)."""

    workers: int = 1
    cores: int = 1
    memory: int | None = None

    def share(self, beside: int) -> Share:
        """The share of a build that begins while `beside` others run or could: when there are few, each has more."""
        parts = max(1, min(self.workers, beside + 1))
        memory = None if self.memory is None else self.memory // self.workers
        return Share(-(-self.cores // parts), memory)


class Halt(StoreError):
    """Raised by `work`: no other build can be done either; `outcome` is what came of the one that found out."""

    def __init__(self, message: str, outcome: Outcome, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.outcome = outcome


class Listener:
    """Hears what happens to builds, from any thread but never from two at once. This one does nothing."""

    def started(self, key: str, share: Share) -> None:
        """A build begins."""

    def ended(self, key: str, outcome: Outcome) -> None:
        """A build has ended, or can not be built because of another one that just did."""


PATIENCE = 0.2
"""Seconds after which the main thread looks up from waiting, which a signal just before it began does not end."""


def execute(
    schedule: Schedule, work: Work, machine: Machine, *, listener: Listener | None = None, cancel: Cancel | None = None
) -> dict[str, Outcome]:
    """Build what the schedule has; the outcomes of all that was tried or given up, in the order they ended.

    Raises `Cancelled` when `cancel` is set, and the first exception that `work` raises: both only after all running
    builds have ended, which are cancelled first. What has ended until then, the listener has heard.
    """
    team = _Team(schedule, work, machine, listener or Listener(), (Cancel() if cancel is None else cancel).child())
    count = max(1, min(machine.workers, schedule.left))
    threads = [threading.Thread(target=team.run, name=f"worker {number}", daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(PATIENCE)
    if team.error is not None:
        raise team.error
    return team.outcomes


class _Team:
    """The workers of one execution and what they share; everything is done under one lock but the work itself."""

    def __init__(self, schedule: Schedule, work: Work, machine: Machine, listener: Listener, cancel: Cancel) -> None:
        self._schedule, self._work, self._machine, self._listener = schedule, work, machine, listener
        self._cancel = cancel
        self._changed = threading.Condition()
        self.outcomes: dict[str, Outcome] = {}
        self.error: BaseException | None = None

    def run(self) -> None:
        """Take builds until there are none, or one of the workers has given up."""
        while True:
            with self._changed:
                taken = self._next()
                if taken is None:
                    return
            key, share = taken
            try:
                self._cancel.check()
                outcome = self._work(key, share, self._cancel)
                with self._changed:
                    self._end(key, outcome)
            except BaseException as error:  # noqa: BLE001 (it is raised where `execute` was called)
                with self._changed:
                    self._give_up(error)
                    if isinstance(error, Halt):
                        self._end(key, error.outcome)
                return

    def _next(self) -> tuple[str, Share] | None:
        schedule = self._schedule
        while self.error is None and not schedule.over:
            key = schedule.take()
            if key is not None:
                share = self._machine.share(len(schedule.running) - 1 + schedule.ready)
                self._listener.started(key, share)
                return key, share
            self._changed.wait()
        self._changed.notify_all()
        return None

    def _end(self, key: str, outcome: Outcome) -> None:
        """Tell what came of a build; of several ends of builds each is told as a whole."""
        self._tell(key, outcome)
        if outcome.word == "success":
            self._schedule.succeed(key)
        else:
            for lost in self._schedule.fail(key):
                package = self._schedule.graph.builds[lost].package
                self._tell(lost, DependencyFailed(package, lost, outcome.package, key))
        self._changed.notify_all()

    def _tell(self, key: str, outcome: Outcome) -> None:
        self.outcomes[key] = outcome
        self._listener.ended(key, outcome)

    def _give_up(self, error: BaseException) -> None:
        """End all workers. What was cancelled because of an error says less than the error itself."""
        if self.error is None or (isinstance(self.error, Cancelled) and not isinstance(error, Cancelled)):
            self.error = error
        self._cancel.set("another build could not be done")
        self._changed.notify_all()
