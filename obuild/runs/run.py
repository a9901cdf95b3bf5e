"""Reading runs: which there are, how far each came, what it built. A run whose process was killed reads as any other.

RUNS/runs/<id>/   plan.json solve.json dag.json doc_dag.json   a phase each, written when it is over
                  dag_structure.jsonl                          see `graph`
                  build.jsonl                                  a line for each build that ended, see `Node`
                  build/<package>.log docs/<package>.log       logs; a package's second one is <package>.2.log
                  progress.json summary.json                   a run without a summary was interrupted, or goes on
"""

from __future__ import annotations

import json
import os
import re

from obuild.disk import Lock
from obuild.errors import UsageError, nearest
from obuild.runs.journal import Journal
from obuild.runs.moment import format_time, parse_time
from obuild.runs.outcome import Outcome, check_package, format_outcome, parse_outcome
from obuild.value import fields, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["Node", "Run", "Summary", "find_run", "format_node", "list_runs", "parse_node", "run_key"]

FINISHED, RUNNING, INTERRUPTED = "finished", "running", "interrupted"
_ID = re.compile(r"(\d{4}-\d\d-\d\d-\d{6})(?:-(\d+))?").fullmatch


@value
class Node:
    """A build that ended at `t`: what came of it, for which compiler and universe, and where its layer is.

    `kind` is "build", "doc", "solve" or whatever else a run does; `replay` is the command that does it again.
    """

    outcome: Outcome
    t: str = ""
    kind: str = "build"
    compiler: str = ""
    universe: str = ""
    blessed: bool = False
    layer_dir: str = ""
    replay: str = ""


_PLAIN = ("compiler", "universe", "layer_dir", "replay")


def format_node(node: Node) -> dict[str, Any]:
    """A line of `build.jsonl`; keys that say nothing are left out."""
    record = {"t": node.t, "kind": node.kind, **format_outcome(node.outcome)}
    record |= {name: text for name in _PLAIN if (text := getattr(node, name))}
    return record | ({"blessed": True} if node.blessed else {})


def parse_node(record: Mapping[str, Any]) -> Node | None:
    """The node that a line tells of, or None."""
    outcome = parse_outcome(record)
    if outcome is None:
        return None
    moment = parse_time(record.get("t"))
    texts = {name: record[name] for name in ("kind", *_PLAIN) if isinstance(record.get(name), str)}
    ended = "" if moment is None else format_time(moment)
    return Node(outcome, ended, blessed=record.get("blessed") is True, **texts)


@value
class Summary:
    """What a run did: times as in `moment`, `duration` in seconds, packages by what became of them.

    `failures` are pairs of a package and the line that says why; `problems` are what could not be written.
    """

    run_id: str
    start_time: str
    end_time: str
    duration: float
    targets_requested: int = 0
    packages_built: int = 0
    packages_cached: int = 0
    packages_failed: int = 0
    packages_blocked: int = 0
    packages_unsolved: int = 0
    docs_generated: int = 0
    failures: tuple[tuple[str, str], ...] = ()
    problems: tuple[str, ...] = ()


def format_summary(summary: Summary) -> str:
    """The text of `summary.json`."""
    record = {name: getattr(summary, name) for name in fields(summary)}
    record["failures"] = [{"package": package, "error": error} for package, error in summary.failures]
    return json.dumps(record, indent=2) + "\n"


def _parse_summary(record: Mapping[str, Any]) -> Summary | None:
    name, start, end = record.get("run_id"), parse_time(record.get("start_time")), parse_time(record.get("end_time"))
    if not isinstance(name, str) or start is None or end is None:
        return None
    counts = {name: record[name] for name in fields(Summary)[4:-2] if type(record.get(name)) is int}
    failures = record.get("failures")
    pairs = [item for item in failures if isinstance(item, dict)] if isinstance(failures, list) else []
    problems = record.get("problems")
    return Summary(
        name,
        format_time(start),
        format_time(end),
        round(end - start, 3),
        **counts,
        failures=tuple((str(item.get("package", "")), str(item.get("error", ""))) for item in pairs),
        problems=tuple(map(str, problems)) if isinstance(problems, list) else (),
    )


class Run:
    """A run on disk, whether finished or not; nothing is kept, every question reads the files as they are."""

    def __init__(self, root: str, id: str) -> None:
        self.root, self.id = root, id
        self.path = f"{root}/runs/{id}"

    def phase(self, name: str) -> dict[str, Any]:
        """What was written when a phase ended: "plan", "solve", "dag", "doc_dag"; empty when it did not."""
        try:
            with open(f"{self.path}/{name}.json", "rb") as file:
                record = json.loads(file.read())
        except (OSError, ValueError, RecursionError):
            return {}
        return record if isinstance(record, dict) else {}

    @property
    def summary(self) -> Summary | None:
        """What it did in the end; None when it did not come to one."""
        return _parse_summary(self.phase("summary"))

    @property
    def state(self) -> str:
        """ "finished", "running" or "interrupted"."""
        if self.summary:
            return FINISHED
        try:
            lock = Lock.attempt(self.path, shared=True)
        except OSError:
            return INTERRUPTED
        if lock is None:
            return RUNNING
        lock.release()
        return INTERRUPTED

    @property
    def start(self) -> float | None:
        """When it began, in seconds since 1970: the id says it."""
        match = _ID(self.id)
        return parse_time(f"{match[1][:10]}T{match[1][11:13]}:{match[1][13:15]}:{match[1][15:]}Z") if match else None

    def nodes(self, kind: str = "") -> list[Node]:
        """The builds that ended, in that order; with `kind` only those. One that was tried again is there twice."""
        records, _ = Journal(f"{self.path}/build.jsonl").read()
        found = [node for record in records if (node := parse_node(record))]
        return [node for node in found if not kind or node.kind == kind]

    def log(self, package: str, kind: str = "build") -> str | None:
        """The path of the last log of a package in this run, or None; `kind` is "build" or "docs"."""
        found = self.logs(package, kind)
        return found[-1] if found else None

    def logs(self, package: str, kind: str = "build") -> list[str]:
        """The paths of all its logs, in the order of the attempts."""
        folder = f"{self.path}/{kind}"
        paths = [f"{folder}/{check_package(package)}.log"]
        while os.path.lexists(paths[-1]):
            paths.append(f"{folder}/{package}.{len(paths) + 1}.log")
        return [path for path in paths[:-1] if os.path.exists(path)]


def run_key(id: str) -> tuple[str, int]:
    """What sorts ids by time: of two that began in one second the later one has the larger number."""
    match = _ID(id)
    return (match[1], int(match[2] or 1)) if match else (id, 0)


def list_runs(root: str) -> list[Run]:
    """All runs, the oldest first."""
    try:
        with os.scandir(f"{root}/runs") as found:
            ids = [item.name for item in found if _ID(item.name) and item.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    return [Run(root, name) for name in sorted(ids, key=run_key)]


def find_run(root: str, text: str = "latest") -> Run:
    """The run that a person means: an id, the beginning of one, "latest" (finished), "previous" (before that).

    Raises `UsageError`.
    """
    runs = list_runs(root)
    if not runs:
        raise UsageError(f'there are no runs in "{root}"')
    if text in ("latest", "previous"):
        return _recent(root, runs, text)
    found = [run for run in runs if run.id == text] or [run for run in runs if run.id.startswith(text)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f'"{text}" is the beginning of {len(found)} runs', hint=", ".join(run.id for run in found[:4]))
    raise UsageError(f'no run "{text}"', hint=nearest(text, [run.id for run in runs]) or f"the last is {runs[-1].id}")


def _recent(root: str, runs: list[Run], text: str) -> Run:
    try:
        last = os.path.basename(os.readlink(f"{root}/latest"))
    except OSError:
        last = ""
    ids = [run.id for run in runs]
    place = ids.index(last) if last in ids else len(ids) - 1
    if text == "latest":
        return runs[place]
    for run in reversed(runs[:place]):
        if run.summary:
            return run
    raise UsageError(f'there is no finished run before "{ids[place]}"')
