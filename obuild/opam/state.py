"""The files that make a directory an opam root with a switch, as opam 2.1 writes them.

The format of root 2.1 is the one to write: opam 2.1 takes it as its own, and every later one upgrades it when it reads
it, in memory. A root of 2.2 opam 2.1 would refuse. Opam 2.0 reads it too, as it does not know `opam-root-version`.
"""

from __future__ import annotations

from functools import cache

from obuild.opam.format import WIDTHS, format_items
from obuild.opam.package import parse_package
from obuild.opam.syntax import field, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from obuild.opam.package import Package
    from obuild.opam.syntax import File, Item, Value

__all__ = ["DIRECTORIES", "format_config", "format_repositories", "format_state", "format_switch", "parse_state"]

_MAN = tuple([f"man/man{section}" for section in ("1", "1M", "2", "3", "4", "5", "6", "7", "9")])
_OWN = tuple([f".opam-switch/{name}" for name in ("build", "config", "install", "packages")])

DIRECTORIES = ("bin", "doc", "lib", "lib/stublibs", "lib/toplevel", "man", *_MAN, "sbin", ".opam-switch", *_OWN)
"""What opam makes in a new switch, parents first; `share` and `etc` it leaves to the packages."""

# What opam asks the system's own compiler, if there is one; as in its default configuration, in fewer words.
_PROBES = {
    "sys-ocaml-version": ("ocamlc", "-vnum"),
    "sys-ocaml-arch": ("sh", "-c", "ocamlc -config-var architecture | sed 's/i386/i686/; s/amd64/x86_64/'"),
    "sys-ocaml-cc": ("ocamlc", "-config-var", "ccomp_type"),
    "sys-ocaml-system": ("ocamlc", "-config-var", "system"),
    "sys-ocaml-libc": ("sh", "-c", "ocamlc -config-var os_type | sed 's/Win32/msvc/; t; s/.*/libc/'"),
}


@cache
def format_config(switch: str) -> str:
    """The text of the root's `config`: one switch, no repository, no sandbox, system packages left alone."""
    probes: list[Value] = []
    for name, command in _PROBES.items():
        probes.append(("list", (("ident", name), ("list", command), "What the system's own OCaml compiler says")))
    return _text(
        ("opam-version", "2.0"),
        ("opam-root-version", "2.1"),
        ("installed-switches", switch),
        ("switch", switch),
        ("download-jobs", 1),
        ("eval-variables", ("list", tuple(probes))),
        ("depext", False),
    )


@cache
def format_repositories() -> str:
    """The text of `repo/repos-config`, which opam wants to be there."""
    return _text(("opam-version", "2.0"))


@cache
def format_switch(switch: str, *, root: str, user: str, group: str) -> str:
    """The text of `.opam-switch/switch-config`."""
    variables = (("field", "user", user, 0), ("field", "group", group, 0))
    items = (
        *_fields(("opam-version", "2.0"), ("synopsis", switch), ("opam-root", root)),
        ("section", "paths", None, (), 0),
        ("section", "variables", None, variables, 0),
    )
    return format_items(items, WIDTHS["bytes"]) + "\n"


def format_state(installed: Iterable[Package], *, compiler: Iterable[Package] = ()) -> str:
    """The text of `.opam-switch/switch-state`: all that is installed was asked for."""
    packages = _listed(installed)
    base = _listed(compiler)
    fields: list[tuple[str, Value]] = [("opam-version", "2.0")]
    fields += [("compiler", base)] if base[1] else []
    fields += [("roots", packages), ("installed", packages)] if packages[1] else []
    return _text(*fields)


def parse_state(data: bytes, path: str) -> dict[str, tuple[Package, ...]]:
    """The packages in `compiler`, `roots`, `installed` and `pinned` of a `switch-state`. Raises `OpamError`."""
    items = parse(data, path)
    found: dict[str, tuple[Package, ...]] = {}
    for name in ("compiler", "roots", "installed", "pinned"):
        match field(items, name):
            case str(text):
                found[name] = (parse_package(text),)
            case ("list", texts):
                found[name] = tuple([parse_package(text) for text in texts])
            case _:
                found[name] = ()
    return found


def _listed(packages: Iterable[Package]) -> tuple[str, tuple[Value, ...]]:
    return "list", tuple([str(package) for package in sorted(packages)])


def _fields(*fields: tuple[str, Value]) -> File:
    return tuple([("field", name, contents, 0) for name, contents in fields])


def _text(*fields: tuple[str, Value]) -> str:
    items: tuple[Item, ...] = _fields(*fields)
    return format_items(items, WIDTHS["bytes"]) + "\n"
