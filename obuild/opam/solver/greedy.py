"""The example that a failure is explained with: as much of a solution as there is, and gaps where it ends.

opam-0install solves once more with a last resort for each role, a stand-in that needs nothing and that nothing
excludes. Then no choice ever has to be taken back, so that one walk finds the same: each role takes its first
candidate that goes with all that is chosen so far, or the stand-in.
"""

from __future__ import annotations

from obuild.opam.solver.problem import ABSENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from obuild.opam.solver.problem import Problem

__all__ = ["GAP", "choose_greedily"]

GAP = 0
"""The value of a role for which nothing can be chosen."""


def choose_greedily(problem: Problem) -> dict[int, int]:
    """The value of each role that the request needs, in the order of the walk; the request's own comes first."""
    chosen: dict[int, int] = {}
    allowed: dict[int, int] = {}
    agenda = [0]
    while agenda:
        role = agenda.pop()
        if role in chosen:
            continue
        chosen[role] = _first(problem, role, chosen, allowed)
        if chosen[role] != GAP:
            _, dependencies, needed = problem.choice(role, chosen[role])
            for target, values in dependencies:
                allowed[target] = allowed.get(target, problem.domains[target]) & values
            agenda += reversed(needed)
    return chosen


def _first(problem: Problem, role: int, chosen: dict[int, int], allowed: dict[int, int]) -> int:
    left = allowed.get(role, problem.domains[role]) & ~ABSENT
    while left:
        value = left & -left
        if _fits(problem, role, value, chosen, allowed):
            return value
        left ^= value
    return GAP


def _fits(problem: Problem, role: int, value: int, chosen: dict[int, int], allowed: dict[int, int]) -> bool:
    _, dependencies, _ = problem.choice(role, value)
    for target, values in dependencies:
        taken = value if target == role else chosen.get(target, GAP)
        if not problem.is_walked(target):
            taken = allowed.get(target, GAP)
        if taken != GAP and not taken & values:
            return False
    return True
