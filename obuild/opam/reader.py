"""The fast way through an opam file that is as it should be: one pass over its tokens, without recursion.

What it returns is equal to what the grammar says: `tests/test_opam_syntax.py` compares them on every file there is.
Anything wrong is a `ValueError` without words; the grammar, ten times slower, then says what and where. Only what nests
too deep is told here, before a grammar spends its time on it.
"""

from __future__ import annotations

from obuild.opam.lexer import Unreadable, number, string, tokens

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from obuild.opam.syntax import File, Value

__all__ = ["DEPTH", "read"]

DEPTH = 200
"""How deep a value may nest, each bracket and each operator counting one, so that its readers may recurse."""

_RELATIONS = dict.fromkeys(("=", "!=", "<", "<=", ">", ">=", "~"), "relop") | dict.fromkeys(
    ("+=", ":=", "=+", "=:", "=+="), "env"
)
_AND, _OR, _NOT, _DEFINED = ("&",), ("|",), ("!",), ("?",)
_OPERATORS = {"&": _AND, "|": _OR, "!": _NOT, "?": _DEFINED}
_OPENS = {"[", "(", "{"}
_CLOSES = {"]": "[", ")": "(", "}": "{"}
_NAME_STARTS = frozenset("-_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
_CONTINUES = {"{", "&", "|", *_RELATIONS}

_known: dict[str, Value] = {}
"""Values of short tokens met before: files say much the same, and what is equal then shares its memory."""
_KNOWN = 50_000


class _TooDeep(Exception):
    """The token number `args[0]` opens one bracket too many."""


def read(text: str) -> File:
    """The items of a text that has no `(* … *)` comments. Raises `ValueError`, and `Unreadable` for deep nesting."""
    pieces = tokens(text)
    try:
        return _items(pieces, [*pieces[1::3], "", "", ""])
    except _TooDeep as error:
        raise Unreadable(
            f"brackets nest more than {DEPTH} deep", sum(map(len, pieces[: 3 * error.args[0] + 1]))
        ) from None


def _items(pieces: list[str], words: list[str]) -> File:
    at, offset, counted = 1, 0, 0
    items: list[Any] = []
    sections: list[tuple[list[Any], str, str | None, int]] = []
    while word := words[at]:
        offset += sum(map(len, pieces[counted : 3 * at + 1]))
        counted = 3 * at + 1
        if word == "}" and sections:
            inside = tuple(items)
            items, kind, name, start = sections.pop()
            items.append(("section", kind, name, inside, start))
            at += 1
        elif type(_atom(word)) is not tuple:
            raise ValueError
        elif words[at + 1] == ":":
            begin = at
            value, at = _value(words, at + 2)
            if at - begin > DEPTH:
                _check_depth(word, value, offset)
            items.append(("field", word, value, offset))
        else:
            name, at = _head(words, at + 1)
            if len(sections) == DEPTH:
                raise _TooDeep(at - 1)
            sections.append((items, word, name, offset))
            items = []
    if sections:
        raise ValueError
    return tuple(items)


def _head(words: list[str], at: int) -> tuple[str | None, int]:
    """A section's name, if it has one, and the place after its opening brace."""
    name = None
    if words[at][:1] == '"':
        name, at = str(_atom(words[at])), at + 1
    if words[at] != "{":
        raise ValueError
    return name, at + 1


def _value(words: list[str], at: int) -> tuple[Value, int]:
    """The value that begins at a token, and the place after it.

    `values` is what the innermost open bracket holds so far, `marks` counts the operators among it, which are applied
    when the bracket closes.
    """
    outer: list[tuple[str, list[Any], int]] = []
    values: list[Any] = []
    marks = 0
    while True:
        word = words[at]
        at += 1
        if word in _RELATIONS:
            _relate(values, word, _atom(words[at]))
            at += 1
        elif word in _OPENS:
            if len(outer) == DEPTH:
                raise _TooDeep(at - 1)
            outer.append((word, values, marks))
            values, marks = [], 0
            continue
        elif word in _CLOSES:
            inside = tuple(_apply(values) if marks else values)
            opened, values, marks = outer.pop() if outer else ("", [], 0)
            if opened != _CLOSES[word]:
                raise ValueError
            _close(values, word, inside)
        elif word in _OPERATORS:
            values.append(_OPERATORS[word])
            marks += 1
            continue
        else:
            values.append(_atom(word))
        if not outer and words[at] not in _CONTINUES:
            return _only(values, marks), at


def _only(values: list[Any], marks: int) -> Value:
    value, *rest = _apply(values) if marks else values
    if rest:
        raise ValueError
    return value  # type: ignore[no-any-return]


def _relate(values: list[Any], op: str, right: Value) -> None:
    """Apply a relation to the atom just before it; one of the kind `>= "1"` can also stand alone."""
    kind = _RELATIONS[op]
    left = values[-1] if values else ()
    if type(left) is not tuple or left[:1] == ("ident",):
        values[-1] = (kind, op, left, right)
    elif kind == "relop":
        values.append(("prefix_relop", op, right))
    else:
        raise ValueError


def _close(values: list[Any], bracket: str, inside: tuple[Value, ...]) -> None:
    if bracket == "]":
        values.append(("list", inside))
    elif bracket == ")":
        values.append(("group", inside))
    elif values and values[-1] not in _OPERATORS.values():
        values[-1] = ("option", values[-1], inside)
    else:
        raise ValueError


def _atom(word: str) -> Value:
    value = _known.get(word)
    if value is None:
        value = _new_atom(word)
        if len(word) < 50:
            if len(_known) >= _KNOWN:
                _known.clear()
            _known[word] = value
    return value


def _new_atom(word: str) -> Value:
    try:
        if word[:1] == '"':
            return string(word)
        if word in ("true", "false"):
            return word == "true"
        if word[:1] in "_-0123456789" and not word.strip("_-0123456789"):
            return number(word)
        if word[:1] in _NAME_STARTS:
            return ("ident", word)
        raise ValueError
    except Unreadable:
        raise ValueError from None


def _apply(values: list[Any]) -> list[Any]:
    """Values with the operators between them applied: prefixes first, then `&`, then `|`, each from the left."""
    done = []
    at = 0
    while at < len(values):
        value, at = _either(values, at)
        done.append(value)
    return done


def _either(values: list[Any], at: int) -> tuple[Value, int]:
    left, at = _both(values, at)
    while at < len(values) and values[at] is _OR:
        right, at = _both(values, at + 1)
        left = ("logop", "|", left, right)
    return left, at


def _both(values: list[Any], at: int) -> tuple[Value, int]:
    left, at = _prefixed(values, at)
    while at < len(values) and values[at] is _AND:
        right, at = _prefixed(values, at + 1)
        left = ("logop", "&", left, right)
    return left, at


def _prefixed(values: list[Any], at: int) -> tuple[Value, int]:
    begin = at
    while at < len(values) and (values[at] is _NOT or values[at] is _DEFINED):
        at += 1
    if at == len(values) or values[at] is _AND or values[at] is _OR:
        raise ValueError
    value = values[at]
    for mark in reversed(values[begin:at]):
        value = ("pfxop", mark[0], value)
    return value, at + 1


def _check_depth(name: str, value: Value, offset: int) -> None:
    """Raises `Unreadable` when the value of the field `name`, which is at `offset`, nests deeper than `DEPTH`.

    What stands side by side in parentheses or braces is joined by operators when it is read: it counts as those.
    """
    agenda = [(value, 0)]
    while agenda:
        each, depth = agenda.pop()
        if isinstance(each, tuple):
            parts = _parts(each)
            depth += len(parts) if each[0] in ("group", "option") else 1
            if depth > DEPTH:
                raise Unreadable(f'the value of "{name}" nests more than {DEPTH} deep', offset)
            agenda += [(part, depth) for part in parts]


def _parts(value: tuple[Any, ...]) -> tuple[Value, ...]:
    match value:
        case ("list" | "group", values):
            return values  # type: ignore[no-any-return]
        case ("option", inner, values):
            return (inner, *values)
        case ("logop" | "pfxop", _, *operands):
            return tuple(operands)
        case _:
            return ()
