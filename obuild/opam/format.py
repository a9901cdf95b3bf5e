"""Opam's normal form of a file: the text that its printer makes of a syntax tree, to the byte.

Opam prints with OCaml's `Format`: a margin of 78 columns, no indentation beyond 68. What fits on its line is written
flat, which is nearly everything; the rest goes through `layout`.

The width of a string is its number of bytes, or of Unicode characters when opam was compiled by OCaml 5.4 or later.
"""

from __future__ import annotations

import re

from obuild.opam.layout import CUT, INDENT, MARGIN, SPACE, lay_out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from obuild.opam.layout import Token
    from obuild.opam.syntax import Item, Value

    Width = Callable[[str], int]

__all__ = ["WIDTHS", "flat", "format_items"]

_SPECIAL = re.compile(r'[\\"]')
# Within three quotes, a quote is escaped when two more follow it or when it is the last character.
_SPECIAL_IN_LINES = re.compile(r'\\|"(?=""|\Z)')


def _scalars(text: str) -> int:
    """The number of Unicode characters in a text of bytes, an undecodable part counting one (`Uchar.utf_8_decode`)."""
    return len(text) if text.isascii() else len(text.encode("latin-1").decode("utf-8", "replace"))


WIDTHS: dict[str, Width] = {"bytes": len, "scalars": _scalars}
"""The two ways to measure a text, by the name that selects them."""


def format_items(items: Sequence[Item], width: Width) -> str:
    """The items of a file, one below the other, without a line end after the last."""
    return "\n".join([_format_item(item, 0, width) for item in items])


def _format_item(item: Item, column: int, width: Width) -> str:
    match item:
        case ("section", kind, name, inside, _):
            title = f"{kind} {_quoted(name)} {{" if name is not None else f"{kind} {{"
            return _block(title, [_format_item(inner, column + 2, width) for inner in inside], "}", column)
        case ("field", _, ("list", () | (("list", ()),)), _):
            return ""
        case ("field", name, ("list", values), _) if any(map(_is_long, values)) or _are_many(values):
            return _block(f"{name}: [", [_fill(value, column + 2, width) for value in values], "]", column)
        case ("field", name, value, _):
            line = f"{name}: {flat(value)}"
            if width(line) < MARGIN - column or (isinstance(value, str) and "\n" in value):
                return line
            if isinstance(value, str):
                return f"{name}:\n{' ' * (column + 2)}{flat(value)}"
            return lay_out(_field_tokens(name, value), column, width)
    raise AssertionError(item)


def _is_long(value: Value) -> bool:
    """Whether opam gives the value a line of its own in the list of a field."""
    match value:
        case ("list", _) | ("option", _, (_, *_)):
            return True
    return False


def _are_many(values: Sequence[Value]) -> bool:
    """Whether these are texts, and more than a line can take: two quotes and a space are all that each needs."""
    return len(values) > MARGIN // 3 and all(isinstance(value, str) and "\n" not in value for value in values)


def _block(head: str, lines: Sequence[str], tail: str, column: int) -> str:
    margin = "\n" + " " * column
    return head + margin + "  " + (margin + "  ").join(lines) + margin + tail


def _fill(value: Value, column: int, width: Width) -> str:
    text = flat(value)
    if width(text) < MARGIN - column:
        return text
    tokens: list[Token] = []
    _emit(value, tokens)
    return lay_out(tokens, column, width)


def flat(value: Value) -> str:
    """A value on one line (but for the line ends within strings)."""
    if isinstance(value, str):
        return _quoted_lines(value) if "\n" in value else _quoted(value)
    match value:
        case ("ident", str(name)):
            return name
        case bool():
            return "true" if value else "false"
        case ("option", inner, values):
            return f"{flat(inner)} {{{' '.join([flat(item) for item in values])}}}"
        case ("list", values):
            return f"[{' '.join([flat(item) for item in values])}]"
        case ("group", values):
            return f"({' '.join([flat(item) for item in values])})"
        case ("prefix_relop", op, right):
            return f"{op} {flat(right)}"
        case ("pfxop", op, right):
            return f"{op}{flat(right)}"
        case ("relop" | "logop" | "env", op, left, right):
            return f"{flat(left)} {op} {flat(right)}"
    return str(value)


def _quoted(text: str) -> str:
    return f'"{_SPECIAL.sub(_escape, text)}"' if '"' in text or "\\" in text else f'"{text}"'


def _quoted_lines(text: str) -> str:
    return '"""' + ("" if text.startswith("\n") else "\\\n") + _SPECIAL_IN_LINES.sub(_escape, text) + '"""'


def _escape(match: re.Match[str]) -> str:
    return "\\" + match[0]


def _field_tokens(name: str, value: Value) -> list[Token]:
    match value:
        case ("list", values):
            tokens: list[Token] = [("hv", 0), f"{name}: [", INDENT, ("hv", 0)]
            _emit_all(values, tokens)
            return [*tokens, None, CUT, "]", None]
        case _:
            tokens = [("hov", 2), f"{name}:", SPACE]
            _emit(value, tokens)
            return [*tokens, None]


def _emit(value: Value, tokens: list[Token]) -> None:
    match value:
        case ("relop" | "logop" | "env" as kind, op, left, right):
            tokens.append(("hv" if kind == "logop" else "h", 0))
            _emit(left, tokens)
            tokens += (f" {op}", SPACE)
            _emit(right, tokens)
        case ("prefix_relop", op, right):
            tokens += (("h", 0), op, SPACE)
            _emit(right, tokens)
        case ("pfxop", op, right):
            tokens += (("h", 0), op)
            _emit(right, tokens)
        case ("list", values):
            tokens += (("hv", 0), "[", INDENT, ("hv", 0))
            _emit_all(values, tokens)
            tokens += (None, CUT, "]")
        case ("group", values):
            tokens += (("hv", 0), "(")
            _emit_all(values, tokens)
            tokens.append(")")
        case ("option", inner, values):
            tokens.append(("hov", 2))
            _emit(inner, tokens)
            tokens += (SPACE, "{", ("hv", 0))
            _emit_all(values, tokens)
            tokens += (None, "}")
        case _:
            tokens.append(flat(value))
            return
    tokens.append(None)


def _emit_all(values: Sequence[Value], tokens: list[Token]) -> None:
    for number, value in enumerate(values):
        if number:
            tokens.append(SPACE)
        _emit(value, tokens)
