"""What is built before what: day10's map of a solution.

opam-0install's selection has more than is needed to build a package: what others need only after their own build
(`post`), and even the compiler of a package without code. The map has the packages that can be reached from the
requested ones over what each is really built against: its dependencies, through the alternatives that were chosen, and
those of its `depopts` that happen to be there, without the names that it needs as `post` alone.
"""

from __future__ import annotations

from obuild.errors import OpamError
from obuild.opam.formula import meets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any, TypeAlias

    from obuild.opam.formula import Formula
    from obuild.opam.package import Package
    from obuild.opam.solver.answer import Solution
    from obuild.opam.solver.universe import Universe

    BuildMap: TypeAlias = Mapping[Package, tuple[Package, ...]]

__all__ = ["build_map", "build_order", "chosen_atoms", "closure", "format_dot"]


def build_map(universe: Universe, solution: Solution) -> BuildMap:
    """What each package of a solution is built against, for those that the requested ones need, in opam's order."""
    selected = {package.name: package for package in solution.packages}
    places = {name: place for place, name in enumerate(selected)}
    asked = [name for name, _ in solution.request.wanted]
    found: dict[str, tuple[Package, ...]] = {}
    agenda = list(asked)
    while agenda:
        name = agenda.pop()
        if name not in found:
            names = sorted(
                _built_against(universe, selected[name], selected, tested=name in asked), key=places.__getitem__
            )
            found[name] = tuple([selected[each] for each in names])
            agenda += names
    return {package: found[name] for name, package in selected.items() if name in found}


def _built_against(universe: Universe, package: Package, selected: Mapping[str, Package], *, tested: bool) -> set[str]:
    certain, alternatives, optional, after = universe.links(package.name, package.version, tested=tested)
    names = set(certain)
    for formula in alternatives:
        names.update([atom[1] for atom in chosen_atoms(formula, selected)])
    return (names | (optional & selected.keys())) - after


def chosen_atoms(formula: Formula, selected: Mapping[str, Package]) -> Iterator[tuple[Any, ...]]:
    """The atoms of a resolved formula, of alternatives those in the first that the selection meets."""
    match formula:
        case ("atom", *_):
            yield formula
        case ("block", inner):
            yield from chosen_atoms(inner, selected)
        case ("and", *parts):
            for part in parts:
                yield from chosen_atoms(part, selected)
        case ("or", *parts):
            yield from chosen_atoms(next(part for part in parts if _is_met(part, selected)), selected)


def _is_met(formula: Formula, selected: Mapping[str, Package]) -> bool:
    match formula:
        case ("atom", name, condition):
            return name in selected and meets(selected[name].version, condition)
        case ("block", inner):
            return _is_met(inner, selected)
        case ("or", *parts):
            return any(_is_met(part, selected) for part in parts)
        case ("and", *parts):
            return all(_is_met(part, selected) for part in parts)
        case _:
            return True


def build_order(plan: BuildMap) -> tuple[Package, ...]:
    """The packages of a map so that each comes after what it needs: all that can be built first, in opam's order, then
    all that can be built next, and so on. Raises `OpamError` when packages need each other.
    """
    waiting = dict(plan)
    done: dict[Package, None] = {}
    while waiting:
        ready = sorted(package for package, needed in waiting.items() if all(each in done for each in needed))
        if not ready:
            cycle = _cycle(waiting)
            names = " needs ".join([f'"{package}"' for package in cycle])
            raise OpamError(f"no order to build in: {names}", hint="a dependency of these should be {post}")
        done.update(dict.fromkeys(ready))
        for package in ready:
            del waiting[package]
    return tuple(done)


def _cycle(waiting: BuildMap) -> list[Package]:
    """Packages that need each other, the first one again at the end."""
    path = [next(iter(waiting))]
    while True:
        following = next(each for each in waiting[path[-1]] if each in waiting)
        if following in path:
            return [*path[path.index(following) :], following]
        path.append(following)


def closure(plan: BuildMap, package: Package) -> tuple[Package, ...]:
    """All that a package needs, directly or not, in opam's order."""
    found: set[Package] = set()
    agenda = [package]
    while agenda:
        fresh = [each for each in plan[agenda.pop()] if each not in found]
        found.update(fresh)
        agenda += fresh
    return tuple(sorted(found))


def format_dot(plan: BuildMap) -> str:
    """The map for Graphviz."""
    lines = [
        f'  "{package}";' if not needed else f'  "{package}" -> {_targets(needed)};' for package, needed in plan.items()
    ]
    return "\n".join(["digraph opam {", *lines, "}"])


def _targets(packages: tuple[Package, ...]) -> str:
    quoted = " ".join([f'"{package}"' for package in packages])
    return quoted if len(packages) == 1 else f"{{{quoted}}}"
