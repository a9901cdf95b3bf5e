"""The questions of each morning: `runs`, `status`, `history`, `failures`, `cascade`, `diff`, `rdeps`, `log`, `disk`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from obuild.runs.graph import Build, Graph
from obuild.runs.outcome import DependencyFailed, Failure, NoSolution, Outcome, Success
from obuild.runs.run import Node
from obuild.runs.run_log import RunLog
from obuild.runs.status import generate_status, save_status

PROGRAM = Path(sys.executable).with_name("obuild")
MORNING = 1772800496.0

GRAPH = Graph(
    [
        Build("c", "ocaml.5.3.0"),
        Build("d", "dune.3.17.2", ("c",)),
        Build("b", "base.v0.17.1", ("c", "d")),
        Build("a", "app.1", ("b",)),
    ]
)
FIRST: list[Outcome] = [
    Success("ocaml.5.3.0", "c"),
    Success("dune.3.17.2", "d"),
    Success("base.v0.17.1", "b"),
    Failure("app.1", "a", "test_failure", "[FAIL] sums"),
    NoSolution("odd.1", "odd.1 needs ocaml < 4\nand more"),
]
SECOND: list[Outcome] = [
    Success("ocaml.5.3.0", "c", cached=True),
    Failure("dune.3.17.2", "d2", "build_failure", 'File "x.ml", line 3: Error: \x1b[31mno'),
    DependencyFailed("base.v0.17.1", "b", "dune.3.17.2", "d2"),
    DependencyFailed("app.1", "a", "dune.3.17.2", "d2"),
    Success("odd.1", "o"),
]


class Desk:
    """A store with two runs, asked through the program."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self.root = str(store / "runs")

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        argv = [PROGRAM, *words, "--store", f"copy:{self.store}"]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, env={**os.environ, "COLUMNS": "200"})

    def said(self, *words: str) -> str:
        done = self.run(*words)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    def objects(self, *words: str) -> list[Any]:
        return [json.loads(line) for line in self.said(*words, "--json").splitlines()]

    def record(self, outcomes: list[Outcome], graph: Graph, now: float) -> None:
        log = RunLog.start(self.root, now=now)
        log.graph(graph)
        for outcome in outcomes:
            source = self.store / "source.log"
            source.write_text(f"log of {outcome.package} {log.id}\n")
            kind = "solve" if isinstance(outcome, NoSolution) else "build"
            node = Node(outcome, kind=kind, compiler="5.3.0", blessed=True, replay=f"obuild replay {outcome.id}")
            log.node_finished(node, log=str(source) if isinstance(outcome, Success | Failure) else "")
            source.unlink()
        log.finish(targets=5, now=now + 600)
        save_status(self.root, generate_status(self.root, log.id, now=now))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    desk = Desk(tmp_path_factory.mktemp("store"))
    desk.record(FIRST, GRAPH, MORNING)
    second = [Build("d2", build.package, build.deps) if build.id == "d" else build for build in GRAPH.builds.values()]
    moved = [
        Build(build.id, build.package, tuple("d2" if dep == "d" else dep for dep in build.deps)) for build in second
    ]
    desk.record(SECOND, Graph(moved), MORNING + 86400)
    return desk


def test_runs(desk: Desk) -> None:
    lines = desk.said("runs").splitlines()
    assert lines == [
        "2026-03-06-123456     finished      10 min  3 built (0 found), 1 failed, 0 blocked, 1 without solution",
        "2026-03-07-123456     finished      10 min  2 built (1 found), 1 failed, 2 blocked, 0 without solution",
    ]
    assert [run["state"] for run in desk.objects("runs")] == ["finished", "finished"]


def test_status(desk: Desk) -> None:
    text = desk.said("status")
    assert "after 2026-03-07-123456" in text
    assert "blessed: 1 build_failure, 2 dependency_failure, 2 success" in text
    assert "newly failing (2):\n  dune.3.17.2 (5.3.0): success -> build_failure\n  base.v0.17.1" in text
    assert "recovered (1):\n  odd.1 (5.3.0): no_solution -> success" in text
    changes = desk.run("status", "--changes")
    assert changes.returncode == 1
    assert changes.stdout.startswith("newly failing (2)")
    (record,) = desk.objects("status")
    assert record["packages"]["ocaml.5.3.0"] == {"5.3.0": "success"}


def test_history(desk: Desk) -> None:
    newest, oldest = desk.said("history", "dune.3.17.2").splitlines()
    assert "build_failure       5.3.0  blessed  d2  File" in newest
    assert "\x1b" not in newest
    assert "success" in oldest
    assert desk.objects("history", "dune")[0]["package"] == "dune.3.17.2"
    assert "odd.1 needs ocaml < 4" in desk.said("history", "odd.1")
    assert "and more" not in desk.said("history", "odd.1")
    missing = desk.run("history", "dume.3.17.2")
    assert (missing.returncode, "did you mean" in missing.stderr) == (2, True)


def test_a_damaged_history_is_told(desk: Desk) -> None:
    path = Path(desk.root) / "packages" / "app.1" / "history.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"torn')
    try:
        done = desk.run("history", "app.1")
        assert done.returncode == 0
        assert done.stderr == "app.1: 1 damaged line left out\n"
    finally:
        path.write_bytes(whole)


def test_failures_and_cascade(desk: Desk) -> None:
    lines = desk.said("failures").splitlines()
    assert lines[:2] == ["blocks  alone  package", "     2      2  dune.3.17.2 (5.3.0)"]
    assert 'build_failure: File "x.ml", line 3: Error:' in lines[2]
    (item,) = desk.objects("failures")
    assert (item["blocks"], item["replay"]) == (["app.1", "base.v0.17.1"], "obuild replay d2")
    assert "test_failure: [FAIL] sums" in desk.said("failures", "--run", "previous")
    assert desk.said("failures", "--category", "test_failure") == ""
    assert desk.objects("failures", "--category", "build_failure") == [item]
    assert "  app.1\n  base.v0.17.1\n" in desk.said("cascade")
    assert desk.said("cascade", "-p", "dune") == desk.said("cascade")
    waiting = desk.said("cascade", "-p", "app.1")
    assert waiting.startswith("dune.3.17.2 blocks 2")
    assert waiting.endswith("  app.1\n")
    nothing = desk.run("cascade", "-p", "ocaml.5.3.0")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert "blocks nothing" in nothing.stderr


def test_diff(desk: Desk) -> None:
    text = desk.said("diff")
    assert text.startswith("2026-03-06-123456 -> 2026-03-07-123456\n")
    assert "again: obuild replay d2" in text
    assert "still failing (2)" in text
    assert "newly solvable (1):\n  odd.1 (5.3.0)" in text
    found = {(item["change"], item["package"]) for item in desk.objects("diff", "2026-03-06", "2026-03-07")}
    assert found == {
        ("newly_failing", "dune.3.17.2"),
        ("newly_failing", "base.v0.17.1"),
        ("still_failing", "app.1"),
        ("newly_solvable", "odd.1"),
    }
    assert desk.run("diff", "--exit-code").returncode == 1
    assert "nothing has changed" in desk.said("diff", "latest", "latest", "--exit-code")
    assert "fixed (2)" in desk.said("diff", "latest", "previous")


def test_rdeps(desk: Desk) -> None:
    assert desk.said("rdeps", "dune").split() == ["app.1", "base.v0.17.1"]
    assert desk.said("rdeps", "dune.3.17.2", "--direct").split() == ["base.v0.17.1"]
    assert desk.objects("rdeps", "base") == [{"package": "app.1", "hashes": ["a"]}]
    dot = desk.said("rdeps", "base", "--dot")
    assert dot == 'digraph opam {\n  "app.1" -> "base.v0.17.1";\n}\n'
    missing = desk.run("rdeps", "dume")
    assert (missing.returncode, "is not in the run" in missing.stderr) == (2, True)


def test_log(desk: Desk) -> None:
    assert desk.said("log", "dune.3.17.2") == "log of dune.3.17.2 2026-03-07-123456\n"
    assert desk.said("log", "dune.3.17.2", "--run", "previous") == "log of dune.3.17.2 2026-03-06-123456\n"
    assert desk.said("log", "base.v0.17.1") == "log of base.v0.17.1 2026-03-06-123456\n", "the last that there is"
    assert desk.run("log", "base.v0.17.1", "--run", "latest").returncode == 2
    assert desk.run("log", "none.1").returncode == 2


def test_disk(desk: Desk) -> None:
    folder = desk.store / "debian-12-x86_64" / "beef"
    folder.mkdir(parents=True)
    (folder / "layer.json").write_text(json.dumps({"package": "dune.3.17.2", "size": 12_000_000}))
    assert desk.said("disk").splitlines() == [
        "  12.0 MB       1 layers  debian-12-x86_64",
        "  12.0 MB       1 layers  dune.3.17.2",
        "  12.0 MB       1 layers  together",
    ]
    assert desk.objects("disk", "--all-versions")[1] == {
        "kind": "package", "package": "dune", "layers": 1, "size": 12_000_000
    }  # fmt: skip


@pytest.mark.parametrize("words", [["runs"], ["status"], ["failures"], ["diff"], ["history", "a.1"], ["rdeps", "a"]])
def test_nothing_has_run_yet(tmp_path: Path, words: list[str]) -> None:
    done = Desk(tmp_path / "none").run(*words)
    assert done.returncode == (0 if words == ["runs"] else 2)
    assert len(done.stderr.splitlines()) in (1, 2)
    assert not (tmp_path / "none").exists(), "asking makes nothing"


def test_a_run_that_goes_on(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    log = RunLog.start(desk.root, now=MORNING)
    log.node_finished(Node(Success("a.1", "h")))
    assert "running      1 builds ended" in desk.said("runs")
    log.close()
    assert "interrupted  1 builds ended" in desk.said("runs")
