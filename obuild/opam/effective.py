"""The effective part of an opam file: what opam takes for a change of the package when it changes.

It is a file again, with what matters in opam's normal form, and its text is what opam's build-id hashes. Which parts
matter, and how they are printed, changed between opam's releases; a level names the releases that agree:

    2.1   2.1.0 to 2.1.6      2.3   2.3.x      2.5   2.5.x, 2.6.0, 2.6.1
    2.2   2.2.0, 2.2.1        2.4   2.4.x
"""

from __future__ import annotations

from hashlib import md5, sha256

from obuild.errors import OpamError, Problem, UsageError
from obuild.opam.field import DEPTHS
from obuild.opam.filter import write_filter
from obuild.opam.format import WIDTHS, format_items
from obuild.opam.formula import write_conjunction, write_disjunction
from obuild.opam.shape import lowered
from obuild.opam.source import NOWHERE
from obuild.opam.version import holds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from obuild.opam.filter import Filter
    from obuild.opam.opamfile import OpamFile
    from obuild.opam.source import Source
    from obuild.opam.syntax import Item, Value

__all__ = [
    "LEVELS",
    "command_fields",
    "effective_hash",
    "effective_items",
    "effective_text",
    "last_fields",
    "parse_level",
    "relation_fields",
    "usual_width",
]

LEVELS = ("2.1", "2.2", "2.3", "2.4", "2.5")
"""The levels of compatibility, oldest first. They compare as texts."""


def parse_level(opam_version: str) -> str:
    """The level of an opam release, the newest for releases after it. Raises `UsageError` for one before 2.1."""
    found = [level for level in LEVELS if holds(opam_version, ">=", f"{level}~")]
    if not found or not opam_version[:1].isdigit():
        raise UsageError(
            f'there is no compatibility level for opam "{opam_version}"', hint=f"one of {', '.join(LEVELS)}, or later"
        )
    return found[-1]


def usual_width(level: str) -> str:
    """How opams of a level measure texts, as far as one can know: those before 2.4 are older than OCaml 5.4."""
    return "bytes" if level < "2.4" else "scalars"


def effective_text(file: OpamFile, *, level: str, width: str) -> str:
    """The text of the effective part, one character per byte. Raises `OpamError` for a file that opam refuses.

    `width` is "bytes" or "scalars": how opam, depending on the OCaml that compiled it, measures texts.
    """
    refusal = file.refusal(level)
    if refusal:
        raise OpamError([Problem(refusal, str(file.package))])
    return format_items(tuple(effective_items(file, level)), WIDTHS[width])


def effective_hash(file: OpamFile, *, level: str, width: str) -> str:
    """The SHA-256 of the effective text, in hexadecimal."""
    return sha256(effective_text(file, level=level, width=width).encode("latin-1")).hexdigest()


def effective_items(file: OpamFile, level: str) -> Iterator[Item]:
    """The items of the effective part, in the order that opam prints them in."""
    for name, value in _fields(file, level):
        if value not in (("list", ()), ("group", ())):
            yield ("field", name, value, 0)
    if file.url:
        yield ("section", "url", None, _reduced(file.url), 0)
    for name, source in file.extra_sources:
        yield ("section", "extra-source", name, _reduced(source) if level >= "2.2" else _whole(source), 0)
    rewrite = file.fields.get("x-env-path-rewrite")
    if rewrite is not None and level >= "2.2":
        yield ("field", "x-env-path-rewrite", rewrite, 0)


def _fields(file: OpamFile, level: str) -> Iterator[tuple[str, Value]]:
    yield "opam-version", "2.0"
    yield "name", file.package.name
    yield "version", file.package.version
    yield from relation_fields(file, level)
    plugins = tuple([("ident", flag) for flag in file.flags if flag == "plugin" and level >= "2.2"])
    yield "flags", lowered(plugins, 1)
    yield from command_fields(file, level)
    yield from last_fields(file, level)


def relation_fields(file: OpamFile, level: str) -> Iterator[tuple[str, Value]]:
    """What a package has to do with others, and where it can be installed."""
    yield "depends", ("list", write_conjunction(file.depends))
    yield "depopts", ("list", write_disjunction(file.depopts))
    yield "conflicts", ("list", write_disjunction(file.conflicts))
    yield _listed(file, "conflict-class")
    yield "available", lowered(write_filter(_available(file, level)), 1)


def command_fields(file: OpamFile, level: str) -> Iterator[tuple[str, Value]]:
    """What is done to build and to install a package."""
    yield _listed(file, "setenv")
    yield _commands(file, level, "build")
    yield _commands(file, level, "run-test", also="build-test")
    yield _commands(file, level, "install")
    yield _commands(file, level, "remove")
    for name in ("substs", "patches", "build-env", "features"):
        yield _listed(file, name)


def last_fields(file: OpamFile, level: str) -> Iterator[tuple[str, Value]]:
    """The fields that opam prints last."""
    yield "extra-files", lowered(tuple([("list", pair) for pair in _extra_files(file, level)]), 2)
    yield _listed(file, "build-doc")


def _listed(file: OpamFile, name: str) -> tuple[str, Value]:
    return name, lowered(file.values(name), DEPTHS[name])


def _commands(file: OpamFile, level: str, name: str, *, also: str = "") -> tuple[str, Value]:
    """A field of commands, those of another field `also` before them."""
    values = (*(file.values(also) if also else ()), *file.values(name))
    if level >= "2.5":
        values = tuple([value for value in values if not _without_arguments(value)])
    return name, lowered(values, 2)


def _without_arguments(command: Value) -> bool:
    match command:
        case ("list", ()) | ("option", ("list", ()), _):
            return True
    return False


def _available(file: OpamFile, level: str) -> Filter:
    """Where a package can be installed.

    Levels 2.1 to 2.3 take the fields `x-subpath` and (from 2.2) `x-locked` for a constraint on opam's version.
    """
    fields = {"2.1": ("x-subpath",), "2.2": ("x-subpath", "x-locked"), "2.3": ("x-subpath", "x-locked")}.get(level, ())
    if not any(name in file.fields for name in fields) or _asks_for_2_1(file.available):
        return file.available
    constraint = ("relop", ">=", ("ident", "opam-version"), "2.1")
    return constraint if file.available is True else ("logop", "&", file.available, constraint)


def _asks_for_2_1(filter: Filter) -> bool:
    match filter:
        case ("relop", "=" | ">=", ("ident", "opam-version"), str(version)):
            return holds(version, ">=", "2.1")
        case ("relop", "=" | "<=", str(version), ("ident", "opam-version")):
            return holds(version, ">=", "2.1")
        case ("logop", _, left, right):
            return _asks_for_2_1(left) or _asks_for_2_1(right)
        case ("pfxop", "!", inner):
            return _asks_for_2_1(inner)
    return False


def _extra_files(file: OpamFile, level: str) -> Iterable[tuple[str, str]]:
    """Before 2.3, opam adds the files that it finds when the field does not say which there are."""
    if file.extra_files is not None:
        return file.extra_files
    if level >= "2.3":
        return ()
    order = _found_order([path.split("/") for path in file.files])
    return [(path, "md5=" + md5(file.files[path], usedforsecurity=False).hexdigest()) for path in order]


def _found_order(paths: Iterable[list[str]]) -> list[str]:
    """The paths in the order that opam finds them in: it builds a list from the front and turns it at the end."""
    found: list[str] = []

    def collect(prefix: str, paths: Iterable[list[str]]) -> None:
        found[:0] = sorted(prefix + path[0] for path in paths if len(path) == 1)
        inside: dict[str, list[list[str]]] = {}
        for first, *rest in paths:
            if rest:
                inside.setdefault(first, []).append(rest)
        for name in sorted(inside):
            collect(f"{prefix}{name}/", inside[name])

    collect("", list(paths))
    return found[::-1]


def _reduced(source: Source) -> tuple[Item, ...]:
    """The first checksum stands for the source; without one its address does."""
    if not source.checksums:
        return (("field", "src", source.url, 0),)
    return (("field", "src", NOWHERE, 0), ("field", "checksum", source.checksums[0], 0))


def _whole(source: Source) -> tuple[Item, ...]:
    fields: Mapping[str, Value] = {
        "src": source.url,
        "checksum": lowered(source.checksums, 1),
        "mirrors": lowered(source.mirrors, 1),
        "subpath": source.subpath,
    }
    return tuple([("field", name, value, 0) for name, value in fields.items() if value not in ("", ("list", ()))])
