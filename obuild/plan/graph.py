"""What each package of a solution is built upon."""

from __future__ import annotations

from obuild.opam.buildid import dependencies
from obuild.plan.order import closure, order
from obuild.plan.relocatable import Relocation, relocation
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from obuild.opam.buildid import Rules
    from obuild.opam.opamfile import OpamFile
    from obuild.opam.package import Package
    from obuild.opam.solver import Solution
    from obuild.plan.definition import Definitions

__all__ = ["Graph", "Node"]


@value
class Node:
    """A package to build, upon `parents` in the order of stacking, of which it names `needs`.

    `variant` tells the build with tests or documentation from the plain one.
    """

    package: Package
    file: OpamFile
    needs: tuple[Package, ...]
    parents: tuple[Package, ...]
    relocation: Relocation
    variant: bool = False


class Graph:
    """The packages of a solution by name, and on which others each depends for its build-id."""

    def __init__(self, solution: Solution, definitions: Definitions, rules: Rules) -> None:
        self.installed = {package.name: package for package in solution.packages}
        self.definitions, self.rules = definitions, rules
        self._edges = _Edges(self)
        self._below: dict[Package, frozenset[Package]] = {}
        self._places: dict[Package, int] = {}

    def needs(self, package: Package, rules: Rules) -> tuple[Package, ...]:
        """The packages that one names, in the order in which its build-id has them."""
        return dependencies(self.definitions.file(package), self.installed, rules)

    def nodes(self, roots: Iterable[Package], variants: Iterable[Package], rules: Rules) -> tuple[Node, ...]:
        """The roots and all that they are built upon, each after what it needs; then the variants under their `rules`.

        Nothing is built upon a variant: another package that needs a tested one takes the plain one.
        """
        above = {package: self.needs(package, rules) for package in variants}
        packages = closure(self._edges, [*roots, *[each for needs in above.values() for each in needs]])
        found = []
        for place, package in enumerate(order(self._edges, packages)):
            self._places[package] = place
            found.append(self._node(package, self._edges[package]))
            self._below[package] = frozenset((package, *found[-1].parents))
        return (*found, *[self._variant(package, needs) for package, needs in above.items()])

    def _variant(self, package: Package, needs: tuple[Package, ...]) -> Node:
        edges = _Edges(self, {package: needs})
        order(edges, closure(edges, [package]))  # raises when its tests need what needs it
        return self._node(package, needs, variant=True)

    def _node(self, package: Package, needs: tuple[Package, ...], *, variant: bool = False) -> Node:
        below: set[Package] = set().union(*[self._below[each] for each in needs])
        parents = tuple(sorted(below, key=self._places.__getitem__))
        file = self.definitions.file(package)
        mark = self.installed.get("relocatable")
        files = [self.definitions.file(each) for each in parents]
        movable = relocation(file, files, mark.version if mark else "", self.rules.switch(package))
        return Node(package, file, needs, parents, movable, variant)


class _Edges(dict["Package", "tuple[Package, ...]"]):
    """What each package needs, worked out when it is first asked for."""

    def __init__(self, graph: Graph, known: dict[Package, tuple[Package, ...]] | None = None) -> None:
        super().__init__(known or {})
        self._graph = graph

    def __missing__(self, package: Package) -> tuple[Package, ...]:
        self[package] = self._graph.needs(package, self._graph.rules)
        return self[package]
