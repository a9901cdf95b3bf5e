"""What the store promises when processes are killed, disks are full and many work on it at once."""

from __future__ import annotations

import glob
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import pytest
from conftest import soon
from stores import add, whole
from test_store import elsewhere

from obuild import kernel
from obuild.errors import StoreError
from obuild.store import Store, open_store

WORKER = """
import random, signal
from obuild import kernel
from obuild.errors import StoreError
chance, over = random.Random(sys.argv[2]), []
signal.signal(signal.SIGTERM, lambda *_: over.append(True))
while not over:
    chain, parent = chance.randrange(6), None
    try:
        for step in range(5):
            name = f"c{chain}s{step}"
            layer = store.get(name)
            if layer is None:
                with store.new(name, (parent,) if parent else ()) as draft:
                    if draft.layer is None:
                        draft.write(f"log of {name}".encode())
                        for number in range(5):
                            with open(f"{draft.root}/{name}-{number}", "w") as file:
                                file.write(name * 100)
            parent = name
            if chance.random() < 0.2:
                with store.cache("shared") as path:
                    with open(path + f"/{chance.randrange(50)}", "w") as file:
                        file.write("whole")
        if chance.random() < 0.3:
            store.prune(max_count=12)
    except StoreError as error:
        if not error.temporary:
            raise
"""


def sound(store: Store) -> None:
    """Every layer that is listed is whole."""
    for layer in store.layers():
        chain, step = layer.id[1:].split("s")
        names = {f"c{chain}s{number}-{part}" for number in range(int(step) + 1) for part in range(5)}
        assert Path(layer.log).read_text() == f"log of {layer.id}"
        with store.view(layer) as root:
            assert set(os.listdir(root)) == names
            assert all(Path(root, name).read_text() == name.split("-")[0] * 100 for name in names)
    with store.cache("shared") as path:
        assert {file.read_text() for file in Path(path).iterdir()} <= {"whole", ""}


@contextmanager
def working(store: Store, count: int, chance: random.Random) -> Iterator[list[subprocess.Popen[bytes]]]:
    """So many processes that build, use a cache and prune as fast as they can; those that are left are killed."""
    workers = [elsewhere(WORKER, store, str(chance.random()), stderr=subprocess.PIPE) for _ in range(count)]
    try:
        yield workers
        for worker in workers:
            assert worker.poll() is None, worker.communicate()[1].decode()
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def test_processes_killed_at_any_moment(store: Store) -> None:
    chance = random.Random(4)
    for _ in range(4):
        with working(store, 3, chance):
            time.sleep(0.4 + chance.random() * 0.4)
        again = open_store(f"{store.kind}:{store.path}")
        assert os.listdir(f"{store.path}/tmp") == []
        sound(again)
    assert store.layers() != []


def test_hundreds_of_operations_of_several_processes(store: Store) -> None:
    with working(store, 3, random.Random(5)) as workers:
        time.sleep(3)
        for worker in workers:
            assert worker.poll() is None, worker.communicate()[1].decode()
            worker.terminate()
            assert worker.wait() == 0
        assert os.listdir(f"{store.path}/tmp") == [], "who ends in good order leaves nothing"
        workers.clear()
    sound(store)


def test_a_dead_process_leaves_no_mount(store: Store) -> None:
    add(store, "base")
    code = "with store.new('a', ('base',)) as draft:\n    os.write(1, b'.'); time.sleep(60)\n"
    before = Path("/proc/mounts").read_text()
    worker = elsewhere(code, store)
    assert worker.stdout is not None
    assert worker.stdout.read(1) == b"."
    assert Path("/proc/mounts").read_text() == before, "a mount that everybody sees"
    worker.kill()
    worker.wait()
    assert os.path.isdir(f"{store.path}/tmp/a")
    open_store(f"{store.kind}:{store.path}")
    assert not os.path.exists(f"{store.path}/tmp/a")


def test_who_waits_for_a_process_that_is_killed_goes_on(store: Store) -> None:
    code = (
        "with store.new('a') as draft:\n"
        "    open(draft.root + '/half', 'w').close(); os.write(1, b'.'); time.sleep(60)\n"
    )
    worker = elsewhere(code, store)
    assert worker.stdout is not None
    assert worker.stdout.read(1) == b"."
    os.kill(worker.pid, signal.SIGKILL)
    add(store, "a", None, lambda root: (root / "new").touch())
    worker.wait()
    assert list(whole(store, "a")) == ["new"]


def fill(folder: Path) -> None:
    with open(folder / "ballast", "wb") as file:
        try:
            while True:
                file.write(b"\0" * 65536)
                file.flush()
        except OSError:
            pass


@pytest.mark.parametrize("kind", ["overlay", "copy"])
def test_a_full_disk(file_system: Callable[[str], Path], kind: str) -> None:
    folder = file_system(f"ext4-{kind}")
    store = open_store(f"{kind}:{folder}/store")
    add(store, "base", None, lambda root: (root / "x").write_bytes(os.urandom(100_000)))
    fill(folder)

    def log_much() -> None:
        with store.new("a") as draft:
            while True:
                draft.write(b"x" * 65536)

    with pytest.raises(StoreError, match="no space left on the disk") as error:
        log_much()
    assert "obuild prune" in error.value.hint

    def write_much() -> None:
        with store.new("b", ("base",)) as draft:
            fill(Path(draft.root))
            os.rename(f"{draft.root}/ballast", f"{draft.root}/y")
            raise StoreError("as the step would find out")

    with pytest.raises(StoreError):
        write_much()
    (folder / "ballast").unlink()
    assert [layer.id for layer in store.layers()] == ["base"]
    assert (store.fsck(), os.listdir(f"{store.path}/tmp")) == ([], [])
    add(store, "b", "base", lambda root: (root / "y").touch())
    assert list(whole(store, "b")) == ["x", "y"]


def test_a_store_that_is_only_read(store: Store) -> None:
    add(store, "a", None, lambda root: (root / "x").touch())
    layer = store.get("a")
    os.chmod(f"{store.path}/steps/a/layer.json", 0o444)
    assert store.get("a") == layer


def test_a_process_that_still_writes_stops_the_layer(store: Store) -> None:
    if store.kind != "overlay":
        pytest.skip("does not apply: only a mount shows that something is still in it")
    add(store, "base")
    with pytest.raises(StoreError, match=r'can not finish layer "a".*busy'), store.new("a", ("base",)) as draft:
        busy = open(f"{draft.root}/x", "w")  # noqa: SIM115 (it has to outlive the block)
    busy.close()
    assert store.get("a") is None
    assert soon(lambda: store.clean_up() is None and os.listdir(f"{store.path}/tmp") == [])


def test_what_can_not_be_deleted_keeps_nothing_else(store: Store, tmp_path: Path) -> None:
    kernel.private_mounts()
    stuck = add(store, "stuck", None, lambda root: (root / "d").mkdir())
    add(store, "b")
    kernel.bind(str(tmp_path), f"{stuck.fs}/d")
    try:
        refused = pytest.raises(StoreError, match="all else that was to go is gone")
        with nullcontext() if store.kind == "btrfs" else refused:  # a subvolume goes with what is mounted in it
            store.prune(max_count=0)
    finally:
        for place in [f"{stuck.fs}/d", *glob.glob(f"{store.path}/tmp/gone-*/*/fs/d")]:
            with suppress(OSError):
                kernel.unmount(place)
    store.prune(max_count=0)
    assert store.layers() == []
