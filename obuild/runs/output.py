"""What a batch came to as day10 writes it: a file for each package that was asked for, JSON, Markdown or Graphviz.

For one target the path given is the file; for several it is a directory with PACKAGE.json and so on, below a directory
for each compiler where there is more than one.
"""

from __future__ import annotations

import os

from obuild.disk import write_atomic
from obuild.errors import UsageError
from obuild.runs.report import Report, format_dot, format_json, format_markdown, report_outcome
from obuild.runs.schedule import build_order

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from obuild.runs.merge import Batch, Target
    from obuild.runs.outcome import Outcome

__all__ = ["Writer", "write_outputs"]


class Writer:
    """Makes the reports of a batch's targets. `log` gives the path of a build's log, "" when there is none.

    `outcomes` are those of builds by key; a target of which a build has none was not built: its status is "solution".
    """

    def __init__(self, batch: Batch, outcomes: Mapping[str, Outcome], log: Callable[[str], str], sha: str) -> None:
        self._batch, self._outcomes, self._log, self._sha = batch, outcomes, log, sha
        self._place: dict[str, int] = {}

    def json(self, target: Target) -> str:
        """day10's JSON."""
        return format_json(self._report(target))

    def markdown(self, target: Target) -> str:
        """day10's Markdown, with the logs of all packages that the target is built upon."""
        return format_markdown(self._report(target, steps=True))

    def dot(self, target: Target) -> str:
        """Graphviz: what is built upon what; empty without a solution."""
        return format_dot(self._edges(target) if target.key else {})

    def _edges(self, target: Target) -> Mapping[str, Sequence[str]]:
        return self._batch.graph.edges(self._below(target))

    def _below(self, target: Target) -> set[str]:
        return {target.key} | self._batch.graph.dependencies([target.key])

    def _report(self, target: Target, *, steps: bool = False) -> Report:
        if target.refusal:
            return report_outcome(target.refusal, sha=self._sha, log=target.refusal.error)
        outcome = self._outcomes.get(target.key)
        solution = self.dot(target)
        if outcome is None:
            return Report(target.package, "solution", self._sha, solution=solution)
        decided = getattr(outcome, "failed_id", "") or outcome.id
        return report_outcome(
            outcome,
            sha=self._sha,
            log=self._text(decided),
            solution=solution,
            steps=[(self._batch.graph.builds[key].package, self._text(key) or "") for key in self._steps(target)]
            if steps
            else (),
        )

    def _steps(self, target: Target) -> list[str]:
        """The builds of which there is a log, in the order they were built."""
        if not self._place:
            self._place = {key: place for place, key in enumerate(build_order(self._batch.graph))}
        return sorted((key for key in self._below(target) if self._log(key)), key=self._place.__getitem__)

    def _text(self, key: str) -> str | None:
        path = self._log(key)
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return None


def write_outputs(batch: Batch, writer: Writer, places: Mapping[str, str | None]) -> None:
    """Write each form ("json", "md", "dot") that has a place.

    Raises `UsageError` for the first file that can not be written, after all others are.
    """
    forms = {"json": writer.json, "md": writer.markdown, "dot": writer.dot}
    problems = []
    for form, place in places.items():
        for path, target in _files(batch.targets, form, place) if place else ():
            try:
                if path != place:
                    os.makedirs(os.path.dirname(path), exist_ok=True)
                write_atomic(path, forms[form](target).encode("utf-8", "surrogateescape"))
            except OSError as error:
                problems.append(f'can not write "{path}": {(error.strerror or "").lower()}')
    if problems:
        more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise UsageError(problems[0] + more)


def _files(targets: Sequence[Target], form: str, place: str) -> Iterator[tuple[str, Target]]:
    """The files of one form, each with what it is about."""
    if len(targets) == 1 and not os.path.isdir(place):
        yield place, targets[0]
        return
    several = len({target.compiler for target in targets}) > 1
    for target in targets:
        folder = f"{place}/{target.compiler}" if several else place
        yield f"{folder}/{target.package}.{form}", target
