"""Why there is no solution, for somebody who wants to do something about it: a few steps, each with file and field."""

from __future__ import annotations

from obuild.errors import few
from obuild.opam.formula import atoms
from obuild.opam.package import Package, name_key
from obuild.opam.solver.answer import Request
from obuild.opam.solver.problem import REQUEST
from obuild.opam.solver.text import format_formula
from obuild.opam.version import version_key
from obuild.value import replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from obuild.opam.formula import Formula
    from obuild.opam.solver.core import Constraint
    from obuild.opam.solver.problem import Problem

__all__ = ["NAMED", "Explanation", "Step", "explain_core"]

_VERBS = {
    "depends": ("needs", "need"),
    "depopts": ("can use", "can use"),
    "conflicts": ("conflicts with", "conflict with"),
    "conflict-class": ("is of the conflict class", "are of the conflict class"),
}
NAMED = 3
"""So many things of a kind are named one by one."""


@value
class Step:
    """What some versions of a package say, the newest in front: in which field, and about what.

    `names` are the packages that they speak of. `note` says why nothing fits, where nothing at all does.
    """

    packages: tuple[Package, ...]
    field: str
    subject: str
    names: tuple[str, ...]
    note: str = ""

    def __str__(self) -> str:
        text = f"{_versions(self.packages)} {_VERBS[self.field][len(self.packages) > 1]} {self.subject}"
        return f"{text}, but {self.note}" if self.note else text


@value
class Explanation:
    """Steps that leave a request no solution, and none too many, from the packages asked for onwards.

    `compiler` is that of the rules if it matters, else "". `missing` tells what of the two can not be had at all.
    """

    request: Request
    compiler: str
    steps: tuple[Step, ...]
    missing: tuple[str, ...] = ()


def explain_core(problem: Problem, request: Request, core: Sequence[Constraint]) -> Explanation:
    """The explanation that the constraints of a core give."""
    asked = [problem.choice(0, REQUEST)[1][place] for role, _, place in core if role == 0]
    compiler = problem.universe.rules.compiler
    wanted = dict(request.wanted)
    matters = compiler and compiler.name not in wanted and compiler.name in [problem.names[role] for role, _ in asked]
    wanted |= {compiler.name: compiler.version} if compiler and matters else {}
    absent = [problem.names[role] for role, values in asked if not values]
    return Explanation(
        request,
        str(compiler) if matters else "",
        tuple(_onwards(_steps(problem, core), list(wanted))),
        tuple([f'"{Request(((name, wanted[name]),))}": {_absence(problem, name, wanted[name])}' for name in absent]),
    )


def _steps(problem: Problem, core: Sequence[Constraint]) -> list[Step]:
    """What the constraints say, with the versions put together that say the same."""
    steps: dict[tuple[str, str, str], Step] = {}
    for role, bit, place in core:
        if role:
            package, step = problem.package(role, bit), _step(problem, role, bit, place)
            key = (package.name, step.field, step.subject)
            packages = steps[key].packages if key in steps else ()
            newest = tuple(sorted({*packages, package}, key=lambda each: version_key(each.version), reverse=True))
            steps[key] = replace(step, packages=newest)
    return list(steps.values())


def _absence(problem: Problem, name: str, version: str) -> str:
    """Why a version that is asked for, "" for any, can not be chosen."""
    if problem.universe.is_avoided(name) and not problem.versions(problem.role(name)):
        return "all versions of it are to be avoided"
    if problem.universe.is_unreadable(name, version):
        return "its opam file can not be read"
    return "it is not available on this platform"


def _step(problem: Problem, role: int, bit: int, place: int) -> Step:
    field, part = problem.statements(role, bit)[place]
    _, values = problem.choice(role, bit)[1][place]
    package = problem.package(role, bit)
    if isinstance(part, str):
        return Step((package,), field, f'"{part}"', ())
    names = tuple(dict.fromkeys(name for name, _ in atoms(part)))
    note = "" if values else _missing(problem, names[0])
    return Step((package,), field, _subject(part, package), names, note)


def _subject(part: Formula, package: Package) -> str:
    """The formula, in words that are the same for each of the versions that need their own of something else."""
    if part and part[0] == "atom" and part[2] == ("is", "=", package.version):
        return f"{part[1]} of the same version"
    return format_formula(part)


def _missing(problem: Problem, name: str) -> str:
    """Why no version of a package fits at all."""
    universe = problem.universe
    versions = universe.candidates(name)
    if versions:
        newest = max(versions, key=version_key)
        return f"the only version is {newest}" if len(versions) == 1 else f"the newest version is {newest}"
    if name not in universe.packages:
        return "there is no such package"
    if universe.is_avoided(name):
        return "all its versions are to be avoided"
    return "no version of it is available on this platform"


def _onwards(steps: list[Step], asked: Sequence[str]) -> Iterator[Step]:
    """The steps in the order in which one comes to their packages, beginning with those asked for."""
    reached = dict.fromkeys(asked)
    while steps:
        names = {step.packages[0].name for step in steps}
        # What is only of a conflict class is reached by nothing.
        name = next((name for name in reached if name in names), min(names, key=name_key))
        for step in [step for step in steps if step.packages[0].name == name]:
            steps.remove(step)
            reached.update(dict.fromkeys(step.names))
            yield step


def _versions(packages: Sequence[Package]) -> str:
    if len(packages) > NAMED and len({package.name for package in packages}) == 1:
        return f"{packages[-1]} to {packages[0].version} ({len(packages)} versions)"
    return few(list(map(str, packages)), NAMED)
