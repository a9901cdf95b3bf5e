"""The clauses that were learnt, and when each of them has something to say."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from obuild.opam.solver.trail import Clause, Trail

    Watch: TypeAlias = tuple[int, Clause]

__all__ = ["Watches"]

_MORE = 200
"""So many new clauses make it worth while to look for those that are of no use: each costs time at every step."""


class Watches:
    """Learnt clauses, each watching its first two literals: as long as both can hold, nothing follows from it."""

    def __init__(self, trail: Trail) -> None:
        self._trail = trail
        self._watched: dict[int, list[Watch]] = {}
        self._clauses: dict[Clause, None] = {}
        self._kept = 0

    def add(self, clause: Clause) -> None:
        """Keep a clause of two literals or more."""
        self._clauses[clause] = None
        for role, values in clause.literals[:2]:
            self._watched.setdefault(role, []).append((values, clause))

    def drop(self, clause: Clause) -> None:
        """Forget a clause."""
        del self._clauses[clause]
        for role, values in clause.literals[:2]:
            self._watched[role].remove((values, clause))

    def tidy(self) -> None:
        """When there are many more clauses than were kept the last time, forget those that no conflict needed since."""
        if len(self._clauses) < self._kept + _MORE:
            return
        for clause in [clause for clause in self._clauses if not clause.used]:
            self.drop(clause)
        for clause in self._clauses:
            clause.used = False
        self._kept = len(self._clauses)

    def consult(self, role: int) -> int:
        """Draw the conclusions from a role's domain; a role that no value is left for, or -1."""
        watched = self._watched.get(role)
        if not watched:
            return -1
        domains = self._trail.domains
        domain = domains[role]
        for watch in [watch for watch in watched if not domain & watch[0]]:
            literals = watch[1].literals
            if literals[0][0] == role:
                literals[0], literals[1] = literals[1], literals[0]
            if not self._move(watch):
                target, values = literals[0]
                if domains[target] & ~values and not self._trail.narrow(target, values, watch[1]):
                    return target
        return -1

    def _move(self, watch: Watch) -> bool:
        """Watch another literal that can hold instead of the second; whether there is one."""
        literals = watch[1].literals
        for place in range(2, len(literals)):
            role, values = literals[place]
            if self._trail.domains[role] & values:
                self._watched[literals[1][0]].remove(watch)
                self._watched.setdefault(role, []).append((values, watch[1]))
                literals[1], literals[place] = literals[place], literals[1]
                return True
        return False
