"""Why nothing could be chosen: what opam-0install's report says, role by role.

It looks at the example of `greedy`. Each candidate of a role is good until something is found that rules it out, and
then it keeps that reason: first the versions that the user asks for, then conflict classes, then what the chosen
packages require of each other. A role that nothing could be chosen for has no good candidate left at the end.
"""

from __future__ import annotations

from obuild.opam.solver.greedy import GAP
from obuild.opam.solver.problem import ABSENT, singles
from obuild.opam.solver.text import format_condition
from obuild.opam.version import version_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from obuild.opam.formula import Formula
    from obuild.opam.package import Package
    from obuild.opam.solver.problem import Problem

__all__ = ["Part", "diagnose", "label", "title"]


class Part:
    """What became of a role: its value (`GAP` for none), the candidates that are ruled out, and by what, and notes.

    `usable` are the candidates that the search was about: all but the versions that the user did not ask for.
    """

    def __init__(self, role: int, value: int, candidates: int, usable: int) -> None:
        self.role, self.value = role, value
        self.usable = self.good = candidates & usable
        self.unasked = candidates & ~usable
        self.bad: dict[int, str] = {}
        self.notes: list[str] = []

    def reject(self, reason: Callable[[int, int], str]) -> list[int]:
        """Rule out the good candidates for which `reason` has a text, and return them."""
        return self._reject({value: text for value in singles(self.good) if (text := reason(self.role, value))})

    def restrict(self, values: int, restriction: str) -> list[int]:
        """Rule out the good candidates that are not among `values`, and return them."""
        return self._reject(
            dict.fromkeys(singles(self.good & ~values), f"Incompatible with restriction: {restriction}")
        )

    def _reject(self, found: dict[int, str]) -> list[int]:
        self.bad.update(found)
        self.good ^= sum(found)
        return list(found)


def diagnose(problem: Problem, chosen: Mapping[int, int], order: list[int], asked: Mapping[str, Package]) -> list[Part]:
    """The parts of a report on the greedy choice `chosen`, in the given order of their roles.

    `asked` are the packages of the user, by name.
    """
    diagnosis = _Diagnosis(problem, chosen, order, asked)
    diagnosis.run()
    return list(diagnosis.parts.values())


class _Diagnosis:
    def __init__(
        self, problem: Problem, chosen: Mapping[int, int], order: list[int], asked: Mapping[str, Package]
    ) -> None:
        self._problem, self._asked = problem, asked
        self._terms: dict[tuple[int, int], list[tuple[int, int, str]]] = {}
        self.parts = {role: Part(role, chosen[role], self._candidates(role), self._usable(role)) for role in order}

    def run(self) -> None:
        for part in self.parts.values():
            if self._problem.names[part.role] in self._asked:
                self._note_asked(part, self._asked[self._problem.names[part.role]])
        self._compare_classes()
        for part in self.parts.values():
            if part.value == GAP:
                part.reject(self._unmet)
            else:
                self._restrict_others(part)
        for part in self.parts.values():
            if part.value == GAP:
                part.reject(self._conflict_with_itself)
                part.reject(lambda _role, _value: "Reason for rejection unknown: ")

    def _candidates(self, role: int) -> int:
        return self._problem.domains[role] & ~ABSENT

    def _usable(self, role: int) -> int:
        package = self._asked.get(self._problem.names[role])
        return self._problem.matching(role, ("is", "=", package.version)) if package else -1

    def _note_asked(self, part: Part, package: Package) -> None:
        """The versions that were not asked for are only told when there is no other."""
        part.notes.append(f"User requested = {package.version}")
        if not part.usable:
            text = f"Rejected by user-specified constraint {package.name} (= {package.version})"
            part.bad = dict.fromkeys(singles(part.unasked), text)

    def _compare_classes(self) -> None:
        holders: dict[str, int] = {}
        for part in self.parts.values():
            if part.value != GAP:
                holders.update(dict.fromkeys(self._problem.classes(part.role, part.value), part.role))

        def taken(role: int, value: int) -> str:
            for name in self._problem.classes(role, value):
                holder = holders.get(name, role)
                if holder != role:
                    return f"In same conflict class ({name}) as {title(self._problem, holder)}"
            return ""

        for part in self.parts.values():
            part.reject(taken)

    def _restrict_others(self, part: Part) -> None:
        """Say what a chosen candidate rules out, and note it where something better might have been chosen."""
        for target, values, restriction in self._restrictions(part.role, part.value):
            other = self.parts.get(target)
            if other:
                rejected = other.restrict(values, restriction)
                if any(not self._is_older(target, value, other.value) for value in rejected):
                    other.notes.append(f"{_name_and_version(self._problem, part)} requires {restriction}")

    def _is_older(self, role: int, value: int, chosen: int) -> bool:
        if chosen == GAP or not self._problem.names[role]:
            return False
        key, best = (version_key(self._problem.version(role, each)) for each in (value, chosen))
        return key < best

    def _unmet(self, role: int, value: int) -> str:
        """What a candidate requires of a chosen package that is not so."""
        for target, values, restriction in self._restrictions(role, value):
            other = self.parts.get(target)
            if other and other.value != GAP and not other.value & values:
                return f"Requires {title(self._problem, target)} {restriction}"
        return ""

    def _conflict_with_itself(self, role: int, value: int) -> str:
        for target, values, restriction in self._restrictions(role, value):
            if target == role and not value & values:
                return f"Requires {title(self._problem, target)} {restriction}"
        return ""

    def _restrictions(self, role: int, value: int) -> list[tuple[int, int, str]]:
        """What a candidate requires of packages, in order: their roles, the candidates it allows, how to say it."""
        key = (role, value)
        if key not in self._terms:
            # The request has dependencies, but no file that says so.
            said = zip(self._problem.choice(role, value)[1], self._problem.statements(role, value), strict=False)
            self._terms[key] = [(target, values, text) for (target, values), part in said if (text := _text(*part))]
        return self._terms[key]


def _text(field: str, part: Formula | str) -> str:
    """How a report says what a candidate requires of one package, "" when that is not said."""
    if isinstance(part, str) or part is None or part[0] == "or":
        return ""
    condition = format_condition(part[2])
    if field == "depends":
        return condition
    return f"not({condition})" if condition else "conflict with all versions"


def title(problem: Problem, role: int) -> str:
    """A role as reports name it: a package, or alternatives like `a|b&c`."""
    if problem.names[role]:
        return problem.names[role]
    return "|".join([label(problem, role, value) for value in singles(problem.domains[role] & ~ABSENT)])


def label(problem: Problem, role: int, value: int) -> str:
    """A value as reports name it: `name.version`, or names joined by `&`."""
    if problem.names[role]:
        return f"{problem.names[role]}.{problem.version(role, value)}"
    return "&".join([title(problem, target) for target in problem.choice(role, value)[2]])


def _name_and_version(problem: Problem, part: Part) -> str:
    if problem.names[part.role]:
        return f"{problem.names[part.role]} {problem.version(part.role, part.value)}"
    return f"{title(problem, part.role)} {label(problem, part.role, part.value)}"
