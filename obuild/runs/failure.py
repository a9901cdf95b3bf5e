"""What failed in a run, and what each failure holds up: the one to repair first is the one that blocks most."""

from __future__ import annotations

from obuild.runs.outcome import DependencyFailed, Failure
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from obuild.runs.graph import Graph
    from obuild.runs.run import Node

__all__ = ["Blocker", "last_nodes", "rank_failures"]


@value
class Blocker:
    """A build that failed: `blocks` are the packages that could not be tried for want of it.

    `alone` are those of them that nothing else blocks: they can be tried once this one is repaired.
    """

    node: Node
    blocks: tuple[str, ...]
    alone: tuple[str, ...]

    @property
    def package(self) -> str:
        """What failed."""
        return self.node.outcome.package


def last_nodes(nodes: Iterable[Node]) -> list[Node]:
    """The last word on every build: one that was tried again counts once; a success stays one."""
    last: dict[tuple[str, str, str, str], Node] = {}
    for node in nodes:
        key = node.kind, node.outcome.package, node.outcome.id, node.compiler
        if key not in last or last[key].outcome.word != "success":
            last[key] = node
    return list(last.values())


def rank_failures(nodes: Iterable[Node], graph: Graph) -> list[Blocker]:
    """The failures of a run, those that block most first, then by name.

    Who is blocked by whom is read from the run's graph; what the graph does not know (a torn file) from what each build
    that was not tried said itself.
    """
    last = last_nodes(nodes)
    failed = {node.outcome.id: node for node in last if isinstance(node.outcome, Failure)}
    blocked = {node.outcome.id: node.outcome for node in last if isinstance(node.outcome, DependencyFailed)}
    by: dict[str, set[str]] = {key: set() for key in blocked}
    for key in failed:
        for user in graph.dependents([key]):
            if user in by:
                by[user].add(key)
    for key, outcome in blocked.items():
        if not by[key] and outcome.failed_id in failed:
            by[key].add(outcome.failed_id)
    found = []
    for key, node in failed.items():
        blocks = {blocked[user].package for user, causes in by.items() if key in causes}
        alone = {blocked[user].package for user, causes in by.items() if causes == {key}}
        found.append(Blocker(node, tuple(sorted(blocks)), tuple(sorted(alone))))
    return sorted(found, key=lambda item: (-len(item.blocks), -len(item.alone), item.package))
