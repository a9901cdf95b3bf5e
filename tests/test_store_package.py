"""Layers of packages in every kind of store: gathered from steps, partial, stacked on anything, found by facts."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import refused
from stores import add, describe, whole

from obuild.errors import StoreError
from obuild.store import Layer, Store, open_store
from obuild.store.hold import Hold
from obuild.store.survey import Survey

Step = Callable[[Path], object]
ID = "debian-13-x86_64/{}"


def nothing(_: Path) -> None:
    """Change nothing."""


def base(root: Path) -> None:
    (root / "tmp").mkdir()
    for name in ("p/lib/old", "p/bin"):
        (root / name).mkdir(parents=True)
    for name in ("p/lib/old/one", "p/lib/old/two", "p/bin/tool", "etc"):
        (root / name).write_text(f"base {name}")


def package(
    store: Store,
    name: str,
    *steps: Step,
    below: tuple[str, ...] = ("base",),
    accept: Callable[[Survey], None] = lambda _: None,
    **facts: object,
) -> Layer:
    """The layer of a package that `steps` make, on a base that is made when it is missing."""
    if not store.exists("base"):
        add(store, "base", None, base)
    with store.new(f"switch{name}", below):
        pass
    last, own = f"switch{name}", list[Layer]()
    for number, step in enumerate(steps):
        with store.new(f"{name}step{number}", (last,)) as layer:
            if layer.layer is None:
                step(Path(layer.root))
        assert layer.layer
        own.insert(0, layer.layer)
        last = layer.id
    before = store.get(f"switch{name}")
    assert before
    with store.new_package(ID.format(name), facts) as draft:
        if not draft.layer:
            draft.meta |= facts
            draft.stand_on(before.parents)
            draft.gather(own, before, lambda path: path == "/tmp", accept, [*own, before])
    assert draft.layer
    return draft.layer


def lines(layer: Layer) -> list[str]:
    return Path(layer.path, "paths").read_text().splitlines()


def test_it_has_what_was_added_and_nothing_else(store: Store) -> None:
    def first(root: Path) -> None:
        (root / "p/lib/new").mkdir()
        (root / "p/lib/new/a").write_text("a")
        (root / "p/lib/empty").mkdir(mode=0o750)
        (root / "tmp/x").write_text("not kept")
        (root / "p/gone").write_text("by the next step")

    def second(root: Path) -> None:
        os.link(root / "p/lib/new/a", root / "p/lib/new/b")
        os.symlink("a", root / "p/lib/new/c")
        (root / "p/lib/old/one").write_text("other")
        os.utime(root / "p/lib/old/two")  # touched, and still what it was
        os.chown(root / "p/lib/new/a", 1000, 1000)
        os.chmod(root / "p/lib/new/a", 0o4755)
        os.unlink(root / "p/gone")
        os.unlink(root / "p/bin/tool")

    seen: list[Survey] = []
    layer = package(store, "x", first, second, accept=seen.append)
    assert lines(layer) == ["p/lib/empty/", "p/lib/new/a", "p/lib/new/b", "p/lib/new/c", "p/lib/old/one"]
    assert seen[0].changed == ["p/lib/old/one"]
    assert seen[0].removed == ["p/bin/tool"]
    found = describe(layer.fs)
    assert sorted(found) == ["p", "p/lib", "p/lib/empty", *sorted({"p/lib/new", "p/lib/old", *lines(layer)[1:]})]
    assert found["p/lib/new/a"][0:3] == ("-rwsr-xr-x", 1000, 1000)
    assert found["p/lib/new/a"][-1] == ("p/lib/new/a", "p/lib/new/b")
    assert found["p/lib/empty"][0] == "drwxr-x---"
    assert sorted(found.id for found in store.layers()) == ["base", layer.id]


def test_it_has_no_marks_of_the_store(store: Store) -> None:
    def step(root: Path) -> None:
        shutil.rmtree(root / "p/lib/old")
        (root / "p/lib/old").mkdir()
        (root / "p/lib/old/two").write_text("new")
        os.rename(root / "p/bin", root / "p/sbin")
        (root / "p/sbin/more").touch()

    seen: list[Survey] = []
    layer = package(store, "x", step, accept=seen.append)
    assert lines(layer) == ["p/lib/old/two", "p/sbin/more", "p/sbin/tool"]
    assert seen[0].removed == ["p/bin/", "p/lib/old/one"]
    for path in Path(layer.fs).rglob("*"):
        marks = {name for name in os.listxattr(path, follow_symlinks=False) if name.startswith("trusted.overlay.")}
        assert not marks & {"trusted.overlay.opaque", "trusted.overlay.redirect", "trusted.overlay.metacopy"}
        assert not stat.S_ISCHR(path.lstat().st_mode)


def test_directories_that_are_renamed_between_steps(store: Store) -> None:
    def first(root: Path) -> None:
        (root / "p/work/sub").mkdir(parents=True)
        (root / "p/work/sub/f").write_text("1")

    layer = package(
        store,
        "x",
        first,
        lambda root: os.rename(root / "p/work", root / "p/done"),
        lambda root: (root / "p/done/sub/g").touch(),
    )
    assert lines(layer) == ["p/done/sub/f", "p/done/sub/g"]
    assert Path(layer.fs, "p/done/sub/f").read_text() == "1"


def test_any_go_together(store: Store) -> None:
    def step(name: str) -> Step:
        def run(root: Path) -> None:
            shutil.rmtree(root / "p/lib")
            (root / "p/lib").mkdir()
            (root / f"p/lib/{name}").write_text(name)
            (root / "p/lib/shared").write_text(name)

        return run

    ids = tuple(package(store, name, step(name)).id for name in "abc")
    with store.new("all", ("base", *ids)) as draft:
        root = Path(draft.root)
        assert sorted(path.name for path in (root / "p/lib").iterdir()) == ["a", "b", "c", "old", "shared"]
        assert (root / "p/lib/shared").read_text() == "c", "the last one is the uppermost"
        assert (root / "p/bin/tool").exists()
        (root / "p/mine").touch()
    assert "p/mine" in whole(store, "all")
    assert store.conflicts(ids) == {"p/lib/shared": list(ids)}
    assert "p/lib/shared" in whole(store, "all")
    on_top = package(store, "d", step("d"), below=("base", *ids))
    assert lines(on_top) == ["p/lib/d", "p/lib/shared"]
    assert on_top.parents == ("base", *ids)
    assert {"p/lib/c", "p/lib/d", "p/bin/tool"} <= whole(store, on_top.id).keys()
    with refused(StoreError, 'layer "base" is not that of a package, or not in the store'):
        store.conflicts(["base"])


def test_a_chain_can_grow_on_a_stack(store: Store) -> None:
    ids = [package(store, f"k{n}", lambda root, n=n: (root / f"p/{n}").touch()).id for n in range(5)]  # type: ignore[misc]
    with store.new("s0", ("base", *ids)):
        pass
    for number in range(1, 40 if store.backend.stacked else 3):
        add(store, f"s{number}", f"s{number - 1}", lambda root, n=number: (root / f"f{n}").touch())  # type: ignore[misc]
    assert {"p/0", "p/4", "f1", f"f{number}"} <= whole(store, f"s{number}").keys()
    again = open_store(f"{store.kind}:{store.path}")
    assert whole(again, f"s{number}") == whole(store, f"s{number}")
    if store.backend.stacked:
        assert len(store.lowers((f"s{number}",))) < 45


def test_it_is_found_with_the_facts_that_it_was_made_with(store: Store) -> None:
    facts: dict[str, Any] = {"base": "b1", "variant": {"with-test": False, "patches": ("p",)}}
    layer = package(store, "x", lambda root: (root / "p/v").write_text("1"), **facts)
    assert store.package(layer.id, facts) == layer
    assert store.package(layer.id, {}) == layer
    assert store.package(layer.id, {**facts, "base": "b2"}) is None
    assert store.package(ID.format("y"), facts) is None
    again = package(store, "x", lambda root: (root / "p/v").write_text("2"), **facts)
    assert Path(again.fs, "p/v").read_text() == "1", "the one that is there is the one"
    store.delete("switchx", children=True)


def test_one_that_was_made_with_other_facts_gives_way(store: Store) -> None:
    old = package(store, "x", lambda root: (root / "p/v").write_text("1"), base="b1")
    with store.new("user", ("base", old.id)) as draft:
        new = package(store, "x", lambda root: (root / "p/v").write_text("2"), base="b2")
        assert Path(draft.root, "p/v").read_text() == "1", "who uses the old one keeps it"
    assert store.package(new.id, {"base": "b1"}) is None
    assert Path(new.fs, "p/v").read_text() == "2"
    store.clean_up()
    assert os.listdir(f"{store.path}/tmp") == []
    store.delete("user")


def test_two_that_make_the_same_share_it(store: Store) -> None:
    begun, made = threading.Event(), list[str]()

    def slow(_: Survey) -> None:
        begun.set()
        made.append("slow")

    def first() -> None:
        package(store, "x", nothing, accept=slow, base="b")

    add(store, "base", None, base)
    thread = threading.Thread(target=first)
    with store.new_package(ID.format("x"), {"base": "b"}) as draft:
        thread.start()
        assert not begun.wait(0.3), "it waits for the lock"
        draft.meta["base"] = "b"
        draft.files["paths"] = b""
    thread.join()
    assert made == []
    store.delete("switchx", children=True)


def test_what_is_refused_changes_nothing(store: Store) -> None:
    def refuse(_: Survey) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        package(store, "x", lambda root: (root / "p/v").touch(), accept=refuse)
    assert sorted(layer.id for layer in store.layers()) == ["base", "switchx", "xstep0"]
    assert "p/v" in whole(store, "xstep0")
    failed = store.failed_layer(ID.format("x"))
    assert failed
    assert failed.meta()["error"] == "no"
    store.delete(failed.id)


def test_steps_that_somebody_looks_at_stay(store: Store) -> None:
    locks: list[Hold] = []
    layer = package(
        store,
        "x",
        lambda root: (root / "p/v").write_text("1"),
        accept=lambda _: locks.append(store.hold("xstep0")),
    )
    assert "p/v" in whole(store, "xstep0")
    assert lines(layer) == ["p/v"]
    locks.pop().release()
    assert store.fsck() == []
    assert store.delete("switchx", children=True) == ["xstep0", "switchx"]


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_store_package import package
from obuild.store import open_store
from obuild.store.hold import Hold
from obuild.store.survey import Survey
from obuild.store.package import PackageDraft

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def fill(survey, target, layers, *, move):
    original(survey, target, layers, move=move)
    die()

where, original = sys.argv[3], Survey.fill
if where == "fill":
    Survey.fill = fill
if where == "finish":
    PackageDraft._publish = die
store = open_store(sys.argv[1])
package(store, "x", lambda root: (root / "p/v").touch(), accept=die if where == "accept" else str)
"""


@pytest.mark.parametrize("where", ["accept", "fill", "finish"])
def test_a_killed_process_leaves_no_half_layer(store: Store, where: str) -> None:
    here = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", KILLED, f"{store.kind}:{store.path}", here, where], cwd=here + "/..")
    assert done.returncode == -9
    again = open_store(f"{store.kind}:{store.path}")
    assert again.get(ID.format("x")) is None
    assert again.fsck() == []
    assert lines(package(again, "x", lambda root: (root / "p/v").touch())) == ["p/v"]


def test_a_base_is_not_pruned_while_a_platform_stands_on_it(store: Store) -> None:
    add(store, "base", None, base)
    add(store, "other", "base")
    os.mkdir(f"{store.path}/debian-13-x86_64")
    os.symlink("../steps/base", f"{store.path}/debian-13-x86_64/base")
    layer = package(store, "x", nothing)
    assert store.base("debian-13-x86_64") == store.get("base")
    assert store.base("debian-12-x86_64") is None
    assert {item.id for item in store.prune(max_count=0)} == {"other", layer.id}
    assert [layer.id for layer in store.layers()] == ["base"]
    with refused(StoreError, '"base" is the base of platform "debian-13-x86_64"'):
        store.delete("base")
    os.unlink(f"{store.path}/debian-13-x86_64/base")
    assert [item.id for item in store.prune(max_count=0)] == ["base"]
    assert store.fsck() == []


def test_a_platform_without_its_base_is_found(store: Store) -> None:
    os.mkdir(f"{store.path}/debian-13-x86_64")
    os.symlink("../steps/gone", f"{store.path}/debian-13-x86_64/base")
    assert store.base("debian-13-x86_64") is None
    assert [(found.path, found.message) for found in store.fsck()] == [
        ("debian-13-x86_64/base", 'the base of a platform, "gone", is missing')
    ]
    assert [found.repaired for found in store.fsck(repair=True)] == [True]
