"""Opam files as nested tuples: `parse` reads one, quickly, or says with its place what is wrong with it.

    value := bool | int | str (a string literal, unescaped)
           | ("ident", name) | ("relop", op, left, right) | ("prefix_relop", op, right) | ("env", op, left, right)
           | ("logop", "&" | "|", left, right) | ("pfxop", "!" | "?", operand)
           | ("list", (value, …)) | ("group", (value, …)) | ("option", value, (value, …))
    item  := ("field", name, value, offset) | ("section", kind, name or None, (item, …), offset)
    file  := (item, …)

Tuples, because the disk cache keeps them with `marshal`. A text is a `str` of one character per byte (latin-1): opam
knows only bytes. Offsets count these characters, and an item's is that of its name; use `problem` to show one.

`parse(…, located=True)` goes by `grammar/opam.lark` and returns equal values that know their places: `offset(value)`.
"""

from __future__ import annotations

from obuild.errors import OpamError, Problem
from obuild.opam.lexer import Unreadable, blank
from obuild.opam.reader import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Value: TypeAlias = bool | int | str | tuple[Any, ...]
    Item: TypeAlias = tuple[Any, ...]
    File: TypeAlias = tuple[Item, ...]
else:
    Value = Item = File = tuple

__all__ = ["LIMIT", "File", "Item", "Value", "field", "offset", "parse", "problem", "sections", "shown"]

LIMIT = 1 << 18
"""Bytes of the largest file that is read; the largest of the public repositories has 24 kB."""

_CONTROLS = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)), "\ufffd")


def parse(data: bytes, path: str, *, located: bool = False, limit: int = LIMIT) -> File:
    """The items of an opam file. Raises `OpamError` with one problem that names `path`, line and column.

    A file above `LIMIT`, when `limit` allows one, is only told to be wrong: the grammar is too slow to say where.
    """
    if len(data) > limit:
        raise OpamError([Problem(f"an opam file of {len(data)} bytes, when more than {limit} are never read", path)])
    source = data.decode("latin-1")
    try:
        text = blank(source)
        try:
            items = read(text)
            if not located:
                return items
        except ValueError:
            if len(data) > LIMIT:
                raise OpamError([Problem("not in the format of opam files", path)]) from None
            # what it is that is wrong, the grammar knows
        from obuild.opam.grammar import parse_located

        return parse_located(text)
    except Unreadable as error:
        raise OpamError([problem(error.message, path, source, error.offset, hint=error.hint)]) from None


def field(items: File, name: str) -> Value | None:
    """The value of the first field called `name`, as opam takes it, or None."""
    for item in items:
        if item[0] == "field" and item[1] == name:
            value: Value = item[2]
            return value
    return None


def sections(items: File, kind: str) -> tuple[Item, ...]:
    """The sections of one kind, in the order of the file."""
    return tuple(item for item in items if item[0] == "section" and item[1] == kind)


def offset(value: Value | Item, default: int = 0) -> int:
    """Where a value of a located file begins; booleans, which can not know it, are at `default`."""
    return getattr(value, "offset", default)


def problem(message: str, path: str, source: str, offset: int, *, hint: str = "") -> Problem:
    """A problem at character `offset` of a latin-1 text, counted and shown in the characters that a person sees."""
    before = shown(source[:offset])
    return Problem.at(shown(message), path, before + shown(source[offset:]), len(before), hint=hint)


def shown(text: str) -> str:
    """A piece of a latin-1 text as a person reads it; nothing in it may command a terminal."""
    return text.encode("latin-1", "replace").decode("utf-8", "replace").translate(_CONTROLS)
