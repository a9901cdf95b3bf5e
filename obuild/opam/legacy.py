"""Fields of opam 1 that opam 2 still reads: they become part of newer ones."""

from __future__ import annotations

from obuild.opam.shape import WrongShape, elements, read_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from obuild.opam.filter import Filter
    from obuild.opam.syntax import Value

__all__ = ["with_ocaml_version", "with_os"]

_OPPOSITE = {"=": "!=", "!=": "=", ">=": "<", ">": "<=", "<=": ">", "<": ">="}


def with_ocaml_version(value: Value, available: Filter) -> Filter:
    """`available` and what `ocaml-version:` asks for. Raises `WrongShape`."""
    return _and(_read_all(elements(value, 1), _ocaml_version, "&", negated=False), available)


def with_os(value: Value, available: Filter) -> Filter:
    """`available` and what `os:` asks for, nothing when that is an empty list. Raises `WrongShape`."""
    match value:
        case ("list", ()):
            return available
        case ("list", items):
            return _and(_read_all(items, _os, "|", negated=False), available)
        case _:
            return _and(_read(value, _os, "|", negated=False), available)


def _ocaml_version(value: Value, negated: bool) -> Filter:
    match value:
        case ("prefix_relop", op, str(version) | ("ident", "system" as version)):
            return ("relop", _OPPOSITE[op] if negated else op, ("ident", "ocaml-version"), version)
    raise WrongShape("expected a version constraint", value)


def _os(value: Value, negated: bool) -> Filter:
    return ("relop", "!=" if negated else "=", ("ident", "os"), read_text(value))


def _read(value: Value, leaf: Callable[[Value, bool], Filter], join: str, *, negated: bool) -> Filter:
    """The filter that an old constraint means; the elements of a group are joined by `join`."""
    match value:
        case ("logop", op, left, right):
            opposite = {"&": "|", "|": "&"}[op] if negated else op
            return ("logop", opposite, *[_read(side, leaf, join, negated=negated) for side in (left, right)])
        case ("group", inner):
            return _read_all(inner, leaf, join, negated=negated)
        case ("pfxop", "!", inner):
            return _read(inner, leaf, join, negated=not negated)
        case _:
            return leaf(value, negated)


def _read_all(values: Iterable[Value], leaf: Callable[[Value, bool], Filter], join: str, *, negated: bool) -> Filter:
    """The filters of several constraints joined; of none at all, true."""
    op = {"&": "|", "|": "&"}[join] if negated else join
    parts = [_read(value, leaf, join, negated=negated) for value in values]
    result: Filter = parts[0] if parts else True
    for part in parts[1:]:
        result = ("logop", op, result, part)
    return result


def _and(added: Filter, available: Filter) -> Filter:
    return added if available is True else ("logop", "&", added, available)
