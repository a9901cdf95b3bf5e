"""The search: the best solution in opam-0install's order, by propagation and clauses learnt from conflicts.

opam-0install walks from what is asked for, depth first, through the dependencies of what is chosen, and gives each role
it meets its best candidate; when that fails it learns and goes back. Its answer does not depend on how it does so: each
role, in the order of the walk, gets *the first candidate for which a whole solution still exists*. Any complete search
in that order finds the same one, and this is the search of a modern SAT solver over sets of values:

*Literals* are pairs (role, set): the role takes a value of the set. A *clause* is some literals, one of which holds.
That "a.1 depends on b >= 2" is the clause (a, all but a.1) or (b, those >= 2).

*Propagation.* Each role has a domain, the values it can still take. When all literals of a clause but one are false
(share no value with their role's domain), the values of the domain outside the last one are removed. Dependencies are
propagated from the chosen candidate to its targets; the other way round only when the candidate is about to be chosen,
which is soon enough, and spares going through the thousands of users of a popular package.

*Conflicts.* When a domain is empty, the removals that emptied it are traced back to the first single removal of the
last decision that explains all the rest (the "first unique implication point"). What they have in common becomes a new
clause, and the search goes back to the earliest decision after which that clause has something to say.

Clauses follow from the repository and the compiler alone, except where the request itself was a reason. Those that
mention it are dropped at the end, the others stay while conflicts need them: what one package has learnt about dead
versions spares the next one. The request is a role, too: its only value depends on all that is asked for.
"""

from __future__ import annotations

from obuild.opam.solver.conflict import examine, learn
from obuild.opam.solver.problem import ABSENT, REQUEST
from obuild.opam.solver.trail import Clause, Trail
from obuild.opam.solver.watch import Watches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol, TypeAlias

    from obuild.opam.solver.problem import Choice, Dependency

    Agenda: TypeAlias = tuple[int, "Agenda"] | None
else:
    Protocol = object

__all__ = ["Roles", "Search"]


class Roles(Protocol):
    """What the search must know of a problem, see `problem.Problem`."""

    domains: list[int]

    def ask(self, dependencies: Sequence[Dependency]) -> None:
        """Give the request's role its dependencies."""

    def choice(self, role: int, value: int) -> Choice:
        """What choosing a value entails."""


class Search:
    """A search in a problem where the dependencies `facts` always hold; it can be asked again and again.

    `trail` is an empty one, of another kind than usual. `lessons` are clauses that are known to hold; what is learnt
    is added to them.
    """

    def __init__(
        self,
        problem: Roles,
        facts: Sequence[Dependency] = (),
        trail: Trail | None = None,
        lessons: list[Clause] | None = None,
    ) -> None:
        self.examined: set[int] = set()
        """The roles that the last answer depends on: it stays the same as long as their candidates do."""
        self.conflicts = 0
        self._problem, self._facts = problem, facts
        self._trail = trail or Trail()
        self._watches = Watches(self._trail)
        self._lessons = lessons
        self._temporary: list[Clause] = []
        self._drawn = 0
        # The walk: what is to do, what is done, and for each decision how far it was.
        self._agenda: Agenda = None
        self._walked: list[int] = []
        self._seen: set[int] = set()
        self._resume: list[tuple[Agenda, int]] = []
        # The level before the request's own decision, -1 when that is not made; whether it comes before the facts.
        self._request = -1
        self._request_first = False
        # The roles that it follows from that the facts can not hold together, None as long as they can.
        self._impossible: set[int] | None = None
        self._trail.grow(problem.domains)
        for role, values in facts:
            if not self._trail.narrow(role, values, ()):
                self._impossible = {role}
        for clause in lessons or ():
            self._recall(clause)

    def solve(self, dependencies: Sequence[Dependency]) -> list[tuple[int, int]] | None:
        """The best way to meet the dependencies, or None: roles with their values in the order of the walk.

        The facts come first, whether the dependencies name their roles or not.
        """
        self._problem.ask(dependencies)
        self._trail.grow(self._problem.domains)
        self._request_first = False
        if not self._trail.levels:
            self._begin([role for role, _ in self._facts])
        self.examined = set(self._impossible or ())
        solved = self._impossible is None and self._run()
        found = [(role, self._trail.domains[role]) for role in self._walked] if solved else None
        if solved:
            better = [(role, (self._trail.domains[role] - 1) & ~ABSENT) for role in self._walked]
            self.examined = examine(self._trail, better)
        self.examined.update([role for role, _ in (*self._facts, *dependencies)])
        self._finish()
        return found

    def _run(self) -> bool:
        """Search; whether there is a solution, which then is what the domains say of the roles walked through."""
        while True:
            failed = self._propagate()
            if failed < 0:
                if not self._trail.levels:
                    self._trail.settle()
                    self._drawn = 0
                role = self._walk()
                if role < 0:
                    return True
                failed = self._decide(role)
            if failed >= 0 and not self._resolve(failed):
                return False

    def _propagate(self) -> int:
        """Draw all conclusions from what was removed; a role that no value is left for, or -1."""
        trail, problem = self._trail, self._problem
        domains = trail.domains
        while self._drawn < len(trail.roles):
            event = self._drawn
            self._drawn += 1
            role = trail.roles[event]
            domain = domains[role]
            if not domain & (domain - 1) and domain > ABSENT and trail.last[role] == event:
                because, dependencies, _ = problem.choice(role, domain)
                trail.grow(problem.domains)
                for target, values in dependencies:
                    if domains[target] & ~values and not trail.narrow(target, values, because):
                        return target
            failed = self._watches.consult(role)
            if failed >= 0:
                return failed
        return -1

    # The walk

    def _begin(self, roles: Sequence[int]) -> None:
        """Start the walk anew: through some roles, then the request."""
        self._agenda = (0, None)
        for role in reversed(roles):
            self._agenda = (role, self._agenda)
        self._walked.clear()
        self._seen.clear()

    def _walk(self) -> int:
        """The next role, depth first, that has to be decided, or -1 when there is none."""
        agenda = self._agenda
        while agenda:
            role, rest = agenda
            if role not in self._seen:
                domain = self._trail.domains[role]
                if domain & (domain - 1) or domain == ABSENT:
                    break
                self._seen.add(role)
                self._walked.append(role)
                for target in reversed(self._problem.choice(role, domain)[2]):
                    rest = (target, rest)
            agenda = rest
        self._agenda = agenda
        return agenda[0] if agenda else -1

    def _decide(self, role: int) -> int:
        """Choose the best candidate of a role or find it impossible; the role if there is none, or -1."""
        domain = self._trail.domains[role] & ~ABSENT
        value = domain & -domain
        if not value:
            return role
        if not self._is_possible(role, value):
            return -1 if self._trail.domains[role] else role
        if role == 0:
            self._request = len(self._trail.levels)
        self._resume.append((self._agenda, len(self._walked)))
        self._trail.decide(role, value)
        return -1

    def _is_possible(self, role: int, value: int) -> bool:
        """Whether every target of a candidate can take a value that it allows; if not the candidate is removed."""
        trail = self._trail
        _, dependencies, _ = self._problem.choice(role, value)
        trail.grow(self._problem.domains)
        for target, values in dependencies:
            if not trail.domains[target] & values:
                reason = ((target, values),)
                if not trail.base[target] & values:
                    trail.lose(role, value, trail.support(role, reason))
                trail.narrow(role, ~value, reason)
                return False
        return True

    def _back(self, level: int) -> None:
        """Undo all but the first `level` decisions."""
        if level == len(self._trail.levels):
            return
        self._trail.back(level)
        self._drawn = len(self._trail.roles)
        self._agenda, walked = self._resume[level]
        self._seen.difference_update(self._walked[walked:])
        del self._walked[walked:], self._resume[level:]
        if level <= self._request:
            self._request = -1

    # Conflicts

    def _resolve(self, failed: int) -> bool:
        """Learn from a role that no value is left for, and go back to where that helps; False when nothing does."""
        if failed == 0:
            self.examined = self._trail.support(-1, ((0, REQUEST),))
            return self._restart()
        self.conflicts += 1
        clause, level = learn(self._trail, failed) if self._trail.levels else (Clause([], set()), 0)
        if not clause.literals:
            self._impossible = examine(self._trail, [(failed, -1)])
            self.examined = set(self._impossible)
            return False
        self.examined = set(clause.support)
        self._keep(clause)
        role, values = clause.literals[0]
        if role == 0:
            return len(clause.literals) > 1 and self._restart()
        if len(clause.literals) == 1:
            return self._conclude(clause)
        self._back(level)
        self._trail.narrow(role, values, clause)
        return True

    def _restart(self) -> bool:
        """Begin again with the request, before the facts are walked; False when that does not help."""
        if self._request_first or not self._trail.base[0] & REQUEST:
            return False
        self._back(0)
        self._begin(())
        self._request_first = True
        return True

    def _recall(self, clause: Clause) -> None:
        """Take up a clause that was learnt by another search."""
        if len(clause.literals) > 1:
            self._watches.add(clause)
        else:
            role, values = clause.literals[0]
            if not self._trail.narrow(role, values, clause):
                self._impossible = examine(self._trail, [(role, -1)])

    def _keep(self, clause: Clause) -> None:
        if self._lessons is not None:
            self._lessons.append(clause)
        if len(clause.literals) > 1:
            self._watches.add(clause)
            if any(role == 0 for role, _ in clause.literals):
                self._temporary.append(clause)

    def _conclude(self, clause: Clause) -> bool:
        """Remove for ever what a clause of one literal rules out; whether the facts can still hold.

        What was chosen for the facts stays when the role played no part in it.
        """
        role, values = clause.literals[0]
        self._back(max(self._request, 0))
        if self._trail.levels and self._trail.last[role] < 0 and values & ABSENT:
            self._trail.lose(role, self._trail.base[role] & ~values, clause.support)
            self._trail.domains[role] &= values
            return True
        self._back(0)
        return self._trail.narrow(role, values, clause) or self._resolve(role)

    def _finish(self) -> None:
        """Forget the request, but not what was chosen for the facts."""
        self._back(len(self._trail.levels) if self._request < 0 else self._request)
        if self._trail.last[0] >= 0 or self._impossible is not None:
            self._back(0)
        for clause in self._temporary:
            self._watches.drop(clause)
        self._temporary.clear()
        self._watches.tidy()
        self._trail.find(0)
