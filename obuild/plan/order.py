"""The order of a dependency graph, and what can be reached in it."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from obuild.errors import OpamError
from obuild.opam.package import name_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import TypeAlias

    from obuild.opam.package import Package

    Edges: TypeAlias = Mapping[Package, Sequence[Package]]

__all__ = ["closure", "order"]


def closure(edges: Edges, roots: Iterable[Package]) -> frozenset[Package]:
    """The roots and all that can be reached from them."""
    found: set[Package] = set()
    agenda = list(roots)
    while agenda:
        package = agenda.pop()
        if package not in found:
            found.add(package)
            agenda += edges[package]
    return frozenset(found)


def order(edges: Edges, packages: frozenset[Package]) -> tuple[Package, ...]:
    """The packages, a set closed under `edges`, each after its dependencies and else in the order of their names.

    Always taking the first by name that is ready makes the order of such a set that of any larger one without what does
    not belong to it: so what a package is stacked upon is the same in every plan. Raises `OpamError` for a cycle.
    """
    waiting = {package: len(set(edges[package])) for package in packages}
    above: dict[Package, list[Package]] = {package: [] for package in packages}
    for package in packages:
        for dependency in set(edges[package]):
            above[dependency].append(package)
    ready = [(name_key(package.name), package) for package, count in waiting.items() if not count]
    heapify(ready)
    found: list[Package] = []
    while ready:
        _, package = heappop(ready)
        found.append(package)
        for each in above[package]:
            waiting[each] -= 1
            if not waiting[each]:
                heappush(ready, (name_key(each.name), each))
    if len(found) < len(packages):
        raise _cycle(edges, packages.difference(found))
    return tuple(found)


def _cycle(edges: Edges, stuck: frozenset[Package]) -> OpamError:
    """What to say of packages that wait for each other; one cycle among them is named."""
    path = [min(stuck, key=lambda package: name_key(package.name))]
    while True:
        following = next(each for each in edges[path[-1]] if each in stuck)
        if following in path:
            names = [f'"{package}"' for package in (*path[path.index(following) :], following)]
            return OpamError(
                f"no order to build in: {' needs '.join(names)}", hint="a dependency of these should be {post}"
            )
        path.append(following)
