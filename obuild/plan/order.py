"""The order of a dependency graph of packages by name, and what can be reached in it."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from obuild.errors import OpamError
from obuild.opam.package import name_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import TypeAlias

    Edges: TypeAlias = Mapping[str, Sequence[str]]

__all__ = ["closure", "order"]


def closure(edges: Edges, roots: Iterable[str]) -> frozenset[str]:
    """The roots and all that can be reached from them."""
    found: set[str] = set()
    agenda = list(roots)
    while agenda:
        name = agenda.pop()
        if name not in found:
            found.add(name)
            agenda += edges[name]
    return frozenset(found)


def order(edges: Edges, names: frozenset[str], shown: Mapping[str, object]) -> tuple[str, ...]:
    """The names, a set closed under `edges`, each after its dependencies and else in opam's order.

    Always taking the first by name that is ready makes the order of such a set that of any larger one without what does
    not belong to it: so what a package is stacked upon is the same in every plan. Raises `OpamError` for a cycle, whose
    packages it calls as `shown` does.
    """
    waiting: dict[str, int] = {}
    above: dict[str, list[str]] = {name: [] for name in names}
    for name in names:
        needs = set(edges[name])
        waiting[name] = len(needs)
        for need in needs:
            above[need].append(name)
    ready = [(name_key(name), name) for name, count in waiting.items() if not count]
    heapify(ready)
    found: list[str] = []
    while ready:
        _, name = heappop(ready)
        found.append(name)
        for user in above[name]:
            waiting[user] -= 1
            if not waiting[user]:
                heappush(ready, (name_key(user), user))
    if len(found) < len(names):
        raise _cycle(edges, names.difference(found), shown)
    return tuple(found)


def _cycle(edges: Edges, stuck: frozenset[str], shown: Mapping[str, object]) -> OpamError:
    """What to say of packages that wait for each other; one cycle among them is named."""
    path = [min(stuck, key=name_key)]
    while True:
        following = next(each for each in edges[path[-1]] if each in stuck)
        if following in path:
            names = [f'"{shown[name]}"' for name in (*path[path.index(following) :], following)]
            return OpamError(
                f"no order to build in: {' needs '.join(names)}", hint="a dependency of these should be {post}"
            )
        path.append(following)
