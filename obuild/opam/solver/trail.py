"""What is possible for each role, and how it came to that: a stack of removals that can be undone and explained."""

from __future__ import annotations

from bisect import bisect_right

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    Literal: TypeAlias = tuple[int, int]
    Reason: TypeAlias = "tuple[Literal, ...] | Clause"

__all__ = ["Clause", "Trail"]


class Clause:
    """Literals of different roles, of which one holds; `support` are the roles whose candidates it was learnt from."""

    __slots__ = ("literals", "support")

    def __init__(self, literals: list[Literal], support: set[int]) -> None:
        self.literals, self.support = literals, support


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
        self.support: dict[int, set[int]] = {}
        """The other roles that the base of a role follows from."""
        self.roles: list[int] = []
        self.reasons: list[Reason] = []
        self.levels: list[int] = []
        """For each decision the number of events before it."""
        self.last: list[int] = []
        """The last event of each role, or -1."""
        self._removed: list[int] = []
        self._before: list[int] = []

    def grow(self, domains: Sequence[int]) -> None:
        """Take up new roles, the last of `domains`."""
        fresh = domains[len(self.domains) :]
        self.domains += fresh
        self.base += fresh
        self.last += [-1] * len(fresh)

    def remove(self, role: int, values: int, reason: Reason) -> bool:
        """Remove values from the domain of a role that has some of them; whether others are left."""
        removed = self.domains[role] & values
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
        self.remove(role, ~value, ())

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
        for role, reason in zip(self.roles, self.reasons, strict=True):
            if isinstance(reason, Clause):
                self.found(role, reason.support)
            else:
                self.found(role, {target for target, _ in reason})
        for role in self.roles:
            self.base[role] = self.domains[role]
            self.last[role] = -1
        for stack in (self.roles, self.reasons, self._removed, self._before):
            stack.clear()

    def found(self, role: int, support: set[int]) -> None:
        """Remember that the base of a role follows from others."""
        self.support.setdefault(role, set()).update(self.supports(support))

    def supports(self, roles: set[int]) -> set[int]:
        """`roles` and all that their bases follow from."""
        return roles.union(*[self.support[role] for role in roles if role in self.support])

    def trace(self, role: int, values: int, wanted: dict[int, int]) -> None:
        """Add to `wanted` the events that removed `values` from a role, each with those that it removed."""
        event = self.last[role]
        while event >= 0 and values:
            hit = self._removed[event] & values
            if hit:
                wanted[event] = wanted.get(event, 0) | hit
                values ^= hit
            event = self._before[event]
