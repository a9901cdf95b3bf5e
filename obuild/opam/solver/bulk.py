"""Many requests at once: what is remembered is not solved again, the rest is spread over the processors."""

from __future__ import annotations

from obuild.opam.package import Package, name_key
from obuild.opam.solver.answer import NoSolution, Request, Solution
from obuild.opam.solver.spread import spread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from obuild.opam.solver.recall import Memory
    from obuild.opam.solver.solve import Report, Solver
    from obuild.opam.solver.universe import Universe

__all__ = ["everything", "solve_all"]

_FEW = 128
"""Fewer requests than this are solved before other processes have started."""


def everything(universe: Universe, *, all_versions: bool = False) -> tuple[Request, ...]:
    """A request for the newest version of each package that is available, or for each one."""
    versions = {name: universe.available(name) for name in sorted(universe.packages, key=name_key)}
    return tuple(
        [
            Request(((name, each),))
            for name, found in versions.items()
            for each in (found if all_versions else found[:1])
        ]
    )


def solve_all(
    solver: Solver,
    requests: Sequence[Request],
    *,
    memory: Memory | None = None,
    report: Report = "",
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Solution | NoSolution]:
    """The answer to each request, in their order. What `memory` did not know is put into it.

    `progress` hears how many of the requests that have to be solved are, and how many these are.
    """
    known = [memory.get(request, report) if memory else None for request in requests]
    unknown = [request for request, answer in zip(requests, known, strict=True) if answer is None]

    def solve(index: int) -> tuple[Any, ...]:
        answer = solver.solve(unknown[index], report=report)
        if isinstance(answer, Solution):
            return tuple([(package.name, package.version) for package in answer.packages]), "", tuple(answer.examined)
        return None, answer.report, tuple(answer.examined)

    if len(unknown) < _FEW:
        processes = 1
    elif processes > 1:
        # Read here, so that it is done once, and what was read can be kept.
        solver.universe.load()
    solved = spread(solve, len(unknown), processes=processes, progress=progress)
    packages: dict[tuple[str, str], Package] = {}
    for request, answer in zip(requests, known, strict=True):
        if answer is None:
            chosen, text, names = next(solved)
            examined = frozenset(names)
            if chosen is None:
                answer = NoSolution(request, text, examined)
            else:
                found = [packages.get(key) or packages.setdefault(key, Package(*key)) for key in chosen]
                answer = Solution(request, tuple(found), examined)
            if memory:
                memory.put(answer, report)
        yield answer
