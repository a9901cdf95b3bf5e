"""Whether what a package installs may be moved to another prefix.

A compiler knows where it is installed, unless it was made not to. Three rules say that one was:

1. `relocatable-compiler` is among all that it depends on (or is it itself);
2. `relocatable` is in the solution, and the compiler does not conflict with it;
3. it is one of OCaml's own packages, at version 5.5.0 or later.

What is built with compilers can be moved when all of them can and no package below conflicts with `relocatable`, as
ocamlfind and ocamlbuild do.
"""

from __future__ import annotations

from obuild.opam.formula import atoms, meets, resolve_formula
from obuild.opam.version import holds
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from obuild.opam.filter import Lookup
    from obuild.opam.opamfile import OpamFile

__all__ = ["COMPILERS", "Relocation", "relocation"]

COMPILERS = frozenset(("ocaml", "ocaml-base-compiler", "ocaml-variants", "ocaml-compiler", "relocatable-compiler"))
"""OCaml's own compiler packages, whose version is the language's."""

_FOREIGN = frozenset(("oxcaml-compiler", "ocaml-secondary-compiler"))
"""Other compilers; their version says nothing."""

_SINCE = "5.5.0"
_MARK, _MAKER = "relocatable", "relocatable-compiler"


@value
class Relocation:
    """Whether a layer may be moved to another prefix, and why: the rule that says so, or what is in the way."""

    possible: bool
    why: str


def relocation(file: OpamFile, below: Sequence[OpamFile], asked: str, lookup: Lookup) -> Relocation:
    """Whether the package of `file` can be moved, given the files of all that it is built upon.

    `asked` is the version of the package `relocatable` in the solution, "" when it is not there.
    """
    files = (*below, file)
    obstacle = next((each for each in files if _conflicts(each, asked, lookup)), None)
    if obstacle:
        return Relocation(False, f'"{obstacle.package}" conflicts with "{_MARK}"')
    compilers = [each for each in files if _is_compiler(each)]
    if not compilers:
        return Relocation(True, "there is no compiler in it")
    if asked:
        return Relocation(True, f'"{_MARK}" is in the solution')
    if any(each.package.name in (_MARK, _MAKER) for each in files):
        return Relocation(True, f'"{_MAKER}" is among its dependencies')
    fixed = next((each for each in compilers if not _is_new(each)), None)
    if fixed:
        return Relocation(False, f'"{fixed.package}" is a compiler that can not be moved')
    return Relocation(True, f"its compiler is OCaml {_SINCE} or later")


def _is_compiler(file: OpamFile) -> bool:
    return file.package.name in COMPILERS or file.package.name in _FOREIGN


def _is_new(file: OpamFile) -> bool:
    return file.package.name in COMPILERS and holds(file.package.version, ">=", _SINCE)


def _conflicts(file: OpamFile, asked: str, lookup: Lookup) -> bool:
    """Whether a package excludes `relocatable`: the version in the solution, or any at all."""
    for name, condition in atoms(resolve_formula(file.conflicts, lookup)):
        if name == _MARK and (not asked or meets(asked, condition)):
            return True
    return False
