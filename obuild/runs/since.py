"""What a change of the repositories does to packages: only what can differ is built, and compared with before.

A package can differ when its build has another key, when it has a solution on one side alone, or when it is new. What
it was before is known from the store: its layer is there, or its failure is remembered. Where neither is and the
package fails now, the old build is made as well: without it, nobody knows whether the change is to blame.
"""

from __future__ import annotations

from obuild.runs.diff import Difference, diff_nodes
from obuild.runs.merge import Batch
from obuild.runs.outcome import DependencyFailed, NoSolution, Success
from obuild.runs.run import Node
from obuild.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from obuild.runs.make import Maker
    from obuild.runs.merge import Target
    from obuild.runs.outcome import Outcome

__all__ = ["compare", "different", "known_outcomes", "narrow", "solvable", "unknown_before"]


def different(old: Batch, new: Batch) -> tuple[Batch, Batch]:
    """The targets of both sides that can differ; of one with the same build or without a solution on both, neither."""
    before = {(target.package, target.compiler): target for target in old.targets}
    after = {(target.package, target.compiler): target for target in new.targets}
    same = {name for name, target in after.items() if name in before and _alike(before[name], target)}
    return tuple(_only(side, same) for side in (old, new))  # type: ignore[return-value]


def _alike(old: Target, new: Target) -> bool:
    return old.key == new.key and type(old.refusal) is type(new.refusal)


def _only(batch: Batch, leave_out: set[tuple[str, str]]) -> Batch:
    targets = [each for each in batch.targets if (each.package, each.compiler) not in leave_out]
    return narrow(batch, targets)


def narrow(batch: Batch, targets: Iterable[Target]) -> Batch:
    """The batch of some targets: what only others need is left out."""
    from obuild.runs.graph import Graph

    chosen = tuple(targets)
    roots = {target.key for target in chosen if target.key}
    keys = roots | batch.graph.dependencies(roots)
    builds = [build for key, build in batch.graph.builds.items() if key in keys]
    return Batch(chosen, Graph(builds), {build.id: batch.jobs[build.id] for build in builds})


def known_outcomes(batch: Batch, maker: Maker) -> dict[str, Outcome]:
    """What the store knows of the builds of targets; those of which it knows nothing are left out."""
    found: dict[str, Outcome] = {}
    for key in batch.wanted:
        package = batch.graph.builds[key].package
        if maker.hit(key):
            found[key] = Success(package, key, cached=True)
            continue
        failure = maker.known_failure(key)
        if failure:
            found[key] = failure
            continue
        lost = next(filter(None, map(maker.known_failure, sorted(batch.graph.dependencies([key])))), None)
        if lost:
            found[key] = DependencyFailed(package, key, lost.package, lost.id)
    return found


def unknown_before(old: Batch, known: Mapping[str, Outcome], new: Batch, after: Mapping[str, Outcome]) -> Batch:
    """The old builds to be made as well: of targets that fail now, and of which nothing is known."""
    failing = {
        (target.package, target.compiler)
        for target in new.targets
        if target.key and after[target.key].word in ("failure", "dependency_failed")
    }
    return narrow(
        old,
        [
            target
            for target in old.targets
            if (target.package, target.compiler) in failing and target.key and target.key not in known
        ],
    )


def compare(old: Batch, before: Mapping[str, Outcome], new: Batch, nodes: Iterable[Node]) -> Difference:
    """The difference; an old build of which nothing is known counts as one that went well."""
    was = []
    for target in old.targets:
        outcome = target.refusal or before.get(target.key) or Success(target.package, target.key, cached=True)
        was.append(Node(outcome, kind="build", compiler=target.compiler))
    asked = {(target.package, target.compiler) for target in new.targets}
    keys = new.wanted
    now = [
        replace(node, blessed=False)
        for node in nodes
        if (node.outcome.package, node.compiler) in asked and (not node.outcome.id or node.outcome.id in keys)
    ]
    return diff_nodes(was, now)


def solvable(before: Iterable[Node], after: Iterable[Target]) -> Difference:
    """What has a solution now or has none any more, as far as that is known without building: nothing else differs."""

    def plain(package: str, outcome: Outcome | None, compiler: str) -> Node:
        solved = not isinstance(outcome, NoSolution)
        return Node(Success(package, "") if outcome is None or solved else outcome, compiler=compiler)

    return diff_nodes(
        [plain(node.outcome.package, node.outcome, node.compiler) for node in before],
        [plain(target.package, target.refusal, target.compiler) for target in after],
    )
