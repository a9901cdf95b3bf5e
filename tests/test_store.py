"""The laws of the store, on every kind of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import soon
from stores import add, whole

from obuild.cancel import Cancel
from obuild.errors import Cancelled, StepFailed, StoreError, UsageError
from obuild.store import Store, chain, open_store
from obuild.store.layer import escape, unescape

REPOSITORY = Path(__file__).parent.parent


def elsewhere(code: str, store: Store, *arguments: str, **given: object) -> subprocess.Popen[bytes]:
    """Run Python code in another process, with `store` opened and `arguments` in `sys.argv[2:]`."""
    head = "import os, sys, time\nfrom obuild.store import open_store\nstore = open_store(sys.argv[1])\n"
    argv = [sys.executable, "-c", head + code, f"{store.kind}:{store.path}", *arguments]
    return subprocess.Popen(argv, cwd=REPOSITORY, stdout=subprocess.PIPE, **given)  # type: ignore[call-overload, no-any-return]


def test_a_layer_is_what_was_written(store: Store) -> None:
    assert store.get("base") is None
    with store.new("base") as draft:
        Path(draft.root, "hello").write_text("world")
        draft.write(b"one\n")
        draft.write(b"two\n")
        draft.env = (("PATH", "/bin"), ("A", "b=c\n"))
        draft.meta["seconds"] = 1.5
        assert store.get("base") is None
    layer = store.get("base")
    assert layer is not None
    assert layer == draft.layer
    assert Path(layer.log).read_bytes() == b"one\ntwo\n"
    assert draft.log == layer.log
    assert layer.env() == (("PATH", "/bin"), ("A", "b=c\n"))
    assert layer.parents == ()
    assert layer.meta()["seconds"] == 1.5
    assert sorted(os.listdir(layer.path)) == ["build.log", "env.json", "fs", "layer.json"]
    assert list(whole(store, "base")) == ["hello"]


def test_a_layer_has_what_its_parent_has(store: Store) -> None:
    add(store, "a", None, lambda root: (root / "one").write_text("1"))
    layer = add(store, "b", "a", lambda root: (root / "two").write_text("2"))
    assert layer.parents == ("a",)
    assert sorted(whole(store, "b")) == ["one", "two"]
    assert sorted(whole(store, "a")) == ["one"]


def test_the_root_of_a_base_is_open_to_all_users(store: Store) -> None:
    layer = add(store, "a")
    assert os.stat(layer.fs).st_mode & 0o777 == 0o755
    assert os.stat(layer.path).st_mode & 0o777 == 0o700, "setuid programs inside are not for the host's users"


def test_what_is_given_to_the_root_itself_stays(store: Store) -> None:
    add(store, "a", None, lambda root: (os.chmod(root, 0o1711), os.chown(root, 5, 6), os.utime(root, ns=(1, 2))))
    add(store, "b", "a")
    layer = store.get("b")
    assert layer is not None
    with store.view(layer) as root:
        info = os.stat(root)
    assert (info.st_mode & 0o7777, info.st_uid, info.st_gid, info.st_mtime_ns) == (0o1711, 5, 6, 2)


def test_an_exception_leaves_nothing(store: Store) -> None:
    draft = store.new("a")
    with suppress(KeyError), draft:
        Path(draft.root, "x").touch()
        raise KeyError
    assert store.get("a") is None
    assert store.failed() == []
    assert draft.layer is None


def test_a_failed_tree_is_kept_when_asked(store: Store) -> None:
    add(store, "base", None, lambda root: (root / "below").touch())
    for content in ("first", "second"):
        failure = StepFailed("it failed", id="a", status=3, log="")
        with suppress(StepFailed), store.new("a", ("base",), keep_failed=True) as draft:
            Path(draft.root, "x").write_text(content)
            draft.write(b"oh no\n")
            failure.log = draft.log
            raise failure
        assert Path(failure.log).read_bytes() == b"oh no\n"
    assert store.get("a") is None
    layer = store.failed_layer("a")
    assert layer is not None
    assert store.failed() == [layer]
    assert (layer.meta()["error"], layer.meta()["status"]) == ("it failed", 3)
    with store.view(layer) as root:
        assert Path(root, "x").read_text() == "second"
        assert Path(root, "below").exists()


def test_giving_up_keeps_nothing(store: Store) -> None:
    with pytest.raises(Cancelled), store.new("a", keep_failed=True):
        raise Cancelled
    assert store.failed() == []


def test_who_waits_reuses_the_result_and_hears_the_log(store: Store) -> None:
    heard: list[bytes] = []
    waiting = threading.Event()
    made = []

    def second() -> None:
        waiting.set()
        with store.new("a", follow=heard.append) as draft:
            made.append(draft.layer)

    thread = threading.Thread(target=second)
    with store.new("a") as draft:
        draft.write(b"early ")
        thread.start()
        waiting.wait()
        assert soon(lambda: b"".join(heard) == b"early ")
        draft.write(b"live ")
        assert soon(lambda: b"".join(heard) == b"early live ")
        draft.write(b"late")
        assert made == []
    thread.join(10)
    assert made == [draft.layer]
    assert b"".join(heard) == b"early live late"


def test_another_process_waits_and_follows_too(store: Store) -> None:
    code = (
        "with store.new('a', follow=lambda data: os.write(1, data)) as draft:\n"
        "    os.write(1, b'|' + draft.layer.id.encode())\n"
    )
    with store.new("a") as draft:
        draft.write(b"early ")
        other = elsewhere(code, store)
        assert other.stdout is not None
        assert other.stdout.read(6) == b"early "
        draft.write(b"late")
    assert other.communicate(timeout=30)[0] == b"late|a"


def test_the_log_is_heard_whole_by_who_comes_when_it_is_over(store: Store) -> None:
    heard: list[bytes] = []
    with store.new("a") as draft:
        draft.write(b"all of it")
    with store.new("a", follow=heard.append) as draft:
        assert draft.layer == store.get("a")
    assert heard == [b"all of it"]
    with pytest.raises(StoreError, match="is not being written"):
        os.listdir(draft.root)


def test_who_waits_for_a_step_that_fails_makes_it(store: Store) -> None:
    begun, order = threading.Event(), list[str]()

    def second() -> None:
        begun.set()
        with store.new("a") as draft:
            order.append("second")
            Path(draft.root, "x").touch()

    thread = threading.Thread(target=second)
    with suppress(KeyError), store.new("a"):
        thread.start()
        begun.wait()
        time.sleep(0.02)
        order.append("first")
        raise KeyError
    thread.join(10)
    assert order == ["first", "second"]
    assert list(whole(store, "a")) == ["x"]


def test_waiting_ends_when_cancelled(store: Store) -> None:
    cancel = Cancel()
    with store.new("a"):
        threading.Timer(0.05, cancel.set, ("no longer wanted",)).start()
        with pytest.raises(Cancelled, match="no longer wanted"), store.new("a", cancel=cancel):
            pytest.fail("two at once")


def test_who_publishes_first_wins(store: Store) -> None:
    add(store, "model", None, lambda root: (root / "theirs").touch())
    with store.new("a") as draft:
        Path(draft.root, "ours").touch()
        os.rename(f"{store.path}/steps/model", f"{store.path}/steps/a")  # as a restored backup would come
        meta = Path(store.path, "steps/a/layer.json")
        meta.write_text(json.dumps(json.loads(meta.read_text()) | {"id": "a"}))
    assert draft.layer == store.get("a")
    assert list(whole(store, "a")) == ["theirs"]


def test_a_parent_that_is_gone_is_a_temporary_error(store: Store) -> None:
    with pytest.raises(StoreError, match='layer "gone" is not in the store') as error, store.new("a", ("gone",)):
        pytest.fail("made from nothing")
    assert error.value.temporary


def test_layers_of_platforms_have_directories_of_their_own(store: Store) -> None:
    add(store, "debian-12-x86_64/0123abcd", None, lambda root: (root / "x").touch())
    assert os.path.isdir(f"{store.path}/debian-12-x86_64/0123abcd/fs")
    add(store, "ff", "debian-12-x86_64/0123abcd")
    assert sorted(layer.id for layer in store.layers()) == ["debian-12-x86_64/0123abcd", "ff"]
    assert list(whole(store, "ff")) == ["x"]


@pytest.mark.parametrize("id", ["", "..", "a/..", "../a", "/a", "a/", "a//b", "steps/a", "tmp/x", "a/b/c", "a\0", ".x"])
def test_what_can_not_be_an_id(store: Store, id: str) -> None:
    with pytest.raises(StoreError, match="can not be the id of a layer"):
        store.get(id)


@pytest.mark.parametrize("name", ["plain-1.0_x+y", "a/b", ".", "..", "%", "%2f", "é\udcff\n", "A b", "a\0b"])
def test_names_are_escaped_injectively(name: str) -> None:
    assert unescape(escape(name)) == name
    assert set(escape(name)) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+%")
    assert not escape(name).startswith(".")


def test_several_parents_are_stacked(store: Store) -> None:
    add(store, "base", None, lambda root: [(root / name).write_text("base") for name in ("x", "y", "z", "gone")])
    add(store, "p/one", "base", lambda root: [(root / name).write_text("one") for name in ("y", "z", "only1")])
    add(store, "p/two", "base", lambda root: [(root / "z").write_text("two"), (root / "gone").unlink()])
    with store.new("all", ("base", "p/one", "p/two")) as draft:
        root = Path(draft.root)
        found = {path.name: path.read_text() for path in root.iterdir()}
        assert found == {"x": "base", "y": "one", "z": "two", "only1": "one"}
        (root / "new").touch()
    assert store.get("all").parents == ("base", "p/one", "p/two")  # type: ignore[union-attr]
    add(store, "next", "all")
    assert sorted(whole(store, "next")) == ["new", "only1", "x", "y", "z"]


def test_more_parents_than_the_kernel_takes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "SPAN", 3)
    monkeypatch.setattr(chain, "MOST", 6)
    add(store, "base", None, lambda root: (root / "x").write_text("base"))
    names = [f"p/{number}" for number in range(14)]
    for number, name in enumerate(names):
        add(
            store,
            name,
            "base",
            lambda root, number=number: [(root / f).write_text(f"{number}") for f in ("x", f"{number}")],
        )  # type: ignore[misc]
    with store.new("all", ("base", *names)) as draft:
        assert {path.name: path.read_text() for path in Path(draft.root).iterdir()} == {
            "x": "13",
            **{str(number): str(number) for number in range(14)},
        }
    if store.backend.stacked:
        assert len(store.lowers(("base", *names))) <= 6
    store.delete("base", children=True)
    assert os.listdir(f"{store.path}/flat") == []


def test_what_is_tried_out_vanishes(store: Store) -> None:
    layer = add(store, "a", None, lambda root: (root / "x").write_text("old"))
    before = whole(store, "a")
    with store.writable(layer) as root:
        Path(root, "x").write_text("new")
        Path(root, "y").touch()
    assert whole(store, "a") == before


def test_a_store_can_be_moved(store: Store) -> None:
    add(store, "a", None, lambda root: (root / "x").write_text("1"))
    add(store, "b", "a", lambda root: os.rename(root / "x", root / "y"))
    before = whole(store, "b")
    store.clean_up()
    os.rename(store.path, f"{store.path}-moved")
    moved = open_store(f"{store.kind}:{store.path}-moved")
    assert whole(moved, "b") == before
    moved.clean_up()
    os.rename(moved.path, store.path)


def test_a_long_chain(store: Store) -> None:
    length = 60 if store.kind == "copy" else 450  # a copy of the whole tree each time takes its time
    add(store, "s0", None, lambda root: (root / "f").mkdir())
    for number in range(1, length):
        add(store, f"s{number}", f"s{number - 1}", lambda root, number=number: (root / f"f/{number}").touch())  # type: ignore[misc]
    last = f"s{length - 1}"
    assert len(whole(store, last)) == length
    assert len(store.lowers((last,))) < 50, "each lower makes lookups slower"
    again = open_store(f"{store.kind}:{store.path}")
    assert len(whole(again, last)) == length
    assert len(store.delete("s0", children=True)) == length


def test_opening(store_place: str) -> None:
    kind, path = store_place.split(":")
    with pytest.raises(StoreError, match="there is no store at"):
        open_store(store_place, create=False)
    open_store(store_place)
    assert open_store(store_place, create=False).path == os.path.realpath(path)
    other = "copy" if kind == "overlay" else "overlay"
    with pytest.raises(StoreError, match=f'is a store of kind "{kind}"') as error:
        open_store(f"{other}:{path}")
    assert error.value.hint == f'write it as "{store_place}"'
    Path(path, "store.json").write_text("{}")
    with pytest.raises(StoreError, match="is damaged"):
        open_store(store_place)


def test_a_directory_with_other_things_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(StoreError, match="is not a store, and not empty"):
        open_store(f"copy:{tmp_path}")
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_names_of_stores(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match='unknown kind of store "overlai"') as error:
        open_store(f"overlai:{tmp_path}")
    assert error.value.hint == 'did you mean "overlay"?'
    with pytest.raises(UsageError, match="has no directory"):
        open_store("btrfs:")


def test_btrfs_is_asked_of_the_file_system(file_system: Callable[[str], Path]) -> None:
    with pytest.raises(StoreError, match="is not on a btrfs file system"):
        open_store(f"btrfs:{file_system('ext4')}/store")


def test_opening_imports_little() -> None:
    code = "import sys; from obuild.store import open_store; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    heavy = {"ctypes", "dataclasses", "typing", "pathlib", "subprocess", "json", "contextlib", "threading", "tempfile"}
    assert not heavy & set(done.stdout.split())
