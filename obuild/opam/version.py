"""Opam's version order: Debian's, with `~` before everything.

A version is cut at its last `-`; both parts are read as pairs of a run of other characters and a run of digits. Runs of
digits compare as numbers, other characters one by one: `~` first, then the end of the text, letters, all the rest.
"""

from __future__ import annotations

import re
from functools import cache

__all__ = ["compare", "holds", "valid_version", "version_key"]

_VALID = re.compile(r"[A-Za-z0-9_+.~-]+").fullmatch
_PAIRS = re.compile(r"(\D*)(\d*)", re.ASCII).findall


def valid_version(text: str) -> bool:
    """Whether opam takes `text` as a version."""
    return _VALID(text) is not None


@cache
def version_key(text: str) -> tuple[int, ...]:
    """A key that sorts versions as opam does; versions that opam calls equal (`1`, `1-0`, `1-`) have equal keys."""
    upstream, _, revision = text.rpartition("-") if "-" in text else (text, "", "")
    return (*_part_key(upstream), *_part_key(revision))


def compare(left: str, right: str) -> int:
    """-1, 0 or 1 as `left` comes before, equals or comes after `right`."""
    if left == right:
        return 0
    a, b = version_key(left), version_key(right)
    return (a > b) - (a < b)


def holds(left: str, op: str, right: str) -> bool:
    """Whether `left op right`, for the operators `= != < <= > >=`; `~` reads as `>=`, as in opam's own lexer."""
    a, b = version_key(left), version_key(right)
    match op:
        case "=":
            return a == b
        case "!=":
            return a != b
        case "<":
            return a < b
        case "<=":
            return a <= b
        case ">":
            return a > b
        case _:
            return a >= b


def _part_key(part: str) -> tuple[int, ...]:
    # Every pair begins with its characters and a 0 that ends them, so keys only differ in length after they differ.
    key: list[int] = []
    for other, digits in _PAIRS(part)[:-1] or [("", "")]:
        key.extend(map(_rank, other))
        # Read as hexadecimal, runs of decimal digits keep their order, and Python sets no limit to their length.
        key += (0, int(digits or "0", 16))
    return (*key, 0, 0)


def _rank(char: str) -> int:
    if char == "~":
        return -1
    return ord(char) if char.isalpha() and char.isascii() else ord(char) + 256
