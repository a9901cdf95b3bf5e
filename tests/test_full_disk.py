"""Health checks on a disk that is too small: the one that met it is known, nothing is lost, the next run goes on."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from clinic import Clinic, cramped, install
from house import PROGRAM, House

from obuild.runs.history import History
from obuild.runs.run import list_runs

BIG = "mkdir -p %{share}% && dd if=/dev/zero of=%{share}%/big bs=1M count=20"


@pytest.fixture
def small(house: House) -> Iterator[Clinic]:
    """A clinic whose store is on a file system of 12 MB."""
    with cramped(house, 12) as clinic:
        yield clinic


def store(clinic: Clinic) -> str:
    return clinic.house.store.partition(":")[2]


def statuses(folder: Path) -> dict[str, str]:
    """The category, or else the status, of each package in a directory of JSON."""
    found = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    return {package: record.get("category", record["status"]) for package, record in found.items()}


def test_the_build_that_met_it_is_known_and_the_next_run_goes_on(small: Clinic, tmp_path: Path) -> None:
    small.write(
        base__1=install("base"),
        big__1=install("big", depends='"base"', first=BIG),
        user__1=install("user", depends='"big"'),
        other__1=install("other"),
    )
    words = ("--all", "--jobs", "1", "--json", tmp_path / "json", "--md", tmp_path / "md")
    done = small.check(*words)
    assert done.returncode == 4
    assert 'no space left on the disk, in the build of "big.1"' in done.stderr
    assert "hint: make room" in done.stderr
    found = {"base.1": "success", "big.1": "disk_full", "user.1": "dependency_failure", "other.1": "solution"}
    assert statuses(tmp_path / "json") == found
    assert (tmp_path / "md" / "big.1.md").read_text().startswith("---\nstatus: failure\n")
    assert "4 packages: 1 ok, 1 failed, 2 not tried" in done.stdout
    run = list_runs(f"{store(small)}/runs")[-1]
    assert run.state == "interrupted"
    categories = {node.outcome.package: node.outcome.category for node in run.nodes()}
    assert categories == {"base.1": "success", "big.1": "disk_full", "user.1": "dependency_failure"}
    assert History(run.root).read("big.1")[0].category == "disk_full"
    assert small.house.open().fsck() == []

    small.write(big__1=install("big", depends='"base"'))
    done = small.check(*words)
    assert done.returncode == 0, done.stderr
    assert set(statuses(tmp_path / "json").values()) == {"success"}
    assert "4 packages: 4 ok (1 found)" in done.stdout, "the dependency is kept"


def test_a_disk_without_any_room(small: Clinic, tmp_path: Path) -> None:
    small.write(one__1=install("one"), two__1=install("two"))
    filler = f"{store(small)}/filler"
    with open(filler, "wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    done = small.check("--all", "--runs", tmp_path / "runs", "--json", f"{store(small)}/json", "--md", tmp_path / "md")
    assert done.returncode == 4
    assert "Traceback" not in done.stderr
    assert "no space left on the disk" in done.stderr
    assert f'can not write "{store(small)}/json' in done.stderr
    assert sorted(os.listdir(tmp_path / "md")) == ["one.1.md", "two.1.md"]
    assert "disk_full" in {node.outcome.category for node in list_runs(str(tmp_path / "runs"))[-1].nodes()}
    os.unlink(filler)
    done = small.check("--all", "--runs", tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    assert small.house.open().fsck() == []


def test_a_disk_without_room_for_records(small: Clinic, tmp_path: Path) -> None:
    small.write(one__1=install("one"))
    with open(f"{store(small)}/filler", "wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    done = small.check("one", "--json", tmp_path / "one.json")
    assert done.returncode == 4
    assert "Traceback" not in done.stderr
    assert json.loads((tmp_path / "one.json").read_text())["category"] == "disk_full"


def test_what_a_commit_changes(small: Clinic, tmp_path: Path) -> None:
    small.write(base__1=install("base"), big__1=install("big", depends='"base"'))
    first = small.commit("first")
    small.write(big__1=install("big", depends='"base"', first=BIG), last__1=install("last", depends='"big"'))
    small.commit("second")
    words = ("--all", "--since", first, "--json", tmp_path)
    done = small.check(*words)
    assert done.returncode == 4, done.stderr
    assert statuses(tmp_path) == {"big.1": "disk_full", "last.1": "dependency_failure"}
    small.write(big__1=install("big", first="true; echo less", depends='"base"'))
    small.commit("third")
    done = small.check(*words)
    assert done.returncode == 0, done.stderr
    assert statuses(tmp_path) == {"big.1": "success", "last.1": "success"}
    assert [node.outcome.cached for node in list_runs(f"{store(small)}/runs")[-1].nodes()] == [True, False, False]


def test_every_day(small: Clinic) -> None:
    profile = small.house.folder / "daily.toml"
    profile.write_text(
        f'repositories = ["git+file://{small.repo}"]\nplatforms = ["{small.key}"]\nstore = "{small.house.store}"\n'
    )
    small.write(base__1=install("base"), big__1=install("big", depends='"base"', first=BIG))
    small.commit("first")
    line = [PROGRAM, "track", profile, "--cache", small.house.folder / "cache"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=120)
    assert done.returncode == 4, done.stderr
    assert "no space left on the disk" in done.stderr
    small.write(big__1=install("big", depends='"base"'))
    small.commit("second")
    done = subprocess.run(line, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "2 new\n" in done.stdout, "of a day that came to no end nothing is remembered"
