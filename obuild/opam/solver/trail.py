"""What is possible for each role, and how it came to that: a stack of removals that can be undone and explained."""

from __future__ import annotations

from bisect import bisect_right

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any, TypeAlias

    Literal: TypeAlias = tuple[int, int]
    Reason: TypeAlias = "tuple[Literal, ...] | Clause"
    # Roles, and what else another kind of trail says of what something followed from.
    Support: TypeAlias = set[Any]

__all__ = ["Clause", "Trail"]


class Clause:
    """Literals of different roles, of which one holds; `support` are the roles whose candidates it was learnt from."""

    __slots__ = ("literals", "support", "used")

    def __init__(self, literals: list[Literal], support: Support) -> None:
        self.literals, self.support = literals, support
        self.used = True
        """Whether a conflict needed it of late."""


class Trail:
    """The domains of all roles, and the removals that made them, in their order.

    An event is a removal of values from one role's domain, with its reason: literals which are all false, so that the
    values had to go. A decision is an event without a reason, and begins a level. What is removed before the first
    decision is removed for ever.
    """

    def __init__(self) -> None:
        self.domains: list[int] = []
        self.base: list[int] = []
        """The values that nothing but the facts has removed."""
        self.roles: list[int] = []
        self.reasons: list[Reason] = []
        self.levels: list[int] = []
        """For each decision the number of events before it."""
        self.last: list[int] = []
        """The last event of each role, or -1."""
        self._lost: dict[int, list[tuple[int, Support]]] = {}
        self._removed: list[int] = []
        self._before: list[int] = []

    def grow(self, domains: Sequence[int]) -> None:
        """Take up new roles, the last of `domains`."""
        if len(self.domains) < len(domains):
            fresh = domains[len(self.domains) :]
            self.domains += fresh
            self.base += fresh
            self.last += [-1] * len(fresh)

    def narrow(self, role: int, values: int, reason: Reason) -> bool:
        """Remove all but `values` from the domain of a role; whether some are left."""
        removed = self.domains[role] & ~values
        self.domains[role] ^= removed
        self._before.append(self.last[role])
        self.last[role] = len(self.roles)
        self.roles.append(role)
        self._removed.append(removed)
        self.reasons.append(reason)
        return self.domains[role] != 0

    def decide(self, role: int, value: int) -> None:
        """Begin a level by giving a role a value."""
        self.levels.append(len(self.roles))
        self.narrow(role, value, ())

    def level(self, event: int) -> int:
        """The number of decisions up to an event."""
        return bisect_right(self.levels, event)

    def back(self, level: int) -> None:
        """Undo all but the first `level` decisions and what followed from them."""
        length = self.levels[level]
        for event in range(len(self.roles) - 1, length - 1, -1):
            role = self.roles[event]
            restored = self.domains[role] | self._removed[event]
            left = restored & self.base[role]
            # A role is chosen by the event that leaves it one value: it must not come down to one by going back.
            self.domains[role] = left if left & (left - 1) else restored
            self.last[role] = self._before[event]
        for stack in (self.roles, self.reasons, self._removed, self._before):
            del stack[length:]
        del self.levels[level:]

    def settle(self) -> None:
        """Make all events, which no decision came before, hold for ever."""
        for role, removed, reason in zip(self.roles, self._removed, self.reasons, strict=True):
            self.lose(role, removed, self.support(role, reason))
            self.last[role] = -1
        for stack in (self.roles, self.reasons, self._removed, self._before):
            stack.clear()

    def lose(self, role: int, values: int, support: Support) -> None:
        """Remove values from the base of a role; they will be gone when its domain is restored."""
        self.base[role] &= ~values
        self._lost.setdefault(role, []).append((values, support))

    def find(self, role: int) -> None:
        """Take back all that the base of a role has lost, for one that stands for something else from now on."""
        for values, _ in self._lost.pop(role, ()):
            self.base[role] |= values
        self.domains[role] = self.base[role]

    def support(self, role: int, reason: Reason) -> Support:
        """The roles that a removal from a role followed from, when it did so without any decision."""
        found: Support = set()
        for target, values in self.grounds(role, reason, found):
            self._lost_because(target, values, found)
        return found

    def grounds(self, role: int, reason: Reason, support: Support) -> Iterable[Literal]:
        """The literals, all false, for which a role lost values; what these follow from is added to `support`."""
        literals: Iterable[Literal]
        if isinstance(reason, Clause):
            reason.used = True
            support |= reason.support
            literals = reason.literals
        else:
            literals = reason
        return [literal for literal in literals if literal[0] != role]

    def trace(self, role: int, values: int, wanted: dict[int, int], support: Support) -> None:
        """Find out why `values` are gone from a role.

        Adds the events that removed them to `wanted`, each with what it removed, and to `support` the role and those
        that what it lost for ever follows from.
        """
        event = self.last[role]
        while event >= 0 and values:
            hit = self._removed[event] & values
            if hit:
                wanted[event] = wanted.get(event, 0) | hit
                values ^= hit
            event = self._before[event]
        self._lost_because(role, values, support)

    def _lost_because(self, role: int, values: int, support: Support) -> None:
        support.add(role)
        for lost, roles in self._lost.get(role, ()):
            if lost & values:
                support |= roles
