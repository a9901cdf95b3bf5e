"""The shapes that values of fields may have: lists of a depth, values with braces, single words.

Opam drops a field whose value has the wrong shape, as a whole. `read_…` functions raise `WrongShape` for one and
return values of the syntax tree in full form, with every pair of brackets; `lowered` takes away what opam leaves out.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from obuild.opam.syntax import Value

    T = TypeVar("T")

__all__ = [
    "WrongShape",
    "elements",
    "listed",
    "lowered",
    "option",
    "read_checksum",
    "read_ident",
    "read_text",
    "with_option",
]

_DIGITS = {"md5": 32, "sha256": 64, "sha512": 128}
_HEX = re.compile(r"[0-9a-f]+").fullmatch


class WrongShape(Exception):
    """`value` is not what its field may hold."""

    def __init__(self, message: str, value: Value) -> None:
        super().__init__(message)
        self.message, self.value = message, value


def elements(value: Value, depth: int) -> tuple[Value, ...]:
    """The elements of a list that may lack its outer brackets: `depth` pairs are meant, what lacks is added."""
    for _ in range(depth - _depth(value)):
        value = ("list", (value,))
    match value:
        case ("list", items):
            return tuple(items)
    raise WrongShape("expected a list", value)


def listed(read: Callable[[Value], T], depth: int) -> Callable[[Value], tuple[T, ...]]:
    """The reader of a list of what `read` reads."""
    return lambda value: tuple([read(item) for item in elements(value, depth)])


def lowered(items: tuple[Value, ...], depth: int) -> Value:
    """The list of `items` without the brackets, up to `depth` pairs, that hold one single value."""
    value: Value = ("list", items)
    for _ in range(depth):
        match value:
            case ("list", (only,)):
                value = only
    return value


def option(value: Value) -> tuple[Value, tuple[Value, ...]]:
    """What stands before the braces and what stands in them: () when there are none."""
    match value:
        case ("option", inner, values):
            return inner, tuple(values)
    return value, ()


def with_option(value: Value, values: tuple[Value, ...]) -> Value:
    """`value` with braces, unless they would be empty."""
    return ("option", value, values) if values else value


def read_text(value: Value) -> str:
    """A string."""
    if isinstance(value, str):
        return value
    raise WrongShape("expected a string", value)


def read_ident(value: Value) -> Value:
    """A bare word."""
    match value:
        case ("ident", _):
            return value
    raise WrongShape("expected a word", value)


def read_checksum(value: Value) -> str:
    """A checksum as opam prints it, `kind=hex`; 32 hexadecimal digits alone are an MD5."""
    text = read_text(value)
    kind, digest = text.lower().split("=", 1) if "=" in text else ("md5", text.lower())
    if len(digest) != _DIGITS.get(kind) or not _HEX(digest):
        raise WrongShape("expected a checksum: md5=, sha256= or sha512= and its hexadecimal digits", value)
    return f"{kind}={digest}"


def _depth(value: Value) -> int:
    depth = 0
    while True:
        match value:
            case ("list", ()):
                return depth + 1
            case ("list", (first, *_)):
                depth, value = depth + 1, first
            case ("option", inner, _):
                value = inner
            case _:
                return depth
