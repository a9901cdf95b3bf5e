"""Why there is no solution, in as few constraints as possible.

A *constraint* is one dependency of one candidate. What one meets first on the way from the request is looked at first:
when the constraints of a few steps leave no solution, nobody needs to hear of others. Else the search knows the roles
that a failure followed from, and all constraints between them can not hold together. Of these a search that keeps a
record of them names those that it needed. What can be left out of the rest without making a solution possible is left
out: first all that the versions of one package say of another, then what single versions say. What one such search has
learnt from constraints that are still there spares the next one most of its work.
"""

from __future__ import annotations

from obuild.opam.solver.problem import ABSENT, REQUEST, singles
from obuild.opam.solver.search import Search
from obuild.opam.solver.trail import Clause, Trail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import TypeAlias

    from obuild.opam.solver.problem import Choice, Dependency, Problem
    from obuild.opam.solver.trail import Literal, Reason, Support

    # The role and value of a candidate, and the place of the dependency among all of the candidate.
    Constraint: TypeAlias = tuple[int, int, int]
    Group: TypeAlias = tuple[Constraint, ...]

__all__ = ["find_core"]

_NEAR = 400
"""So many constraints are looked at for what rules out a solution near the request."""
_SHORT = 3
"""So few different things are said by a core that is short enough not to look for another one."""
_READABLE = 60
"""So many groups of constraints may be left to try each of them; nobody would read what is left of more."""
_PATIENCE = 20_000
"""Conflicts after which a core is good enough."""


def find_core(problem: Problem, dependencies: Sequence[Dependency], support: set[int]) -> list[Constraint]:
    """Constraints that rule out every solution, those of the request (role 0) in front, and none too many.

    `support` are the roles that the failure to meet the `dependencies` followed from.
    """
    core = _Core(problem, dependencies)
    near = core.least(next(filter(core.are_enough, core.near()), ()))
    if near and core.size(near) <= _SHORT:
        return near
    far = core.least(sorted(core.between(support), key=lambda item: item[0]))
    if not far:
        raise AssertionError("a failure does not follow from what it was said to follow from")
    return min(filter(None, (near, far)), key=core.size)


class _Core:
    def __init__(self, problem: Problem, dependencies: Sequence[Dependency]) -> None:
        self._problem, self._dependencies = problem, dependencies
        self._support: Support = set()
        self._conflicts = 0
        # What is still tried, and what was learnt while it was.
        self._tried: set[Constraint] = set()
        self._lessons: list[Clause] = []

    def are_enough(self, constraints: Iterable[Constraint]) -> bool:
        """Whether some constraints leave no solution."""
        kept = set(constraints)
        lessons = self._still_true(kept)
        known = len(lessons)
        search = Search(_Excerpt(self._problem, kept), trail=_Traced(), lessons=lessons)
        solved = search.solve(self._dependencies)
        self._lessons += lessons[known:]
        self._conflicts += search.conflicts
        self._support = search.examined
        return solved is None

    def _still_true(self, kept: set[Constraint]) -> list[Clause]:
        """What was learnt from nothing but the constraints that are kept."""
        gone = set(map(self._pair, self._tried - kept))
        return [clause for clause in self._lessons if clause.support.isdisjoint(gone)]

    def least(self, constraints: Sequence[Constraint]) -> list[Constraint]:
        """Those of the constraints that leave no solution; nothing if one is left by all.

        There are none too many, unless there are too many to be read.
        """
        self._tried, self._lessons = set(constraints), []
        if not self.are_enough(constraints):
            return []
        groups = self._needed(self._groups(constraints))
        if len(groups) <= _READABLE:
            groups = self._reduce(groups)
            groups = self._reduce([(constraint,) for group in groups for constraint in group])
        return sorted(constraint for group in groups for constraint in group)

    def size(self, constraints: Iterable[Constraint]) -> int:
        """How many different things constraints say, each of one package."""
        return len({(role, *self._problem.choice(role, value)[1][place]) for role, value, place in constraints})

    def _reduce(self, groups: list[Group]) -> list[Group]:
        """Leave out groups until none can be left out."""
        place = 0
        while place < len(groups) and self._conflicts < _PATIENCE:
            rest = groups[:place] + groups[place + 1 :]
            if self.are_enough([constraint for group in rest for constraint in group]):
                groups = self._needed(rest)
            else:
                place += 1
        return groups

    def _needed(self, groups: Iterable[Group]) -> list[Group]:
        """The groups that the last failure followed from. Others are no longer tried."""
        left = [group for group in groups if not self._support.isdisjoint(map(self._pair, group))]
        tried = {constraint for group in left for constraint in group}
        self._lessons = self._still_true(tried)
        self._tried = tried
        return left

    def near(self) -> Iterator[Sequence[Constraint]]:
        """The constraints met on the way from the request, each time those of a step more, as long as they are few."""
        found: list[Constraint] = []
        frontier: dict[tuple[int, int], None] = {(0, REQUEST): None}
        seen = {*frontier}
        while frontier and len(found) < _NEAR:
            following: dict[tuple[int, int], None] = {}
            for role, value in frontier:
                for place, dependency in enumerate(self._problem.choice(role, value)[1]):
                    found.append((role, value, place))
                    following.update(dict.fromkeys(self._candidates(dependency)))
            frontier = {candidate: None for candidate in following if candidate not in seen}
            seen.update(frontier)
            yield found

    def _candidates(self, dependency: Dependency) -> Iterator[tuple[int, int]]:
        """The candidates of packages that can meet a dependency."""
        role, values = dependency
        for value in singles(0 if values & ABSENT else values & self._problem.domains[role]):
            if self._problem.names[role]:
                yield role, value
            else:
                for inner in self._problem.choice(role, value)[1]:
                    yield from self._candidates(inner)

    def between(self, roles: set[int]) -> Iterator[Constraint]:
        """All constraints between these roles."""
        for role in roles:
            if role == 0 or self._problem.names[role]:
                for value in singles(self._problem.domains[role] & ~ABSENT):
                    for place, (target, _) in enumerate(self._problem.choice(role, value)[1]):
                        if target in roles:
                            yield role, value, place

    def _groups(self, constraints: Iterable[Constraint]) -> Iterable[Group]:
        """Constraints put together by what package they are of, and of what they speak."""
        found: dict[object, list[Constraint]] = {}
        for constraint in constraints:
            role, target = self._pair(constraint)
            key = (role, tuple(self._problem.alternatives(target)) or target)
            found.setdefault(key, []).append(constraint)
        return map(tuple, found.values())

    def _pair(self, constraint: Constraint) -> tuple[int, int]:
        """The role that a constraint is of, and the one of which it speaks."""
        role, value, place = constraint
        return role, self._problem.choice(role, value)[1][place][0]


class _Traced(Trail):
    """A trail that also tells between which two roles a dependency was needed, in both orders."""

    def grounds(self, role: int, reason: Reason, support: Support) -> Iterable[Literal]:
        if not isinstance(reason, Clause):
            support.update([pair for target, _ in reason for pair in ((role, target), (target, role))])
        return super().grounds(role, reason, support)


class _Excerpt:
    """A problem with some of its constraints only; what belongs to a `|` is always there."""

    def __init__(self, problem: Problem, constraints: set[Constraint]) -> None:
        self.domains = problem.domains
        self._problem, self._constraints = problem, constraints
        self._choices: dict[tuple[int, int], Choice] = {}

    def ask(self, dependencies: Sequence[Dependency]) -> None:
        """As `Problem.ask`."""
        self._problem.ask(dependencies)

    def choice(self, role: int, value: int) -> Choice:
        """As `Problem.choice`; what has the fewest candidates is first, as any solution will do."""
        found = self._choices.get((role, value))
        if found is None:
            because, dependencies, needed = self._problem.choice(role, value)
            if role == 0 or self._problem.names[role]:
                kept = [each for place, each in enumerate(dependencies) if (role, value, place) in self._constraints]
                dependencies = tuple(kept)
                left = {target for target, values in kept if not values & ABSENT}
                needed = tuple([target for target in needed if target in left])
            needed = tuple(sorted(needed, key=lambda target: self.domains[target].bit_count()))
            found = self._choices[role, value] = (because, dependencies, needed)
        return found
