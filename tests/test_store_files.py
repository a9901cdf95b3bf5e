"""What programs may expect of a file system holds across steps, on every kind of store."""

from __future__ import annotations

import os
import random
import shutil
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from stores import add, describe, whole

from obuild.store import Store, chain

Change = Callable[[Path], object]


def after(store: Store, *steps: Change) -> dict[str, tuple[object, ...]]:
    """The tree after one step for each change, compared with the same changes made in one directory."""
    parent = None
    plain = Path(store.path).parent / "plain"
    plain.mkdir()
    for number, step in enumerate(steps):
        add(store, f"step{number}", parent, step)
        parent = f"step{number}"
        step(plain)
        assert whole(store, parent) == describe(plain), parent
    assert parent is not None
    return whole(store, parent)


def put(path: Path, content: str = "", time: int = 10**18 + 1) -> None:
    path.write_text(content)
    os.utime(path, ns=(time, time))


def kinds(found: dict[str, tuple[object, ...]]) -> dict[str, object]:
    return {name: what[0] for name, what in found.items()}


def test_a_directory_of_an_earlier_step_is_renamed(store: Store) -> None:
    def make(root: Path) -> None:
        (root / "a/b").mkdir(parents=True)
        put(root / "a/b/x", "1")

    found = after(store, make, lambda root: os.rename(root / "a", root / "c"), lambda root: put(root / "c/b/y"))
    assert list(found) == ["c", "c/b", "c/b/x", "c/b/y"]


def test_a_directory_is_renamed_twice_and_into_another(store: Store) -> None:
    def make(root: Path) -> None:
        for name in ("a", "b", "a/in"):
            (root / name).mkdir()
        put(root / "a/in/x", "1")

    after(
        store,
        make,
        lambda root: os.rename(root / "a", root / "c"),
        lambda root: os.rename(root / "c/in", root / "b/out"),
        lambda root: (root / "a").mkdir(),
        lambda root: os.rename(root / "b", root / "a/b"),
        lambda root: put(root / "a/b/out/y"),
    )


def test_two_directories_change_places(store: Store) -> None:
    def make(root: Path) -> None:
        for name in "ab":
            (root / name).mkdir()
            put(root / name / name, name)

    def swap(root: Path) -> None:
        os.rename(root / "a", root / "t")
        os.rename(root / "b", root / "a")
        os.rename(root / "t", root / "b")

    assert list(after(store, make, swap, swap, swap)) == ["a", "a/b", "b", "b/a"]


def test_a_hard_link_is_one_file_in_this_step_and_the_next(store: Store) -> None:
    def make(root: Path) -> None:
        (root / "d").mkdir()
        put(root / "a", "old")
        os.link(root / "a", root / "b")
        os.link(root / "a", root / "d/c")

    def write(root: Path) -> None:
        put(root / "a", "new")
        assert (root / "b").read_text() == (root / "d/c").read_text() == "new"

    found = after(store, make, write, lambda root: put(root / "d/c", "newer"), lambda root: put(root / "other"))
    assert found["b"] == found["a"] == found["d/c"]
    assert found["a"][-1] == ("a", "b", "d/c")


def test_a_hard_link_outlives_the_name_that_was_written(store: Store) -> None:
    def make(root: Path) -> None:
        put(root / "a", "old")
        os.link(root / "a", root / "b")

    def write(root: Path) -> None:
        put(root / "a", "new")
        (root / "a").unlink()

    def rewrite(root: Path) -> None:
        put(root / "b", "again")
        os.rename(root / "b", root / "c")

    after(store, make, write, rewrite, lambda root: os.link(root / "c", root / "d"), lambda root: put(root / "d", "x"))


def test_hard_links_to_symlinks_and_devices(store: Store) -> None:
    def make(root: Path) -> None:
        os.symlink("x", root / "l1")
        os.link(root / "l1", root / "l2", follow_symlinks=False)
        os.mkfifo(root / "p1")
        os.link(root / "p1", root / "p2")
        for name in ("l1", "p1"):
            os.utime(root / name, ns=(5, 5), follow_symlinks=False)

    def touch(root: Path) -> None:
        os.utime(root / "l1", ns=(7, 7), follow_symlinks=False)
        os.chmod(root / "p2", 0o600)
        os.utime(root / "p2", ns=(8, 8))

    after(store, make, touch, lambda root: put(root / "x"))


def test_times_in_nanoseconds(store: Store) -> None:
    after(store, lambda root: put(root / "a", "x", 1234567890123456789), lambda root: put(root / "b"))


def test_modes_owners_and_setuid(store: Store) -> None:
    def make(root: Path) -> None:
        for number, mode in enumerate((0o4755, 0o2755, 0o1777, 0o000, 0o444)):
            put(root / str(number), "x")
            os.chown(root / str(number), 1000 + number, 2000)
            os.chmod(root / str(number), mode)
        (root / "d").mkdir()
        os.chown(root / "d", 7, 8)
        os.chmod(root / "d", 0o2770)

    def own(root: Path) -> None:
        os.chown(root / "1", 3, 4)
        os.chmod(root / "1", 0o2711)

    found = kinds(after(store, make, own, lambda root: put(root / "d/new")))
    assert (found["0"], found["1"]) == ("-rwsr-xr-x", "-rwx--s--x")


def test_extended_attributes_and_capabilities(store: Store) -> None:
    capability = bytes.fromhex("0100000200200000000000000000000000000000")  # cap_net_raw, as on ping

    def make(root: Path) -> None:
        put(root / "ping")
        (root / "d").mkdir()
        os.setxattr(root / "ping", "security.capability", capability)
        os.setxattr(root / "ping", "user.a", b"1")
        os.setxattr(root / "d", "user.b", b"2")
        os.setxattr(root / "d", "trusted.c", b"3")

    def change(root: Path) -> None:
        os.setxattr(root / "ping", "user.a", b"4")
        os.removexattr(root / "d", "user.b")
        os.symlink("ping", root / "l")
        os.setxattr(root / "l", "trusted.l", b"5", follow_symlinks=False)
        os.utime(root / "l", ns=(1, 1), follow_symlinks=False)

    found = after(store, make, change, lambda root: put(root / "d/x"))
    assert found["ping"][5] == (("security.capability", capability), ("user.a", b"4"))
    assert found["d"][5] == (("trusted.c", b"3"),)


def test_holes(store: Store) -> None:
    def make(root: Path) -> None:
        with open(root / "sparse", "wb") as file:
            file.seek(8 << 20)
            file.write(b"end")
            file.truncate(64 << 20)
        os.utime(root / "sparse", ns=(1, 1))

    after(store, make, lambda root: put(root / "x"), lambda root: os.chmod(root / "sparse", 0o600))
    layer = store.get("step2")
    assert layer is not None
    with store.view(layer) as root:
        info = os.stat(f"{root}/sparse")
    assert info.st_size == 64 << 20
    assert info.st_blocks * 512 < 4 << 20


def test_pipes_sockets_and_devices(store: Store) -> None:
    def make(root: Path) -> None:
        os.mkfifo(root / "pipe")
        os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(root / "full", stat.S_IFCHR | 0o666, os.makedev(1, 7))
        os.mknod(root / "disk", stat.S_IFBLK | 0o660, os.makedev(7, 0))
        with socket.socket(socket.AF_UNIX) as listener:
            here = os.getcwd()
            os.chdir(root)
            listener.bind("socket")
            os.chdir(here)
        for name in ("pipe", "null", "full", "disk", "socket"):
            os.utime(root / name, ns=(1, 1))

    found = kinds(after(store, make, lambda root: put(root / "x"), lambda root: os.unlink(root / "null")))
    assert [str(found[name])[0] for name in ("pipe", "full", "disk", "socket")] == list("pcbs")


def test_a_directory_is_deleted_and_made_again(store: Store) -> None:
    def make(root: Path) -> None:
        (root / "d/e").mkdir(parents=True)
        put(root / "d/old")
        put(root / "d/e/old")

    def again(root: Path) -> None:
        shutil.rmtree(root / "d")
        (root / "d").mkdir()
        put(root / "d/new")

    found = after(store, make, again, lambda root: (root / "d/e").mkdir(), lambda root: put(root / "d/e/x"))
    assert list(found) == ["d", "d/e", "d/e/x", "d/new"]


def test_a_directory_becomes_a_file_and_back(store: Store) -> None:
    def make(root: Path) -> None:
        (root / "d").mkdir()
        put(root / "d/x")

    def to_file(root: Path) -> None:
        shutil.rmtree(root / "d")
        put(root / "d", "now a file")

    def to_symlink(root: Path) -> None:
        (root / "d").unlink()
        os.symlink("elsewhere", root / "d")
        os.utime(root / "d", ns=(1, 1), follow_symlinks=False)

    def back(root: Path) -> None:
        (root / "d").unlink()
        (root / "d").mkdir()

    found = after(store, make, to_file, to_symlink, back, lambda root: put(root / "d/y"))
    assert list(found) == ["d", "d/y"]


def test_long_and_strange_names(store: Store) -> None:
    names = ["n" * 255, "a\nb", " ", "\udcff\udcfe", "-rf", "é", ".wh.x", "a:b,c\\d"]

    def make(root: Path) -> None:
        for name in names:
            (root / name).mkdir()
            put(root / name / name, name.encode(errors="surrogateescape").hex())

    def rename(root: Path) -> None:
        for number, name in enumerate(names):
            os.rename(root / name, root / f"{number}{name[1:]}")

    after(store, make, rename, lambda root: shutil.rmtree(root / f"0{names[0][1:]}"))


def test_a_path_longer_than_the_kernel_takes_at_once(store: Store) -> None:
    def make(root: Path) -> None:
        here = os.open(root, os.O_RDONLY)
        for _ in range(30):
            os.mkdir("d" * 200, dir_fd=here)
            there = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = there
        os.close(os.open("end", os.O_WRONLY | os.O_CREAT, dir_fd=here))
        os.close(here)

    add(store, "a", None, make)
    add(store, "b", "a", lambda root: put(root / "x"))
    add(store, "c", "b", lambda root: os.rename(root / ("d" * 200), root / "e"))
    layer = store.get("c")
    assert layer is not None
    with store.view(layer) as root:
        here, depth = os.open(f"{root}/e", os.O_RDONLY), 1
        while os.listdir(here) != ["end"]:
            there = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
            os.close(here)
            here, depth = there, depth + 1
        os.close(here)
    assert depth == 30


def test_a_finished_layer_is_never_reached_by_a_later_step(store: Store) -> None:
    def make(root: Path) -> None:
        for name in ("append", "map", "truncate", "same", "mode", "attribute"):
            put(root / name, "0123456789")

    def write_in_place(root: Path) -> None:
        with open(root / "append", "ab") as file:
            file.write(b"more")
        with open(root / "map", "r+b") as file:
            file.write(b"x")
        os.truncate(root / "truncate", 3)
        put(root / "same", "9876543210")  # size and mtime as before: only the ctime tells
        os.chmod(root / "mode", 0o600)
        os.setxattr(root / "attribute", "user.a", b"1")

    add(store, "a", None, make)
    before = whole(store, "a")
    add(store, "b", "a", write_in_place)
    assert whole(store, "a") == before
    between = whole(store, "b")
    assert [name for name in before if before[name] == between[name]] == []
    add(store, "c", "b", write_in_place)
    assert whole(store, "a") == before
    assert whole(store, "b") == between


def test_what_a_step_leaves_alone_takes_no_room_twice(store: Store) -> None:
    add(store, "a", None, lambda root: (root / "large").write_bytes(os.urandom(8 << 20)))
    os.sync()
    before = os.statvfs(store.path).f_bfree
    for number, parent in enumerate("abcd"):
        add(store, "bcde"[number], parent, lambda root: put(root / "small", "x"))
    os.sync()
    room = os.statvfs(store.path)
    assert (before - room.f_bfree) * room.f_frsize < 8 << 20 or room.f_bsize > 1 << 16


@pytest.mark.parametrize("seed", range(12))
def test_any_changes_in_any_steps_give_the_same_tree(
    store: Store, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain, "SPAN", 3)  # so that layers are put together all the time
    chance, plain, shots = random.Random(seed), tmp_path / "model", list[dict[str, tuple[object, ...]]]()
    plain.mkdir()
    for number in range(8):
        with store.new(f"s{number}", (f"s{number - 1}",) if number else ()) as draft:
            for _ in range(chance.randrange(10)):
                change = _random_change(chance, plain)
                if change:
                    change(plain)
                    change(Path(draft.root))
                    assert describe(draft.root) == describe(plain)
        shots.append(describe(plain))
    assert [whole(store, f"s{number}") for number in range(8)] == shots


def _random_change(chance: random.Random, root: Path) -> Change | None:
    """A change that is possible in `root`, for it and for its copies."""
    paths = [path.relative_to(root) for path in sorted(root.rglob("*"))]
    folders = [Path(), *(path for path in paths if (root / path).is_dir() and not (root / path).is_symlink())]
    files = [path for path in paths if (root / path).is_file() and not (root / path).is_symlink()]
    new = chance.choice(folders) / chance.choice("abcd")
    free = not os.path.lexists(root / new)
    old = chance.choice(paths) if paths else None
    file = chance.choice(files) if files else None
    time, mode = chance.randrange(10**18), chance.choice((0o700, 0o755, 0o4755, 0o644))
    inside = old is not None and new.is_relative_to(old)
    match chance.choice(
        ("write", "mkdir", "remove", "rename", "rename", "rename", "link", "append", "chmod", "symlink")
    ):
        case "write" if free or new in files:
            return lambda root: put(root / new, str(time), time)
        case "mkdir" if free:
            return lambda root: (root / new).mkdir()
        case "remove" if old:
            return lambda root: _remove(root / old)
        case "rename" if old and free and not inside:
            return lambda root: os.rename(root / old, root / new)
        case "link" if file and free:
            return lambda root: os.link(root / file, root / new)
        case "append" if file:
            return lambda root: put(root / file, (root / file).read_text() + "more", time)
        case "chmod" if old and not (root / old).is_symlink():
            return lambda root: os.chmod(root / old, mode)
        case "symlink" if free:
            return lambda root: (os.symlink("x", root / new), os.utime(root / new, ns=(1, 1), follow_symlinks=False))
    return None


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
