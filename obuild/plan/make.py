"""From a solution to a plan: which layers there will be, and under which keys."""

from __future__ import annotations

from hashlib import sha256

from obuild.errors import UsageError
from obuild.opam.buildid import build_ids
from obuild.opam.effective import effective_hash
from obuild.opam.key import dev_key, layer_key
from obuild.plan.build import PREFIX, PackageBuild, Plan
from obuild.plan.definition import Definitions
from obuild.plan.graph import Graph
from obuild.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import TypeAlias

    from obuild.opam.buildid import Rules
    from obuild.opam.opamfile import OpamFile
    from obuild.opam.package import Package
    from obuild.opam.repo import Overlay, Repository
    from obuild.opam.solver import Pin, Solution
    from obuild.opam.source import Source
    from obuild.plan.build import Patch
    from obuild.plan.graph import Node
    from obuild.platform import Base

    Content: TypeAlias = Callable[[Package, Source], str]
    Hash: TypeAlias = Callable[[OpamFile], str]

__all__ = ["plan"]


def plan(
    solution: Solution,
    repository: Overlay | Repository | Definitions,
    base: Base,
    *,
    rules: Rules,
    pins: Mapping[str, Pin] = {},
    with_test: bool = False,
    with_doc: bool = False,
    patches: Mapping[str, Sequence[Patch]] = {},
    prefix: str = PREFIX,
    whole: bool = False,
    content: Content | None = None,
    hash: Hash | None = None,
) -> Plan:
    """What has to be built for the packages that a solution was asked for, or for all of it when `whole`.

    A package is built upon exactly what counts for its build-id: those that it names, of the solution, and theirs. What
    it needs only afterwards (`post`) is built for a `whole` solution. `with_test` and `with_doc` are about the
    packages asked for; nothing else is ever built upon such a variant. `patches` are by `name` or `name.version`.
    `prefix` counts only where something can not be moved to it. `Definitions` serve many plans; they have the pins
    already. `content` tells what a source without a checksum holds, as one word; `hash` is that of `build_ids`.

    Raises `OpamError` for definitions that can not be read and for packages that need each other.
    """
    plain = replace(rules, with_test=False, with_doc=False, with_dev_setup=False)
    known = repository if isinstance(repository, Definitions) else Definitions(repository, pins, rules.level)
    graph = Graph(solution, known, plain)
    asked = [graph.installed[name] for name, _ in solution.request.wanted]
    variants = asked if with_test or with_doc else []
    roots = [*(solution.packages if whole else ()), *(() if variants else asked)]
    nodes = graph.nodes(roots, variants, replace(plain, with_test=with_test, with_doc=with_doc))
    at = PREFIX if all(node.relocation.possible for node in nodes) else prefix
    maker = _Maker(graph, patches, content, hash, with_test=with_test, with_doc=with_doc, prefix=at)
    builds = tuple(map(maker.build, nodes))
    last = {build.package: build.key for build in builds}
    return Plan(
        base,
        builds,
        {build.key: build for build in builds},
        tuple([last[package] for package in asked]),
        at,
        {**base.platform.variables, **base.variables, **rules.variables},
        graph.definitions,
    )


class _Maker:
    """Makes the builds of nodes, in an order in which dependencies come first."""

    def __init__(
        self,
        graph: Graph,
        patches: Mapping[str, Sequence[Patch]],
        content: Content | None,
        hash: Hash | None,
        *,
        with_test: bool,
        with_doc: bool,
        prefix: str,
    ) -> None:
        self._graph, self._definitions, self._content = graph, graph.definitions, content
        self._patches, self._prefix = patches, prefix
        self._with_test, self._with_doc = with_test, with_doc
        rules = graph.rules
        self._hash = hash or (lambda file: effective_hash(file, level=rules.level, width=rules.width))
        pinned = self._definitions.pins.keys()
        self._ids = build_ids(graph.installed.values(), self._definitions.file, rules, pinned=pinned, hash=self._hash)
        self._plain: dict[Package, str] = {}  # the keys that packages would have without anything special
        self._keys: dict[Package, str] = {}

    def build(self, node: Node) -> PackageBuild:
        """The build of a node; those of its parents have been made before."""
        package = node.package
        patches = (*self._patches.get(package.name, ()), *self._patches.get(str(package), ()))
        plain = self._plain_key(node)
        key = layer_key(
            plain,
            tested=node.variant and self._with_test,
            documented=node.variant and self._with_doc,
            facts=self._facts(node, patches),
        )
        if not node.variant:
            self._plain[package], self._keys[package] = plain, key
        undefined = self._ids.undefined.get(package)
        return PackageBuild(
            package,
            key,
            self._ids.ids[package],
            tuple([self._keys[each] for each in node.parents]),
            tuple([self._keys[each] for each in node.needs]),
            node.file,
            self._definitions.source(node.file),
            node.relocation,
            node.variant and self._with_test,
            node.variant and self._with_doc,
            patches,
            str(undefined) if undefined else "",
        )

    def _plain_key(self, node: Node) -> str:
        """The build-id, or a key of our own that covers what opam leaves open."""
        return self._ids.ids[node.package] or dev_key(self._parts(node))

    def _parts(self, node: Node) -> Iterator[str]:
        """All that counts for a package without a build-id."""
        yield f"package {node.package} {self._hash(node.file)}"
        source = self._definitions.source(node.file)
        if source and not source.checksums:
            yield f"source {self._source_content(node.package, source)}"
        for need in node.needs:
            yield f"needs {need} {self._plain[need]}"

    def _source_content(self, package: Package, source: Source) -> str:
        if self._content is None:
            raise UsageError(
                f'the source of "{package}" has no checksum, and its content is not known', hint="it must be fetched"
            )
        return self._content(package, source)

    def _facts(self, node: Node, patches: Sequence[Patch]) -> Iterator[str]:
        """What makes the layer another one than the plain key says."""
        for place, patch in enumerate(patches):
            yield f"patch {place} {sha256(patch.text).hexdigest()}"
        if self._prefix != PREFIX:
            yield f"prefix {self._prefix}"
        own = self._graph.needs(node.package, self._graph.rules) if node.variant else node.needs
        for need in node.needs:
            if self._keys[need] != self._plain[need] or need not in own:
                yield f"needs {need} {self._keys[need]}"
        for need in own:
            if need not in node.needs:
                yield f"without {need}"
