"""Runs as they are written: ids, phases, logs, summaries, kills, disks that are full."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from obuild.errors import StoreError, UsageError
from obuild.runs.graph import Build, Graph, load_graph
from obuild.runs.history import History
from obuild.runs.outcome import DependencyFailed, Failure, NoSolution, Success
from obuild.runs.run import Node, Run, find_run, list_runs
from obuild.runs.run_log import RunLog

NOW = 1772800496.7


@pytest.fixture
def log(tmp_path: Path) -> RunLog:
    return RunLog.start(str(tmp_path), now=NOW)


def text(tmp_path: Path, words: str, name: str = "source.log") -> str:
    path = tmp_path / name
    path.write_text(words)
    return str(path)


def test_a_run_from_start_to_end(tmp_path: Path, log: RunLog) -> None:
    assert log.id == "2026-03-06-123456"
    assert sorted(os.listdir(log.path)) == ["build", "docs"]
    log.phase("plan", {"targets": 4, "ocaml_version": None})
    log.graph(Graph([Build("h1", "a.1"), Build("h2", "b.1", ("h1",))]))
    log.node_finished(Node(Success("a.1", "h1", seconds=2.0), compiler="5.3.0", blessed=True), log=text(tmp_path, "hi"))
    log.node_finished(Node(Failure("b.1", "h2", "timeout", "too slow"), compiler="5.3.0"))
    log.node_finished(Node(DependencyFailed("c.1", "h3", "b.1", "h2")))
    log.node_finished(Node(NoSolution("d.1", "no way"), kind="solve"))
    log.node_finished(Node(Success("a.1", "x"), kind="doc"))
    summary = log.finish(targets=4, now=NOW + 60)
    assert (summary.packages_built, summary.packages_failed, summary.packages_blocked) == (1, 1, 1)
    assert (summary.packages_unsolved, summary.docs_generated, summary.targets_requested) == (1, 1, 4)
    assert (summary.duration, summary.failures, summary.problems) == (60.0, (("b.1", "too slow"),), ())
    run = find_run(str(tmp_path))
    assert (run.id, run.state, run.summary) == (log.id, "finished", summary)
    assert os.readlink(tmp_path / "latest") == f"runs/{log.id}"
    assert run.phase("plan")["targets"] == 4
    assert run.phase("plan")["timestamp"].endswith("Z")
    assert [node.outcome.package for node in run.nodes("build")] == ["a.1", "b.1", "c.1"]
    assert load_graph(run.path).dependents(["h1"]) == {"h2"}
    assert Path(run.log("a.1") or "").read_text() == "hi"
    (entry,) = History(str(tmp_path)).read("a.1")
    assert (entry.run, entry.build_hash, entry.compiler, entry.blessed) == (log.id, "h1", "5.3.0", True)
    assert History(str(tmp_path)).packages() == ["a.1", "b.1", "c.1", "d.1"]


def test_lines_are_as_documented(tmp_path: Path, log: RunLog) -> None:
    log.node_finished(Node(DependencyFailed("c.1", "h3", "b.1", "h2"), t="2026-03-06T12:34:57.000Z", layer_dir="x/h3"))
    line = Path(log.path, "build.jsonl").read_text()
    assert json.loads(line) == {
        "t": "2026-03-06T12:34:57.000Z", "kind": "build", "pkg": "c.1", "hash": "h3", "status": "cascade",
        "failed_dep": "b.1", "failed_dep_hash": "h2", "layer_dir": "x/h3",
    }  # fmt: skip


def test_runs_of_one_second_have_different_ids(tmp_path: Path) -> None:
    logs: list[RunLog] = []
    threads = [threading.Thread(target=lambda: logs.append(RunLog.start(str(tmp_path), now=NOW))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({log.id for log in logs}) == 12
    assert [run.id for run in list_runs(str(tmp_path))][-1] == "2026-03-06-123456-12"


def test_two_runs_in_one_process_do_not_mix(tmp_path: Path) -> None:
    one, two = RunLog.start(str(tmp_path), now=NOW), RunLog.start(str(tmp_path), now=NOW)
    one.node_finished(Node(Success("a.1", "h")))
    two.node_finished(Node(Success("b.1", "h")))
    assert [[node.outcome.package for node in log.run.nodes()] for log in (one, two)] == [["a.1"], ["b.1"]]


def test_threads_finish_nodes_together(tmp_path: Path, log: RunLog) -> None:
    def work(who: int) -> None:
        for number in range(40):
            log.node_finished(Node(Success(f"p{number}.1", f"h{who}-{number}")))

    threads = [threading.Thread(target=work, args=(who,)) for who in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log.finish().packages_built == 240
    assert len(log.run.nodes()) == 240
    assert len(History(str(tmp_path)).read("p7.1")) == 6


# Logs.


def test_a_second_log_of_a_package_has_a_number(tmp_path: Path, log: RunLog) -> None:
    names = [
        os.path.basename(log.add_build_log("a.1", text(tmp_path, str(number), f"l{number}"))) for number in range(3)
    ]
    assert names == ["a.1.log", "a.1.2.log", "a.1.3.log"]
    assert Path(log.run.log("a.1") or "").read_text() == "2"
    assert len(log.run.logs("a.1")) == 3


def test_a_doc_log_is_replaced(tmp_path: Path, log: RunLog) -> None:
    for number in range(2):
        log.add_doc_log("a.1", text(tmp_path, str(number), f"l{number}"), layer="beef")
    assert os.listdir(f"{log.path}/docs") == ["a.1.beef.log"]
    assert Path(log.path, "docs", "a.1.beef.log").read_text() == "1"
    assert log.add_doc_log("a.1", text(tmp_path, "x")).endswith("docs/a.1.log")


def test_a_kept_log_stays_when_its_layer_goes(tmp_path: Path, log: RunLog) -> None:
    source = text(tmp_path, "words")
    path = log.add_build_log("a.1", source)
    os.unlink(source)
    assert Path(path).read_text() == "words"


def test_a_log_on_another_file_system_is_copied(log: RunLog) -> None:
    if os.stat("/dev/shm").st_dev == os.stat(log.path).st_dev:
        pytest.skip("does not apply: /dev/shm is no file system of its own")
    source = Path("/dev/shm", f"obuild-test-{os.getpid()}.log")
    source.write_text("far")
    try:
        path = log.add_build_log("a.1", str(source))
    finally:
        source.unlink()
    assert Path(path).read_text() == "far"


def test_a_log_that_is_not_there_is_no_problem(log: RunLog) -> None:
    assert (log.add_build_log("a.1", "/nowhere"), log.add_doc_log("a.1", "/nowhere")) == ("", "")
    assert log.problems == ()


def test_no_name_leads_out_of_the_run(log: RunLog) -> None:
    for name in ("../x", "a/b"):
        with pytest.raises(UsageError):
            log.add_build_log(name, "/etc/hostname")
        with pytest.raises(UsageError):
            log.run.log(name)


# Trouble.


def test_a_run_without_room_says_so_at_once(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(StoreError, match="can not begin a run"):
        RunLog.start(str(tmp_path))


def test_what_can_not_be_written_stops_nothing_and_is_told(tmp_path: Path, log: RunLog) -> None:
    os.mkdir(f"{log.path}/plan.json")
    os.mkdir(f"{log.path}/build.jsonl")
    (tmp_path / "packages").write_text("a file")
    (tmp_path / "latest").mkdir()
    log.phase("plan", {})
    for number in range(3):
        log.node_finished(Node(Success(f"a.{number}", "h")))
    summary = log.finish()
    assert summary.packages_built == 3
    assert [problem.partition(":")[0] for problem in summary.problems] == [
        "plan.json",
        "build.jsonl",
        "history",
        "latest",
    ]
    assert json.loads(Path(log.path, "summary.json").read_text())["problems"] == list(summary.problems[:3])


FULL = """
import os, sys
from obuild.runs.outcome import Success
from obuild.runs.run import Node
from obuild.runs.run_log import RunLog
log = RunLog.start(sys.argv[1])
log.node_finished(Node(Success("early.1", "h")))
with open(sys.argv[1] + "/filler", "wb", buffering=0) as file:
    try:
        while file.write(b"x" * 4096):
            pass
    except OSError:
        pass
for number in range(40):
    log.node_finished(Node(Success(f"p{number}.1", "h" * 500)))
log.phase("dag", {"nodes": 40})
summary = log.finish()
print(summary.packages_built, *summary.problems, sep="|")
os.unlink(sys.argv[1] + "/filler")
log = RunLog.resume(sys.argv[1], log.id) if not log.run.summary else RunLog.start(sys.argv[1])
log.node_finished(Node(Success("late.1", "h")))
print(log.finish().problems, len(log.history.read("late.1")), log.history.read_all("early.1")[1])
"""


@pytest.mark.usefixtures("can_mount")
def test_a_full_disk_stops_nothing(tmp_path: Path) -> None:
    script = tmp_path / "full.py"
    script.write_text(FULL)
    room = tmp_path / "room"
    room.mkdir()
    command = (
        f'mount -t tmpfs -o size=512k,nr_inodes=10000 none "{room}" && exec "{sys.executable}" "{script}" "{room}"'
    )
    done = subprocess.run(["unshare", "--mount", "sh", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith("41|")
    assert "no space left on device" in first
    assert second == "() 1 0"


# Reading what is not finished.

CHILD = """
import sys, time
from obuild.runs.outcome import Success
from obuild.runs.run import Node
from obuild.runs.run_log import RunLog
log = RunLog.start(sys.argv[1])
print(log.id, flush=True)
for number in range(10**9):
    log.node_finished(Node(Success(f"p{number}.1", f"h{number}")))
    print(number, flush=True)
"""


def test_a_killed_run_is_read_and_resumed(tmp_path: Path) -> None:
    root = str(tmp_path)
    child = subprocess.Popen([sys.executable, "-c", CHILD, root], stdout=subprocess.PIPE, text=True)
    assert child.stdout
    id = child.stdout.readline().strip()  # noqa: A001
    while child.stdout.readline() != "20\n":
        pass
    assert Run(root, id).state == "running"
    with pytest.raises(UsageError, match="goes on"):
        RunLog.resume(root, id)
    child.send_signal(signal.SIGKILL)
    told = [int(line) for line in child.stdout.read().split()]
    child.wait()
    run = Run(root, id)
    assert (run.state, run.summary) == ("interrupted", None)
    count = len(run.nodes())
    assert count >= (told[-1] if told else 20) + 1
    if os.path.exists(path := History(root).path(f"p{count - 1}.1")):
        os.truncate(path, 0)  # as if it had been killed a moment earlier, as it may have been
    log = RunLog.resume(root, id)
    assert len(log.nodes) == count
    for number in range(count):
        assert [entry.build_hash for entry in log.history.read(f"p{number}.1")] == [f"h{number}"]
    assert log.finish().packages_built == count
    with pytest.raises(UsageError, match="is finished"):
        RunLog.resume(root, id)


AGAIN = """
import sys
from obuild.runs.outcome import Success
from obuild.runs.run import Node, list_runs
from obuild.runs.run_log import RunLog
runs = list_runs(sys.argv[1])
log = RunLog.resume(sys.argv[1], runs[-1].id) if runs else RunLog.start(sys.argv[1])
print("begun", flush=True)
done = {node.outcome.id for node in log.nodes}
for number in range(1500):
    if f"h{number}" not in done:
        log.node_finished(Node(Success(f"p{number % 100}.1", f"h{number}")))
log.finish()
"""


def test_a_run_that_is_killed_again_and_again_loses_and_repeats_nothing(tmp_path: Path) -> None:
    root = str(tmp_path)
    for _ in range(10):
        child = subprocess.Popen([sys.executable, "-c", AGAIN, root], stdout=subprocess.PIPE, text=True)
        assert child.stdout
        assert child.stdout.readline() == "begun\n"
        time.sleep(random.uniform(0, 0.03))
        child.send_signal(signal.SIGKILL)
        child.wait()
    if find_run(root).state == "interrupted":
        subprocess.run([sys.executable, "-c", AGAIN, root], check=True, stdout=subprocess.DEVNULL)
    (run,) = list_runs(root)
    expected = sorted(f"h{number}" for number in range(1500))
    assert sorted(node.outcome.id for node in run.nodes()) == expected
    history = History(root)
    told = [entry.build_hash for package in history.packages() for entry in history.read(package)]
    assert sorted(told) == expected
    assert run.summary
    assert run.summary.packages_built == 1500


def test_a_run_that_was_let_go_can_be_resumed(tmp_path: Path, log: RunLog) -> None:
    log.node_finished(Node(Failure("a.1", "h")))
    log.close()
    again = RunLog.resume(str(tmp_path), log.id)
    again.node_finished(Node(Success("a.1", "h")))
    summary = again.finish(now=NOW + 5)
    assert (summary.packages_built, summary.packages_failed, summary.start_time) == (1, 0, "2026-03-06T12:34:56.000Z")
    with pytest.raises(UsageError, match="no run"):
        RunLog.resume(str(tmp_path), "2020-01-01-000000")


def test_damaged_files_of_a_run(tmp_path: Path, log: RunLog) -> None:
    log.node_finished(Node(Success("a.1", "h")))
    with open(f"{log.path}/build.jsonl", "ab") as file:
        file.write(b'\0\0\0\n{"pkg": "b.1"}\n\xff\n{"torn')
    Path(log.path, "plan.json").write_bytes(b"\xff{")
    Path(log.path, "summary.json").write_text('{"run_id": 7}')
    assert [node.outcome.package for node in log.run.nodes()] == ["a.1"]
    assert (log.run.phase("plan"), log.run.summary, log.run.state) == ({}, None, "running")


def test_summaries_of_other_writers(tmp_path: Path, log: RunLog) -> None:
    record = {"run_id": log.id, "start_time": 1.0, "end_time": 3.5, "duration": 2.5, "targets_requested": 2}
    record |= {"packages_built": 1, "packages_failed": 1, "docs_generated": 0}
    record["failures"] = [{"package": "b.1", "error": "bad"}, 7]
    Path(log.path, "summary.json").write_text(json.dumps(record))
    summary = log.run.summary
    assert summary
    assert (summary.start_time, summary.duration) == ("1970-01-01T00:00:01.000Z", 2.5)
    assert (summary.packages_built, summary.failures) == (1, (("b.1", "bad"),))


# Naming runs.


def test_finding_a_run(tmp_path: Path) -> None:
    root = str(tmp_path)
    with pytest.raises(UsageError, match="there are no runs"):
        find_run(root)
    for day in range(3):
        RunLog.start(root, now=NOW + 86400 * day).finish()
    RunLog.start(root, now=NOW + 86400 * 3).close()
    (tmp_path / "runs" / "notes").mkdir()
    ids = [run.id for run in list_runs(root)]
    assert len(ids) == 4
    assert find_run(root).id == ids[2]
    assert find_run(root, "previous").id == ids[1]
    assert find_run(root, "2026-03-09").id == ids[3]
    with pytest.raises(UsageError, match="beginning of 4 runs"):
        find_run(root, "2026")
    with pytest.raises(UsageError, match='no run "2025') as caught:
        find_run(root, "2025-03-06-123456")
    assert "did you mean" in caught.value.hint
    os.unlink(tmp_path / "latest")
    assert find_run(root).id == ids[3]


def test_there_is_no_previous_run(tmp_path: Path, log: RunLog) -> None:
    log.finish()
    with pytest.raises(UsageError, match="no finished run before"):
        find_run(str(tmp_path), "previous")
