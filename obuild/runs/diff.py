"""What is different between two runs, by package and compiler."""

from __future__ import annotations

from obuild.runs.outcome import DependencyFailed, Failure, NoSolution, Success
from obuild.value import fields, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from obuild.runs.run import Node

__all__ = ["Difference", "Moved", "diff_nodes"]


@value
class Moved:
    """A package with its build in the old run and in the new one; None where that run did not have it."""

    package: str
    compiler: str
    before: Node | None
    after: Node | None

    @property
    def node(self) -> Node:
        """The build that is to be shown: the new one, where there is one."""
        node = self.after or self.before
        assert node
        return node


@value
class Difference:
    """The packages of two runs, each in one list at most; what went well in both is in none.

    `newly_failing` and `still_failing` are those whose own build or a dependency's fails; `fixed` failed and was built;
    `newly_solvable` had no solution and has one now, whatever came of it; `added` and `removed` are in one run only.
    """

    newly_failing: tuple[Moved, ...] = ()
    fixed: tuple[Moved, ...] = ()
    still_failing: tuple[Moved, ...] = ()
    newly_unsolvable: tuple[Moved, ...] = ()
    newly_solvable: tuple[Moved, ...] = ()
    added: tuple[Moved, ...] = ()
    removed: tuple[Moved, ...] = ()

    def lists(self) -> Iterator[tuple[str, tuple[Moved, ...]]]:
        """The names of the lists, with each."""
        yield from ((name, getattr(self, name)) for name in fields(self))

    def __bool__(self) -> bool:
        return any(items for name, items in self.lists() if name != "still_failing")


def diff_nodes(old: Iterable[Node], new: Iterable[Node], *, only_common: bool = False) -> Difference:
    """How the packages of two runs differ.

    `only_common` leaves out what one run did not have: a run over a range of commits has but what can differ.
    """
    before, after = _table(old), _table(new)
    found: dict[str, list[Moved]] = {name: [] for name in fields(Difference)}
    for key in sorted(before.keys() | after.keys()):
        moved = Moved(*key, before.get(key), after.get(key))
        name = _place(moved)
        if name and not (only_common and name in ("added", "removed")):
            found[name].append(moved)
    for items in found.values():
        items.sort(key=lambda moved: isinstance(moved.node.outcome, DependencyFailed))  # causes come before effects
    return Difference(**{name: tuple(items) for name, items in found.items()})


def _place(moved: Moved) -> str:
    if moved.before is None:
        return "added"
    if moved.after is None:
        return "removed"
    match moved.before.outcome, moved.after.outcome:
        case NoSolution(), NoSolution():
            return ""
        case NoSolution(), _:
            return "newly_solvable"
        case _, NoSolution():
            return "newly_unsolvable"
        case Success(), Failure() | DependencyFailed():
            return "newly_failing"
        case Failure() | DependencyFailed(), Success():
            return "fixed"
        case Failure() | DependencyFailed(), Failure() | DependencyFailed():
            return "still_failing"
    return ""


_RANK = (Success, Failure, DependencyFailed, NoSolution)


def _table(nodes: Iterable[Node]) -> dict[tuple[str, str], Node]:
    """The build of each package and compiler: the blessed one, else the one that went best."""
    table: dict[tuple[str, str], Node] = {}
    for node in nodes:
        if node.kind not in ("build", "solve"):
            continue
        key = node.outcome.package, node.compiler
        if key not in table or _better(node, table[key]):
            table[key] = node
    return table


def _better(node: Node, other: Node) -> bool:
    if node.outcome.id == other.outcome.id:  # tried again
        return not isinstance(other.outcome, Success)
    rank = (not node.blessed, _RANK.index(type(node.outcome)))
    return rank < (not other.blessed, _RANK.index(type(other.outcome)))
