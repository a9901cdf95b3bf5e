"""Package formulas: which packages, in which versions, under which conditions.

    formula    None │ ("atom", name, condition) │ ("block", formula) │ ("and" or "or", part, part, …)
    condition  None │ ("is", op, version) │ ("if", filter) │ ("block", condition) │ ("and" or "or", part, part, …)

None is empty. A block is a pair of parentheses that opam keeps when it prints. Parts associate to the left, so the
first part of an "and" is never one itself. A version is a filter that is a text or a variable. Formulas are tuples all
the way down: they can be marshalled, compared and kept in a dictionary.
"""

from __future__ import annotations

from obuild.opam.filter import evaluate, expand, partial, read_filter, satisfied, write_filter
from obuild.opam.package import valid_name
from obuild.opam.shape import WrongShape, option, read_text, with_option
from obuild.opam.version import holds, valid_version

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, TypeAlias

    from obuild.opam.filter import Filter, Lookup
    from obuild.opam.syntax import Value

    Tree: TypeAlias = tuple[Any, ...]
    Formula: TypeAlias = Tree | None
    Condition: TypeAlias = Tree | None

__all__ = [
    "alternatives",
    "atoms",
    "conjunction",
    "disjunction",
    "leaves",
    "meets",
    "partial_condition",
    "pieces",
    "read_condition",
    "read_conflicts",
    "read_depopts",
    "read_formula",
    "read_items",
    "resolve_condition",
    "resolve_formula",
    "write_condition",
    "write_conjunction",
    "write_disjunction",
]

_OPPOSITE = {"=": "!=", "!=": "=", ">=": "<", ">": "<=", "<=": ">", "<": ">="}
_KIND = {"&": "and", "|": "or"}
_LOGOP = {"and": "&", "or": "|"}


# Reading and printing


def read_condition(values: Iterable[Value]) -> Condition:
    """The condition written as the contents of an atom's braces. Raises `WrongShape`."""
    return _joined("and", [_read_condition(value) for value in values])


def _read_condition(value: Value) -> Condition:
    match value:
        case ("prefix_relop", op, version):
            return ("is", op, _read_version(version))
        case ("logop", op, left, right):
            return _joined(_KIND[op], [_read_condition(left), _read_condition(right)])
        case ("group", inner):
            return ("block", read_condition(inner))
        case ("pfxop", "!", inner):
            return _negated(_read_condition(inner))
        case _:
            return ("if", read_filter((value,)))


def _read_version(value: Value) -> Filter:
    match value:
        case ("ident", _):
            return value
        case str():
            if valid_version(expand(value, lambda _: "-")):
                return value
            raise WrongShape(f'"{value}" is not a version', value)
        case _:
            raise WrongShape("expected a version", value)


def _negated(condition: Condition) -> Condition:
    match condition:
        case ("is", op, version):
            return ("is", _OPPOSITE[op], version)
        case ("if", filter):
            return ("if", ("pfxop", "!", filter))
        case ("block", inner):
            return ("block", _negated(inner))
        case (kind, *parts):
            return _joined("or" if kind == "and" else "and", [_negated(part) for part in parts])
        case _:
            return None


def write_condition(condition: Condition) -> tuple[Value, ...]:
    """The contents of the braces that say `condition`."""
    return () if condition is None else (_write(condition, _write_leaf, inside_and=False),)


def _write_leaf(condition: Tree) -> Value:
    match condition:
        case ("is", op, version):
            return ("prefix_relop", op, version)
        case ("if", filter):
            return next(iter(write_filter(filter)), ("group", ()))
        case ("block", inner):
            return ("group", write_condition(inner))
    raise AssertionError(condition)


def read_formula(value: Value, kind: str) -> Formula:
    """The formula that a field holds, the elements of its list joined by `kind`, "and" or "or". Raises `WrongShape`."""
    match value:
        case ("list", items):
            return read_items(items, kind)
        case _:
            return read_items((value,), kind)


def read_items(values: Iterable[Value], kind: str) -> Formula:
    """The formula of the elements of a list, joined by `kind`. Raises `WrongShape`."""
    return _joined(kind, [_read_formula(value, kind) for value in values])


def _read_formula(value: Value, kind: str) -> Formula:
    match value:
        case str() | ("option", _, _):
            name, values = option(value)
            if not valid_name(read_text(name)):
                raise WrongShape(f'"{name}" is not a package name', value)
            return ("atom", name, read_condition(values))
        case ("group", inner):
            return ("block", read_items(inner, kind))
        case ("logop", op, left, right):
            return _joined(_KIND[op], [_read_formula(left, kind), _read_formula(right, kind)])
        case _:
            raise WrongShape("expected a package", value)


def read_depopts(value: Value) -> Formula:
    """The formula of `depopts:`, always alternatives: opam takes every other formula apart into its atoms."""
    found: list[Tree] = []
    for part in alternatives(read_formula(value, "or")):
        inner = [("atom", name, condition) for name, condition in atoms(part)]
        found += reversed(inner)
    return _joined("or", found)


def read_conflicts(value: Value) -> Formula:
    """The formula of `conflicts:`, where opam takes every `&` for a `|`."""
    formula = read_formula(value, "or")
    if all(part[0] == "atom" for part in alternatives(formula)):
        return formula
    return _disjunctive(formula)


def _disjunctive(formula: Formula) -> Formula:
    match formula:
        case ("block", inner):
            return ("block", _disjunctive(inner))
        case ("and" | "or", *parts):
            return _joined("or", [_disjunctive(part) for part in parts])
        case _:
            return formula


def write_conjunction(formula: Formula) -> tuple[Value, ...]:
    """The elements of the list that says `formula` in `depends:`."""
    return tuple([_write(part, _write_atom, inside_and=False) for part in conjunction(formula)])


def write_disjunction(formula: Formula) -> tuple[Value, ...]:
    """The elements of the list that says `formula` in `depopts:` and `conflicts:`."""
    return tuple([_write(part, _write_atom, inside_and=False) for part in disjunction(formula)])


def _write_atom(formula: Tree) -> Value:
    match formula:
        case ("atom", name, condition):
            return with_option(name, write_condition(condition))
        case ("block", None):
            return ("group", ())
        case ("block", inner):
            return ("group", (_write(inner, _write_atom, inside_and=False),))
    raise AssertionError(formula)


def _write(tree: Tree, leaf: Callable[[Tree], Value], *, inside_and: bool) -> Value:
    kind = tree[0]
    if kind not in _LOGOP:
        return leaf(tree)
    first, *rest = [_write(part, leaf, inside_and=kind == "and") for part in tree[1:]]
    for value in rest:
        first = ("logop", _LOGOP[kind], first, value)
    return ("group", (first,)) if inside_and and kind == "or" else first


def _joined(kind: str, parts: Iterable[Tree | None]) -> Tree | None:
    """`parts` joined by "and" or "or", the empty ones left out."""
    present = [part for part in parts if part is not None]
    if len(present) < 2:
        return present[0] if present else None
    first = present[0]
    return (*first, *present[1:]) if first[0] == kind else (kind, *present)


# Taking apart


def conjunction(formula: Formula) -> list[Tree]:
    """What must all hold, blocks in one piece."""
    match formula:
        case None:
            return []
        case ("and", *parts):
            return [piece for part in parts for piece in conjunction(part)]
        case _:
            return [formula]


def pieces(formula: Formula) -> list[Tree]:
    """What must all hold, without any blocks around it: atoms and alternatives."""
    match formula:
        case None:
            return []
        case ("block", inner):
            return pieces(inner)
        case ("and", *parts):
            return [piece for part in parts for piece in pieces(part)]
        case _:
            return [formula]


def disjunction(formula: Formula) -> list[Tree]:
    """The alternatives, also those in a block of alternatives; other blocks in one piece."""
    match formula:
        case None:
            return []
        case ("or", *parts) | ("block", ("or", *parts)):
            return [piece for part in parts for piece in disjunction(part)]
        case _:
            return [formula]


def alternatives(formula: Formula) -> list[Tree]:
    """The alternatives, without any blocks around them."""
    match formula:
        case None:
            return []
        case ("block", inner):
            return alternatives(inner)
        case ("or", *parts):
            return [piece for part in parts for piece in alternatives(part)]
        case _:
            return [formula]


def atoms(formula: Formula) -> Iterator[tuple[str, Condition]]:
    """Every package name with its condition, from left to right."""
    match formula:
        case ("atom", name, condition):
            yield name, condition
        case ("block", inner):
            yield from atoms(inner)
        case (_, *parts):
            for part in parts:
                yield from atoms(part)


def leaves(condition: Condition) -> Iterator[tuple[str, str]]:
    """Every comparison `(op, version)` of a resolved condition."""
    match condition:
        case ("is", op, version):
            yield op, version
        case (_, *parts):
            for part in parts:
                yield from leaves(part)


# Evaluating


def partial_condition(condition: Condition, lookup: Lookup) -> Condition | bool:
    """`condition` with all that `lookup` decides replaced by its result: True, False, or what is left."""
    return _decided(condition, lambda leaf: _partial_leaf(leaf, lookup))


def _partial_leaf(leaf: Tree, lookup: Lookup) -> Condition | bool:
    found = partial(leaf[-1], lookup)
    if leaf[0] == "is":
        return ("is", leaf[1], found if not isinstance(found, bool) else "true" if found else "false")
    return found if isinstance(found, bool) else ("if", found)


def resolve_condition(condition: Condition, lookup: Lookup) -> Condition | bool:
    """True, False, or the comparisons left, each ("is", op, text), without blocks.

    What is undefined is false; a comparison with an undefined or impossible version is empty: it imposes nothing.
    """
    return _decided(condition, lambda leaf: _resolve_leaf(leaf, lookup))


def _resolve_leaf(leaf: Tree, lookup: Lookup) -> Condition | bool:
    if leaf[0] == "if":
        return satisfied(leaf[1], lookup)
    version = leaf[2]
    if not isinstance(version, str) or "%" in version:
        version = evaluate(version, lookup)
        if isinstance(version, bool):
            version = "true" if version else "false"
        if version is None or not valid_version(version):
            return None
    return ("is", leaf[1], version)


def _decided(condition: Condition, decide: Callable[[Tree], Condition | bool]) -> Condition | bool:
    """`condition` with each leaf decided: a true part of an "and" and a false part of an "or" vanish."""
    if condition is None:
        return None
    kind = condition[0]
    if kind == "block":
        return _decided(condition[1], decide)
    if kind not in _LOGOP:
        return decide(condition)
    neutral = kind == "and"
    kept: list[Condition] = []
    for part in condition[1:]:
        found = _decided(part, decide)
        if found is (not neutral):
            return not neutral
        if not isinstance(found, bool):
            kept.append(found)
    return neutral if not kept else kept[0] if len(kept) == 1 else (kind, *kept)


def resolve_formula(formula: Formula, lookup: Lookup) -> Formula:
    """`formula` with its conditions resolved: an atom whose condition is false vanishes, one that is true has None."""
    match formula:
        case ("atom", name, condition):
            found = resolve_condition(condition, lookup)
            return None if found is False else ("atom", name, None if found is True else found)
        case ("block", inner):
            inner = resolve_formula(inner, lookup)
            return inner and ("block", inner)
        case (kind, *parts):
            return _joined(kind, [resolve_formula(part, lookup) for part in parts])
        case _:
            return None


def meets(version: str, condition: Condition) -> bool:
    """Whether `version` is one that a resolved condition allows."""
    if condition is None:
        return True
    if condition[0] == "is":
        return holds(version, condition[1], condition[2])
    check = all if condition[0] == "and" else any
    return check(meets(version, part) for part in condition[1:])
