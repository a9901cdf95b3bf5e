"""Book-keeping of runs: what one finished package costs, the status of 20,000 packages, the reason in a long log."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable

from benchmarks.measure import Row, Table
from obuild.runs.blessing import bless, choices
from obuild.runs.classify import classify
from obuild.runs.failure import rank_failures
from obuild.runs.graph import Build, Graph, load_graph, save_graph
from obuild.runs.history import Entry, History, format_entry
from obuild.runs.outcome import DependencyFailed, Failure, Success
from obuild.runs.progress import Meter, Progress
from obuild.runs.run import Node
from obuild.runs.run_log import RunLog
from obuild.runs.status import Rollup, generate_status, load_status, save_status

PACKAGES = 20_000
RUNS = 60
COMPILERS = ("5.3.0", "5.4.1")
ROUNDS = 5


def timed(action: Callable[[], object]) -> float:
    """Seconds that it takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def row(name: str, action: Callable[[], object], rounds: int = ROUNDS) -> Row:
    """Several rounds of one thing, after one that does not count."""
    action()
    return Row(name, [timed(action) for _ in range(rounds)])


def bookkeeping(table: Table, folder: str) -> None:
    """A finished package: its line, its log, its history, the progress."""
    log = RunLog.start(f"{folder}/one")
    meter = Meter(log.path, Progress(log.id, "2026-03-06T12:34:56.000Z"))
    source = f"{folder}/build.log"
    with open(source, "wb") as file:
        file.write(b"ocamlfind ocamlopt -c src/a.ml\n" * 1000 + b'File "a.ml", line 1:\nError: no\n')
    numbers = iter(range(10**9))

    def one() -> None:
        number = next(numbers)
        package = f"package{number % 4000}.1.0"
        node = Node(Success(package, f"{number:064x}", seconds=1.0), compiler="5.3.0", universe="u" * 32, blessed=True)
        log.node_finished(node, log=source)
        meter.add(build_completed=1)

    table.add(row("one package", one, 2000), bar="5 ms")

    def failed() -> None:
        with open(source, "rb") as file:
            verdict = classify(file.read())
        assert verdict.line.endswith("Error: no")
        one()

    table.add(row("one package that failed, with the reason in its log", failed, 200), bar="5 ms")
    log.finish()


def histories(folder: str) -> str:
    """20,000 packages with two compilers in 60 runs: 2.4 million entries; the last run differs in every hundredth."""
    history = History(folder)
    for number in range(PACKAGES):
        path = history.path(f"package{number}.1.0")
        entries = [_entry(number, run, compiler) for run in range(RUNS) for compiler in COMPILERS]
        os.makedirs(os.path.dirname(path))
        with open(path, "w") as file:
            file.writelines(json.dumps(format_entry(entry), separators=(",", ":")) + "\n" for entry in entries)
    return _run(RUNS - 1)


def _run(number: int) -> str:
    return f"2026-03-06-1234{number:02}"


def _entry(package: int, run: int, compiler: str) -> Entry:
    bad = package % 100 == 0 and run == RUNS - 1
    return Entry(
        f"2026-03-06T12:34:{run:02}.000Z",
        _run(run),
        f"{package:060x}{run:04x}",
        "failure" if bad else "success",
        "build_failure" if bad else "success",
        blessed=compiler == COMPILERS[-1],
        compiler=compiler,
        universe=f"{package:032x}",
    )


def status(table: Table, folder: str) -> None:
    """The index of all histories: from nothing, and when little has changed since."""
    run = histories(folder)
    found = generate_status(folder, run)
    assert len(found.packages) == PACKAGES
    assert len(found.changes) == PACKAGES // 100 * len(COMPILERS)
    table.add(row("status of 20,000 histories", lambda: generate_status(folder, run)), bar="3 s")
    busy = Row("the same, of the processor alone")
    for _ in range(ROUNDS):
        start = time.process_time()
        generate_status(folder, run)
        busy.seconds.append(time.process_time() - start)
    table.add(busy, bar="3 s")
    rollup = Rollup(folder)
    generate_status(folder, run, rollup=rollup)
    table.add(row("the same, kept in memory", lambda: generate_status(folder, run, rollup=rollup)))
    save_status(folder, found)
    table.add(row("reading status.json", lambda: load_status(folder)))
    size = os.stat(f"{folder}/status.json").st_size
    print(f"\nstatus.json: {size / 1e6:.1f} MB; histories read: {rollup.reads}")


def graphs(table: Table, folder: str) -> None:
    """A graph of 20,000 builds: written, read, blessed, its failures ranked."""
    needs = [[number // part for part in (2, 3, 5) if number // part < number] for number in range(PACKAGES)]
    builds = [Build(f"{n:064x}", f"p{n}.1", tuple(f"{dep:064x}" for dep in deps)) for n, deps in enumerate(needs)]
    graph = Graph(builds)
    table.add(row("writing a graph of 20,000 builds", lambda: save_graph(folder, graph), 3))
    table.add(row("reading it", lambda: load_graph(folder), 3))
    table.add(row("blessing", lambda: bless(choices(graph)), 3))
    failed = {build.id for build in builds[50:2000:40]}
    held = graph.dependents(failed) - failed
    nodes = [
        Node(
            Failure(build.package, build.id)
            if build.id in failed
            else DependencyFailed(build.package, build.id, "p")
            if build.id in held
            else Success(build.package, build.id)
        )
        for build in builds
    ]
    table.add(row(f"ranking {len(failed)} failures that hold up {len(held)}", lambda: rank_failures(nodes, graph), 3))


def main(chosen: list[str]) -> None:
    """Run those that are chosen, or all."""
    known = {"bookkeeping": bookkeeping, "status": status, "graphs": graphs}
    table = Table("Records of runs")
    for name in chosen or known:
        folder = tempfile.mkdtemp(prefix="obuild-bench-", dir=os.environ.get("TMPDIR", "/var/tmp"))
        try:
            known[name](table, folder)
        finally:
            shutil.rmtree(folder)
