"""A build on a terminal: its lines as ever, and below them what is running now and for how long.

rich is imported when the first step really runs: a cached build never waits for it.
"""

from __future__ import annotations

import time

from obuild.cli.show import Plain, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rich.table import Table

    from obuild.cancel import Cancel

__all__ = ["Live"]


class Live(Plain):
    """`Plain` with a moving foot. The foot belongs to the root reporter; branches only add their lines to it."""

    def __init__(self, *, color: bool, cancel: Cancel | None = None, parent: Live | None = None) -> None:
        super().__init__(color=color, cancel=cancel, parent=parent)
        self._running: dict[int, tuple[str, float]] = {}
        self._foot: Any = None
        self._partial = b""

    def started(self, op: str, text: str) -> None:
        root = self._top()
        with self._lock:
            root._running[_key(self)] = (f"{op} {' '.join(text.split())}", time.monotonic())
            root._open()

    def step(self, op: str, id: str, *, cached: bool, status: int, seconds: float) -> None:
        root = self._top()
        with self._lock:
            root._running.pop(_key(self), None)
            if root._foot and not root._running:
                root._shut()

    def close(self) -> None:
        super().close()
        if self._parent is None:
            with self._lock:
                self._shut()

    def _top(self) -> Live:
        assert isinstance(self._root, Live)
        return self._root

    def _open(self) -> None:
        if self._foot is None:
            from rich.console import Console
            from rich.live import Live as Foot

            self._foot = Foot(console=Console(), get_renderable=self._render, refresh_per_second=8, transient=True)
            self._foot.start()

    def _shut(self) -> None:
        foot, self._foot = self._foot, None
        if foot:
            foot.stop()
        if self._partial:
            data, self._partial = self._partial, b""
            write(1, data)

    def _render(self) -> Table:
        from rich.spinner import Spinner
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(width=1)
        table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
        table.add_column(justify="right")
        now = time.monotonic()
        for text, start in tuple(self._running.values()):
            table.add_row(Spinner("dots"), Text(text, style="bold"), Text(f"{now - start:.1f} s", style="dim"))
        return table

    def _show(self, data: bytes) -> None:
        if self._foot is None:
            super()._show(data)
            return
        from rich.text import Text

        *lines, self._partial = (self._partial + data).split(b"\n")
        if lines:
            # All at once: the foot is drawn again after every print, which takes longer than most lines do.
            shown = b"\n".join([line.rstrip(b"\r").rsplit(b"\r", 1)[-1] for line in lines])
            text = Text.from_ansi(shown.decode(errors="replace"))
            self._foot.console.print(text, soft_wrap=True, highlight=False)


def _key(reporter: Live) -> int:
    return id(reporter)
