"""Filters: the conditions of opam files, such as `os = "linux" & !with-test`.

A filter is a value of the syntax tree without groups and numbers:

    bool │ str │ ("ident", text) │ ("pfxop", "!" or "?", filter)
         │ ("relop", op, left, right) │ ("logop", "&" or "|", left, right)

Evaluation has three results: a boolean, a string, or undefined. Variables come from a `Lookup`, which is given a
variable's whole text (`os`, `_:version`, `ocaml:native`) and answers None for one it does not know; the `get` of a
dictionary is a `Lookup`. Rules: opam's manual, "Filters", and where that is silent what opam 2.1 to 2.6 do.
"""

from __future__ import annotations

import re
from functools import lru_cache

from obuild.opam.shape import WrongShape
from obuild.opam.version import holds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, TypeAlias

    from obuild.opam.syntax import Value

    Filter: TypeAlias = bool | str | tuple[Any, ...]
    Contents: TypeAlias = bool | str | tuple[str, ...]
    Lookup: TypeAlias = Callable[[str], Contents | None]

__all__ = [
    "evaluate",
    "expand",
    "partial",
    "read_filter",
    "resolve",
    "satisfied",
    "variables",
    "write_filter",
]

# "%%", "%{name}%", or a "%{name" that nobody closed
_INTERPOLATION = re.compile(r"%%|%\{((?:[^}\n]|\}(?:[^%\n]|\Z))*)(\}%)?")

# What a filter stands in, in the order in which it needs parentheses there.
_TOP, _OR, _AND, _PREFIX, _RELATION = range(5)


def read_filter(values: tuple[Value, ...]) -> Filter:
    """The filter written as the contents of braces or of `available:`; none at all is true. Raises `WrongShape`."""
    if not values:
        return True
    if len(values) > 1:
        raise WrongShape("expected a single filter", values[1])
    match values[0]:
        case ("group", (inner,)):
            return _read(inner)
        case ("group", _):
            raise WrongShape("expected a single filter", values[0])
        case single:
            return _read(single)


def _read(value: Value) -> Filter:
    match value:
        case bool() | str() | ("ident", _):
            return value
        case int():
            return str(value)
        case ("group", inner):
            return read_filter(inner)
        case ("relop" | "logop" as kind, op, left, right):
            return (kind, op, _read(left), _read(right))
        case ("pfxop", op, inner):
            return ("pfxop", op, _read(inner))
        case _:
            raise WrongShape("expected a filter", value)


def write_filter(filter: Filter) -> tuple[Value, ...]:
    """The contents of the braces that say `filter`, parenthesised only where needed; () for a filter that is true."""
    return () if filter is True else (_write(filter, _TOP),)


def _write(filter: Filter, context: int) -> Value:
    match filter:
        case ("relop", op, left, right):
            value: Value = ("relop", op, _write(left, _RELATION), _write(right, _RELATION))
            return ("group", (value,)) if context > _AND else value
        case ("logop", "&", left, right):
            value = ("logop", "&", _write(left, _AND), _write(right, _AND))
            return ("group", (value,)) if context > _AND else value
        case ("logop", op, left, right):
            value = ("logop", op, _write(left, _OR), _write(right, _OR))
            return ("group", (value,)) if context > _OR else value
        case ("pfxop", op, inner):
            value = ("pfxop", op, _write(inner, _PREFIX))
            return ("group", (value,)) if context == _RELATION else value
        case _:
            return filter


def evaluate(filter: Filter, lookup: Lookup) -> bool | str | None:
    """What `filter` comes to, None when undefined; an undefined variable within a string is empty."""
    result = _reduce(filter, lookup, False)
    return None if isinstance(result, tuple) else result


def satisfied(filter: Filter, lookup: Lookup) -> bool:
    """Whether `filter` comes to true; undefined and other strings than "true" do not."""
    return _truth(_reduce(filter, lookup, False)) is True


def partial(filter: Filter, lookup: Lookup) -> Filter:
    """`filter` with all that `lookup` decides replaced by its result; the rest is left for a later evaluation."""
    result = _reduce(filter, lookup, True)
    return _escape(_plain(result) if isinstance(result, tuple) else result, of=result)


def expand(text: str, lookup: Lookup) -> str:
    """`text` with each `%{variable}%` replaced, by nothing when undefined, and `%%` by `%`."""
    return _INTERPOLATION.sub(lambda match: _replacement(match, lookup) or "", text) if "%" in text else text


def resolve(ident: str, lookup: Lookup, *, keep: bool = False) -> Contents | None:
    """The contents of the variable `ident`, None when undefined.

    `a+b:v` is true when `v` is true in all the packages; `v?yes:no` is one of two strings, the second also when `v` is
    undefined (unless `keep`); `a:enable` is short for `a:installed?enable:disable`.
    """
    names, choice = _parse_ident(ident)
    found = lookup(names[0]) if len(names) == 1 else _all(names, lookup)
    if choice is None:
        return found
    truth = _truth(found)
    if truth is None and keep:
        return found
    return choice[0] if truth else choice[1]


def variables(filter: Filter) -> Iterator[str]:
    """The whole texts of the variables that `filter` may ask for, also those within strings."""
    match filter:
        case bool():
            return
        case str():
            for match in _INTERPOLATION.finditer(filter):
                if match[2]:
                    yield from _parse_ident(match[1])[0]
        case ("ident", name):
            yield from _parse_ident(name)[0]
        case (_, _, *parts):
            for part in parts:
                yield from variables(part)


def _reduce(filter: Filter, lookup: Lookup, keep: bool) -> Filter:
    """A boolean or string, or a tuple when undefined: what is left of the filter, ("string", text) for a text."""
    if isinstance(filter, bool):
        return filter
    if isinstance(filter, str):
        return _interpolate(filter, lookup, keep) if "%" in filter else filter
    kind = filter[0]
    if kind == "ident":
        found = resolve(filter[1], lookup, keep=keep)
        text = " ".join(found) if isinstance(found, tuple) else found
        # opam reads the contents of a variable as a text with variables once more.
        return filter if text is None else _interpolate(text, lookup, keep) if isinstance(text, str) else text
    if kind == "pfxop":
        return _prefix(filter[1], _reduce(filter[2], lookup, keep))
    left, right = _reduce(filter[2], lookup, keep), _reduce(filter[3], lookup, keep)
    return _join(filter[1], left, right) if kind == "logop" else _relate(filter[1], left, right)


def _prefix(op: str, inner: Filter) -> Filter:
    if op == "?":
        return not isinstance(inner, tuple)
    truth = _truth(inner)
    return ("pfxop", "!", _plain(inner)) if truth is None else not truth


def _join(op: str, left: Filter, right: Filter) -> Filter:
    decisive = op == "|"
    if left is decisive or right is decisive:
        return decisive
    a, b = _truth(left), _truth(right)
    if a is None or b is None:
        return ("logop", op, _plain(left), _plain(right))
    return (a or b) if decisive else (a and b)


def _relate(op: str, left: Filter, right: Filter) -> Filter:
    if isinstance(left, tuple) or isinstance(right, tuple):
        return ("relop", op, _escape(_plain(left), of=left), _escape(_plain(right), of=right))
    return holds(_text(left), op, _text(right))


def _truth(result: Filter | Contents | None) -> bool | None:
    """The boolean that a result stands for: itself, or the text of one."""
    if isinstance(result, bool) or result is None:
        return result
    if isinstance(result, tuple):
        return _truth(result[0]) if len(result) == 1 else None
    return {"true": True, "false": False}.get(result)


def _text(result: bool | str) -> str:
    return result if isinstance(result, str) else "true" if result else "false"


def _plain(result: Filter) -> Filter:
    return result[1] if isinstance(result, tuple) and result[0] == "string" else result


def _escape(plain: Filter, *, of: Filter) -> Filter:
    """A text that is decided must survive a second evaluation, one that is not keeps its variables."""
    return plain.replace("%", "%%") if isinstance(of, str) and isinstance(plain, str) else plain


def _interpolate(text: str, lookup: Lookup, keep: bool) -> Filter:
    if not keep:
        return expand(text, lookup)
    found = {match[0]: _replacement(match, lookup) for match in _INTERPOLATION.finditer(text)}
    if None not in found.values():
        return _INTERPOLATION.sub(lambda match: found[match[0]] or "", text)
    return ("string", _INTERPOLATION.sub(lambda match: _kept(match, lookup), text))


def _replacement(match: re.Match[str], lookup: Lookup) -> str | None:
    if match[0] == "%%":
        return "%"
    if not match[2]:
        return match[0]
    found = resolve(match[1], lookup)
    return found if found is None else " ".join(found) if isinstance(found, tuple) else _text(found)


def _kept(match: re.Match[str], lookup: Lookup) -> str:
    if match[0] == "%%" or not match[2]:
        return match[0]
    found = resolve(match[1], lookup, keep=True)
    if found is None:
        return match[0]
    return " ".join(found) if isinstance(found, tuple) else _text(found).replace("%", "%%")


def _all(names: tuple[str, ...], lookup: Lookup) -> bool | None:
    result: bool | None = True
    for name in names:
        if result is False:
            break
        found = lookup(name)
        if found is not True:
            result = _truth(found)
    return result


@lru_cache(4096)
def _parse_ident(ident: str) -> tuple[tuple[str, ...], tuple[str, str] | None]:
    """The whole texts of the variables that `ident` joins, and the two strings it chooses between."""
    front, colon, last = ident.rpartition(":")
    if not colon:
        return (ident,), None
    condition, question, positive = front.rpartition("?")
    if not question:
        return _scoped(front, last)
    if not condition:
        # `?a+b:v:` names the one package "a+b" (opam 2.2)
        package, colon, variable = positive.rpartition(":")
        return ((f"{package}:{variable}",) if colon else (last,)), None
    packages, colon, variable = condition.rpartition(":")
    names = _scoped(packages, variable)[0] if colon else (condition,)
    return names, (positive, last)


def _scoped(packages: str, variable: str) -> tuple[tuple[str, ...], tuple[str, str] | None]:
    if variable == "enable":
        return tuple(f"{package}:installed" for package in packages.split("+")), ("enable", "disable")
    return tuple(f"{package}:{variable}" for package in packages.split("+")), None
