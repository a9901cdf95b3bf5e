"""Garbage collection of a store by `obuild gc`: what runs need stays, with all that it stands on; the rest goes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from clinic import Clinic, install
from conftest import soon
from house import PROGRAM, House

NOW = ("--keep-runs", "1", "--grace", "0.001s")


class Ward(Clinic):
    """A clinic whose garbage is collected."""

    def gc(self, *words: str, status: int = 0) -> str:
        line = [str(PROGRAM), "gc", "--store", self.house.store, *words]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def place(self, package: str) -> str:
        """The layer of a package, as the last run that had it says."""
        return [n.layer_dir for run in self.runs() for n in run.nodes() if n.outcome.package == package][-1]

    def left(self, *places: str) -> list[bool]:
        return [os.path.exists(f"{place}/layer.json") for place in places]


@pytest.fixture
def ward(house: House) -> Ward:
    found = Ward(house)
    found.write(base__1=install("base"), user__1=install("user", depends='"base"'), extra__1=install("extra"))
    assert found.check("user", "extra").returncode == 0
    return found


def test_what_no_run_needs_goes_when_it_is_said_to(ward: Ward) -> None:
    base, old, extra = map(ward.place, ("base.1", "user.1", "extra.1"))
    ward.write(user__1=install("user", first="echo other", depends='"base"'))
    assert ward.check("user").returncode == 0
    new = ward.place("user.1")
    assert "deleted nothing" in ward.gc("--keep-runs", "1", "--delete"), "all was used within the grace period"
    assert "would delete 1 runs, 2 layers" in ward.gc(*NOW)
    assert ward.left(base, old, extra, new) == [True] * 4, "it is only said"
    shown = ward.gc(*NOW, "--delete", "--json")
    assert ward.left(base, old, extra, new) == [True, False, False, True]
    assert all(os.path.basename(place) in shown for place in (old, extra))
    assert len(ward.runs()) == 1
    assert ward.house.open().fsck() == []


def test_what_a_needed_layer_stands_on_stays(ward: Ward) -> None:
    base, user, extra = map(ward.place, ("base.1", "user.1", "extra.1"))
    path = Path(ward.runs()[0].path, "build.jsonl")
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if '"user.1"' in line))
    ward.gc(*NOW, "--delete")
    assert ward.left(base, user, extra) == [True, True, False]


def test_what_is_in_use_stays(ward: Ward) -> None:
    extra, base = ward.place("extra.1"), ward.place("base.1")
    ward.write(other__1=install("other"))
    assert ward.check("other").returncode == 0
    store = ward.house.open()
    with store.hold("/".join(extra.split("/")[-2:])):
        ward.gc(*NOW, "--delete")
        assert ward.left(extra, base) == [True, False]
    ward.gc(*NOW, "--delete")
    assert ward.left(extra) == [False]


def test_a_run_that_goes_on_loses_nothing(ward: Ward) -> None:
    ward.write(slow__1=install("slow", first="sleep 3", depends='"base"'), last__1=install("last", depends='"slow"'))
    process = ward.start("last", "user")
    assert soon(lambda: len(ward.runs()) == 2 and len(ward.runs()[-1].nodes()) == 2)
    ward.gc(*NOW, "--delete")
    assert ward.left(ward.place("base.1"), ward.place("user.1")) == [True, True]
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 0, out + errors
    assert "2 layers built" in out


def test_when_nothing_is_needed_that_is_more_likely_a_mistake(ward: Ward) -> None:
    base = ward.place("base.1")
    shutil.rmtree(f"{ward.root}/runs")
    assert "all packages would go" in ward.gc(*NOW, "--delete", status=2)
    assert ward.left(base) == [True]
    ward.gc(*NOW, "--delete", "--force")
    assert ward.left(base) == [False]
