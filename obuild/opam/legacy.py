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
    items = elements(value, 1)
    return _and(_joined("&", [_read(item, _ocaml_version, "&", negated=False) for item in items]), available)


def with_os(value: Value, available: Filter) -> Filter:
    """`available` and what `os:` asks for, nothing when that is empty. Raises `WrongShape`."""
    items = elements(value, 0) if isinstance(value, tuple) and value[0] == "list" else (value,)
    parts = [_read(item, _os, "|", negated=False) for item in items]
    return _and(_joined("|", parts), available) if any(part is not None for part in parts) else available


def _ocaml_version(value: Value, negated: bool) -> Filter:
    match value:
        case ("prefix_relop", op, str(version) | ("ident", "system" as version)):
            return ("relop", _OPPOSITE[op] if negated else op, ("ident", "ocaml-version"), version)
    raise WrongShape("expected a version constraint", value)


def _os(value: Value, negated: bool) -> Filter:
    return ("relop", "!=" if negated else "=", ("ident", "os"), read_text(value))


def _read(value: Value, leaf: Callable[[Value, bool], Filter], join: str, *, negated: bool) -> Filter | None:
    """The filter that an old constraint means; a group's elements are joined by `join`. None when it is empty."""
    match value:
        case ("logop", op, left, right):
            parts = [_read(left, leaf, join, negated=negated), _read(right, leaf, join, negated=negated)]
        case ("group", inner):
            op, parts = join, [_read(item, leaf, join, negated=negated) for item in inner]
        case ("pfxop", "!", inner):
            return _read(inner, leaf, join, negated=not negated)
        case _:
            return leaf(value, negated)
    return _joined({"&": "|", "|": "&"}[op] if negated else op, parts)


def _joined(op: str, parts: Iterable[Filter | None]) -> Filter | None:
    result: Filter | None = None
    for part in parts:
        if part is not None:
            result = part if result is None else ("logop", op, result, part)
    return result


def _and(added: Filter | None, available: Filter) -> Filter:
    first: Filter = True if added is None else added
    return first if available is True else ("logop", "&", first, available)
