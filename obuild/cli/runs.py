"""What has been recorded of runs: `runs`, `status`, `history`, `failures`, `cascade`, `diff`, `rdeps`, `disk`."""

from __future__ import annotations

import json as json_format
import os
import sys

from obuild.cli.option import Argument, Command, Option, jobs
from obuild.cli.show import write
from obuild.cli.where import STORE, default_store, seconds_text, size_text
from obuild.errors import UsageError, nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from obuild.runs.diff import Moved
    from obuild.runs.failure import Blocker
    from obuild.runs.graph import Graph
    from obuild.runs.history import Entry
    from obuild.runs.run import Run

__all__ = ["COMMANDS", "RUNS", "kept_log", "records_folder"]

HASH = 12
"""Digits of a hash that are shown."""


def records_folder(store: str | None, runs: str | None = None) -> str:
    """Where runs are recorded: the directory named, or that of a store, which itself is not opened."""
    return os.path.realpath(runs) if runs else f"{_store_folder(store)}/runs"


def _store_folder(store: str | None) -> str:
    text = store or default_store()
    kind, colon, path = text.partition(":")
    return os.path.realpath(path if colon and "/" not in kind else text)


def kept_log(store: str | None, package: str, run: str | None = None) -> str:
    """The path of the last log of a package, of the run named or the last that has one. Raises `UsageError`."""
    from obuild.runs.run import find_run, list_runs

    root = records_folder(store)
    runs = [find_run(root, run)] if run else reversed(list_runs(root))
    found = (path for item in runs for kind in ("build", "docs") if (path := item.log(package, kind)))
    path = next(found, None)
    if path is None:
        raise UsageError(f'no run has a log of "{package}"', hint="packages are named NAME.VERSION, layers by their id")
    return path


def runs(*, store: str | None, runs: str | None, json: bool) -> int:
    """List the runs, the last at the end."""
    from obuild.runs.run import list_runs

    found = list_runs(records_folder(store, runs))
    for run in found:
        summary = run.summary
        if json:
            _object({"id": run.id, "path": run.path, "state": run.state, **(run.phase("summary") if summary else {})})
        elif summary:
            took = seconds_text(summary.duration)
            counts = (
                f"{summary.packages_built} built ({summary.packages_cached} found), {summary.packages_failed} failed"
            )
            rest = f"{summary.packages_blocked} blocked, {summary.packages_unsolved} without solution"
            print(f"{run.id:20}  {run.state:11}  {took:>7}  {counts}, {rest}")
        else:
            print(f"{run.id:20}  {run.state:11}  {_progress(run)}")
    if not found and not json:
        print("no runs yet", file=sys.stderr)
    return 0


def _progress(run: Run) -> str:
    from obuild.runs.progress import load_progress

    progress = load_progress(run.path)
    if progress is None:
        return f"{len(run.nodes())} builds ended"
    return f"{progress.phase}, {progress.build_completed} of {progress.build_total} builds"


def status(*, store: str | None, runs: str | None, json: bool, changes: bool) -> int:
    """Print the state of all packages, and what has changed; 1 with --changes when something fails newly."""
    from obuild.runs.status import format_status, load_status

    state = load_status(records_folder(store, runs))
    if state is None:
        raise UsageError("there is no status yet", hint="it is written when a run is finished")
    worse = [change for change in state.changes if change.kind == "new_failure"]
    if json:
        write(1, format_status(state).encode())
        return int(changes and bool(worse))
    if not changes:
        print(f"after {state.run_id} ({state.generated}), {len(state.packages)} packages")
        for title, totals in (("blessed", state.blessed_totals), ("other builds", state.non_blessed_totals)):
            _totals(title, totals)
    for kind, title in (("new_failure", "newly failing"), ("recovery", "recovered"), ("other", "changed")):
        rows = [change for change in state.changes if change.kind == kind]
        rows.sort(key=lambda change: change.after == "dependency_failure")  # causes come before effects
        moves = [f"{row.package}{_compiler(row.compiler)}: {row.before} -> {row.after}" for row in rows]
        _section(title, moves)
    _section("new", state.new_packages)
    _section("removed", state.removed_packages)
    return int(changes and bool(worse))


def _totals(title: str, totals: Mapping[str, int]) -> None:
    print(f"{title}: " + (", ".join(f"{count} {category}" for category, count in totals.items()) or "none"))


def _section(title: str, lines: Sequence[str]) -> None:
    if lines:
        print(f"{title} ({len(lines)}):")
        for line in lines:
            print(f"  {_printable(line)}")


def history(*, store: str | None, runs: str | None, package: str, json: bool) -> int:
    """Print what became of a package, or of all versions of one, the newest first."""
    from obuild.runs.history import History, format_entry

    past = History(records_folder(store, runs))
    known = past.packages()
    names = [package] if package in known else [name for name in known if name.partition(".")[0] == package]
    if not names:
        raise UsageError(f'"{package}" has no history', hint=nearest(package, known))
    for name in names:
        entries, broken = past.read_all(name)
        for entry in entries if len(names) == 1 else entries[:1]:
            if json:
                _object({"package": name, **format_entry(entry)})
            else:
                print(_printable(f"{name + '  ' if len(names) > 1 else ''}{_entry(entry)}"))
        if broken:
            print(f"{name}: {broken} damaged line{'s' if broken > 1 else ''} left out", file=sys.stderr)
    return 0


def _entry(entry: Entry) -> str:
    marks = [entry.compiler, "blessed" if entry.blessed else "", entry.build_hash[:HASH]]
    error = entry.error.strip().partition("\n")[0]
    return "  ".join(filter(None, (entry.ts, f"{entry.category:18}", *marks, error)))


def failures(
    *, store: str | None, runs: str | None, run: str, json: bool, count: int | None, category: str | None
) -> int:
    """Print what failed in a run, what blocks most packages first."""
    found = [item for item in _ranked(store, runs, run)[2] if category in (None, item.node.outcome.category)]
    if json:
        for item in found[:count]:
            _object(_blocker(item))
        return 0
    if found:
        print("blocks  alone  package")
    for item in found[:count]:
        outcome = item.node.outcome
        print(f"{len(item.blocks):6}  {len(item.alone):5}  {item.package}{_compiler(item.node.compiler)}")
        print(_printable(f"               {outcome.category}: {outcome.error}"))
    return 0


def _blocker(item: Blocker) -> dict[str, Any]:
    from obuild.runs.run import format_node

    return {**format_node(item.node), "blocks": item.blocks, "alone": item.alone}


def cascade(*, store: str | None, runs: str | None, run: str, package: str | None, json: bool) -> int:
    """Print which packages could not be tried in a run, and what they wait for."""
    _, _, ranked = _ranked(store, runs, run)
    found = [item for item in ranked if item.blocks and package in (None, item.package, item.package.partition(".")[0])]
    waiting = [item for item in ranked if package in item.blocks] if package else []
    for item in [*found, *waiting]:
        if json:
            _object({"package": item.package, "hash": item.node.outcome.id, "blocks": item.blocks, "alone": item.alone})
        else:
            print(_printable(f"{item.package} blocks {len(item.blocks)}: {item.node.outcome.error}"))
            for name in item.blocks if item in found else [str(package)]:
                print(f"  {name}{'' if name in item.alone else ' (and others block it)'}")
    if not (found or waiting) and not json:
        print(f'"{package}" blocks nothing and is not blocked' if package else "nothing is blocked", file=sys.stderr)
    return 0


def _ranked(store: str | None, runs: str | None, name: str) -> tuple[Run, Graph, list[Blocker]]:
    from obuild.runs.failure import rank_failures
    from obuild.runs.graph import load_graph
    from obuild.runs.run import find_run

    run = find_run(records_folder(store, runs), name)
    graph = load_graph(run.path)
    return run, graph, rank_failures(run.nodes(), graph)


def diff(
    *, store: str | None, runs: str | None, old: str | None, new: str | None, json: bool, common: bool, exit_code: bool
) -> int:
    """Print what is different between two runs, by default the last finished one and the one before."""
    from obuild.runs.diff import diff_nodes
    from obuild.runs.run import find_run

    root = records_folder(store, runs)
    before, after = find_run(root, old or "previous"), find_run(root, new or "latest")
    found = diff_nodes(before.nodes(), after.nodes(), only_common=common)
    if not json:
        print(f"{before.id} -> {after.id}")
    for name, items in found.lists():
        if json:
            for moved in items:
                _object({"change": name, **_moved(moved)})
        else:
            _section(name.replace("_", " "), [line for moved in items for line in _moved_lines(name, moved)])
    if not found and not json:
        print("nothing has changed")
    return int(exit_code and bool(found.newly_failing or found.newly_unsolvable))


def _moved(moved: Moved) -> dict[str, Any]:
    from obuild.runs.run import format_node

    sides = {"before": moved.before, "after": moved.after}
    nodes = {side: format_node(node) for side, node in sides.items() if node}
    return {"package": moved.package, "compiler": moved.compiler, **nodes}


def _moved_lines(name: str, moved: Moved) -> list[str]:
    outcome = moved.node.outcome
    lines = [f"{moved.package}{_compiler(moved.compiler)}"]
    if name not in ("fixed", "removed") and outcome.error:
        lines.append(f"    {outcome.category}: {outcome.error.strip().partition(chr(10))[0]}")
    if name in ("newly_failing", "newly_unsolvable") and moved.node.replay:
        lines.append(f"    again: {moved.node.replay}")
    return lines


def rdeps(*, store: str | None, runs: str | None, package: str, run: str, direct: bool, dot: bool, json: bool) -> int:
    """Print the packages of a run that depend on one."""
    from obuild.runs.graph import load_graph
    from obuild.runs.report import format_dot
    from obuild.runs.run import find_run

    graph = load_graph(find_run(records_folder(store, runs), run).path)
    builds = [build.id for build in graph.named(package)]
    if not builds:
        known = graph.packages(graph.builds)
        raise UsageError(f'"{package}" is not in the run', hint=nearest(package, known))
    found = graph.dependents(builds, direct=direct)
    if dot:
        write(1, format_dot(graph.edges(found | set(builds))).encode())
        return 0
    for name in graph.packages(found):
        if json:
            _object({"package": name, "hashes": sorted(build.id for build in graph.named(name) if build.id in found)})
        else:
            print(name)
    return 0


def disk(*, store: str | None, json: bool, all_versions: bool, count: int) -> int:
    """Print which packages take how much room, from what was recorded when they were built."""
    from obuild.runs.usage import measure_layers
    from obuild.value import fields

    room = measure_layers(_store_folder(store), all_versions=all_versions)
    if json:
        for kind, shares in (("platform", room.platforms), ("package", room.packages)):
            for share in shares:
                _object({"kind": kind, **{name: getattr(share, name) for name in fields(share)}})
        return 0
    for share in (*room.platforms, *room.packages[:count]):
        print(f"{size_text(share.size):>9}  {share.layers:6} layers  {share.package}")
    rest = room.packages[count:]
    if rest:
        print(
            f"{size_text(sum(share.size for share in rest)):>9}  {sum(share.layers for share in rest):6} layers  others"
        )
    print(f"{size_text(room.size):>9}  {room.layers:6} layers  together" + _unknown(room.unknown))
    return 0


def _unknown(count: int) -> str:
    return f" (of {count} the size is not known)" if count else ""


def _compiler(version: str) -> str:
    return f" ({version})" if version else ""


def _printable(text: str) -> str:
    """A line without what a terminal would take for commands: errors are quoted from anybody's logs."""
    return "".join(char if char.isprintable() else " " for char in text.rstrip("\n"))


def _object(facts: Mapping[str, Any]) -> None:
    write(1, json_format.dumps(facts).encode() + b"\n")


JSON = Option(("--json",), "One JSON object a line.", None)
RUN = Option(
    ("--run",), 'The run: its id, the beginning of one, "latest" or "previous".', default="latest", metavar="RUN"
)
RUNS = Option(("--runs",), "Where runs are recorded; in the store when not given.", metavar="DIR")
COUNT = Option(("-n", "--count"), "At most so many.", jobs, metavar="NUMBER")

COMMANDS = {
    "runs": Command(runs, "List the runs.", (STORE, RUNS, JSON)),
    "status": Command(
        status,
        "Print the state of all packages after the last run.",
        (
            STORE,
            RUNS,
            JSON,
            Option(("--changes",), "Only what has changed; exit status 1 when something fails newly.", None),
        ),
    ),
    "history": Command(
        history, "Print what became of a package over time.", (STORE, RUNS, JSON), (Argument("package"),)
    ),
    "failures": Command(
        failures,
        "Print what failed, what blocks most packages first.",
        (
            STORE,
            RUNS,
            RUN,
            JSON,
            COUNT,
            Option(("--category",), "Only this kind, such as test_failure.", metavar="NAME"),
        ),
    ),
    "cascade": Command(
        cascade,
        "Print which packages wait for which failures.",
        (
            STORE,
            RUNS,
            RUN,
            JSON,
            Option(("-p", "--package"), "Only what PACKAGE blocks, or waits for.", metavar="PACKAGE"),
        ),
    ),
    "diff": Command(
        diff,
        "Print what is different between two runs, by default the last two.",
        (
            STORE,
            RUNS,
            JSON,
            Option(("--common",), "Leave out packages that only one of them has.", None),
            Option(("--exit-code",), "Exit status 1 when something is newly failing or unsolvable.", None),
        ),
        (Argument("old", "?"), Argument("new", "?")),
    ),
    "rdeps": Command(
        rdeps,
        "Print the packages of a run that depend on one.",
        (
            STORE,
            RUNS,
            RUN,
            JSON,
            Option(("--direct",), "Only those that name it themselves.", None),
            Option(("--dot",), "As a picture for Graphviz.", None),
        ),
        (Argument("package"),),
    ),
    "disk": Command(
        disk,
        "Print which packages take how much room.",
        (
            STORE,
            JSON,
            Option(("--all-versions",), "Add up the versions of each package.", None),
            Option(("-n", "--count"), "At most so many packages.", jobs, 20, metavar="NUMBER"),
        ),
    ),
}
