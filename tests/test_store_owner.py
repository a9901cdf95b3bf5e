"""What the owner of a store does with it: delete, prune, count, check and repair; and what a power cut costs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from stores import add, whole

from obuild import kernel
from obuild.errors import StoreError
from obuild.store import Store, boot, chain, open_store
from obuild.store.scratch import Scratch


def tree(store: Store) -> None:
    """A base with two branches: base ← a ← a1, a2; base ← b."""
    for name, parent in (("base", None), ("a", "base"), ("a1", "a"), ("a2", "a"), ("b", "base")):
        add(store, name, parent, lambda root, name=name: (root / name).write_text(name))  # type: ignore[misc]


def age(store: Store, **days: float) -> None:
    """Let layers have been used so many days ago."""
    for name, ago in days.items():
        used = time.time() - ago * 86400
        os.utime(f"{store.path}/steps/{name}/layer.json", (used, used))


def fail(store: Store, name: str, step: Callable[[Path], object], *parents: str) -> None:
    """A step that is kept because it failed."""

    def make() -> None:
        with store.new(name, parents, keep_failed=True) as draft:
            step(Path(draft.root))
            raise KeyError(name)

    with pytest.raises(KeyError):
        make()


def ids(store: Store) -> set[str]:
    return {layer.id for layer in store.layers()}


def test_only_what_nothing_is_made_from_is_deleted(store: Store) -> None:
    tree(store)
    with pytest.raises(StoreError, match='2 layers are made from "a"'):
        store.delete("a")
    assert store.delete("a1") == ["a1"]
    with pytest.raises(StoreError, match='1 layer is made from "a"'):
        store.delete("a")
    assert store.delete("a", children=True) == ["a2", "a"]
    assert ids(store) == {"base", "b"}
    assert sorted(store.delete("base", children=True)) == ["b", "base"]


def test_deleting_what_is_not_there(store: Store) -> None:
    tree(store)
    with pytest.raises(StoreError, match='no layer "base1" in the store') as error:
        store.delete("base1")
    assert error.value.hint == 'did you mean "base"?'


def test_what_is_in_use_is_not_deleted(store: Store) -> None:
    tree(store)
    layer = store.get("b")
    assert layer is not None
    with store.new("c", ("a1",)):
        with pytest.raises(StoreError, match='layer "a1" is in use'):
            store.delete("a1")
        with pytest.raises(StoreError, match='layer "a1" is in use'):
            store.delete("base", children=True)
        assert store.prune(max_age=0, dry_run=True)[0].id != "a1"
    with store.view(layer) as root:
        with pytest.raises(StoreError, match="in use"):
            store.delete("b")
        assert Path(root, "b").exists()
    assert ids(store) == {"base", "a", "a1", "a2", "b", "c"}


def test_failed_trees_go_with_what_they_were_made_from(store: Store) -> None:
    tree(store)
    fail(store, "c", str, "b")
    assert store.delete("b") == ["b"]
    assert store.failed() == []


def test_pruning_by_age(store: Store) -> None:
    tree(store)
    age(store, base=9, a=9, a1=9, a2=1, b=5)
    assert [(item.kind, item.id) for item in store.prune(max_age=4 * 86400, dry_run=True)] == [
        ("layer", "a1"),
        ("layer", "b"),
    ]
    assert ids(store) == {"base", "a", "a1", "a2", "b"}
    assert [item.id for item in store.prune(max_age=4 * 86400)] == ["a1", "b"]
    assert ids(store) == {"base", "a", "a2"}, "what a young layer is made from stays, however old it is"


def test_pruning_by_count_takes_the_least_recently_used(store: Store) -> None:
    tree(store)
    age(store, base=9, a=8, a1=3, a2=4, b=5)
    store.get("b")
    assert [item.id for item in store.prune(max_count=3)] == ["a2", "a1"]
    assert [item.id for item in store.prune(max_count=0)] == ["a", "b", "base"]
    assert store.layers() == []


def test_pruning_by_size_takes_caches_and_failed_trees_too(store: Store) -> None:
    add(store, "a", None, lambda root: (root / "x").write_bytes(os.urandom(1 << 20)))
    with store.cache("c") as path:
        Path(path, "y").write_bytes(os.urandom(1 << 20))
    fail(store, "f", lambda root: (root / "z").write_bytes(os.urandom(1 << 20)))
    assert store.prune() == []
    assert store.prune(max_age=1000) == []
    os.sync()  # btrfs counts what is on the disk
    usage = store.usage()
    assert usage.caches >= 1 << 20
    assert min(usage.layers, usage.failed) >= 1 << 20
    assert {item.kind for item in store.prune(max_size=0)} == {"layer", "failed", "cache"}
    assert (store.layers(), store.failed(), os.listdir(f"{store.path}/cache")) == ([], [], [])


def test_pruning_while_others_build(store: Store) -> None:
    """Whatever is pruned when, a step is made from what it was asked to be made from."""
    add(store, "base", None, lambda root: (root / "base").touch())
    over, wrong = threading.Event(), list[object]()

    def build(worker: int) -> None:
        turn = 0
        while not over.is_set():
            parent, names = "base", {"base"}
            for step in range(3):
                name = f"w{worker}t{turn}s{step}"
                try:
                    layer = add(store, name, parent, lambda root, name=name: (root / name).touch())  # type: ignore[misc]
                    names.add(name)
                    with store.view(layer) as tree:
                        if set(os.listdir(tree)) != names:
                            wrong.append((name, os.listdir(tree)))
                except StoreError as error:
                    if not error.temporary:
                        wrong.append(error)
                    break  # pruned before the next step could hold it: a build would begin again
                parent = name
            turn += 1

    threads = [threading.Thread(target=build, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    hold, pruned, end = store.hold("base"), 0, time.monotonic() + 1.5
    while time.monotonic() < end:
        pruned += len(store.prune(max_count=2))
    over.set()
    for thread in threads:
        thread.join()
    hold.release()
    assert wrong == []
    assert pruned > 0


def test_looking_at_a_store_while_others_make_and_delete(store: Store) -> None:
    """Nothing of what comes and goes is taken for damage, and nobody stumbles over it."""
    other, over, wrong = open_store(f"{store.kind}:{store.path}"), threading.Event(), list[BaseException]()

    def drop(delete: Callable[..., object], name: str, **how: bool) -> None:
        while True:
            try:
                delete(name, **how)
                return
            except StoreError as error:
                if "is in use" not in str(error):  # by the one who looks whether it could be pruned
                    raise

    def work() -> None:
        turn = 0
        try:
            while not over.is_set():
                turn += 1
                add(other, f"a{turn}", None, lambda root: (root / "x").mkdir())
                add(other, f"b{turn}", f"a{turn}", lambda root: (root / "x" / "y").touch())
                fail(other, f"f{turn}", lambda root: (root / "z").touch())
                with other.cache("c") as path:
                    Path(path, "w").touch()
                drop(other.delete_cache, "c")
                drop(other.delete, f"f{turn}")
                drop(other.delete, f"a{turn}", children=True)
        except BaseException as error:
            wrong.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    end, turns = time.monotonic() + 1.5, 0
    try:
        while time.monotonic() < end and not wrong:
            assert store.fsck() == []
            store.usage()
            store.prune(max_age=0, dry_run=True)
            turns += 1
    finally:
        over.set()
        thread.join()
    assert wrong == []
    assert turns > 1


def test_a_sound_store_has_no_findings(store: Store) -> None:
    tree(store)
    with store.cache("c") as path:
        Path(path, "x").touch()
    assert store.fsck() == []


@pytest.mark.parametrize(
    ("harm", "message", "left"),
    [
        ("rm layer.json", "a layer without layer.json", {"base", "b"}),
        ("rm -r fs", "a layer without fs", {"base", "b"}),
        ("printf '{' > layer.json", "is damaged", {"base", "b"}),
        ("""echo '{"id": "x", "parents": []}' > layer.json""", "it describes something else", {"base", "b"}),
        ("echo '[1]' > env.json", "env.json.* is damaged", {"base", "b"}),
        ("rm -r ../base", '"base", is missing', set()),
    ],
)
def test_findings_and_repairs(store: Store, harm: str, message: str, left: set[str]) -> None:
    tree(store)
    if store.kind == "btrfs" and "rm -r" in harm:
        harm = harm.replace("rm -r fs", "btrfs subvolume delete fs").replace(
            "rm -r ../base", "btrfs subvolume delete ../base/fs && rm -r ../base"
        )
    subprocess.run(harm, shell=True, check=True, cwd=f"{store.path}/steps/a", capture_output=True)
    findings = store.fsck()
    assert any(re.search(message, finding.message) for finding in findings), findings
    assert not any(finding.repaired for finding in findings)
    assert all(finding.repaired for finding in store.fsck(repair=True))
    assert store.fsck() == []
    assert ids(store) == left
    assert all(whole(store, name) for name in left)


def test_a_layer_that_lost_or_gained_something_is_found(store: Store) -> None:
    if store.kind == "btrfs":
        pytest.skip("does not apply: btrfs itself checks its data")
    tree(store)
    Path(store.path, "steps/b/fs/extra").touch()
    assert [finding.path for finding in store.fsck()] == ["steps/b"]
    store.fsck(repair=True)
    add(store, "b", "base", lambda root: (root / "b").write_text("b"))
    if store.backend.stacked:
        Path(store.path, "steps/b/fs/b").write_text("")
        assert "bytes in files" in store.fsck(repair=True)[0].message


def test_what_a_dead_process_left_is_found_and_removed(store: Store) -> None:
    os.makedirs(f"{store.path}/tmp/dead/fs/x")
    assert [(finding.path, finding.repaired) for finding in store.fsck()] == [("tmp/dead", False)]
    alive = Scratch.fresh(store.path, "alive")
    open_store(f"{store.kind}:{store.path}")
    assert os.listdir(f"{store.path}/tmp") == [os.path.basename(alive.path)]
    os.rmdir(alive.path)
    alive.release()


def test_a_mount_in_the_store_is_found_not_emptied(tmp_path: Path, can_mount: None) -> None:
    # In a process of its own: `fsck` looks at what the first process of the machine sees.
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/data").touch()
    code = (
        "import os, sys; from obuild import kernel; from obuild.store import open_store\n"
        "store = open_store('copy:' + sys.argv[1] + '/store')\n"
        "with store.new('a') as draft: os.mkdir(draft.root + '/x')\n"
        "kernel.private_mounts(); kernel.bind(sys.argv[1] + '/precious', store.path + '/steps/a/fs/x')\n"
        "try: store.delete('a')\n"
        "except Exception as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert "something is mounted there" in done.stdout
    assert (tmp_path / "precious/data").exists()
    assert open_store(f"copy:{tmp_path}/store").fsck() == [], "the mount was that process's own"


def test_a_container_of_a_dead_process_is_killed(store: Store, tmp_path: Path) -> None:
    draft = Path(store.path, "tmp/dead")
    (draft / "run").mkdir(parents=True)
    runtime = tmp_path / "runtime"
    runtime.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/called; test -d {draft}\n')
    runtime.chmod(0o755)
    (draft / "container").write_text(f"{runtime} {draft}/run c1\n")
    store.clean_up()
    assert (tmp_path / "called").read_text() == f"--root {draft}/run delete --force c1\n"
    assert not draft.exists()


def test_layers_put_together_go_with_the_last_of_them(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    if not store.backend.stacked:
        pytest.skip("does not apply: only layers that are stacked are put together")
    monkeypatch.setattr(chain, "SPAN", 2)
    for number in range(8):
        add(store, f"s{number}", f"s{number - 1}" if number else None)
    flats = sorted(os.listdir(f"{store.path}/flat"))
    assert flats == ["s2", "s4", "s6"]
    store.delete("s5", children=True)
    assert sorted(os.listdir(f"{store.path}/flat")) == ["s2", "s4"]
    subprocess.run(["rm", "-r", f"{store.path}/flat/s2"], check=True)
    again = open_store(f"{store.kind}:{store.path}")
    before = whole(again, "s4")
    add(again, "s5", "s4")
    assert sorted(os.listdir(f"{store.path}/flat")) == ["s2", "s4"], "they can be made again"
    assert whole(again, "s5") == before


def test_after_a_power_cut_only_what_was_synced_is_trusted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    add(store, "old", None, lambda root: (root / "x").touch())
    time.sleep(0.02)
    store.sync()
    time.sleep(0.02)
    add(store, "young", "old", lambda root: (root / "y").touch())
    add(store, "debian/young")
    with store.cache("c") as path:
        Path(path, "z").touch()
    assert open_store(f"{store.kind}:{store.path}").distrusted == ()
    monkeypatch.setattr(kernel, "boot_id", lambda: "another-boot")
    again = open_store(f"{store.kind}:{store.path}")
    assert sorted(again.distrusted) == ["cache/c", "debian/young", "steps/young"]
    assert ids(again) == {"old"}
    assert open_store(f"{store.kind}:{store.path}").distrusted == (), "once a boot"
    assert again.fsck() == []


def test_a_long_build_is_synced_now_and_then(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def stamp() -> str:
        return Path(store.path, "boot").read_text()

    before = stamp()
    add(store, "a")
    assert stamp() == before, "nothing is synced for one step"
    monkeypatch.setattr(boot, "_PERIOD", 0)
    add(store, "b")
    end = time.monotonic() + 20
    while stamp() == before and time.monotonic() < end:
        time.sleep(0.01)
    assert stamp().split()[0] == before.split()[0]
    assert int(stamp().split()[1]) > int(before.split()[1])


def test_sizes_are_those_of_what_was_added(store: Store) -> None:
    add(store, "a", None, lambda root: (root / "x").write_bytes(os.urandom(1 << 20)))
    add(store, "b", "a", lambda root: (root / "y").write_bytes(os.urandom(100_000)))
    os.sync()
    sizes = {item.id: item.size for item in store.prune(max_count=0, dry_run=True)}
    assert 1 << 20 <= sizes["a"] < 1 << 21
    assert 100_000 <= sizes["b"] < 200_000
