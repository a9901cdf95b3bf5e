"""Exchanging directories: readers, writers, exceptions, kills, file systems without the call."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from obuild import kernel
from obuild.errors import UsageError
from obuild.runs.swap import Swap, clean, point, recover


def fill(folder: str | Path, text: str) -> None:
    for name in ("a", "b"):
        Path(folder, name).write_text(text)


def content(target: Path) -> set[str]:
    return {path.read_text() for path in target.iterdir()}


@pytest.fixture(params=["exchange", "two renames"])
def target(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if request.param != "exchange":

        def refuse(*_: str) -> None:  # as NFS does
            raise OSError(errno.EINVAL, "no such flag")

        monkeypatch.setattr(kernel, "exchange", refuse)
    return tmp_path / "html"


def test_a_new_and_then_another_tree(target: Path) -> None:
    for text in ("one", "two"):
        with Swap(str(target)) as staging:
            assert os.path.dirname(staging) == str(target.parent)
            fill(staging, text)
        assert content(target) == {text}
    assert os.listdir(target.parent) == ["html"]


def test_an_exception_changes_nothing(target: Path) -> None:
    with Swap(str(target)) as staging:
        fill(staging, "one")

    def fail() -> None:
        with Swap(str(target)) as staging:
            fill(staging, "two")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert content(target) == {"one"}
    assert os.listdir(target.parent) == ["html"]


def test_step_by_step(target: Path) -> None:
    swap = Swap(str(target))
    assert swap.commit() is False
    swap.rollback()
    first = swap.prepare()
    fill(first, "one")
    second = swap.prepare()
    assert (os.path.exists(first), os.listdir(second)) == (False, [])
    fill(second, "two")
    assert swap.commit() is True
    assert swap.commit() is False
    assert content(target) == {"two"}


def test_a_symlink_is_refused(tmp_path: Path) -> None:
    (tmp_path / "html").symlink_to("epoch-1")
    with pytest.raises(UsageError, match="is a symlink"):
        Swap(str(tmp_path / "html"))


def test_a_reader_never_misses_the_target(tmp_path: Path) -> None:
    target = tmp_path / "html"
    with Swap(str(target)) as staging:
        fill(staging, "0")
    done = threading.Event()
    missed: list[str] = []

    def read() -> None:
        while not done.is_set():
            if not target.is_dir():
                missed.append("gone")

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(200):
        with Swap(str(target)) as staging:
            fill(staging, str(number))
    done.set()
    reader.join()
    assert missed == []


def test_writers_at_the_same_time(tmp_path: Path) -> None:
    target = tmp_path / "html"

    def work(name: str) -> None:
        for number in range(20):
            with Swap(str(target)) as staging:
                fill(staging, f"{name}{number}")

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for _ in range(50):
        clean(str(tmp_path))
    for thread in threads:
        thread.join()
    assert len(content(target)) == 1
    assert os.listdir(tmp_path) == ["html"]


CHILD = """
import sys
from obuild.runs.swap import Swap
if sys.argv[2] == "two":
    from obuild import kernel
    def refuse(*_): raise OSError(22, "no")
    kernel.exchange = refuse
print("go", flush=True)
for number in range(10**9):
    with Swap(sys.argv[1]) as staging:
        for name in "ab":
            open(f"{staging}/{name}", "w").write(str(number))
"""


@pytest.mark.parametrize("way", ["one", "two"])
def test_a_kill_at_any_moment_leaves_a_whole_tree(tmp_path: Path, way: str) -> None:
    target = tmp_path / "html"
    with Swap(str(target)) as staging:
        fill(staging, "first")
    for _ in range(12):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(target), way], stdout=subprocess.PIPE, text=True)
        assert child.stdout
        child.stdout.readline()
        time.sleep(random.uniform(0.001, 0.05))
        child.send_signal(signal.SIGKILL)
        child.wait()
        clean(str(tmp_path))
        assert os.listdir(tmp_path) == ["html"]
        assert len(content(target)) == 1


def test_an_old_tree_comes_back_when_there_is_no_other(tmp_path: Path) -> None:
    old = tmp_path / ".html.old.123.0a1b2c3d"
    old.mkdir()
    fill(old, "old")
    assert recover(str(tmp_path / "html")) is True
    assert recover(str(tmp_path / "html")) is False
    assert content(tmp_path / "html") == {"old"}


def test_only_leftovers_of_the_dead_are_removed(tmp_path: Path) -> None:
    for name in ("html.new", "html.old", ".html.new.5.zz", ".html.new", "mine.old", ".html.new.77.0a1b2c3d"):
        (tmp_path / name).mkdir()
    (tmp_path / ".link.new.4194309.0a1b2c3d").symlink_to("nowhere")
    (tmp_path / f".link.new.{os.getpid()}.0a1b2c3d").symlink_to("nowhere")
    swap = Swap(str(tmp_path / "html"))
    staging = swap.prepare()
    assert clean(str(tmp_path)) == [".html.new.77.0a1b2c3d", ".link.new.4194309.0a1b2c3d"]
    assert os.path.isdir(staging)
    assert len(os.listdir(tmp_path)) == 7
    assert clean(str(tmp_path / "none")) == []


def test_a_file_in_the_place_of_the_target(tmp_path: Path) -> None:
    (tmp_path / "html").write_text("a file")
    with Swap(str(tmp_path / "html")) as staging:
        fill(staging, "new")
    assert content(tmp_path / "html") == {"new"}


def test_pointing_a_link_elsewhere(tmp_path: Path) -> None:
    link = tmp_path / "latest"
    for number in range(3):
        point(str(link), f"runs/{number}")
        assert os.readlink(link) == f"runs/{number}"
    assert os.listdir(tmp_path) == ["latest"]
    (tmp_path / "place").mkdir()
    with pytest.raises(OSError, match="directory"):
        point(str(tmp_path / "place"), "x")
    assert sorted(os.listdir(tmp_path)) == ["latest", "place"]
