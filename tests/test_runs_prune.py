"""Garbage collection: what stays, what goes, what is never touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from obuild.disk import Lock
from obuild.errors import UsageError
from obuild.kernel import boot_id
from obuild.runs.history import Entry, History
from obuild.runs.moment import DAY
from obuild.runs.outcome import Success
from obuild.runs.prune import (
    clean_temporary,
    prune_layers,
    prune_runs,
    prune_universes,
    referenced_universes,
    references,
)
from obuild.runs.run import Node
from obuild.runs.run_log import RunLog
from obuild.runs.swap import point

NOW = 2_000_000_000.0


class Layers:
    """A directory of layers, each of some age."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.path = folder

    def add(self, name: str, *parents: str, age: float = 100, size: int | None = 1000, key: str = "parents") -> Path:
        path = self.path / name
        (path / "fs").mkdir(parents=True)
        (path / "fs" / "file").write_text("x" * 10)
        record = {key: list(parents)} | ({"size": size} if size is not None else {})
        (path / "layer.json").write_text(json.dumps(record))
        os.utime(path / "layer.json", (NOW - age * DAY, NOW - age * DAY))
        return path

    def names(self) -> list[str]:
        return sorted(os.listdir(self.path))


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    return Layers(tmp_path)


def test_what_live_layers_stand_on_stays(layers: Layers) -> None:
    layers.add("bottom")
    layers.add("middle", "steps/bottom")
    layers.add("live", "middle", "missing")
    layers.add("hashes", "bottom", key="hashes")
    layers.add("dead", "middle")
    assert references(layers.folder, ["live"]) == {"live", "middle", "bottom", "missing"}
    found = prune_layers(layers.folder, live=["live"], now=NOW)
    assert [item.name for item in found.deleted] == ["dead", "hashes"]
    assert (found.total, found.kept, found.size, found.dry_run) == (5, 3, 2000, True)
    assert len(layers.names()) == 5, "it is only said what would go"
    again = prune_layers(layers.folder, live=["debian-12/live"], now=NOW, dry_run=False)
    assert again.deleted == found.deleted
    assert layers.names() == ["bottom", "live", "middle"]


def test_a_grace_period_and_what_the_young_stand_on(layers: Layers) -> None:
    layers.add("old")
    layers.add("young", "old", age=1)
    layers.add("lone", age=8)
    found = prune_layers(layers.folder, live=["other"], grace=7 * DAY, now=NOW, dry_run=False)
    assert [item.name for item in found.deleted] == ["lone"]
    (layers.path / "old" / "last_used").write_text("")
    os.utime(layers.path / "old" / "last_used", (NOW, NOW))
    kept = prune_layers(layers.folder, live=["other"], grace=DAY / 2, now=NOW)
    assert [item.name for item in kept.deleted] == ["young"], "old was used just now"


def test_nothing_live_is_more_likely_a_mistake(layers: Layers) -> None:
    layers.add("a")
    with pytest.raises(UsageError, match="all would go"):
        prune_layers(layers.folder, live=[], now=NOW, dry_run=False)
    assert len(prune_layers(layers.folder, live=[], now=NOW, dry_run=False, force=True).deleted) == 1


def test_what_is_locked_stays_with_what_it_stands_on(layers: Layers) -> None:
    layers.add("bottom")
    layers.add("used", "bottom")
    layers.add("beside")
    (layers.path / "beside.lock").write_text("")
    with Lock.take(f"{layers.folder}/used", shared=True), Lock.take(f"{layers.folder}/beside.lock"):
        found = prune_layers(layers.folder, live=["x"], now=NOW, dry_run=False)
    assert found.deleted == ()
    found = prune_layers(layers.folder, live=["x"], now=NOW, dry_run=False)
    assert len(found.deleted) == 3
    assert layers.names() == [], "the lock's file goes with its layer"


def test_only_layers_go(layers: Layers, tmp_path: Path) -> None:
    layers.add("dead")
    (layers.path / "base").mkdir()
    (layers.path / "base" / "layer.json").write_text("{}")
    (layers.path / "no-layer").mkdir()
    (layers.path / "file").write_text("x")
    (layers.path / "link").symlink_to("dead")
    prune_layers(layers.folder, live=["x"], now=NOW, dry_run=False, grace=0)
    assert layers.names() == ["base", "file", "link", "no-layer"]


def test_symlinks_inside_are_not_followed(layers: Layers, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "kept").write_text("x")
    (layers.add("dead") / "fs" / "escape").symlink_to(outside)
    assert len(prune_layers(layers.folder, live=["x"], now=NOW, dry_run=False).deleted) == 1
    assert (outside / "kept").exists()


def test_damaged_and_unsized_layers(layers: Layers) -> None:
    (layers.add("damaged") / "layer.json").write_bytes(b"\xff{")
    os.utime(layers.path / "damaged" / "layer.json", (0, 0))
    layers.add("unsized", size=None)
    found = prune_layers(layers.folder, live=["damaged"], now=NOW)
    assert [item.name for item in found.deleted] == ["unsized"]
    assert found.size > 0
    assert prune_layers(layers.folder + "/none", live=["x"], now=NOW).total == 0


def test_one_that_can_not_be_deleted_stops_nothing(layers: Layers, can_mount: None) -> None:
    layers.add("a-mounted")
    layers.add("b-dead")
    script = (
        "import sys; from obuild.runs.prune import prune_layers\n"
        "found = prune_layers(sys.argv[1], live=['x'], dry_run=False, now=2e9)\n"
        "print([item.name for item in found.deleted], found.problems)"
    )
    mount = f'mount -t tmpfs none "{layers.folder}/a-mounted/fs" && exec "{sys.executable}" -c "$0" "{layers.folder}"'
    done = subprocess.run(["unshare", "--mount", "sh", "-c", mount, script], capture_output=True, text=True)
    assert done.stdout.startswith("['b-dead'] ('a-mounted: "), done.stderr


def test_half_deleted_layers_are_no_layers_and_go_next_time(layers: Layers) -> None:
    layers.add(".trash-dead-0a1b2c3d")
    layers.add("live")
    found = prune_layers(layers.folder, live=["live"], now=NOW)
    assert (found.total, found.deleted) == (1, ())
    prune_layers(layers.folder, live=["live"], now=NOW, dry_run=False)
    assert layers.names() == ["live"]


# Universes.


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


# Temporary directories.


def temporary(tmp_path: Path, name: str, **facts: object) -> None:
    (tmp_path / name).mkdir()
    if facts:
        (tmp_path / name / "owner.json").write_text(json.dumps({"boot_id": boot_id(), **facts}))


def test_temporary_directories_of_the_dead_alone(tmp_path: Path) -> None:
    temporary(tmp_path, "run-mine", pid=os.getpid())
    temporary(tmp_path, "run-dead", pid=2**22 + 7)
    temporary(tmp_path, "run-before", pid=os.getpid(), boot_id="another")
    temporary(tmp_path, "run-unknown")
    temporary(tmp_path, "run-odd", pid="seven")
    temporary(tmp_path, "other-dead", pid=2**22 + 7)
    (tmp_path / "run-link").symlink_to("run-dead")
    assert clean_temporary(str(tmp_path), "run-") == ["run-before", "run-dead"]
    assert len(os.listdir(tmp_path)) == 7
    clean_temporary(str(tmp_path), "run-", dry_run=False)
    assert sorted(os.listdir(tmp_path)) == ["other-dead", "run-link", "run-mine", "run-odd", "run-unknown"]
    with pytest.raises(UsageError):
        clean_temporary(str(tmp_path), "")
