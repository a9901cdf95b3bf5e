"""System calls, on the real kernel."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from obuild import kernel


@pytest.fixture
def folders(tmp_path: Path, can_mount: None) -> Path:
    """A directory with lower directories, an upper, a work and a root, in the tests' own mount namespace."""
    kernel.private_mounts()
    for name in ("low1", "low2", "upper", "work", "root", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "low1/x").write_text("1")
    (tmp_path / "low2/x").write_text("2")
    (tmp_path / "low2/y").write_text("2")
    return tmp_path


def test_mounts_are_seen_by_nobody_else(folders: Path) -> None:
    kernel.mount_overlay(
        f"{folders}/root", [f"{folders}/low1", f"{folders}/low2"], f"{folders}/upper", f"{folders}/work"
    )
    assert sorted(os.listdir(folders / "root")) == ["x", "y"]
    assert (folders / "root/x").read_text() == "1"
    assert f" {folders}/root " not in Path("/proc/1/mounts").read_text()
    (folders / "root/y").write_text("new")
    kernel.unmount(f"{folders}/root")
    assert os.listdir(folders / "root") == []
    assert (folders / "upper/y").read_text() == "new"


def test_threads_join_and_keep_their_working_directory(folders: Path) -> None:
    kernel.bind(f"{folders}/low1", f"{folders}/root")
    seen = []

    def look() -> None:
        kernel.private_mounts()
        seen.append((os.getcwd(), os.listdir(folders / "root")))

    code = (
        "import os, sys, threading\n"
        "from obuild import kernel\n"
        "found, go = [], threading.Event()\n"
        "def early(): go.wait(); kernel.private_mounts(); found.append((os.getcwd(), os.listdir(sys.argv[2])))\n"
        "thread = threading.Thread(target=early); thread.start()\n"
        "kernel.private_mounts(); kernel.bind(sys.argv[1], sys.argv[2]); go.set(); thread.join(); print(*found)\n"
    )
    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    kernel.unmount(f"{folders}/root")
    assert seen == [(os.getcwd(), ["x"])]
    argv = [sys.executable, "-c", code, folders / "low2", folders / "other"]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert done.stdout.strip() in (str((os.getcwd(), names)) for names in (["x", "y"], ["y", "x"]))
    assert os.listdir(folders / "other") == []


@pytest.mark.parametrize("classic", [False, True])
def test_many_layers_with_long_names(folders: Path, classic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if classic:  # as a kernel before 6.8 would have it
        monkeypatch.setitem(kernel._known, "classic", True)
    deep = folders / ("d" * 200) / ("e" * 200)
    lowers = [deep / f"{number},:\\" for number in range(150)]
    for number, lower in enumerate(lowers):
        lower.mkdir(parents=True)
        (lower / f"f{number}").touch()
    upper, work = deep / "upper", deep / "work"
    upper.mkdir()
    work.mkdir()
    kernel.mount_overlay(f"{folders}/root", [str(lower) for lower in lowers], str(upper), str(work))
    assert len(os.listdir(folders / "root")) == 150
    kernel.unmount(f"{folders}/root")


def test_a_mount_that_fails_says_why(folders: Path) -> None:
    with pytest.raises(FileNotFoundError):
        kernel.mount_overlay(f"{folders}/root", [f"{folders}/none"], f"{folders}/upper", f"{folders}/work")
    with pytest.raises(OSError, match="root") as error:
        kernel.unmount(f"{folders}/root")
    assert error.value.errno == errno.EINVAL


def test_a_read_only_bind(folders: Path) -> None:
    kernel.bind(f"{folders}/low1", f"{folders}/root", read_only=True)
    with pytest.raises(OSError, match="Read-only") as error:
        (folders / "root/new").touch()
    assert error.value.errno == errno.EROFS
    kernel.unmount(f"{folders}/root")
    (folders / "low1/new").touch()


def test_detaching_what_is_in_use(folders: Path) -> None:
    kernel.bind(f"{folders}/low1", f"{folders}/root")
    with open(folders / "root/x") as file:
        with pytest.raises(OSError, match="busy"):
            kernel.unmount(f"{folders}/root")
        kernel.unmount(f"{folders}/root", detach=True)
        assert os.listdir(folders / "root") == []
        assert file.read() == "1"


@pytest.mark.parametrize(
    "path", ["/etc/x", "etc/x", "up/x", "../../etc/x", "abs/x", "/abs/../abs/x", "etc/../../etc/x"]
)
def test_no_path_leads_out_of_a_root(tmp_path: Path, path: str) -> None:
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    for folder, content in (("root/etc", "inside"), ("etc", "outside")):
        (tmp_path / folder / "x").write_text(content)
    (tmp_path / "root/up").symlink_to("../../etc")
    (tmp_path / "root/abs").symlink_to("/etc")
    root = os.open(tmp_path / "root", os.O_RDONLY)
    fd = kernel.open_in_root(root, path, os.O_RDONLY)
    assert os.read(fd, 100) == b"inside"
    os.close(fd)
    with pytest.raises(FileNotFoundError):
        kernel.open_in_root(root, "etc/none", os.O_RDONLY)
    os.close(root)


def test_names_change_places(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").write_text("file")
    kernel.exchange(f"{tmp_path}/a", f"{tmp_path}/b")
    assert (tmp_path / "a").read_text() == "file"
    assert (tmp_path / "b").is_dir()
    with pytest.raises(FileNotFoundError):
        kernel.exchange(f"{tmp_path}/a", f"{tmp_path}/none")


def test_sharing_blocks(file_system: Callable[[str], Path]) -> None:
    for name, shared in (("xfs", True), ("btrfs", True), ("ext4", False)):
        folder = file_system(name)
        (folder / "source").write_bytes(b"x" * 10000)
        with open(folder / "source", "rb") as source, open(folder / "target", "wb") as target:
            assert kernel.reflink(source.fileno(), target.fileno()) is shared
        assert (folder / "target").stat().st_size == (10000 if shared else 0)


def test_subvolumes(file_system: Callable[[str], Path]) -> None:
    folder = file_system("btrfs")
    assert kernel.is_btrfs(str(folder))
    assert not kernel.is_btrfs("/proc")
    one, two = f"{folder}/one", f"{folder}/two"
    kernel.btrfs_create(one)
    Path(one, "x").write_bytes(os.urandom(200_000))
    Path(one, "small").write_text("inline")
    kernel.btrfs_snapshot(one, two)
    Path(two, "y").write_bytes(os.urandom(1_000_000))
    os.sync()
    assert 200_000 <= kernel.btrfs_added(one) <= 210_000
    assert 1_000_000 <= kernel.btrfs_added(two) <= 1_010_000
    for number in range(300):
        Path(two, f"f{number}").write_bytes(os.urandom(8192))
    os.sync()
    assert kernel.btrfs_added(two) >= 1_000_000 + 300 * 8192, "more than one answer of the kernel holds"
    kernel.btrfs_delete(one)
    assert sorted(os.listdir(two))[:2] == ["f0", "f1"]
    with pytest.raises(FileNotFoundError):
        kernel.btrfs_delete(one)
    kernel.btrfs_delete(two)


def test_a_handle_opens_the_file_of_an_index_entry(folders: Path) -> None:
    os.link(folders / "low1/x", folders / "low1/z")
    kernel.mount_overlay(f"{folders}/root", [f"{folders}/low1"], f"{folders}/upper", f"{folders}/work")
    (folders / "root/x").write_text("changed")
    (name,) = os.listdir(folders / "work/index")
    handle = bytes.fromhex(name)
    place = os.open(folders, os.O_RDONLY)
    fd = kernel.open_handle(place, handle[4], handle[21:])
    assert os.fstat(fd).st_ino == (folders / "low1/x").stat().st_ino
    os.close(fd)
    os.close(place)
    kernel.unmount(f"{folders}/root")


def test_the_boot_has_a_name() -> None:
    assert len(kernel.boot_id()) == 36
    assert kernel.boot_id() == kernel.boot_id()
    kernel.sync("/tmp")
