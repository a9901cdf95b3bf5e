"""Who needs whom: the packages that depend on one, and why a package is part of a solution."""

from __future__ import annotations

from obuild.errors import UsageError, nearest
from obuild.opam.formula import atoms, meets, resolve_formula
from obuild.opam.package import Package, name_key
from obuild.opam.solver.chain import Step
from obuild.opam.solver.graph import chosen_atoms
from obuild.opam.solver.text import format_formula
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from obuild.opam.solver.answer import Solution
    from obuild.opam.solver.universe import Universe

__all__ = ["Why", "dependents", "format_steps", "why"]


def dependents(
    universe: Universe, name: str, version: str = "", *, latest: bool = False, optional: bool = False
) -> tuple[Step, ...]:
    """The packages that need a package, and in which versions: one step for each.

    Only versions that can be chosen under the rules count, of each name the best when `latest`; with a `version` only
    those that go with it; with `optional` also those that merely use it when it is there (`depopts`).
    """
    if name not in universe.packages and name not in universe.pins:
        raise UsageError(f'no package "{name}"', hint=nearest(name, universe.packages))
    found: list[Step] = []
    for user in sorted({*universe.packages, *universe.pins}, key=name_key):
        candidates = universe.candidates(user)
        for candidate in candidates[:1] if latest else candidates:
            found += _uses(universe, Package(user, candidate), name, version, optional)
    return tuple(found)


def _uses(universe: Universe, package: Package, name: str, version: str, optional: bool) -> Iterator[Step]:
    depends, _, depopts, *_ = universe.fact(package.name, package.version)
    lookup = universe.scope(package.version, tested=True).get
    for field, formula in (("depends", depends), ("depopts", depopts if optional else None)):
        # Most packages do not mention it, and looking for a name is quicker than evaluating what is around it.
        if any(mentioned == name for mentioned, _ in atoms(formula)):
            conditions = [each for mentioned, each in atoms(resolve_formula(formula, lookup)) if mentioned == name]
            if any(not version or meets(version, condition) for condition in conditions):
                texts = dict.fromkeys(format_formula(("atom", name, condition)) for condition in conditions)
                yield Step((package,), field, " | ".join(texts), (name,))


@value
class Why:
    """Why a package is in a solution: the shortest chain from what was asked for, and all that need it directly.

    The chain is empty for what was asked for itself, and None when the package is not in the solution.
    """

    package: str
    chain: tuple[Step, ...] | None
    users: tuple[Step, ...]


def why(universe: Universe, solution: Solution, name: str) -> Why:
    """Why there is a package of this name in a solution."""
    selected = {package.name: package for package in solution.packages}
    asked = [each for each, _ in solution.request.wanted]
    compiler = universe.rules.compiler
    steps = {package: list(_needs(universe, package, selected, package.name in asked)) for package in solution.packages}
    users = tuple([step for package in solution.packages for step in steps[package] if name in step.names])
    agenda = [*asked, *([compiler.name] if compiler and compiler.name not in asked else [])]
    reached: dict[str, tuple[Step, ...]] = dict.fromkeys(agenda, ())
    for each in agenda:
        for step in steps[selected[each]]:
            (target,) = step.names
            if target not in reached:
                reached[target] = (*reached[each], step)
                agenda.append(target)
    return Why(str(selected.get(name, name)), reached.get(name), users)


def _needs(universe: Universe, package: Package, selected: dict[str, Package], tested: bool) -> Iterator[Step]:
    formula, _ = universe.needs(package.name, package.version, tested=tested)
    for atom in chosen_atoms(formula, selected):
        yield Step((package,), "depends", format_formula(atom), (atom[1],))


def format_steps(steps: Sequence[Step], path: Callable[[Package], str]) -> str:
    """Steps for a reader, each with file and field."""
    return "\n".join([f"{step}\n    {path(step.packages[0])}: {step.field}" for step in steps])
