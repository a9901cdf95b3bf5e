"""Laying out S-expressions for people: one operation a line, 80 columns, fields aligned, comments kept.

`format` prints a tree that a program made; `tidy` prints a text that a person wrote, with its comments, its blank lines
between operations and its atoms exactly as they stand. Both give the same lines for the same tree.
"""

from __future__ import annotations

import re

from obuild.spec.sexp import List, escape, is_bare, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from obuild.spec.sexp import Node, Source, Tree

__all__ = ["format", "tidy"]

WIDTH = 80


class _Piece:
    """What is printed in one go, an atom or a comment as `text`, or a list of such `items`.

    `glued` comments stay on the line of what stands before them; after an `ends_line` one a new line must begin;
    `spaced` pieces had a blank line above; a `body` is that of a build;
    `verbatim` texts are not to be touched, and `fold` ones may be split.
    """

    __slots__ = ("body", "comment", "ends_line", "fold", "glued", "items", "spaced", "text", "verbatim")

    def __init__(self, text: str, items: list[_Piece] | None = None, *, verbatim: bool = False) -> None:
        self.text, self.items, self.verbatim = text, items, verbatim
        self.comment = self.glued = self.ends_line = self.spaced = self.fold = self.body = False

    @property
    def is_stage(self) -> bool:
        """Whether this is a list of lists, as a spec and the builds in it are."""
        first = next((item for item in self.items or () if not item.comment), None)
        return first is not None and first.items is not None


def format(tree: Tree, column: int = 0, *, fold: bool = False) -> str:
    """The text of nested sequences of texts, to be printed at `column`; without a newline at its end.

    With `fold`, long commands go on in the next line after `&&`.
    """
    return _whole(_made(tree, fold), column)


def tidy(source: Source) -> str:
    """The whole text of `source`, laid out anew."""
    text = ""
    for piece in _read(source):
        text += "" if not text else " " if piece.glued else "\n\n" if piece.spaced else "\n"
        text += _whole(piece, 0)
    return text + "\n"


def _whole(piece: _Piece, column: int) -> str:
    return _stage(piece, column, apart=True) if piece.is_stage else _lay(piece, column)


def _made(tree: Tree, fold: bool) -> _Piece:
    if not isinstance(tree, str):
        return _list([_made(node, fold) for node in tree])
    piece = _Piece(tree)
    piece.fold = fold
    return piece


def _list(items: list[_Piece]) -> _Piece:
    words = [item for item in items if not item.comment]
    if len(words) > 2 and words[0].text == "build":
        words[2].body = True
    return _Piece("", items)


def _read(source: Source) -> list[_Piece]:
    """The pieces of a whole source: its expression, and the comments around it."""
    comments = iter([*source.comments, (len(source.text), len(source.text))])
    return _Gathering(source.text, comments).within([source.node], 0, len(source.text))


class _Gathering:
    """Puts the comments of a text back between its nodes; both come in the order of the text."""

    def __init__(self, text: str, comments: Iterator[tuple[int, int]]) -> None:
        self.text, self.comments = text, comments
        self.next = next(comments)

    def within(self, nodes: list[Node] | List, start: int, end: int) -> list[_Piece]:
        pieces: list[_Piece] = []
        for node in nodes:
            start = self._comments(pieces, start, node.offset)
            piece = self._piece(node)
            piece.spaced = self._blank_line(start, node.offset)
            pieces.append(piece)
            start = node.end
        self._comments(pieces, start, end)
        return pieces

    def _piece(self, node: Node) -> _Piece:
        if isinstance(node, List):
            return _list(self.within(node, node.offset + 1, node.end - 1))
        return _Piece(self.text[node.offset : node.end], verbatim=True)

    def _comments(self, pieces: list[_Piece], start: int, end: int) -> int:
        """Append the comments from `start` to `end`; where the last one ends."""
        while self.next[0] < end:
            offset, stop = self.next
            text = self.text[offset:stop]
            piece = _Piece(text.rstrip() if text.startswith(";") else text, verbatim=True)
            piece.comment = True
            own_line = start == 0 or "\n" in self.text[start:offset] or (bool(pieces) and pieces[-1].ends_line)
            piece.glued = not own_line
            piece.ends_line = own_line or text.startswith(";")
            piece.spaced = self._blank_line(start, offset)
            pieces.append(piece)
            start, self.next = stop, next(self.comments)
        return start

    def _blank_line(self, start: int, offset: int) -> bool:
        return self.text.count("\n", start, offset) > 1


def _lay(piece: _Piece, column: int) -> str:
    """A piece as it is printed at `column`."""
    if piece.items is None:
        return piece.text if piece.verbatim else _atom(piece.text, column, piece.fold)
    if not _must_break(piece):
        flat = _flat(piece, column)
        if column + len(flat.partition("\n")[0]) <= WIDTH:
            return flat
    return _stage(piece, column) if piece.is_stage else _form(piece, piece.items, column)


def _must_break(piece: _Piece) -> bool:
    """Whether a list takes several lines however short it is: a run with several fields, a build, line comments."""
    items = piece.items or []
    if any(item.ends_line or _must_break(item) for item in items):
        return True
    words = [item for item in items if not item.comment]
    name = words[0].text if words else ""
    many = len(words) > (1 if piece.body else 2)
    return (many and (piece.body or name == "run")) or (name == "build" and words[-1].items is not None)


def _flat(piece: _Piece, column: int) -> str:
    text = "("
    for item in piece.items or ():
        text += " " if len(text) > 1 else ""
        at = _end(text, column)
        text += _lay(item, at) if item.items is None else _flat(item, at)
    return text + ")"


def _form(piece: _Piece, items: list[_Piece], column: int) -> str:
    """A list that begins with its name, the rest aligned behind it: `(run (network host)` above `(shell …))`.

    The body of a build begins a new line, one blank further in.
    """
    text, indent, hug = "(", column + 1, True
    if items and not items[0].comment:
        text += _lay(items[0], indent)
        if items[0].text == "build" and len(items) > 2 and not items[1].comment:
            text += " " + _lay(items[1], _end(text, column) + 1)
            items, hug = items[2:], False
        else:
            items, indent = items[1:], _end(text, column) + 1
    return _rows(text, items, column, indent, hug=hug) + _closing(piece, column)


def _rows(text: str, items: list[_Piece], column: int, indent: int, *, hug: bool) -> str:
    """`text`, which began at `column`, and `items` below one another at `indent`; words share a line while they fit.

    The first one stays on the line of `text` if `hug` says so.
    """
    before: _Piece | None = None
    for item in items:
        laid = ""
        if _stays(item, before, hug):
            space = "" if text == "(" else " "
            laid = space + _lay(item, _end(text, column) + len(space))
            fits = _end(text, column) + len(laid.partition("\n")[0]) < WIDTH
            laid = laid if fits or before is None or item.glued else ""
        text += laid or f"\n{' ' * indent}{_lay(item, indent)}"
        before = item
    return text


def _stays(item: _Piece, before: _Piece | None, hug: bool) -> bool:
    """Whether an item may go on the line of the one before, or of what the rows belong to."""
    if item.glued or item.comment:
        return item.glued
    if before is None:
        return hug
    return before.items is None and item.items is None and not before.ends_line


def _stage(piece: _Piece, column: int, *, apart: bool = False) -> str:
    """A list of lists with each on its own line, and the closing parenthesis too if it stands `apart`."""
    text = "("
    before: _Piece | None = None
    for item in piece.items or ():
        if item.glued:
            text += " " if before else ""
        elif before or item.comment:
            text += ("\n" if before and item.spaced else "") + "\n" + " " * (column + 1)
        text += _lay(item, _end(text, column))
        before = item
    return text + (f"\n{' ' * column})" if apart else _closing(piece, column))


def _closing(piece: _Piece, column: int) -> str:
    return f"\n{' ' * column})" if piece.items and piece.items[-1].ends_line else ")"


def _end(text: str, column: int) -> int:
    """The column behind `text`, which began at `column`."""
    start = text.rfind("\n")
    return column + len(text) if start < 0 else len(text) - start - 1


def _atom(text: str, column: int, fold: bool) -> str:
    """An atom; a text of several lines takes several, each of which goes on with the newline that it begins with.

    The reader drops the blanks that follow a backslash at the end of a line, but not those behind an escape.
    """
    if is_bare(text):
        return text
    joint = "\\\n" + " " * (column + 1)
    lines = [escape(line) for line in text.split("\n")]
    if fold:
        room = WIDTH - column - 3
        lines = [joint.join(re.split(r"(?<= && )(?=\S)", line)) if len(line) > room else line for line in lines]
    several = "\n" in text.strip("\n")
    if not several and len(lines[0]) == len(escape(text)):
        return quote(text)
    return '"' + (joint + "\\n" if several else "\\n").join(lines) + '"'
