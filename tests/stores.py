"""Stores of every kind on real file systems, and what can be seen of a tree as data."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from obuild import kernel
from obuild.disk import remove_tree
from obuild.errors import StoreError
from obuild.store import Layer, Store, open_store

__all__ = ["add", "describe", "file_system", "store", "store_place", "whole"]

PLACES = ["overlay", "overlay@xfs", "btrfs@btrfs", "copy", "copy@xfs"]
"""Kinds of stores, and the file system to make for them where the one of the tests will not do."""

SIZES = {"btrfs": 1024, "xfs": 1024, "ext4": 64}
"""Megabytes of a file system in a (sparse) file."""


@pytest.fixture(scope="session")
def file_system(can_mount: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Makes a file system of a type, once, and says where it is mounted: in the namespace of the tests alone."""
    kernel.private_mounts()
    folder, made = tmp_path_factory.mktemp("file-systems"), dict[str, Path]()

    def make(name: str) -> Path:
        if name not in made:
            kind, image, target = name.partition("-")[0], folder / f"{name}.img", folder / name
            if shutil.which(f"mkfs.{kind}") is None:
                pytest.skip(f"not installed: mkfs.{kind}")
            with open(image, "wb") as file:
                file.truncate(SIZES[kind] << 20)
            subprocess.run([f"mkfs.{kind}", "-q", image], check=True, capture_output=True)
            target.mkdir()
            done = subprocess.run(["mount", "-o", "loop", image, target], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"can not mount {kind}: {done.stderr.strip()}")
            made[name] = target
        return made[name]

    yield make
    for target in made.values():
        subprocess.run(["umount", target], check=True)


@pytest.fixture(params=PLACES)
def store_place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where a store of each kind can be made, as `open_store` takes it."""
    kind, _, where = request.param.partition("@")
    if kind == "overlay":
        request.getfixturevalue("can_mount")
    folder = request.getfixturevalue("file_system")(where) / tmp_path.name if where else tmp_path
    folder.mkdir(exist_ok=True)
    yield f"{kind}:{folder}/store"
    remove_tree(str(folder))


@pytest.fixture
def store(store_place: str, can_own: None) -> Iterator[Store]:
    """An empty store of each kind; whatever a test does, nothing is left lying about in it and it is sound."""
    try:
        opened = open_store(store_place)
    except StoreError as error:
        pytest.skip(str(error))
    yield opened
    deadline = time.monotonic() + 10  # another object for the same store may still be removing something
    while os.listdir(f"{opened.path}/tmp") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert os.listdir(f"{opened.path}/tmp") == []
    assert opened.fsck() == []
    with open("/proc/self/mountinfo") as mounts:
        assert [line for line in mounts if f" {opened.path}/" in line] == []


def add(store: Store, id: str, parent: str | None = None, step: Callable[[Path], object] = str) -> Layer:
    """A layer made from `parent` by `step`, which is given the root."""
    with store.new(id, (parent,) if parent else ()) as draft:
        assert draft.layer is None
        step(Path(draft.root))
    assert draft.layer is not None
    return draft.layer


def whole(store: Store, id: str) -> dict[str, tuple[object, ...]]:
    """What is in the whole tree of a finished layer."""
    layer = store.get(id)
    assert layer is not None
    with store.view(layer) as root:
        return describe(root)


def describe(root: str | Path) -> dict[str, tuple[object, ...]]:
    """Everything that a program can see of a tree, by path: kind, mode, owner, times, content, attributes, names.

    Not the times and sizes of directories, nor anything of the root itself.
    """
    found: dict[str, tuple[object, ...]] = {}
    names: dict[tuple[int, int], list[str]] = {}
    for path in sorted(Path(root).rglob("*")):
        info = path.lstat()
        name = str(path.relative_to(root))
        content: object = info.st_rdev
        if stat.S_ISREG(info.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        elif stat.S_ISLNK(info.st_mode):
            content = os.readlink(path)
        time = None if stat.S_ISDIR(info.st_mode) else info.st_mtime_ns
        found[name] = (stat.filemode(info.st_mode), info.st_uid, info.st_gid, time, content, attributes(path))
        if not stat.S_ISDIR(info.st_mode):
            names.setdefault((info.st_dev, info.st_ino), []).append(name)
    for group in names.values():
        for name in group:
            found[name] += (tuple(group),)
    return found


def attributes(path: Path) -> tuple[tuple[str, bytes], ...]:
    """The extended attributes of a file, without those that are overlayfs's own."""
    names = [name for name in os.listxattr(path, follow_symlinks=False) if not name.startswith("trusted.overlay.")]
    return tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in sorted(names))
