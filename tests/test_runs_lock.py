"""Locks that people can see: names, who holds what, what is stale."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from obuild.errors import UsageError
from obuild.kernel import boot_id
from obuild.runs.lock import Claim, clean_stale, hold, list_locks, lock_name, parse_lock_name

UNIVERSE = "0123456789abcdef" * 2
DUNE = Claim("build", "dune", "3.17.2", UNIVERSE, layer="5be1", log="/tmp/x.log")

CHILD = """
import sys, time
from obuild.runs.lock import Claim, hold
held = hold(sys.argv[1], Claim("build", "dune", "3.17.2"))
print("held", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("claim", "name"),
    [
        (Claim("build", "dune", "3.17.2"), "build-dune.3.17.2.lock"),
        (Claim("build", "0install", "2.18"), "build-0install.2.18.lock"),
        (Claim("doc", "ocaml-lsp-server", "1.2-3", UNIVERSE), f"doc-ocaml-lsp-server.1.2-3-{UNIVERSE}.lock"),
        (Claim("tool", "odoc", "5.3.0"), "tool-odoc-5.3.0.lock"),
        (Claim("tool", "opam-build"), "tool-opam-build.lock"),
    ],
)
def test_names(claim: Claim, name: str) -> None:
    assert lock_name(claim) == name
    assert parse_lock_name(name) == claim


@pytest.mark.parametrize("name", ["", "x.lock", "build-.lock", "test-a.1.lock", "build-a.1", "build.lock"])
def test_other_files_are_no_locks(name: str) -> None:
    assert parse_lock_name(name) is None


def test_claims_that_can_have_no_file(tmp_path: Path) -> None:
    for claim in (Claim("sleep", "a", "1"), Claim("build", "../a", "1"), Claim("build", "a" * 300, "1")):
        with pytest.raises(UsageError):
            hold(str(tmp_path), claim)


def test_a_held_lock_is_listed_with_its_claim(tmp_path: Path) -> None:
    root = str(tmp_path)
    assert list_locks(root) == []
    held = hold(root, DUNE)
    assert held
    with held:
        (found,) = list_locks(root)
        assert (found.claim, found.pid, found.active, found.dead) == (DUNE, os.getpid(), True, False)
        assert found.boot_id == boot_id()
        for _ in range(3):  # looking does not break it, not even in the owner's own process
            assert list_locks(root) == [found]
        assert hold(root, DUNE, wait=False) is None
    assert list_locks(root, active=False) == []
    assert os.listdir(tmp_path / "locks") == []
    again = hold(root, DUNE, wait=False)
    assert again
    again.release()
    again.release()


def test_threads_exclude_each_other(tmp_path: Path) -> None:
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(50):
            held = hold(str(tmp_path), DUNE)
            assert held
            with held:
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        list_locks(str(tmp_path))
        clean_stale(str(tmp_path), max_age=0)
    for thread in threads:
        thread.join()
    assert (inside, most) == (0, 1)


def test_a_killed_owner_frees_its_lock_and_leaves_a_stale_file(tmp_path: Path) -> None:
    root = str(tmp_path)
    child = subprocess.Popen([sys.executable, "-c", CHILD, root], stdout=subprocess.PIPE, text=True)
    assert child.stdout
    assert child.stdout.readline() == "held\n"
    assert hold(root, Claim("build", "dune", "3.17.2"), wait=False) is None
    assert [found.pid for found in list_locks(root)] == [child.pid]
    assert clean_stale(root, max_age=0) == [], "a lock that is held is never removed"
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert list_locks(root) == []
    (left,) = list_locks(root, active=False)
    assert (left.active, left.dead) == (False, True)
    assert clean_stale(root) == [left.path]
    assert os.listdir(tmp_path / "locks") == []


def stale(tmp_path: Path, name: str = "build-a.1.lock", **facts: object) -> Path:
    path = tmp_path / "locks" / name
    path.parent.mkdir(exist_ok=True)
    whole = {"pid": os.getpid(), "host": os.uname().nodename, "start": "2026-01-01T00:00:00.000Z", "boot_id": boot_id()}
    path.write_text(json.dumps({**whole, **facts}))
    return path


def test_stale_is_not_held_and_old_or_dead(tmp_path: Path) -> None:
    path = stale(tmp_path, start="2999-01-01T00:00:00.000Z")
    assert clean_stale(str(tmp_path)) == [], "its owner lives"
    assert clean_stale(str(tmp_path), now=40_000_000_000) == [str(path)]
    stale(tmp_path, boot_id="another", start="2999-01-01T00:00:00.000Z")
    assert len(clean_stale(str(tmp_path))) == 1, "that was before the machine was started"
    stale(tmp_path, pid=2**22 + 5, start="2999-01-01T00:00:00.000Z")
    assert len(clean_stale(str(tmp_path))) == 1, "there is no such process"
    stale(tmp_path, pid=2**22 + 5, host="elsewhere", start="2999-01-01T00:00:00.000Z")
    assert clean_stale(str(tmp_path)) == [], "nobody here knows the processes of another machine"


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\0\0", b"\xff", b'{"pid": "x", "start": "x", "package": 7}'])
def test_unreadable_files_still_count(tmp_path: Path, text: bytes) -> None:
    path = stale(tmp_path, "doc-b.2.lock")
    path.write_bytes(text)
    (found,) = list_locks(str(tmp_path), active=False)
    assert (found.claim, found.pid, found.dead) == (Claim("doc", "b", "2"), 0, False)
    assert clean_stale(str(tmp_path)) == [], "it is young"
    os.utime(path, (0, 0))
    assert clean_stale(str(tmp_path)) == [str(path)]


def test_only_locks_are_removed(tmp_path: Path) -> None:
    stale(tmp_path, "notes.txt")
    stale(tmp_path, "something.lock")
    (tmp_path / "locks" / "build-c.1.lock").mkdir()
    (tmp_path / "locks" / "build-d.1.lock").symlink_to("notes.txt")
    assert clean_stale(str(tmp_path), max_age=0) == []
    assert len(os.listdir(tmp_path / "locks")) == 4
