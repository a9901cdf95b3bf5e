"""What a health check says at its end: how many packages went which way, what failed, why, and how to go on."""

from __future__ import annotations

import os

from obuild.cli.board import printable
from obuild.cli.where import seconds_text
from obuild.errors import few
from obuild.runs.failure import rank_failures
from obuild.runs.outcome import DependencyFailed, Failure, NoSolution, Success

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from obuild.runs.batch import Result
    from obuild.runs.diff import Difference, Moved
    from obuild.runs.failure import Blocker
    from obuild.runs.merge import Target
    from obuild.runs.outcome import Outcome
    from obuild.runs.run import Node

__all__ = ["counted", "difference_lines", "summary_lines"]

_NOT_TRIED = DependencyFailed("", "", "")
"""What a target counts as that the end of a batch has left over."""

SHOWN = 30
"""Failures that are shown at most, those that block most packages; `obuild failures` has all of them."""


EXPLAINED = 5
"""Packages without a solution of which is said why; `obuild opam solve` says it of any."""


def counted(number: int, thing: str) -> str:
    """`1 package`, `2 packages`."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def summary_lines(result: Result) -> Iterator[str]:
    """The end of a health check: what has no solution, then what failed, what blocks most packages last."""
    outcomes = [(target, result.outcome(target)) for target in result.batch.targets]
    unsolved = [(target, outcome) for target, outcome in outcomes if isinstance(outcome, NoSolution)]
    yield from _unsolved(unsolved)
    ranked = rank_failures(result.nodes, result.batch.graph)
    for item in reversed(ranked[:SHOWN]):
        yield from _failure(item, result.path)
    if len(ranked) > SHOWN:
        yield f"and {counted(len(ranked) - SHOWN, 'more failure')}: obuild failures"
    yield _totals(result, outcomes)


def _totals(result: Result, outcomes: Sequence[tuple[Target, Outcome | None]]) -> str:
    kinds = [type(outcome or _NOT_TRIED) for _, outcome in outcomes]
    found = sum(isinstance(outcome, Success) and outcome.cached for _, outcome in outcomes)
    parts = [f"{kinds.count(Success)} ok" + (f" ({found} found)" if found else "")]
    words = ((Failure, "failed"), (DependencyFailed, "not tried"), (NoSolution, "without solution"))
    parts += [f"{kinds.count(kind)} {word}" for kind, word in words if kinds.count(kind)]
    summary = result.summary
    built = summary.packages_built - summary.packages_cached
    layers = f"{counted(built, 'layer')} built in {seconds_text(summary.duration)}"
    return f"{counted(len(outcomes), 'package')}: {', '.join(parts)}; {layers}; run {summary.run_id}"


def _unsolved(found: list[tuple[Target, NoSolution]]) -> Iterator[str]:
    if len(found) > EXPLAINED:
        names = [_name(target.package, target.compiler) for target, _ in found]
        yield f"no solution for {len(found)} packages: {few(names, SHOWN)}"
        return
    for target, outcome in found:
        yield f"no solution  {_name(target.package, target.compiler)}"
        yield from (f"    {line}" for line in outcome.error.rstrip().splitlines())


def _failure(item: Blocker, run: str) -> Iterator[str]:
    node = item.node
    waiting = f", needed by {counted(len(item.blocks), 'package')}" if item.blocks else ""
    yield f"FAIL  {_name(item.package, node.compiler)}  {node.outcome.category}{waiting}"
    if node.outcome.error:
        yield f"    {printable(node.outcome.error)}"
    yield from _where(node, run)


def _where(node: Node, run: str) -> Iterator[str]:
    """Where the log of a failure is, and how to do it again."""
    kept = f"{run}/build/{node.outcome.package}.log"  # stays when the failed build is tried again
    log = kept if os.path.exists(kept) and not node.outcome.cached else f"{node.layer_dir}/build.log"
    if node.layer_dir:
        yield f"    log: {log}"
    if node.replay:
        yield f"    again: {node.replay}"


def difference_lines(found: Difference, run: str) -> Iterator[str]:
    """What has changed, the worst last; `run` is the directory of the run."""
    titles = {
        "removed": "gone",
        "added": "new",
        "fixed": "fixed",
        "newly_solvable": "newly solvable",
        "still_failing": "still failing",
        "newly_unsolvable": "newly without solution",
        "newly_failing": "newly failing",
    }
    lists = dict(found.lists())
    for name, title in titles.items():
        items = lists[name]
        if items:
            yield f"{title} ({len(items)}):"
            for moved in items:
                yield from _moved(name, moved, run)


def _moved(name: str, moved: Moved, run: str) -> Iterator[str]:
    outcome = moved.node.outcome
    word = (
        "" if name in ("fixed", "removed", "newly_failing", "still_failing") else f"  {outcome.word.replace('_', ' ')}"
    )
    yield f"  {_name(moved.package, moved.compiler)}{word}"
    if name in ("fixed", "removed") or not outcome.error:
        return
    lines = outcome.error.strip().splitlines()
    # The first line of an explanation says again what has no solution.
    for line in lines[1:EXPLAINED] if isinstance(outcome, NoSolution) else lines[:1]:
        yield f"      {printable(line)}"
    if isinstance(outcome, Failure):
        yield from (f"  {line}" for line in _where(moved.node, run))


def _name(package: str, compiler: str) -> str:
    return f"{package} (OCaml {compiler})" if compiler else package
