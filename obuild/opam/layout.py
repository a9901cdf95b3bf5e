"""Filling lines as OCaml's `Format` does, which opam prints with: Oppen's algorithm, with Format's own habits.

A box or break is laid out as soon as its size is known, or when the text behind it already reaches the margin. So what
ends exactly at the margin fits if its end was seen in time and does not fit otherwise: the order in which things are
measured is part of the result, and is kept here to the letter.
"""

from __future__ import annotations

from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    Token: TypeAlias = str | tuple[int, int] | tuple[str, int] | None

__all__ = ["CUT", "INDENT", "MARGIN", "SPACE", "lay_out"]

MARGIN = 78
MAX_INDENT = 68
INFINITY = 1 << 40

# A token is a text; a break (its width, and what it adds to the indentation of a new line); a box that opens (its kind
# and indentation); or None, where the innermost box closes. The kinds: an "h" box never breaks, "v" breaks always, "hv"
# everywhere or nowhere, "hov" only where it must. A box that fits on the line becomes one of kind "fits".
SPACE, CUT, INDENT = (1, 0), (0, 0), (0, 2)


def lay_out(tokens: Iterable[Token], column: int, width: Callable[[str], int]) -> str:
    """The text of `tokens`, which begin a line at `column`; `width` measures a text."""
    return _Layout(column, width).run(tokens)


class _Sized:
    """A token on its way through the queue; a negative size is not known yet."""

    __slots__ = ("breaks", "length", "size", "token")

    def __init__(self, size: int, length: int, token: Token, *, breaks: bool = False) -> None:
        self.size, self.length, self.token, self.breaks = size, length, token, breaks


class _Layout:
    def __init__(self, column: int, width: Callable[[str], int]) -> None:
        self._width = width
        self._space = MARGIN - column
        self._boxes = [("v", self._space)]
        self._out: list[str] = []
        self._queue: deque[_Sized] = deque()
        self._unsized: list[tuple[int, _Sized]] = []
        # The lengths of all that left and all that entered the queue; their difference is what waits in it.
        self._left = self._right = 1

    def run(self, tokens: Iterable[Token]) -> str:
        for token in tokens:
            match token:
                case str():
                    size = self._width(token)
                    self._enter(_Sized(size, size, token))
                    self._advance()
                case None:
                    self._enter(_Sized(0, 0, None))
                    self._measure(breaks=True)
                    self._measure(breaks=False)
                case (str(), _):
                    self._await(_Sized(-self._right, 0, token))
                case (int(length), _):
                    self._await(_Sized(-self._right, length, token, breaks=True))
        self._right = INFINITY
        self._advance()
        return "".join(self._out)

    def _enter(self, entry: _Sized) -> None:
        self._queue.append(entry)
        self._right += entry.length

    def _await(self, entry: _Sized) -> None:
        """Queue a break or a box, whose size becomes known at the next break or where it ends."""
        self._enter(entry)
        if entry.breaks:
            self._measure(breaks=True)
        self._unsized.append((self._right, entry))

    def _measure(self, *, breaks: bool) -> None:
        """The size of the innermost thing that waits for one is known now, when it is of this sort."""
        if not self._unsized:
            return
        position, entry = self._unsized[-1]
        if position < self._left:
            self._unsized.clear()
        elif entry.breaks is breaks:
            entry.size += self._right
            self._unsized.pop()

    def _advance(self) -> None:
        """Print from the front of the queue what is measured, or too long whatever its measure."""
        queue = self._queue
        while queue:
            entry = queue[0]
            if entry.size < 0 and self._right - self._left < self._space:
                return
            queue.popleft()
            self._print(entry.token, entry.size if entry.size >= 0 else INFINITY)
            self._left += entry.length

    def _print(self, token: Token, size: int) -> None:
        match token:
            case str():
                self._out.append(token)
                self._space -= size
            case None:
                self._boxes.pop()
            case (str(kind), indent):
                self._open(kind, indent, size)
            case (int(spaces), offset):
                kind, width = self._boxes[-1]
                if kind in ("v", "hv") or (kind == "hov" and size > self._space):
                    self._new_line(width, offset)
                else:
                    self._out.append(" " * spaces)
                    self._space -= spaces

    def _open(self, kind: str, indent: int, size: int) -> None:
        outer, width = self._boxes[-1]
        if MARGIN - self._space > MAX_INDENT and width > self._space and outer not in ("fits", "h"):
            self._new_line(width, 0)
        self._boxes.append((kind if size > self._space else "fits", self._space - indent))

    def _new_line(self, width: int, offset: int) -> None:
        indent = min(MAX_INDENT, MARGIN - width + offset)
        self._out.append("\n" + " " * indent)
        self._space = MARGIN - indent
