r"""The words of an opam file: one regular expression cuts a text into tokens, faster than a loop over matches could.

A text is a `str` with one character per byte (latin-1), as opam knows only bytes; messages decode UTF-8 for display.
The rules are opam's: the longest match wins, `(* … *)` nests, `\r\n` is a line end, control characters are
refused.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Unreadable", "blank", "number", "scan", "string", "tokens"]

_STRING = r'"(?!"")[^"\\]*+(?:\\.[^"\\]*+)*+"'
_LONG_STRING = r'"{3}[^"\\]*+(?:(?:\\.|"(?!""))[^"\\]*+)*+"{3}'
_PART = r"[0-9_-]*+[A-Za-z][A-Za-z0-9_-]*+"
_REST = rf"(?:\+(?:{_PART}|_))*+(?::{_PART})?+"
_WORD = rf"""
        {_STRING}
    |   [A-Za-z][A-Za-z0-9_-]*+{_REST}
    |   [+:]=
    |   [][{{}}():&|]
    |   [<>!]=?
    |   =(?:\+=?|:)?
    |   [~?]
    |   {_LONG_STRING}
    |   _(?=[+:]){_REST}
    |   [0-9_-]++(?:[A-Za-z][A-Za-z0-9_-]*+{_REST})?+
"""
# The empty token at the start makes what stands before the first real one a gap like any other. What can not be read
# is one token up to the end, so that a missing quote does not make every later quote look for its partner again.
_TOKEN = re.compile(rf"(\A|{_WORD}|[^ \t\n].*+)((?:[ \t\n]++|\r\n|\#[^\n]*+)*+)", re.VERBOSE | re.DOTALL)

_OPAQUE = re.compile(rf'{_STRING}|{_LONG_STRING}|".*+|\#[^\n]*+|\(\*', re.DOTALL)
_COMMENT = re.compile(r"\(\*|\*\)")

_ESCAPE = re.compile(r"\\(?:(\r?\n[ \t]*)|([0-9]{3})|x([0-9a-fA-F]{2})|(.))|\r(?=\n)", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", " ": " ", "'": "'", '"': '"', "\\": "\\"}
_LARGEST = 1 << 62  # opam's integers are OCaml's: 63 bits with their sign


class Unreadable(Exception):
    """What is at character `offset` does not belong there; `hint` says what does."""

    def __init__(self, message: str, offset: int, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.offset, self.hint = message, offset, hint


def tokens(text: str) -> list[str]:
    """The text in pieces of three, which together are the whole text: what is always empty, a token, the gap after it.

    The first token is empty too, and one more empty piece ends the list. Nothing is refused here, see `scan`;
    `text` must not have `(* … *)` comments, see `blank`.
    """
    return _TOKEN.split(text)


def scan(text: str) -> Iterator[tuple[str, int]]:
    """Each token of the text with its offset. Raises `Unreadable` at the first that the format does not know."""
    pieces = tokens(text)
    offset = len(pieces[2])
    for token, gap in zip(pieces[4::3], pieces[5::3], strict=True):
        try:
            _check(token)
        except Unreadable as error:
            raise Unreadable(error.message, offset + error.offset) from None
        yield token, offset
        offset += len(token) + len(gap)


def _check(token: str) -> None:
    if token[0] == '"':
        string(token)
    elif not token.strip("0123456789_-"):
        # opam reads [1-2] as the two numbers 1 and -2.
        parts = re.findall(r"-?[0-9_]+", token) if len(token) < 256 else []
        for part in parts if "".join(parts) == token else [token]:
            number(part)
    elif not re.fullmatch(_WORD, token, re.VERBOSE | re.DOTALL):
        # In UTF-8 the first byte says how many make the character.
        size = {0xC: 2, 0xD: 2, 0xE: 3, 0xF: 4}.get(ord(token[0]) >> 4, 1)
        raise Unreadable(f'"{token[:size]}" can not stand here', 0)


def string(token: str) -> str:
    """The value of a string token of either kind, given with its quotes.

    Raises `Unreadable`, with an offset from the token's start.
    """
    quotes = 3 if token.startswith('"""') else 1
    if len(token) < 2 * quotes or not re.fullmatch(_LONG_STRING if quotes == 3 else _STRING, token, re.DOTALL):
        raise Unreadable("this string does not end", 0)
    body = token[quotes:-quotes]
    if "\\" not in body and "\r" not in body:
        return body
    return _ESCAPE.sub(lambda found: _unescape(found, quotes), body)


def _unescape(found: re.Match[str], shift: int) -> str:
    newline, decimal, hexadecimal, letter = found.groups()
    if newline or found[0] == "\r":
        return ""
    if decimal and int(decimal) < 256:
        return chr(int(decimal))
    if hexadecimal:
        return chr(int(hexadecimal, 16))
    if letter in _ESCAPED:
        return _ESCAPED[letter]
    raise Unreadable(f'a string has no escape "{found[0]}"', found.start() + shift)


def number(token: str) -> int:
    """The value of an integer token. Raises `Unreadable` when OCaml would not read it."""
    if not re.fullmatch(r"-?[0-9][0-9_]*", token):
        raise Unreadable(f'"{token[:40]}" is neither a number nor a name', 0)
    value = int(token.replace("_", "")) if len(token) < 256 else _LARGEST
    if not -_LARGEST <= value < _LARGEST:
        raise Unreadable("this number does not fit in 63 bits", 0)
    return value


def blank(text: str) -> str:
    """The text with spaces in place of its `(* … *)` comments, so that everything else keeps its place.

    Raises `Unreadable` for a comment that does not end.
    """
    if "(*" not in text:
        return text
    pieces, end = [], 0
    while found := _OPAQUE.search(text, end):
        start = found.start() if found[0] == "(*" else found.end()
        pieces.append(text[end:start])
        end = start
        if found[0] == "(*":
            end = _comment_end(text, start)
            pieces.append(re.sub(r"[^\n]", " ", text[start:end]))
    return "".join((*pieces, text[end:]))


def _comment_end(text: str, start: int) -> int:
    depth = 0
    for found in _COMMENT.finditer(text, start):
        depth += 1 if found[0] == "(*" else -1
        if not depth:
            return found.end()
    raise Unreadable("this comment does not end", start)
