r"""`NAME.changes` files: what the installation of a package did to the prefix.

A digest tells the kind of an entry and what it was: `D` a directory, `L:TARGET` a symlink, `F:S<size>T<mtime>` a file,
`S:<device>:<number>` anything else. Times have twelve significant digits: `T1795224454.26`, `T1795224454.`.
"""

from __future__ import annotations

import re
import stat

from obuild.opam.dotinstall import KEPT
from obuild.opam.format import WIDTHS, format_items
from obuild.opam.lexer import string
from obuild.opam.shape import elements, lowered, option, read_text, with_option
from obuild.opam.syntax import parse
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from obuild.opam.syntax import Item, Value

__all__ = ["KINDS", "Change", "digest", "format_changes", "parse_changes", "records", "time_text"]

KINDS = ("added", "removed", "contents-changed", "perm-changed", "kind-changed")
"""What can have happened to a path, in the order of the fields."""

_FIELD = re.compile(r"^([a-z-]+):", re.MULTILINE)
_ENTRY = re.compile(r'("(?:[^"\\]|\\.)*+")(?:\s*\{\s*("(?:[^"\\]|\\.)*+")\s*\})?', re.DOTALL)


@value
class Change:
    """What happened to a path, and its digest afterwards ("" when it is gone)."""

    kind: str
    digest: str = ""


def digest(info: os.stat_result, link: str = "") -> str:
    """The digest of an entry by its `lstat`, and by what it points to when it is a symlink (one character per byte)."""
    mode = info.st_mode
    if stat.S_ISDIR(mode):
        return "D"
    if stat.S_ISREG(mode):
        return f"F:S{info.st_size}T{time_text(info.st_mtime_ns)}"
    if stat.S_ISLNK(mode):
        return f"L:{link}"
    return f"S:{info.st_dev}:{info.st_rdev}"


def time_text(nanoseconds: int) -> str:
    """A time in seconds as OCaml prints a float: twelve significant digits, and always a point or an exponent."""
    text = f"{nanoseconds // 10**9 + nanoseconds % 10**9 / 10**9:.12g}"
    return text if "." in text or "e" in text else text + "."


def format_changes(changes: Mapping[str, Change]) -> str:
    """The text of a `.changes` file by path below the prefix, one character per byte."""
    items: list[Item] = [("field", "opam-version", "2.0", 0)]
    for kind in KINDS:
        paths = sorted(path for path, change in changes.items() if change.kind == kind)
        if paths:
            values = tuple([_written(path, changes[path].digest) for path in paths])
            items.append(("field", kind, lowered(values, 1), 0))
    return format_items(items, WIDTHS["bytes"]) + "\n"


def _written(path: str, digest: str) -> Value:
    return with_option(path, (digest,) if digest else ())


def parse_changes(text: str) -> dict[str, Change]:
    """The changes in a text that opam or `format_changes` printed.

    Raises `OpamError`, `Unreadable` or `WrongShape` for another.
    """
    return {path: Change(kind, digest) for kind, path, digest in records(text)}


def records(text: str) -> Iterator[tuple[str, str, str]]:
    """The same as tuples of kind, path and digest: a compiler has thousands, and every package before is looked at."""
    if '"""' in text:  # a name with a line end, for which the quick way has no eye
        yield from _read_slowly(text)
        return
    starts = list(_FIELD.finditer(text))
    ends = [*[match.start() for match in starts[1:]], len(text)]
    for match, end in zip(starts, ends, strict=False):
        if match[1] in KINDS:
            for path, digest in _ENTRY.findall(text, match.end(), end):
                yield match[1], _unquoted(path), _unquoted(digest)


def _unquoted(token: str) -> str:
    return string(token) if "\\" in token else token[1:-1]


def _read_slowly(text: str) -> Iterator[tuple[str, str, str]]:
    for kind, name, contents, *_ in parse(text.encode("latin-1"), ".changes", limit=KEPT):
        if kind == "field" and name in KINDS:
            for each in elements(contents, 1):
                path, digests = option(each)
                yield name, read_text(path), read_text(digests[0]) if digests else ""
