"""What people are told of a difference: the worst first, causes before effects, each with its reason and what to do.

Chats cut long messages off at their end, so that is where the least of it is.
"""

from __future__ import annotations

from obuild.runs.outcome import DependencyFailed, NoSolution, Success
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from obuild.runs.diff import Difference, Moved
    from obuild.runs.run import Node

__all__ = ["Message", "is_worse", "write_message"]

SHOWN = 20
"""Packages that are named of each kind."""

LINES = 3
"""Lines of a solver's explanation that are quoted."""


@value
class Message:
    """A line that says what it is about, and the text."""

    title: str
    text: str


def is_worse(difference: Difference) -> bool:
    """Whether somebody has to do something: what went well does not, or what is new never did."""
    return bool(difference.newly_failing or difference.newly_unsolvable or _split(difference.added)[1])


def write_message(
    about: str, difference: Difference, *, passing: Sequence[Node] = (), notes: Iterable[str] = ()
) -> Message:
    """The message on a difference; `passing` are builds whose failure says nothing, `notes` go to its end."""
    good, bad = _split(difference.added)
    still = [moved for moved in difference.still_failing if not isinstance(moved.node.outcome, DependencyFailed)]
    kinds: Mapping[str, Sequence[Moved]] = {
        "newly failing": difference.newly_failing,
        "newly without solution": difference.newly_unsolvable,
        "new and not well": bad,
        "fixed": difference.fixed,
        "newly solvable": difference.newly_solvable,
        "still failing": still,
        "new": good,
        "gone": difference.removed,
    }
    counts = [f"{len(items)} {kind}" for kind, items in kinds.items() if items]
    counts += [f"{len(passing)} to be tried again"] if passing else []
    lines = [line for kind, items in kinds.items() if items for line in _section(kind, items)]
    lines += _passing(passing)
    lines += [*([""] if lines else []), *notes]
    return Message(f"{about}: {', '.join(counts) or 'nothing is different'}", "\n".join(lines).strip("\n"))


def _split(items: Iterable[Moved]) -> tuple[list[Moved], list[Moved]]:
    """Those that went well, and the others."""
    sides: tuple[list[Moved], list[Moved]] = [], []
    for moved in items:
        sides[not isinstance(moved.node.outcome, Success)].append(moved)
    return sides


_SHORT = ("fixed", "new", "gone")


def _section(kind: str, items: Sequence[Moved]) -> Iterator[str]:
    yield ""
    yield f"{kind} ({len(items)}):"
    for moved in items[:SHOWN]:
        yield f"  {_name(moved.node)}"
        if kind not in _SHORT:
            yield from (f"    {line}" for line in _reason(moved.node))
    if len(items) > SHOWN:
        yield f"  and {len(items) - SHOWN} more"


def _reason(node: Node) -> Iterator[str]:
    outcome = node.outcome
    if isinstance(outcome, Success):
        return
    lines = [_printable(line) for line in outcome.error.strip().split("\n")]
    yield lines[0] if isinstance(outcome, DependencyFailed) else f"{outcome.category}: {lines[0]}"
    if isinstance(outcome, NoSolution):  # the first line may only say what was asked for
        yield from lines[1:LINES]
    if node.replay:
        yield f"again: {node.replay}"


def _passing(nodes: Sequence[Node]) -> Iterator[str]:
    if nodes:
        yield ""
        yield f"to be tried again ({len(nodes)}):"
        yield from (f"  {_name(node)}: {_printable(node.outcome.error)}" for node in nodes[:SHOWN])


def _name(node: Node) -> str:
    return f"{node.outcome.package} (OCaml {node.compiler})" if node.compiler else node.outcome.package


def _printable(text: str) -> str:
    """A line without what a terminal would take for commands: errors are quoted from anybody's logs."""
    return "".join(char if char.isprintable() else " " for char in text)
