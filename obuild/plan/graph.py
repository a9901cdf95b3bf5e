"""What each package of a solution is built upon, and its build-id.

Solutions have most of their packages in common, and a package that stands on the same others is the same node in all of
them: what a node is made of is worked out once, and to plan one more solution costs what only it has.
"""

from __future__ import annotations

from obuild.opam.buildid import Undefined, dependencies, join_ids, obstacle
from obuild.opam.formula import atoms
from obuild.opam.package import name_key
from obuild.plan.order import closure, order
from obuild.plan.relocatable import Relocation, relocation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from obuild.opam.buildid import Rules
    from obuild.opam.opamfile import OpamFile
    from obuild.opam.package import Package
    from obuild.opam.solver import Solution
    from obuild.plan.build import PackageBuild
    from obuild.plan.definition import Definitions

__all__ = ["Graph", "Node"]


class Node:
    """A package to build, upon `parents` in the order of stacking, of which it names `needs`.

    A `variant` is the build with tests or documentation; `own` are the needs without those. `id` is the build-id; None
    where there is none, for the reason `undefined`. There is one node for the same package upon the same others, so
    nodes are compared as objects. `plain` and `builds` keep what was made of one: its key without a build-id, and its
    builds by prefix.
    """

    __slots__ = (
        "below",
        "builds",
        "file",
        "id",
        "needs",
        "own",
        "package",
        "parents",
        "plain",
        "relocation",
        "undefined",
        "variant",
    )

    def __init__(self, package: Package, file: OpamFile, needs: tuple[Node, ...], own: tuple[Node, ...] | None) -> None:
        self.package, self.file, self.needs, self.own = package, file, needs, needs if own is None else own
        self.variant = own is not None
        self.below: frozenset[Node] = frozenset(needs).union(*[need.below for need in needs])
        self.parents: tuple[Node, ...] = ()
        self.relocation = Relocation(True, "")
        self.id: str | None = None
        self.undefined: Undefined | None = None
        self.plain = ""
        self.builds: dict[str, PackageBuild] = {}


class Graph:
    """The packages of repositories, as nodes.

    `rules` are without tests and documentation, `tested` with those that are wanted; `hash` gives the hash of a
    definition's effective text.
    """

    def __init__(self, definitions: Definitions, rules: Rules, tested: Rules, hash: Callable[[OpamFile], str]) -> None:
        self._definitions, self._rules, self._hash = definitions, rules, hash
        self._needs, self._tested = _Needs(definitions, rules), _Needs(definitions, tested)
        self._nodes: dict[tuple[object, ...], Node] = {}

    def nodes(
        self, solution: Solution, roots: Iterable[Package], variants: Iterable[Package]
    ) -> tuple[tuple[Node, ...], tuple[Node, ...]]:
        """The roots and all that they and the variants are built upon, each after what it needs; and the variants.

        Nothing is built upon a variant: another package that needs a tested one takes the plain one. Raises
        `OpamError` for packages that need each other, and for definitions that can not be read.
        """
        installed = {package.name: package for package in solution.packages}
        edges = _Edges(lambda name: self._needs(installed[name], installed))
        above = {package.name: self._tested(package, installed) for package in variants}
        asked = [package.name for package in roots]
        names = closure(edges, [*asked, *[each for needs in above.values() for each in needs]])
        named = closure(edges, [each for name in above for each in edges[name]])  # by ids of variants alone
        mark = installed["relocatable"].version if "relocatable" in installed else ""
        known: dict[str, Node] = {}
        for name in order(edges, names | named, installed):
            needs = tuple([known[each] for each in edges[name]])
            known[name] = self._node(installed[name], mark, known, needs)
        made = []
        for name, tested in above.items():
            row = _Edges(lambda name: self._needs(installed[name], installed), {name: tested})
            order(row, closure(row, [name]), installed)  # raises when its tests need what needs it
            needs, own = (tuple([known[each] for each in row]) for row in (tested, edges[name]))
            made.append(self._node(installed[name], mark, known, needs, own))
        return tuple([node for name, node in known.items() if name in names]), tuple(made)

    def _node(
        self,
        package: Package,
        mark: str,
        known: Mapping[str, Node],
        needs: tuple[Node, ...],
        own: tuple[Node, ...] | None = None,
    ) -> Node:
        """The node of a package upon others, which are all among those `known`, in the order of stacking."""
        key = (package.name, package.version, mark, needs, own)
        node = self._nodes.get(key)
        if node is None:
            node = self._nodes[key] = Node(package, self._definitions.file(package), needs, own)
            node.parents = tuple([each for each in known.values() if each in node.below])
            files = [parent.file for parent in node.parents]
            node.relocation = relocation(node.file, files, mark, self._rules.switch(package))
            self._identify(node)
        return node

    def _identify(self, node: Node) -> None:
        why = obstacle(node.file, pinned=node.package.name in self._definitions.pins)
        inherited = next((need.undefined for need in node.own if need.undefined), None)
        node.undefined = Undefined(node.package, why) if why else inherited
        if node.undefined is None:
            node.id = join_ids(self._hash(node.file), [need.id for need in node.own])


class _Needs:
    """The names of the installed packages that count for the build-id of another, in the order in which it has them."""

    def __init__(self, definitions: Definitions, rules: Rules) -> None:
        self._definitions, self._rules = definitions, rules
        self._rows: dict[tuple[str, str], Sequence[tuple[str, dict[str, bool]]]] = {}

    def __call__(self, package: Package, installed: Mapping[str, Package]) -> tuple[str, ...]:
        key = (package.name, package.version)
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = self._row(self._definitions.file(package))
        found, new = [], {}
        for name, verdicts in row:
            target = installed.get(name)
            if target is not None:
                counts = verdicts.get(target.version)
                if counts is None:
                    new[name] = target
                elif counts:
                    found.append(name)
        if not new:
            return tuple(found)
        fresh = dependencies(self._definitions.file(package), new, self._rules)
        for name, verdicts in row:
            if name in new:
                verdicts[new[name].version] = new[name] in fresh
        return self(package, installed)

    def _row(self, file: OpamFile) -> Sequence[tuple[str, dict[str, bool]]]:
        names = {name for formula in (file.depends, file.depopts) for name, _ in atoms(formula)}
        return [(name, {}) for name in sorted(names, key=name_key, reverse=True)]


class _Edges(dict["str", "tuple[str, ...]"]):
    """What each package needs, by name, worked out when it is first asked for."""

    def __init__(self, needs: Callable[[str], tuple[str, ...]], known: Mapping[str, tuple[str, ...]] = {}) -> None:
        super().__init__(known)
        self._needs = needs

    def __missing__(self, name: str) -> tuple[str, ...]:
        self[name] = self._needs(name)
        return self[name]
