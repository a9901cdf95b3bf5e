"""From a solution to a plan: which layers there will be, and under which keys."""

from __future__ import annotations

from hashlib import sha256

from obuild.errors import UsageError
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

__all__ = ["Planner", "plan"]


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

    For many solutions, make one `Planner`. Raises `OpamError` for definitions that can not be read and for packages
    that need each other.
    """
    known = repository if isinstance(repository, Definitions) else Definitions(repository, pins, rules.level)
    planner = Planner(
        known,
        base,
        rules=rules,
        with_test=with_test,
        with_doc=with_doc,
        patches=patches,
        prefix=prefix,
        content=content,
        hash=hash,
    )
    return planner.plan(solution, whole=whole)


class Planner:
    """Plans of many solutions, as `plan` makes them; what they have in common is worked out once."""

    def __init__(
        self,
        definitions: Definitions,
        base: Base,
        *,
        rules: Rules,
        with_test: bool = False,
        with_doc: bool = False,
        patches: Mapping[str, Sequence[Patch]] = {},
        prefix: str = PREFIX,
        content: Content | None = None,
        hash: Hash | None = None,
    ) -> None:
        self._definitions, self._base, self._patches, self._prefix = definitions, base, patches, prefix
        self._with_test, self._with_doc, self._content = with_test, with_doc, content
        self._hash = hash or (lambda file: effective_hash(file, level=rules.level, width=rules.width))
        plain = replace(rules, with_test=False, with_doc=False, with_dev_setup=False)
        tested = replace(plain, with_test=with_test, with_doc=with_doc)
        self._graph = Graph(definitions, plain, tested, self._hash)
        self._variables = {**base.platform.variables, **base.variables, **rules.variables}

    def plan(self, solution: Solution, *, whole: bool = False) -> Plan:
        """The plan of a solution; see `plan`."""
        installed = {package.name: package for package in solution.packages}
        asked = [installed[name] for name, _ in solution.request.wanted]
        variants = asked if self._with_test or self._with_doc else []
        roots = [*(solution.packages if whole else ()), *(() if variants else asked)]
        nodes = [node for each in self._graph.nodes(solution, roots, variants) for node in each]
        prefix = PREFIX if all(node.relocation.possible for node in nodes) else self._prefix
        builds = tuple([self._build(node, prefix) for node in nodes])
        last = {build.package: build.key for build in builds}
        return Plan(
            self._base,
            builds,
            {build.key: build for build in builds},
            tuple([last[package] for package in asked]),
            prefix,
            self._variables,
            self._definitions,
        )

    def _build(self, node: Node, prefix: str) -> PackageBuild:
        build = node.builds.get(prefix)
        if build is None:
            build = node.builds[prefix] = self._make(node, prefix)
        return build

    def _make(self, node: Node, prefix: str) -> PackageBuild:
        package = node.package
        patches = (*self._patches.get(package.name, ()), *self._patches.get(str(package), ()))
        key = layer_key(
            self._plain_key(node),
            tested=node.variant and self._with_test,
            documented=node.variant and self._with_doc,
            facts=self._facts(node, patches, prefix),
        )
        return PackageBuild(
            package,
            key,
            node.id,
            tuple([self._build(each, prefix).key for each in node.parents]),
            tuple([self._build(each, prefix).key for each in node.needs]),
            node.file,
            self._definitions.source(node.file),
            node.relocation,
            node.variant and self._with_test,
            node.variant and self._with_doc,
            patches,
            str(node.undefined or ""),
        )

    def _plain_key(self, node: Node) -> str:
        """The key that the package has without anything special: the build-id, or one of our own that covers what
        opam leaves open.
        """
        if node.id is None and not node.plain:
            node.plain = dev_key(self._parts(node))
        return node.id or node.plain

    def _parts(self, node: Node) -> Iterator[str]:
        """All that counts for a package without a build-id."""
        yield f"package {node.package} {self._hash(node.file)}"
        source = self._definitions.source(node.file)
        if source and not source.checksums:
            yield f"source {self._source_content(node.package, source)}"
        for need in node.needs:
            yield f"needs {need.package} {self._plain_key(need)}"

    def _source_content(self, package: Package, source: Source) -> str:
        if self._content is None:
            raise UsageError(
                f'the source of "{package}" has no checksum, and its content is not known', hint="it must be fetched"
            )
        return self._content(package, source)

    def _facts(self, node: Node, patches: Sequence[Patch], prefix: str) -> Iterator[str]:
        """What makes the layer another one than the plain key says."""
        for place, patch in enumerate(patches):
            yield f"patch {place} {sha256(patch.text).hexdigest()}"
        if prefix != PREFIX:
            yield f"prefix {prefix}"
        for need in node.needs:
            key = self._build(need, prefix).key
            if key != self._plain_key(need) or need not in node.own:
                yield f"needs {need.package} {key}"
        for need in node.own:
            if need not in node.needs:
                yield f"without {need.package}"
