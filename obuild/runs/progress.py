"""How far a run is: `progress.json` beside its other files, replaced whole, at most twice a second.

The phases are solving, blessings, building, gc, completed, in this order and never back.
"""

from __future__ import annotations

import json
import os
import threading
import time

from obuild.disk import write_atomic
from obuild.value import fields, replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["PHASES", "Meter", "Progress", "delete_progress", "format_progress", "load_progress", "save_progress"]

PHASES = ("solving", "blessings", "building", "gc", "completed")
FILE = "progress.json"


@value
class Progress:
    """What a run has done so far; `targets` is how many packages were asked for, their names are in `plan.json`."""

    run_id: str
    start_time: str
    phase: str = PHASES[0]
    targets: int = 0
    solutions_found: int = 0
    solutions_failed: int = 0
    build_completed: int = 0
    build_total: int = 0
    doc_completed: int = 0
    doc_total: int = 0

    def enter(self, phase: str) -> Progress:
        """In `phase`, unless it lies behind. Raises `ValueError` for an unknown one."""
        return replace(self, phase=phase) if PHASES.index(phase) > PHASES.index(self.phase) else self

    def add(self, **counts: int) -> Progress:
        """With so much more of some counts."""
        return replace(self, **{name: getattr(self, name) + count for name, count in counts.items()})

    def expect(self, *, builds: int | None = None, docs: int | None = None) -> Progress:
        """With these totals; one that is not given stays."""
        builds = self.build_total if builds is None else builds
        return replace(self, build_total=builds, doc_total=self.doc_total if docs is None else docs)


def format_progress(progress: Progress) -> str:
    """The text of `progress.json`."""
    return json.dumps({name: getattr(progress, name) for name in fields(progress)}, indent=2) + "\n"


def save_progress(folder: str, progress: Progress) -> None:
    """Replace the file in a run's directory. Raises `OSError`."""
    write_atomic(f"{folder}/{FILE}", format_progress(progress).encode())


def load_progress(folder: str) -> Progress | None:
    """The progress of a run; None when there is no file, or it is none."""
    try:
        with open(f"{folder}/{FILE}", "rb") as file:
            record = json.loads(file.read())
    except (OSError, ValueError, RecursionError):
        return None
    return _parse(record) if isinstance(record, dict) else None


def _parse(record: dict[str, Any]) -> Progress | None:
    if isinstance(record.get("targets"), list):  # some writers list all names here
        record["targets"] = len(record["targets"])
    known = {name: record[name] for name in fields(Progress) if name in record}
    texts = [known.pop(name, None) for name in ("run_id", "start_time", "phase")]
    if not all(isinstance(text, str) for text in texts) or texts[2] not in PHASES:
        return None
    if not all(type(count) is int and count >= 0 for count in known.values()):
        return None
    return Progress(*texts, **known)


def delete_progress(folder: str) -> None:
    """Remove the file; nothing happens when there is none or it can not be."""
    try:
        os.unlink(f"{folder}/{FILE}")
    except OSError:
        pass


_PAUSE = 0.5
"""Seconds between two writes."""


class Meter:
    """The progress of a run that is going on, told by any thread. What could not be written is not worth an error.

    A change within half a second of the last write is written when that has passed, a change of phase at once.
    """

    def __init__(self, folder: str, progress: Progress, *, pause: float = _PAUSE) -> None:
        self._folder, self._progress, self._pause = folder, progress, pause
        self._lock = threading.Lock()
        self._written = 0.0
        self._timer: threading.Timer | None = None
        self.writes = 0
        self.problem = ""
        self._change(lambda now: now, at_once=True)

    @property
    def progress(self) -> Progress:
        """The state now."""
        return self._progress

    def enter(self, phase: str) -> None:
        """A phase begins."""
        self._change(lambda now: now.enter(phase), at_once=True)

    def add(self, **counts: int) -> None:
        """So much more is done: `meter.add(build_completed=1)`."""
        self._change(lambda now: now.add(**counts))

    def expect(self, *, builds: int | None = None, docs: int | None = None) -> None:
        """So much is to be done."""
        self._change(lambda now: now.expect(builds=builds, docs=docs))

    def close(self) -> None:
        """Write the last state."""
        self._change(lambda now: now, at_once=True)

    def _change(self, change: Callable[[Progress], Progress], *, at_once: bool = False) -> None:
        with self._lock:
            self._progress = change(self._progress)
            left = self._written + self._pause - time.monotonic()
            if at_once or left <= 0:
                self._write()
            elif self._timer is None:
                self._timer = threading.Timer(left, self._late)
                self._timer.daemon = True
                self._timer.start()

    def _late(self) -> None:
        with self._lock:
            if self._timer is threading.current_thread():
                self._write()

    def _write(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._written = time.monotonic()
        try:
            save_progress(self._folder, self._progress)
            self.writes += 1
        except OSError as error:
            self.problem = f"{FILE}: {error.strerror}"
