"""How a build looks: plain lines as in OBuilder's logs, or one JSON object a line."""

from __future__ import annotations

import codecs
import os

from obuild.log import Reporter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from obuild.cancel import Cancel

__all__ = ["NOBODY", "Json", "Plain", "show", "terminal_env", "write"]

HEADING, NOTE, END = b"\x1b[94m", b"\x1b[33m", b"\x1b[0m"


def write(fd: int, data: bytes) -> None:
    """Write all of `data`."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def terminal_env() -> tuple[tuple[str, str], ...]:
    """What a program inside has to know of the terminal that it is given; nothing without one."""
    kind = os.environ.get("TERM", "")
    return (("TERM", kind),) if kind and os.isatty(0) else ()


_RECENT = 8192
"""Bytes of output that are remembered, more than the last lines of a log have."""

NOBODY = "nobody reads the output any more"


def show(data: bytes, cancel: Cancel | None) -> None:
    """Write to standard output; when whoever read it has gone, cancel, and write nowhere from then on."""
    try:
        write(1, data)
    except BrokenPipeError:
        if cancel is None:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), 1)
        cancel.set(NOBODY)


class Plain(Reporter):
    """Lines on standard output. What nested builds say beside each other is shown one build after the other.

    `cancel` is set when nobody reads them any more.
    """

    def __init__(self, *, color: bool, cancel: Cancel | None = None, parent: Plain | None = None) -> None:
        import _thread  # what `threading.Lock` is, without the rest of `threading`

        self._color, self._cancel = color, cancel
        self._root: Plain = parent._root if parent else self
        self._parent = parent
        self._lock: _thread.LockType = parent._lock if parent else _thread.allocate_lock()
        self._branches: list[Plain] = []
        self._held: list[tuple[bytes, bool]] = []
        self._closed = False
        self._line_open = False
        self._recent = b""

    def heading(self, text: str) -> None:
        self._say(text, HEADING)

    def note(self, text: str) -> None:
        self._say(text, NOTE)

    def output(self, data: bytes) -> None:
        if data:
            self._put(data, line=False)

    def branch(self, name: str) -> Plain:
        branch = type(self)(color=self._color, parent=self)
        with self._lock:
            self._branches.append(branch)
        return branch

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._root._advance()

    def _say(self, text: str, color: bytes) -> None:
        data = text.encode("utf-8", "surrogateescape")
        self._put((color + data + END if self._color else data) + b"\n", line=True)

    def _put(self, data: bytes, *, line: bool) -> None:
        with self._lock:
            self._held.append((data, line))
            self._root._advance()

    def _advance(self) -> bool:
        """Show what is next; whether this reporter and its branches have said everything.

        Branches come first, in the order of the spec, and only the first unfinished one speaks.
        """
        while self._branches and self._branches[0]._advance():
            del self._branches[0]
        if self._branches:
            return False
        for data, line in self._held:
            self._root._emit(data, line=line)
        self._held.clear()
        return self._closed

    def shows(self, text: str) -> bool:
        """Whether this is what was shown last."""
        return self._recent.decode(errors="replace").rstrip().endswith(text.rstrip())

    def _emit(self, data: bytes, *, line: bool) -> None:
        self._recent = (self._recent + data)[-_RECENT:]
        if line and self._line_open:  # the output before did not end its line
            self._show(b"\n")
        self._show(data)
        self._line_open = not data.endswith(b"\n")

    def _show(self, data: bytes) -> None:
        show(data, self._cancel)


class Json(Reporter):
    """One object a line on standard output, as things happen; those of a nested build say which one it is."""

    def __init__(self, *, cancel: Cancel | None = None, build: tuple[str, ...] = ()) -> None:
        self._cancel, self._build = cancel, build
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def branch(self, name: str) -> Json:
        return Json(cancel=self._cancel, build=(*self._build, name))

    def heading(self, text: str) -> None:
        self.event("heading", text=text)

    def note(self, text: str) -> None:
        self._output(b"", final=True)
        self.event("note", text=text)

    def output(self, data: bytes) -> None:
        self._output(data)

    def _output(self, data: bytes, *, final: bool = False) -> None:
        text = self._decoder.decode(data, final)  # a letter may come in two pieces
        if text:
            self.event("output", text=text)

    def started(self, op: str, text: str) -> None:
        self.event("started", op=op, text=text)

    def step(self, op: str, id: str, *, cached: bool, status: int, seconds: float) -> None:
        self._output(b"", final=True)
        self.event("step", op=op, id=id, cached=cached, status=status, seconds=round(seconds, 4))

    def event(self, event: str, **facts: Any) -> None:
        """Write one event."""
        import json

        place = {"build": "/".join(self._build)} if self._build else {}
        show(json.dumps({"event": event, **place, **facts}).encode() + b"\n", self._cancel)
