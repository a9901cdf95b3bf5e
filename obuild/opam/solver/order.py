"""The order of roles in a report: names in opam's order, then each `|` in the order in which opam-0install makes them.

opam-0install makes the roles of a package when it first meets the package, going depth first through *all* candidates
of what it starts with; those of a candidate from the back of its formula to the front, inner ones before outer ones.
"""

from __future__ import annotations

from obuild.opam.package import name_key
from obuild.opam.solver.problem import ABSENT, REQUEST, singles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from obuild.opam.solver.problem import Dependency, Problem

__all__ = ["Order"]


class Order:
    """The order of the roles of a problem; it remembers what was met, as most requests start with the compiler."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._targets: dict[int, tuple[int, ...]] = {}
        self._met: dict[Dependency, dict[int, int]] = {}

    def sort(self, roles: Iterable[int]) -> list[int]:
        """Roles in their order, those that the request needs among them."""
        names = [role for role in roles if self._problem.names[role]]
        others = [role for role in roles if role and not self._problem.names[role]]
        names.sort(key=lambda role: name_key(self._problem.names[role]))
        if len(others) > 1:
            owners = {self._problem.place(role)[0] for role in others}
            met = self._meet(owners)
            others.sort(key=lambda role: self._rank(role, met))
        return [*names, *([0] if 0 in roles else []), *others]

    def _rank(self, role: int, met: dict[int, int]) -> tuple[int, int, tuple[int, ...]]:
        owner, value, path = self._problem.place(role)
        # Inner roles have longer paths, whose next step is 0 or less.
        return met[owner], value, (*path, 1)

    def _meet(self, owners: set[int]) -> dict[int, int]:
        """When each package is met, as far as that is needed to know when `owners` are."""
        first, *others = self._problem.choice(0, REQUEST)[1]
        if first not in self._met:
            self._met[first] = self._walk([first], {})
        met, wanted = self._met[first], dict(others)
        if any(role in met for role in wanted if role != first[0]):
            # Versions of a package that were not asked for are none, wherever it is met.
            return self._walk([first, *others], wanted)
        return met if owners <= met.keys() else self._walk(others, wanted, met)

    def _walk(
        self, roots: list[Dependency], wanted: dict[int, int], before: dict[int, int] | None = None
    ) -> dict[int, int]:
        met = dict(before or {})
        for root, values in roots:
            if root in met:
                continue
            met[root] = len(met)
            stack = [iter(self._needed(root, values))]
            while stack:
                for target in stack[-1]:
                    if target not in met:
                        met[target] = len(met)
                        found = self._needed(target, wanted[target]) if target in wanted else self._all_needed(target)
                        stack.append(iter(found))
                        break
                else:
                    stack.pop()
        return met

    def _all_needed(self, role: int) -> tuple[int, ...]:
        if role not in self._targets:
            self._targets[role] = tuple(self._needed(role, self._problem.domains[role]))
        return self._targets[role]

    def _needed(self, role: int, values: int) -> Iterable[int]:
        """The packages that any of the candidates need, in order, each once."""
        return dict.fromkeys(self._targets_of(role, values & ~ABSENT))

    def _targets_of(self, role: int, values: int) -> Iterator[int]:
        for value in singles(values):
            for target, _ in self._problem.choice(role, value)[1]:
                if self._problem.names[target]:
                    yield target
                elif self._problem.is_walked(target):
                    yield from self._targets_of(target, self._problem.domains[target] & ~ABSENT)
