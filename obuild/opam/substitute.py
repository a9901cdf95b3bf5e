"""What opam makes of a `.in` file: the file that `substs:` names, with its variables expanded.

A file that happens to be in the format of opam files is treated with care: what is put into a quoted string is escaped
for it, and nothing is added. To any other file a line end is added where the last line has none.
"""

from __future__ import annotations

import re

from obuild.opam.filter import expand
from obuild.opam.lexer import Unreadable, blank
from obuild.opam.reader import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from obuild.opam.filter import Contents, Lookup

__all__ = ["substitute"]

# Opam looks for quotes alone, also in comments; a string that nobody closed goes to the end.
_STRING = re.compile(r'("""(?:[^\\"]|\\.|"(?!""))*+(?:"""|\Z)|"(?:[^\\"]|\\.)*+(?:"|\Z))', re.DOTALL)
_SPECIAL = re.compile(r'[\\"]')


def substitute(text: str, lookup: Lookup) -> str:
    """The text of the file made from that of its `.in` file, both with one character per byte."""
    if _is_opam(text):
        pieces = _STRING.split(text)
        quoted = _escaping(lookup)
        return "".join([expand(piece, quoted if number % 2 else lookup) for number, piece in enumerate(pieces)])
    return expand(text if text.endswith("\n") or not text else text + "\n", lookup)


def _is_opam(text: str) -> bool:
    try:
        read(blank(text))
    except (ValueError, Unreadable):
        return False
    return True


def _escaping(lookup: Lookup) -> Lookup:
    def escaped(name: str) -> Contents | None:
        match lookup(name):
            case str(found):
                return _SPECIAL.sub(r"\\\g<0>", found)
            case tuple(items):
                return tuple([_SPECIAL.sub(r"\\\g<0>", item) for item in items])
            case found:
                return found

    return escaped
