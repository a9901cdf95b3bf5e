"""Garbage collection: what stays, what goes, what is never touched."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from obuild.disk import Lock
from obuild.errors import UsageError
from obuild.runs.history import Entry, History
from obuild.runs.moment import DAY
from obuild.runs.outcome import Success
from obuild.runs.prune import prune_runs, prune_universes, referenced_universes
from obuild.runs.run import Node
from obuild.runs.run_log import RunLog
from obuild.runs.swap import point

NOW = 2_000_000_000.0


# Universes.


@pytest.fixture
def universes(tmp_path: Path) -> Path:
    """A directory with the old universes "a" and "b"."""
    for name in ("a", "b"):
        (tmp_path / "u" / name / "html").mkdir(parents=True)
        os.utime(tmp_path / "u" / name, (0, 0))
    return tmp_path / "u"


def test_it_is_only_said_what_would_go(universes: Path) -> None:
    found = prune_universes(str(universes), referenced=["a"])
    assert (found.total, found.kept, [item.name for item in found.deleted], found.dry_run) == (2, 1, ["b"], True)
    assert found.size > 0
    assert sorted(os.listdir(universes)) == ["a", "b"]


def test_the_young_the_locked_and_what_is_none_stay(universes: Path, tmp_path: Path) -> None:
    os.utime(universes / "a", (NOW - DAY, NOW - DAY))
    (universes / "file").write_text("x")
    (universes / "link").symlink_to(tmp_path)
    with Lock.take(f"{universes}/b", shared=True):
        assert prune_universes(str(universes), referenced=["x"], now=NOW, dry_run=False).deleted == ()
    prune_universes(str(universes), referenced=["x"], now=NOW, dry_run=False)
    assert sorted(os.listdir(universes)) == ["a", "file", "link"]


def test_symlinks_inside_are_not_followed(universes: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("x")
    (universes / "b" / "html" / "escape").symlink_to(tmp_path)
    os.utime(universes / "b", (0, 0))
    assert len(prune_universes(str(universes), referenced=["a"], dry_run=False).deleted) == 1
    assert (tmp_path / "kept").exists()


def test_one_that_can_not_be_deleted_stops_nothing(universes: Path, can_mount: None) -> None:
    script = (
        "import sys; from obuild.runs.prune import prune_universes\n"
        "found = prune_universes(sys.argv[1], referenced=['x'], dry_run=False)\n"
        "print([item.name for item in found.deleted], found.problems)"
    )
    mount = f'mount -t tmpfs none "{universes}/a/html" && exec "{sys.executable}" -c "$0" "{universes}"'
    done = subprocess.run(["unshare", "--mount", "sh", "-c", mount, script], capture_output=True, text=True)
    assert done.stdout.startswith("['b'] ('a: "), done.stderr


def test_what_is_half_deleted_is_none_and_goes_next_time(universes: Path) -> None:
    (universes / ".trash-old-0a1b2c3d").mkdir()
    assert prune_universes(str(universes), referenced=["a", "b"]).total == 2
    prune_universes(str(universes), referenced=["a", "b"], dry_run=False)
    assert sorted(os.listdir(universes)) == ["a", "b"]


def test_universes_that_nothing_refers_to(tmp_path: Path) -> None:
    for name in ("html/u/one", "html/u/two", "html/u/old-epoch", "html/p/pkg"):
        (tmp_path / name).mkdir(parents=True)
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / "html-live").symlink_to("html/u/old-epoch/html")
    folder = str(tmp_path / "html" / "u")
    with pytest.raises(UsageError, match="no universe"):
        prune_universes(folder, referenced=[])
    found = prune_universes(folder, referenced=["one"], dry_run=False)
    assert [item.name for item in found.deleted] == ["two"]
    assert sorted(os.listdir(folder)) == ["old-epoch", "one"], "what is live is never deleted"
    assert os.listdir(tmp_path / "html" / "p") == ["pkg"]


def test_universes_of_the_last_runs_are_referred_to(tmp_path: Path) -> None:
    history = History(str(tmp_path))
    for run in range(60):
        history.append("a.1", Entry("t", f"r{run}", f"h{run}", "success", "success", universe=f"u{run}", compiler="5"))
    found = referenced_universes(str(tmp_path))
    assert {"u59", "u58"} <= found
    assert "u0" not in found


# Runs.


def test_old_runs_go_but_never_the_last_or_one_that_goes_on(tmp_path: Path) -> None:
    root = str(tmp_path)
    day = 1772800496.0
    ids = []
    for number in range(5):
        log = RunLog.start(root, now=day + number * DAY)
        ids.append(log.id)
        log.node_finished(Node(Success("a.1", f"h{number}")))
        log.finish()
    going = RunLog.start(root, now=day)
    interrupted = RunLog.start(root, now=day)
    interrupted.close()
    point(f"{root}/latest", f"runs/{ids[0]}")
    assert prune_runs(root, keep=2, now=NOW).total == 7
    found = prune_runs(root, keep=2, now=NOW, dry_run=False)
    assert [item.name for item in found.deleted] == [interrupted.id, ids[1], ids[2]]
    assert sorted(os.listdir(f"{root}/runs")) == sorted([ids[0], ids[3], ids[4], going.id])
    assert prune_runs(root, keep=0, grace=NOW, now=NOW).deleted == ()
    assert len(History(root).read("a.1")) == 5
