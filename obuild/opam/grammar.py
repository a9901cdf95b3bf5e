"""The way through an opam file that knows places: `grammar/opam.lark`, read by lark.

Taken when something is wrong, to say what was expected where, and by whoever needs the place of every value.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any, TypeVar

import lark

from obuild.opam.lexer import Unreadable, number, scan, string

if TYPE_CHECKING:
    from obuild.opam.syntax import File, Value

__all__ = ["Node", "Number", "Text", "parse_located"]


class Node(tuple[Any, ...]):
    """A tuple of the syntax tree that knows where it begins."""

    offset: int


class Text(str):
    """A string literal that knows where it begins."""

    __slots__ = ("offset",)
    offset: int


class Number(int):
    """An integer that knows where it begins."""

    offset: int


_Placed = TypeVar("_Placed", Node, Text, Number)

_FIRST = {"IDENT", "STRING", "INT", "TRUE", "FALSE", "LSQB", "LPAR", "PFXOP", "RELOP"}
"""Terminals that begin a value."""

_SHOWN = {
    "$END": "the end",
    "COLON": '":"',
    "ENVOP": "an update operator",
    "FALSE": "a boolean",
    "IDENT": "a name",
    "INT": "a number",
    "LBRACE": '"{"',
    "LPAR": '"("',
    "LSQB": '"["',
    "AMPERSAND": '"&"',
    "VBAR": '"|"',
    "PFXOP": '"!"',
    "RBRACE": '"}"',
    "RELOP": "a relation",
    "RPAR": '")"',
    "RSQB": '"]"',
    "STRING": "a string",
    "TRUE": "a boolean",
}


def parse_located(text: str) -> File:
    """The items of a text without `(* … *)` comments; all their values know their places.

    Raises `Unreadable` for the first thing wrong. How deep the text nests, `reader.read` has checked before.
    """
    for _ in scan(text):
        pass  # what is no token has a better message than the parser's
    try:
        return _parser().parse(text)  # type: ignore[return-value]
    except lark.UnexpectedToken as error:
        raise _unexpected(text, error) from None


def _unexpected(text: str, error: lark.UnexpectedToken) -> Unreadable:
    accepted = error.accepts or error.expected
    names = {_SHOWN[name] for name in accepted - (_FIRST if accepted >= _FIRST else set())}
    words = [*(["a value"] if accepted >= _FIRST else []), *sorted(names)]
    hint = f"expected {' or '.join(filter(None, (', '.join(words[:-1]), words[-1])))}"
    if error.token.type == "$END":
        return Unreadable("the file ends too early", len(text.rstrip()), hint)
    quoted = str(error.token) if len(error.token) < 40 and not error.token.startswith('"') else _SHOWN[error.token.type]
    shown = f'"{quoted}"' if quoted == error.token else quoted
    return Unreadable(f"{shown} can not stand here", error.token.start_pos or 0, hint)


@functools.cache
def _parser() -> lark.Lark:
    with open(_path(), encoding="utf-8") as file:
        grammar = file.read()
    return lark.Lark(grammar, parser="lalr", lexer="basic", maybe_placeholders=True, transformer=_Build())


def _path() -> str:
    """The grammar, which a wheel keeps inside the package and a checkout beside it."""
    package = os.path.dirname(os.path.dirname(__file__))
    inside = os.path.join(package, "grammar", "opam.lark")
    return inside if os.path.exists(inside) else os.path.join(os.path.dirname(package), "grammar", "opam.lark")


def _at(node: _Placed, *parts: Any) -> _Placed:
    """The node, at the place of its first part that knows one: booleans do not."""
    for part in parts:
        place = getattr(part, "start_pos", None) if isinstance(part, lark.Token) else getattr(part, "offset", None)
        if place is not None:
            node.offset = place
            break
    return node


@lark.v_args(inline=True)
class _Build(lark.Transformer[lark.Token, Any]):
    """One method for each rule of the grammar, called after it."""

    def start(self, *items: Node) -> tuple[Node, ...]:
        return items

    def field(self, name: lark.Token, value: Value) -> Node:
        return _at(Node(("field", str(name), value, name.start_pos)), name)

    def section(self, kind: lark.Token, name: lark.Token | None, *items: Node) -> Node:
        title = None if name is None else self.string(name)
        return _at(Node(("section", str(kind), title, items, kind.start_pos)), kind)

    def logop(self, left: Value, op: lark.Token, right: Value) -> Node:
        return _at(Node(("logop", str(op), left, right)), left, op)

    def pfxop(self, op: lark.Token, value: Value) -> Node:
        return _at(Node(("pfxop", str(op), value)), op)

    def option(self, value: Value, *inside: Value) -> Node:
        return _at(Node(("option", value, inside)), value, *inside)

    def relop(self, left: Value, op: lark.Token, right: Value) -> Node:
        return _at(Node(("relop", str(op), left, right)), left, op)

    def env(self, left: Value, op: lark.Token, right: Value) -> Node:
        return _at(Node(("env", str(op), left, right)), left, op)

    def prefix_relop(self, op: lark.Token, right: Value) -> Node:
        return _at(Node(("prefix_relop", str(op), right)), op)

    def list(self, opener: lark.Token, *inside: Any) -> Node:
        return _at(Node(("list", inside[:-1])), opener)

    def group(self, opener: lark.Token, *inside: Any) -> Node:
        return _at(Node(("group", inside[:-1])), opener)

    def ident(self, name: lark.Token) -> Node:
        return _at(Node(("ident", str(name))), name)

    def string(self, token: lark.Token) -> Text:
        return _at(Text(string(token)), token)

    def number(self, token: lark.Token) -> Number:
        return _at(Number(number(token)), token)

    def true(self) -> bool:
        return True

    def false(self) -> bool:
        return False
