"""Making single packages: what is tried again, what ends everything, what a build is told of its share."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from clinic import Clinic, cramped, fails, install
from conftest import refused
from house import House

from obuild.cancel import Cancel
from obuild.errors import Cancelled, SandboxError, StoreError
from obuild.opam.repo import open_repositories
from obuild.opam.solver import parse_request
from obuild.platform import open_platform
from obuild.runs.batch import find_hits
from obuild.runs.execute import Halt, Share
from obuild.runs.make import Maker
from obuild.runs.merge import merge
from obuild.runs.outcome import Failure, Success
from obuild.runs.world import Terms, World


@pytest.fixture
def clinic(house: House) -> Clinic:
    return Clinic(house)


def maker(clinic: Clinic, *packages: str, broken: bool = False, **options: bool) -> tuple[Maker, list[str]]:
    """What makes packages, and their keys."""
    builder = clinic.house.builder()
    base = open_platform(builder.store, clinic.key)
    world = World(open_repositories([str(clinic.repo)], ""), base, Terms(), cache="")
    answers = world.answers([parse_request(package) for package in packages], None, processes=1)
    batch = merge([world.case(answer, None) for answer in answers])

    def none() -> None:
        raise SandboxError("no sandbox")

    made = Maker(batch, builder.store, none if broken else builder.sandbox, builder.options, **options)  # type: ignore[arg-type]
    return made, [target.key for target in batch.targets]


def test_a_hit_a_build_and_a_failure(clinic: Clinic) -> None:
    clinic.write(good__1=install("good"), bad__1=fails("no"))
    make, (good, bad) = maker(clinic, "good", "bad")
    assert make.hit(good) is None
    assert isinstance(make(good, Share(), Cancel()), Success)
    assert make.hit(good)
    assert make(good, Share(), Cancel()) == Success("good.1", good, cached=True)
    outcome = make(bad, Share(), Cancel())
    assert (outcome.word, outcome.category, outcome.error) == ("failure", "build_failure", "Error: no")
    assert Path(make.place(bad, outcome), "build.log").read_text().endswith("Error: no\n")
    assert make.known_failure(bad) == Failure("bad.1", bad, error="Error: no", cached=True)
    trusting, _ = maker(clinic, "good", "bad", trust_failures=True, broken=True)
    assert trusting(bad, Share(), Cancel()).cached
    assert find_hits(trusting._batch, trusting) == {good}


def test_a_build_is_told_how_many_jobs_it_may_use(clinic: Clinic) -> None:
    clinic.write(jobs__1='build: ["sh" "-c" "echo told %{jobs}% >&2; exit 1"]')
    make, (key,) = maker(clinic, "jobs")
    for jobs in (1, 7):
        outcome = make(key, Share(jobs), Cancel())
        assert outcome.error == f"told {jobs}"
        assert outcome.id == key, "it is no part of the key"


APT = """#!/bin/sh
if [ $(busybox date +%s) -lt MOMENT ]; then
  echo "W: Temporary failure resolving 'deb.example'"
  exit 100
fi
"""


def test_trouble_of_the_network_passes(tiny_rootfs: Path, tmp_path: Path, can_mount: None) -> None:
    # The system package is to be had from a moment on that lies after the first try.
    apt = tiny_rootfs / "bin" / "apt-get"
    apt.write_text(APT.replace("MOMENT", str(int(time.time()) + 4)))
    apt.chmod(0o755)
    clinic = Clinic(House(tmp_path, tiny_rootfs), "ID=debian\\\\nVERSION_ID=13\\\\n")
    clinic.write(conf__1='depexts: ["libx"] {os-family = "debian"}')
    make, (key,) = maker(clinic, "conf")
    said: list[str] = []
    make.said = lambda _, text: said.append(text)
    assert make(key, Share(), Cancel()).word == "success"
    passing = "the network or a server failed: W: Temporary failure resolving 'deb.example'; trying again in "
    assert any(text.startswith(passing) for text in said)


def test_the_machine_s_troubles_are_raised(clinic: Clinic) -> None:
    clinic.write(good__1=install("good"))
    make, (key,) = maker(clinic, "good", broken=True)
    with refused(SandboxError, "no sandbox"):
        make(key, Share(), Cancel())


def test_a_cancelled_build_has_no_outcome(clinic: Clinic) -> None:
    clinic.write(slow__1=install("slow", first="sleep 60"))
    make, (key,) = maker(clinic, "slow")
    cancel = Cancel()
    make.said = lambda _, text: cancel.set("enough") if "sleep" in text else None
    with pytest.raises(Cancelled, match="enough"):
        make(key, Share(), cancel)
    assert make.known_failure(key) is None


@pytest.fixture
def small(house: House) -> Iterator[Clinic]:
    """A store on a file system of 24 MB."""
    with cramped(house, 24) as clinic:
        yield clinic


def test_a_full_disk_ends_the_check_and_says_so(small: Clinic) -> None:
    small.write(
        big__1=install("big", first="mkdir -p %{share}% && dd if=/dev/zero of=%{share}%/big bs=1M count=90"),
        good__1=install("good"),
    )
    make, (key, good) = maker(small, "big", "good")
    with pytest.raises(StoreError, match="no space left on the disk"):
        make(key, Share(), Cancel())
    assert make(good, Share(), Cancel()).word == "success", "and there is room again"


def test_who_finds_a_small_file_system_full_ends_nothing(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("obuild.retry.FIRST_WAIT", 0.01)
    clinic.write(shm__1='build: ["sh" "-c" "dd if=/dev/zero of=/dev/shm/big bs=1M count=90"]')
    make, (key,) = maker(clinic, "shm")
    outcome = make(key, Share(), Cancel())
    assert (outcome.category, outcome.error) == (
        "disk_full",
        "dd: error writing '/dev/shm/big': No space left on device",
    )
    monkeypatch.setattr("obuild.runs.make.ROOM", 1 << 60)
    with pytest.raises(Halt, match="no space left on the disk") as caught:
        make(key, Share(), Cancel())
    assert caught.value.outcome.error == outcome.error
