"""Of all the builds of one package in a run, the one that people are shown: docs-ci's choice.

The most dependencies (optional ones are better in than out), then the most reverse dependencies (what others build
upon should not change from day to day), then the newest compiler; then the first hash, to choose the same again.
"""

from __future__ import annotations

from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from obuild.runs.graph import Graph

__all__ = ["Choice", "bless", "choices", "compiler_of"]

COMPILERS = ("ocaml-base-compiler", "ocaml-variants", "ocaml-compiler", "oxcaml-compiler", "ocaml-system")
"""Packages that are a compiler; the first that a build depends on is its compiler."""


@value
class Choice:
    """A build that may be blessed: `id` is its hash, or the universe where builds have none."""

    package: str
    id: str
    dependencies: int
    dependents: int
    compiler: str = ""


def bless(found: Iterable[Choice], *, newest: Callable[[str], Any] | None = None) -> dict[str, str]:
    """The blessed id of every package. `newest` is a sort key for versions of compilers (opam's order)."""
    key = newest or _natural
    best: dict[str, tuple[tuple[Any, ...], Choice]] = {}
    # The smallest id wins what is equal otherwise, so the candidates come in that order and only a better one replaces.
    for choice in sorted(found, key=lambda choice: choice.id):
        rank = (choice.dependencies, choice.dependents, key(choice.compiler))
        if choice.package not in best or rank > best[choice.package][0]:
            best[choice.package] = rank, choice
    return {package: choice.id for package, (_, choice) in sorted(best.items())}


def choices(graph: Graph, compilers: Mapping[str, str] | None = None) -> list[Choice]:
    """All builds of a graph as candidates; `compilers` gives the compiler of each, else it is looked for."""
    needs = graph.closures()
    users = dict.fromkeys(graph.builds, 0)
    for dependencies in needs.values():
        for dep in dependencies:
            users[dep] += 1
    found = []
    for key, build in graph.builds.items():
        compiler = compilers.get(key, "") if compilers is not None else ""
        compiler = compiler or compiler_of(graph.builds[dep].package for dep in needs[key])
        found.append(Choice(build.package, key, len(needs[key]), users[key], compiler))
    return found


def compiler_of(packages: Iterable[str]) -> str:
    """The version of the compiler among packages; "" when there is none."""
    found = dict(package.partition(".")[::2] for package in packages)
    return next((found[name] for name in COMPILERS if name in found), "")


def _natural(version: str) -> tuple[Any, ...]:
    """An order good enough for releases: digits as numbers, `~` before the end."""
    import re

    parts = re.findall(r"\d+|~|[^\d~]+", version)
    ranks = [(2, int(part), "") if part.isdecimal() else (0 if part == "~" else 3, 0, part) for part in parts]
    return (*ranks, (1, 0, ""))
