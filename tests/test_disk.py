"""Files and trees on the host, hostile ones too."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import soon
from stores import describe

from obuild import disk, kernel
from obuild.disk import Lock


def deep(root: Path, depth: int, name: str = "d" * 100) -> None:
    """A chain of directories, with a file at its end."""
    here = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        there = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = there
    os.close(os.open("end", os.O_WRONLY | os.O_CREAT, dir_fd=here))
    os.close(here)


def test_writing_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    disk.write_atomic(str(path), b"one")
    disk.write_atomic(str(path), b"two" * 100_000, mode=0o600, durable=True)
    assert path.read_bytes() == b"two" * 100_000
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        disk.write_atomic(str(tmp_path / "folder"), b"x")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_readers_see_the_old_or_the_new(tmp_path: Path) -> None:
    path, over = tmp_path / "file", threading.Event()
    contents = [bytes([number]) * 5000 for number in range(4)]
    disk.write_atomic(str(path), contents[0])

    def write() -> None:
        while not over.is_set():
            for content in contents:
                disk.write_atomic(str(path), content)

    thread = threading.Thread(target=write)
    thread.start()
    seen = {path.read_bytes() for _ in range(500)}
    over.set()
    thread.join()
    assert seen <= set(contents)


def test_removing_follows_no_symlink(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/data").touch()
    (tmp_path / "tree/in").mkdir(parents=True)
    (tmp_path / "tree/in/link").symlink_to(tmp_path / "precious")
    (tmp_path / "tree/loop").symlink_to("..")
    (tmp_path / "top").symlink_to(tmp_path / "precious")
    disk.remove_tree(str(tmp_path / "tree"))
    disk.remove_tree(str(tmp_path / "top"))
    disk.remove_tree(str(tmp_path / "missing/too"))
    assert os.listdir(tmp_path) == ["precious"]
    assert os.listdir(tmp_path / "precious") == ["data"]


def test_removing_what_is_very_deep_or_wide(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    deep(tmp_path / "tree", 3000)
    for number in range(2000):
        (tmp_path / f"tree/{number}").touch()
    disk.remove_tree(str(tmp_path / "tree"))
    assert os.listdir(tmp_path) == []


def test_two_may_remove_the_same(tmp_path: Path) -> None:
    for turn in range(20):
        for number in range(40):
            (tmp_path / f"tree/{number}/in").mkdir(parents=True)
            (tmp_path / f"tree/{number}/file").touch()
        threads = [threading.Thread(target=disk.remove_tree, args=(f"{tmp_path}/tree/{part}",)) for part in range(10)]
        for thread in threads:
            thread.start()
        disk.remove_tree(f"{tmp_path}/tree")
        for thread in threads:
            thread.join()
        assert os.listdir(tmp_path) == [], turn


def test_removing_what_may_not_be_read(tmp_path: Path, can_own: None) -> None:
    # As a user without rights, for whom a mode of 000 is an obstacle.
    os.chmod(tmp_path, 0o777)
    code = (
        "import os, sys; from obuild import disk, kernel\n"
        "kernel._libc(); os.setuid(65534)\n"  # who has no rights may not read the modules either
        "for path in ('t', 't/a', 't/a/b'): os.mkdir(sys.argv[1] + '/' + path)\n"
        "open(sys.argv[1] + '/t/a/b/file', 'w').close()\n"
        "for path in ('t/a/b', 't/a', 't'): os.chmod(sys.argv[1] + '/' + path, 0)\n"
        "disk.remove_tree(sys.argv[1] + '/t')\n"
    )
    folder = Path("/tmp") / f"obuild-test-{os.urandom(4).hex()}"  # the directories of pytest are closed to others
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    try:
        subprocess.run([sys.executable, "-c", code, folder], check=True, cwd=Path(__file__).parent.parent)
        assert os.listdir(folder) == []
    finally:
        disk.remove_tree(str(folder))


def test_removing_stops_at_a_mount(tmp_path: Path, can_mount: None) -> None:
    kernel.private_mounts()
    (tmp_path / "precious/in").mkdir(parents=True)
    (tmp_path / "tree/mount").mkdir(parents=True)
    kernel.bind(f"{tmp_path}/precious", f"{tmp_path}/tree/mount")
    for path in ("tree", "tree/mount"):
        with pytest.raises(OSError, match="something is mounted there"):
            disk.remove_tree(f"{tmp_path}/{path}")
    kernel.unmount(f"{tmp_path}/tree/mount")
    assert (tmp_path / "precious/in").exists()
    disk.remove_tree(f"{tmp_path}/tree")
    assert os.listdir(tmp_path) == ["precious"]


def test_removing_subvolumes(file_system: object) -> None:
    folder = file_system("btrfs")  # type: ignore[operator]
    (folder / "tree/in").mkdir(parents=True)
    kernel.btrfs_create(f"{folder}/tree/in/one")
    kernel.btrfs_create(f"{folder}/tree/in/one/two")
    (folder / "tree/in/one/x").touch()
    disk.remove_tree(f"{folder}/tree")
    assert not (folder / "tree").exists()


def test_locks_exclude_each_other(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    with pytest.raises(FileNotFoundError):
        Lock.take(path)
    with Lock.make(path):
        assert Lock.attempt(path) is None
        assert Lock.attempt(path, shared=True) is None
    with Lock.take(path, shared=True):
        with Lock.take(path, shared=True):
            assert Lock.attempt(path) is None
        shared = Lock.attempt(path, shared=True)
        assert shared is not None
        shared.release()
        shared.release()
    assert Lock.attempt(str(tmp_path)) is not None, "directories too"


def test_a_lock_on_what_was_replaced_locks_nothing(tmp_path: Path) -> None:
    path, found = tmp_path / "lock", list[object]()

    def wait() -> None:
        try:
            found.append(Lock.take(str(path)))
        except FileNotFoundError:
            found.append("gone")

    with Lock.make(str(path)):
        thread = threading.Thread(target=wait)
        thread.start()
        waits = re.compile(rf"-> FLOCK .*:{path.stat().st_ino} ")
        assert soon(lambda: waits.search(Path("/proc/locks").read_text()) is not None)
        path.unlink()
        path.touch()
    thread.join(10)
    assert found == ["gone"]


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    code = "import sys; from obuild.disk import Lock\nl = Lock.make(sys.argv[1]); print('x', flush=True); input()"
    argv = [sys.executable, "-c", code, path]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stdin=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.read(1) == b"x"
        assert Lock.attempt(path) is None
        other.kill()
    assert Lock.attempt(path) is not None


def populate(root: Path) -> None:
    (root / "d/e").mkdir(parents=True)
    (root / "d/file").write_bytes(os.urandom(300_000))
    (root / "small").write_text("x")
    (root / "empty").touch()
    os.link(root / "small", root / "d/e/linked")
    (root / "link").symlink_to("d/none")
    os.link(root / "link", root / "link2", follow_symlinks=False)
    os.mkfifo(root / "pipe")
    os.setxattr(root / "small", "user.a", b"\0b")
    os.chmod(root / "d", 0o2750)
    os.chmod(root / "d/file", 0o4711)
    for number, path in enumerate(root.rglob("*")):
        os.utime(path, ns=(number, 10**18 + number), follow_symlinks=False)
    os.utime(root, ns=(5, 5))


def test_a_copy_has_all_of_it(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    populate(tmp_path / "a")
    disk.copy_tree(f"{tmp_path}/a", f"{tmp_path}/b")
    assert describe(tmp_path / "b") == describe(tmp_path / "a")
    for path in ("", "d", "d/e"):
        assert (tmp_path / "b" / path).stat().st_mtime_ns == (tmp_path / "a" / path).stat().st_mtime_ns
    assert (tmp_path / "a/d/e/linked").stat().st_ino != (tmp_path / "b/d/e/linked").stat().st_ino


def test_devices_and_owners_are_copied(tmp_path: Path, can_own: None) -> None:
    (tmp_path / "a").mkdir()
    populate(tmp_path / "a")
    os.mknod(tmp_path / "a/full", stat.S_IFCHR | 0o666, os.makedev(1, 7))
    for number, path in enumerate((tmp_path / "a").rglob("*")):
        os.chown(path, 1000 + number, 2000 + number, follow_symlinks=False)
    os.chmod(tmp_path / "a/d/file", 0o6755)
    os.setxattr(tmp_path / "a/link", "trusted.x", b"1", follow_symlinks=False)
    disk.copy_tree(f"{tmp_path}/a", f"{tmp_path}/b")
    found = describe(tmp_path / "b")
    assert found == describe(tmp_path / "a")
    assert str(found["d/file"][0]) == "-rwsr-sr-x"
    assert os.lstat(tmp_path / "b/full").st_rdev == os.makedev(1, 7)


def test_a_copy_keeps_holes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with open(tmp_path / "a/sparse", "wb") as file:
        for place in (0, 5 << 20, 40 << 20):
            file.seek(place)
            file.write(b"data" * 5000)
        file.truncate(100 << 20)
    with open(tmp_path / "a/hole", "wb") as file:
        file.truncate(10 << 20)
    disk.copy_tree(f"{tmp_path}/a", f"{tmp_path}/b")
    assert describe(tmp_path / "b") == describe(tmp_path / "a")
    assert (tmp_path / "b/sparse").stat().st_blocks * 512 < 1 << 20
    assert (tmp_path / "b/hole").stat().st_blocks == 0


def test_copying_over_what_is_there(tmp_path: Path) -> None:
    populate_me, target = tmp_path / "a", tmp_path / "b"
    populate_me.mkdir()
    populate(populate_me)
    (target / "d").mkdir(parents=True)
    (target / "d/stays").touch()
    (target / "d/file").symlink_to("/etc/passwd")
    (target / "small").mkdir()
    (target / "small/in").touch()
    (target / "link").write_text("a file")
    passwd = Path("/etc/passwd").read_bytes()
    disk.copy_tree(str(populate_me), str(target))
    found = describe(target)
    assert found.keys() - describe(populate_me).keys() == {"d/stays"}
    assert all(found[name] == what for name, what in describe(populate_me).items())
    assert Path("/etc/passwd").read_bytes() == passwd


def test_copying_what_is_very_deep(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    deep(tmp_path / "a", 2000)
    disk.copy_tree(f"{tmp_path}/a", f"{tmp_path}/b")
    assert disk.measure(f"{tmp_path}/b").entries == 2001
    disk.remove_tree(f"{tmp_path}/a")
    disk.remove_tree(f"{tmp_path}/b")


def test_who_copies_is_told(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    populate(tmp_path / "a")
    told = []
    disk.copy_tree(f"{tmp_path}/a", f"{tmp_path}/b", copied=lambda _, name, path, __: told.append((name, path)))
    assert len(told) == 3
    assert ("file", "d/file") in told
    assert ("empty", "empty") in told
    assert {path for _, path in told} & {"small", "d/e/linked"}


def test_measuring_counts_a_file_once(tmp_path: Path) -> None:
    populate(tmp_path)
    size = disk.measure(str(tmp_path))
    assert size.entries == 9
    assert size.length == 300_001
    assert size.blocks >= 300_000
