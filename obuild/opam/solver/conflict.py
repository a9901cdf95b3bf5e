"""Learning from a conflict: a role that no value is left for is traced back to what it really takes to come there."""

from __future__ import annotations

from obuild.opam.solver.trail import Clause

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from obuild.opam.solver.trail import Literal, Support, Trail

__all__ = ["examine", "learn"]


def learn(trail: Trail, failed: int) -> tuple[Clause, int]:
    """The clause that an empty domain teaches, and the level after which it has something to say.

    Beginning with the removals that emptied the domain, the latest is replaced by what it followed from, until there
    is only one of the last level left: the first that alone leads, with earlier ones, to the conflict. Its literal is
    the clause's first, and the only one that can hold at the level returned. A clause without literals says that the
    facts themselves can not hold.
    """
    wanted: dict[int, int] = {}
    support: Support = set()
    trail.trace(failed, -1, wanted, support)
    final = trail.last[failed]
    while wanted:
        event = max(wanted)
        if event != final and not _is_shared(trail, event, wanted):
            return _clause(trail, event, wanted, support)
        del wanted[event]
        _follow(trail, event, wanted, support)
    return Clause([], support), 0


def examine(trail: Trail, gone: Iterable[Literal]) -> Support:
    """The roles that it follows from that values are gone from the domains of roles."""
    wanted: dict[int, int] = {}
    support: Support = set()
    for role, values in gone:
        trail.trace(role, values, wanted, support)
    seen: set[int] = set()
    while wanted:
        event, _ = wanted.popitem()
        if event not in seen:
            seen.add(event)
            _follow(trail, event, wanted, support)
    return support


def _follow(trail: Trail, event: int, wanted: dict[int, int], support: Support) -> None:
    """Trace an event back to what made it happen."""
    for target, values in trail.grounds(trail.roles[event], trail.reasons[event], support):
        trail.trace(target, values, wanted, support)


def _is_shared(trail: Trail, event: int, wanted: dict[int, int]) -> bool:
    """Whether there is another event of the same level, besides the latest."""
    start = trail.levels[trail.level(event) - 1]
    return any(start <= other != event for other in wanted)


def _clause(trail: Trail, first: int, wanted: dict[int, int], support: Support) -> tuple[Clause, int]:
    """The clause that one of the events must not have happened, and the level of the latest one but `first`.

    Earlier events of the same role as `first` are part of its literal.
    """
    literals = {trail.roles[first]: 0}
    level = 0
    for event in sorted(wanted, reverse=True):
        role = trail.roles[event]
        if len(literals) == 1 and role not in literals:
            level = trail.level(event)
        literals[role] = literals.get(role, 0) | wanted[event]
    return Clause(list(literals.items()), support), level
