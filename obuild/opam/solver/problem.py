"""Packages as the search sees them: roles, each taking one value, and dependencies that are sets of values.

A *role* is a package name, one `|` of a formula, or a conflict class. Its values are bits: bit 0 says that nobody takes
the role, bit 1 is the best candidate, bit 2 the next best. A set of values is an integer, so that

    a dependency  (role, set)   "if this candidate is chosen, that role takes a value of the set"

says all there is to say: a set without bit 0 makes the role needed, one with it is a conflict ("none of the others").
A conflict class is a role whose values are the roles that share it, and each candidate of the class takes its own.

Roles and dependencies are made when they are first met.
"""

from __future__ import annotations

from obuild.opam.formula import alternatives, pieces
from obuild.opam.package import Package
from obuild.opam.version import holds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence
    from typing import TypeAlias

    from obuild.opam.formula import Condition, Formula
    from obuild.opam.solver.universe import Universe

    Dependency: TypeAlias = tuple[int, int]
    # The role and value in whose formula something is, and where in it; see `order`.
    Place: TypeAlias = tuple[int, int, tuple[int, ...]]
    Choice: TypeAlias = tuple[tuple[Dependency], tuple[Dependency, ...], tuple[int, ...]]

__all__ = ["ABSENT", "REQUEST", "Problem", "singles"]

ABSENT = 1
"""The value of a role that nobody takes."""
REQUEST = 2
"""The value of role 0, the user's request."""
ANY = -1
"""All values there are and will be."""


class Problem:
    """The roles of a universe. `asked` are the names that the user gave, `tested` those whose tests are run, too.

    `domains` has the values of each role, by number; names never heard of have only `ABSENT`.
    """

    def __init__(
        self, universe: Universe, asked: Container[str] = frozenset(), tested: Container[str] = frozenset()
    ) -> None:
        self.universe = universe
        self._asked, self._tested = asked, tested
        self.domains: list[int] = []
        self.names: list[str] = []
        """The package name of each role, "" for others."""
        self.owners: list[int] = []
        """The role in whose formula the role is; that of a package name is its own."""
        self._choices: list[dict[int, Choice]] = []
        self._parts: dict[int, list[Formula]] = {}
        self._places: dict[int, Place] = {}
        self._versions: dict[int, tuple[str, ...]] = {}
        self._masks: dict[tuple[int, Condition], int] = {}
        self._packages: dict[tuple[int, int], Package] = {}
        self._roles: dict[str, int] = {}
        self._classes: dict[str, dict[int, Dependency]] = {}
        self._new("", None, REQUEST | ABSENT)

    def ask(self, dependencies: Sequence[Dependency]) -> None:
        """Give the role 0 these dependencies: it is taken by the request, whose only value is `REQUEST`."""
        needed = tuple([role for role, _ in dependencies])
        self._choices[0][REQUEST] = (((0, ~REQUEST),), tuple(dependencies), needed)

    def role(self, name: str) -> int:
        """The role of a package name."""
        found = self._roles.get(name)
        if found is None:
            versions = self.universe.candidates(name, asked=name in self._asked)
            found = self._roles[name] = self._new(name, None, (2 << len(versions)) - 1)
            self._versions[found] = versions
        return found

    def _new(self, name: str, owner: int | None, domain: int) -> int:
        role = len(self.domains)
        self.domains.append(domain)
        self.names.append(name)
        self.owners.append(role if owner is None else owner)
        self._choices.append({})
        return role

    def versions(self, role: int) -> tuple[str, ...]:
        """The candidates of a package's role, best first."""
        return self._versions[role]

    def version(self, role: int, value: int) -> str:
        """The version that is a value of a package's role."""
        return self._versions[role][value.bit_length() - 2]

    def package(self, role: int, value: int) -> Package:
        """The package that is a value of a package's role."""
        key = (role, value)
        if key not in self._packages:
            self._packages[key] = Package(self.names[role], self.version(role, value))
        return self._packages[key]

    def choice(self, role: int, value: int) -> Choice:
        """What choosing a value entails: `(because, dependencies, needed roles in the order of the formula)`.

        `because` is the choice as a condition on a role that does *not* hold: "takes one of the others".
        """
        found = self._choices[role].get(value)
        if found is None:
            dependencies = tuple(self._dependencies(role, value))
            needed = tuple(
                [target for target, values in dependencies if not values & ABSENT and self.is_walked(target)]
            )
            found = self._choices[role][value] = (((role, ~value),), dependencies, needed)
        return found

    def is_walked(self, role: int) -> bool:
        """Whether the search must decide the role: not so for conflict classes."""
        return self.domains[role] != ANY

    def alternatives(self, role: int) -> list[Formula]:
        """What a role that is a `|` can be: its formulas, the first in front; none for other roles."""
        return self._parts.get(role, [])

    def place(self, role: int) -> Place:
        """Where a `|` stands: the role and value whose formula it is in, and the way through the formula."""
        return self._places[role]

    def statements(self, role: int, value: int) -> list[tuple[str, Formula | str]]:
        """What each dependency of a candidate is in the file of its package: the field, and the part of it.

        A part is an atom, an "or", or the name of a conflict class.
        """
        if role in self._parts:
            return [("depends", piece) for piece in pieces(self._parts[role][value.bit_length() - 2])]
        if role not in self._versions:
            return []
        depends, conflicts = self.formulas(role, value)
        return [
            *[("depends", piece) for piece in pieces(depends)],
            *[("conflicts", piece) for piece in alternatives(conflicts)],
            *[("conflict-class", name) for name in self.classes(role, value)],
        ]

    def _dependencies(self, role: int, value: int) -> Iterator[Dependency]:
        owner, chosen, path = self._places.get(role, (role, value, ()))
        path = (*path, -value.bit_length())
        for index, (field, part) in enumerate(self.statements(role, value)):
            if isinstance(part, str):
                yield self._class(part, role)
            elif part and part[0] == "or":
                yield self._either(part, (owner, chosen, (*path, -index)))
            elif part:
                target = self.role(part[1])
                matching = self.matching(target, part[2])
                yield target, matching if field == "depends" else self.domains[target] & ~matching

    def formulas(self, role: int, value: int) -> tuple[Formula, Formula]:
        """What a package's candidate depends on and conflicts with."""
        name = self.names[role]
        return self.universe.needs(name, self.version(role, value), tested=name in self._tested)

    def classes(self, role: int, value: int) -> tuple[str, ...]:
        """The conflict classes of a candidate."""
        return self.universe.classes(self.names[role], self.version(role, value)) if self.names[role] else ()

    def _either(self, formula: Formula, place: Place) -> Dependency:
        """A role of its own for alternatives; alternatives in parentheses are one alternative."""
        parts = _flat(formula)
        role = self._new("", place[0], (2 << len(parts)) - 1)
        self._parts[role], self._places[role] = parts, place
        return role, (2 << len(parts)) - 2

    def _class(self, name: str, role: int) -> Dependency:
        members = self._classes.setdefault(name, {})
        if role not in members:
            shared = next(iter(members.values()))[0] if members else self._new("", role, ANY)
            members[role] = (shared, 2 << len(members))
        return members[role]

    def matching(self, role: int, condition: Condition) -> int:
        """The candidates of a package's role that a resolved condition allows."""
        key = (role, condition)
        found = self._masks.get(key)
        if found is None:
            found = self._masks[key] = self._match(role, condition)
        return found

    def _match(self, role: int, condition: Condition) -> int:
        found = self.domains[role] & ~ABSENT
        match condition:
            case ("is", op, bound):
                bits = ["01"[holds(version, op, bound)] for version in reversed(self._versions[role])]
                found = int("".join(bits) + "0", 2)
            case ("and", *parts):
                for part in parts:
                    found &= self.matching(role, part)
            case ("or", *parts):
                found = 0
                for part in parts:
                    found |= self.matching(role, part)
        return found


def singles(values: int) -> Iterator[int]:
    """The single values of a set, the best first."""
    while values:
        value = values & -values
        yield value
        values ^= value


def _flat(formula: Formula) -> list[Formula]:
    """The alternatives of an "or", blocks in one piece."""
    if formula and formula[0] == "or":
        return [found for part in formula[1:] for found in _flat(part)]
    return [formula]
