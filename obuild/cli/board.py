"""A batch as it is shown: a line for each build that ends, and on a terminal a moving foot of what is running."""

from __future__ import annotations

import sys
import threading
import time

from obuild.cli.show import show
from obuild.runs.execute import Listener

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rich.table import Table

    from obuild.cancel import Cancel
    from obuild.runs.execute import Share
    from obuild.runs.outcome import Outcome
    from obuild.runs.schedule import Schedule

__all__ = ["Board", "JsonBoard", "LiveBoard", "printable"]

MARKS = {"success": "ok", "failure": "FAIL", "dependency_failed": "-"}
COLORS = {"success": b"32", "failure": b"31;1", "dependency_failed": b"33"}


class Board(Listener):
    """Plain lines: `[ 12/60] ok    csexp.1.5.2  0.8 s`. Builds that can not be tried are counted, not listed."""

    def __init__(
        self, schedule: Schedule, names: Mapping[str, str], *, color: bool, cancel: Cancel | None = None
    ) -> None:
        self._names, self._color, self._cancel = names, color, cancel
        self._total, self._done = schedule.left, 0
        self._width = min(40, max((len(names[key]) for key in schedule.graph.builds), default=0))
        self._blocked: dict[str, int] = {}

    def ended(self, key: str, outcome: Outcome) -> None:
        self._done += 1
        if outcome.word == "dependency_failed":
            return
        digits = len(str(self._total))
        mark = f"{MARKS[outcome.word]:4}"
        if self._color:
            mark = f"\x1b[{COLORS[outcome.word].decode()}m{mark}\x1b[0m"
        text = "" if outcome.cached else f"{outcome.seconds:6.1f} s"
        line = f"[{self._done:{digits}}/{self._total}] {mark}  {self._names[key]:{self._width}}  {text}"
        said = outcome.error or getattr(outcome, "conflict", "")
        if said:
            line += f"  {printable(said)}"
        self.line(line.rstrip())

    def line(self, text: str) -> None:
        """Show a line."""
        show(text.encode("utf-8", "replace") + b"\n", self._cancel)

    def say(self, key: str, text: str) -> None:
        """What is being done for a build."""

    def close(self) -> None:
        """Nothing more will be shown."""


class JsonBoard(Board):
    """One JSON object a line as builds start and end."""

    def started(self, key: str, share: Share) -> None:
        self._event("started", package=self._names[key], key=key, jobs=share.jobs)

    def ended(self, key: str, outcome: Outcome) -> None:
        from obuild.runs.outcome import format_outcome

        self._event("ended", **format_outcome(outcome))

    def _event(self, event: str, **facts: Any) -> None:
        import json

        self.line(json.dumps({"event": event, **facts}))


class LiveBoard(Board):
    """The same lines above a foot: a bar, what is running, for how long, and what it is doing."""

    def __init__(
        self, schedule: Schedule, names: Mapping[str, str], *, color: bool, cancel: Cancel | None = None
    ) -> None:
        super().__init__(schedule, names, color=color, cancel=cancel)
        self._schedule = schedule
        self._running: dict[str, tuple[float, str]] = {}
        self._failed = self._lost = 0
        self._start = time.monotonic()
        self._foot: Any = None
        self._lock = threading.RLock()
        if self._total:
            from rich.console import Console
            from rich.live import Live

            self._foot = Live(console=Console(), get_renderable=self._render, refresh_per_second=8, transient=True)
            self._foot.start()

    def started(self, key: str, share: Share) -> None:
        self._running[key] = (time.monotonic(), "")

    def say(self, key: str, text: str) -> None:
        found = self._running.get(key)
        if found:
            self._running[key] = (found[0], text)

    def ended(self, key: str, outcome: Outcome) -> None:
        self._running.pop(key, None)
        self._failed += outcome.word == "failure"
        self._lost += outcome.word == "dependency_failed"
        super().ended(key, outcome)

    def line(self, text: str) -> None:
        with self._lock:
            if self._foot is None:
                super().line(text)
                return
            from rich.text import Text

            self._foot.console.print(Text.from_ansi(text), soft_wrap=True, highlight=False)

    def close(self) -> None:
        with self._lock:
            foot, self._foot = self._foot, None
        if foot:
            foot.stop()

    def _render(self) -> Table:
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(width=1)
        table.add_column(no_wrap=True)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        table.add_column(justify="right")
        now = time.monotonic()
        for key, (start, text) in tuple(self._running.items()):
            row = (Text(self._names[key], style="bold"), Text(printable(text), style="dim"))
            table.add_row(Spinner("dots"), *row, Text(f"{now - start:.1f} s", style="dim"))
        counts = f"{self._done} of {self._total}, {self._schedule.ready} ready"
        counts += f", {self._failed} failed" * bool(self._failed) + f", {self._lost} lost by that" * bool(self._lost)
        filled = 30 * self._done // max(1, self._total)
        bar = Text("█" * filled, style="green") + Text("░" * (30 - filled), style="dim")
        table.add_row("", bar, Text(counts), Text(f"{now - self._start:.0f} s", style="dim"))
        return table


def printable(text: str) -> str:
    """One line without what a terminal would take for commands: errors are quoted from anybody's logs."""
    return "".join(char if char.isprintable() else " " for char in " ".join(text.split()))


def is_terminal() -> bool:
    """Whether a moving foot can be shown."""
    return sys.stdout.isatty()
