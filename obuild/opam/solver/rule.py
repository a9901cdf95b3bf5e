"""The rules of a solve: everything besides the repositories and the packages asked for that decides the answer."""

from __future__ import annotations

from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from obuild.opam.package import Package
    from obuild.opam.platform import Platform

__all__ = ["OPAM_VERSION", "Rules", "variable_table"]

OPAM_VERSION = "2.5.2"
"""The version of opam that packages see unless another one is asked for."""

_SYSTEM_OCAML = ("arch", "cc", "libc", "system", "version")


@value
class Rules:
    """`variables` are opam's global ones in the order of their names, see `variable_table`.

    The `compiler` is needed by every request and decided first. `with_test` and `with_doc` are about the packages
    asked for. `day10` leaves a package without any candidate when all its versions are to be avoided, even one that
    is asked for by name.
    """

    variables: tuple[tuple[str, str | bool], ...]
    compiler: Package | None = None
    with_test: bool = False
    with_doc: bool = False
    prefer_oldest: bool = False
    day10: bool = False


def variable_table(
    platform: Platform,
    compiler: Package | None = None,
    *,
    opam_version: str = OPAM_VERSION,
    given: tuple[tuple[str, str | bool], ...] = (),
) -> tuple[tuple[str, str | bool], ...]:
    """The variables of a platform without an OCaml of its own; those `given` replace others.

    A platform has `ocaml-system` when `sys-ocaml-version` is given. `ocaml:version` is what the compiler's package is
    called, as in day10: no package is installed yet when formulas are evaluated.
    """
    table: dict[str, str | bool] = {
        **platform.variables,
        "opam-version": opam_version,
        "ocaml:native": True,
        **{f"sys-ocaml-{name}": "" for name in _SYSTEM_OCAML},
    }
    if compiler:
        table["ocaml:version"] = compiler.version
    table.update(given)
    return tuple(sorted(table.items()))
