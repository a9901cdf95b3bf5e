"""The fields of an opam file that are lists, with the shape that each must have."""

from __future__ import annotations

from obuild.opam.filter import read_filter, write_filter
from obuild.opam.formula import read_items, write_conjunction
from obuild.opam.package import valid_name
from obuild.opam.shape import (
    WrongShape,
    elements,
    listed,
    option,
    read_checksum,
    read_ident,
    read_text,
    with_option,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from obuild.opam.filter import Filter
    from obuild.opam.syntax import Value

__all__ = ["DEPTHS", "READERS", "read_depexts", "read_package_name", "valid_rewrite"]


def read_command(value: Value) -> Value:
    """A list of arguments; it and each of them may have a filter."""
    command, values = option(value)
    match command:
        case ("list", arguments):
            whole = ("list", tuple([_read_argument(argument) for argument in arguments]))
            return with_option(whole, write_filter(read_filter(values)))
    raise WrongShape("expected a command: a list of arguments", value)


def _read_argument(value: Value) -> Value:
    if isinstance(value, str):
        return value
    argument, values = option(value)
    match argument:
        case str() | ("ident", _):
            return with_option(argument, write_filter(read_filter(values))) if values else argument
    raise WrongShape("expected an argument: a string or a variable", value)


def read_filtered_text(value: Value) -> Value:
    """A string that may have a filter."""
    text, values = option(value)
    return with_option(read_text(text), write_filter(read_filter(values)))


def read_update(value: Value) -> Value:
    """An update of the environment: `NAME op "text"`, alone in a list."""
    match value:
        case ("list", (update,)):
            pass
        case update:
            pass
    match update:
        case ("relop", "=", ("ident", _) as name, str(text)):
            return ("list", (("env", "=", name, text),))
        case ("env", _, ("ident", _), str()):
            return ("list", (update,))
    raise WrongShape('expected an update of the environment: NAME = "text"', value)


def read_package_name(value: Value) -> Value:
    """A string that is a package name."""
    if not valid_name(read_text(value)):
        raise WrongShape(f'"{value}" is not a package name', value)
    return value


def read_named_checksum(value: Value) -> Value:
    """A file's name and checksum."""
    match value:
        case ("list", (name, checksum)):
            return ("list", (read_text(name), read_checksum(checksum)))
    raise WrongShape("expected the name and the checksum of a file", value)


def read_feature(value: Value) -> Value:
    """A variable, the formula that makes it true, and its description."""
    match value:
        case ("option", ("option", ("ident", _) as name, formula), (str(text),)):
            return ("option", ("option", name, write_conjunction(read_items(formula, "and"))), (text,))
    raise WrongShape('expected a feature: name {formula} {"description"}', value)


def read_depexts(value: Value) -> tuple[tuple[tuple[str, ...], Filter], ...]:
    """The system packages of each line of `depexts:`, sorted, with its filter."""
    try:
        return tuple([_read_depext(item) for item in elements(value, 2)])
    except WrongShape:
        pairs = [elements(item, 0) for item in elements(value, 3)]
        if any(len(pair) != 2 for pair in pairs):
            raise
        return tuple([(_texts(names), _all_tags(_texts(tags))) for tags, names in pairs])


def _read_depext(value: Value) -> tuple[tuple[str, ...], Filter]:
    names, values = option(value)
    return tuple(sorted(set(_texts(names)))), read_filter(values)


def _texts(value: Value) -> tuple[str, ...]:
    return tuple([read_text(item) for item in elements(value, 0)])


def _all_tags(tags: tuple[str, ...]) -> Filter:
    """The filter that opam makes of the tags of its old format; halved, because a line may have thousands of them."""
    if not tags:
        return True
    if len(tags) == 1:
        return tags[0]
    middle = len(tags) // 2
    return ("logop", "&", _all_tags(tags[:middle]), _all_tags(tags[middle:]))


def valid_rewrite(value: Value) -> bool:
    """Whether opam 2.2 and later can read `x-env-path-rewrite`: they give up the whole file when they can not."""
    match value:
        case ("list", rules):
            return all(map(_valid_rule, rules))
    return False


def _valid_rule(rule: Value) -> bool:
    match rule:
        case ("list", (("ident", _), False)):
            return True
        case ("list", (("ident", _), separator, format)):
            return _all_words(separator, _SEPARATORS) and _all_words(format, _PATH_FORMATS)
    return False


def _all_words(value: Value, words: frozenset[str]) -> bool:
    """Whether a formula, of strings with filters, has no other strings than `words`."""
    match value:
        case str():
            return value in words
        case ("group", inner):
            return all(_all_words(item, words) for item in inner)
        case ("logop", _, left, right):
            return _all_words(left, words) and _all_words(right, words)
        case ("option", str(word), condition):
            return word in words and _readable(condition)
    return False


def _readable(condition: tuple[Value, ...]) -> bool:
    try:
        read_filter(condition)
    except WrongShape:
        return False
    return True


_SEPARATORS = frozenset((":", ";"))
_PATH_FORMATS = frozenset(("host", "host-quoted", "target", "target-quoted"))

_SHAPES: dict[str, tuple[int, Callable[[Value], Value]]] = {
    "build": (2, read_command),
    "build-doc": (2, read_command),
    "build-env": (2, read_update),
    "build-test": (2, read_command),
    "conflict-class": (1, read_package_name),
    "extra-files": (2, read_named_checksum),
    "features": (1, read_feature),
    "flags": (1, read_ident),
    "install": (2, read_command),
    "messages": (1, read_filtered_text),
    "patches": (1, read_filtered_text),
    "post-messages": (1, read_filtered_text),
    "remove": (2, read_command),
    "run-test": (2, read_command),
    "setenv": (2, read_update),
    "substs": (1, read_text),
    "tags": (1, read_text),
}

DEPTHS = {name: depth for name, (depth, _) in _SHAPES.items()}
"""How many pairs of brackets a field may leave out."""

READERS = {name: listed(read, depth) for name, (depth, read) in _SHAPES.items()}
"""What reads a field's value into its elements. Each raises `WrongShape`."""
