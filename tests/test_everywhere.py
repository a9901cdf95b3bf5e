"""The core of the interpreter on every kind of store and with every sandbox."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import alive, needs, soon
from house import Gate, House, Party, sh, stage, stop

from obuild.errors import Cancelled, StepFailed

PLACES = [("overlay", "crun"), ("overlay", "runc"), ("btrfs", "crun"), ("copy", "crun"), ("copy", "runc")]


@pytest.fixture(params=[pytest.param(place, marks=needs(place[1]), id="-".join(place)) for place in PLACES])
def place(request: pytest.FixtureRequest, tmp_path: Path, tiny_base: Path, can_mount: None) -> Iterator[House]:
    """A house of every kind, in which nothing is left."""
    kind, sandbox = request.param
    folder = request.getfixturevalue("file_system")("btrfs") / tmp_path.name if kind == "btrfs" else tmp_path
    house = House(folder, tiny_base, kind, sandbox)
    yield house
    assert soon(lambda: not house.residue()), house.residue()
    house.open().prune(max_count=0, max_age=0)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.close()


def test_a_build_with_everything_in_it(place: House) -> None:
    (place.context / "f").write_text("context")
    nested = stage(sh("mkdir /out; echo nested > /out/n; ln /out/n /out/again; chmod 4755 /out/n"))
    ops = [
        "(env K v)",
        "(workdir /w)",
        "(copy (src f) (dst ./))",
        "(copy (from (build n)) (src out) (dst /o))",
        '(run (cache (c (target /c))) (secrets (s (target /s))) (shell "cat f /o/n /s; echo; echo $K > /c/k; pwd"))',
        "(user (uid 5) (gid 6))",
        sh("id -u; mkdir /tmp/d; mv /tmp/d /tmp/e; rm -f /w/f 2>/dev/null || echo kept"),
        "(user (uid 0) (gid 0))",
        sh("mv /o /p; rm -r /w; mkdir /w; touch /w/new; ls /w /p; cat /p/n"),
        '(run (cache (c (target /c))) (shell "cat /c/k"))',
    ]
    text, secrets = stage(*ops, builds=f"(build n {nested})"), {"s": b"a secret"}
    layer, log = place.build(text, secrets=secrets)
    said = [line for line in log.text.splitlines() if line and line[0] not in "(/- "]
    assert said == ["contextnested", "***", "5", "kept", "again", "n", "new", "nested", "v"]
    again, log = place.build(text, secrets=secrets)
    assert (again, all(log.cached())) == (layer, True)
    with place.open().view(layer) as tree:
        assert oct(os.stat(f"{tree}/p/n").st_mode)[-4:] == "0755"
        assert not os.path.exists(f"{tree}/o")
        assert sorted(os.listdir(f"{tree}/w")) == ["new"]
    assert place.open().fsck() == []


def test_ids_are_the_same_everywhere(place: House) -> None:
    layer, _ = place.build("((from b) (shell /bin/sh -c) (run (shell true)))")
    other = House(place.folder / "other", place.base)
    assert other.build("((from b) (shell /bin/sh -c) (run (shell true)))")[0].id == layer.id


def test_a_failure(place: House) -> None:
    with pytest.raises(StepFailed) as error:
        place.build(stage(sh("echo before > /before"), sh("echo oh no; echo left > /left; exit 3")))
    assert error.value.status == 3
    done = place.run("shell", "--failed", "--", "/bin/cat", "/before", "/left")
    assert (done.returncode, done.stdout) == (0, "before\nleft\n")


def test_a_cancel(place: House, gate: Gate) -> None:
    party = Party(place, stage(gate.run("sleep 987701 &")))
    gate.wait()
    party.cancel.set()
    party.end()
    assert isinstance(party.error, Cancelled)
    assert alive("987701") == []


def test_a_signal(place: House, gate: Gate) -> None:
    process = place.start(stage(gate.run("sleep 987702 &")))
    gate.wait()
    assert stop(process)[0] == 130
    assert alive("987702") == []
    assert place.residue() == []


def test_kill_9(place: House, gate: Gate) -> None:
    text = stage(gate.run("sleep 987703 &"))
    process = place.start(text)
    gate.wait()
    process.kill()
    process.communicate()
    assert soon(lambda: not alive("987703"))
    party = Party(place, text)
    gate.wait()
    gate.open()
    assert party.result()


def test_two_processes_share_a_step(place: House, gate: Gate) -> None:
    text = stage(gate.run("echo A", "echo B"))
    processes = [place.start(text) for _ in range(2)]
    gate.wait()
    gate.open()
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, b"")
        assert b"\nA\nB\n---> " in out
    assert gate.nobody()


def test_memory_processes_and_networks(place: House) -> None:
    done = place.run(
        "build", "--memory", "16M", "-f", place.file(stage(sh("dd if=/dev/zero of=/dev/null bs=64M count=1")))
    )
    assert "out of memory: the step used more than 16 MiB" in done.stderr
    listen = '(run (network lab) (shell "nc -l -p 7000 -e /bin/cat"))'
    ask = '(run (network lab) (shell "until echo ping | nc server 7000; do sleep 0.05; done"))'
    _, log = place.build(stage(builds=f"(build server {stage(listen)}) (build client {stage(ask)})"), jobs=2)
    assert "\nping\n" in log.text
