"""Cache directories: private copies, of which the first to be released is what the next one gets."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import pytest
from stores import attributes, describe
from test_store import elsewhere

from obuild.errors import StoreError
from obuild.store import Store, cache, merge


def content(store: Store, name: str = "c") -> dict[str, tuple[object, ...]]:
    with store.cache(name) as path:
        return describe(path)


def change(store: Store, change: Callable[[Path], object], name: str = "c") -> None:
    with store.cache(name) as path:
        change(Path(path))


def generations(store: Store, name: str = "c") -> list[str]:
    return sorted(os.listdir(f"{store.path}/cache/{name}"))


def test_what_one_leaves_the_next_one_finds(store: Store) -> None:
    assert content(store) == {}
    change(store, lambda root: (root / "x").write_text("1"))
    change(store, lambda root: (root / "y").write_text("2"))
    assert list(content(store)) == ["x", "y"]


def test_it_belongs_to_the_user_of_the_step(store: Store) -> None:
    for user in ((1000, 1001), (0, 0), (5, 6)):
        with store.cache("c", user) as path:
            info = os.stat(path)
            assert (info.st_uid, info.st_gid) == user


def test_it_is_kept_after_a_failure(store: Store) -> None:
    with suppress(KeyError), store.cache("c") as path:
        Path(path, "x").touch()
        raise KeyError
    assert list(content(store)) == ["x"]


def test_copies_are_private_and_the_first_release_wins(store: Store) -> None:
    change(store, lambda root: (root / "x").write_text("1"))
    with store.cache("c") as first:
        with store.cache("c") as second:
            Path(first, "x").write_text("first")
            assert Path(second, "x").read_text() == "1"
            Path(second, "x").write_text("second")
        assert Path(first, "x").read_text() == "first"
        with store.cache("c") as third:
            assert Path(third, "x").read_text() == "second"
    with store.cache("c") as path:
        assert Path(path, "x").read_text() == "second"


def test_another_process_takes_part(store: Store) -> None:
    code = (
        "with store.cache('c') as path:\n"
        "    os.write(1, b'.'); sys.stdin.read()\n"
        "    open(path + '/theirs', 'w').close()\n"
    )
    other = elsewhere(code, store, stdin=-1)
    assert other.stdout is not None
    assert other.stdout.read(1) == b"."
    change(store, lambda root: (root / "ours").touch())
    other.communicate(timeout=30)
    assert list(content(store)) == ["ours"]


def test_names_are_told_apart(store: Store) -> None:
    for name in ("a/b", "a%2fb", "..", "a b", "x" * 200):
        change(store, lambda root, name=name: (root / "name").write_text(name), name)  # type: ignore[misc]
    for name in ("a/b", "a%2fb", "..", "a b", "x" * 200):
        with store.cache(name) as path:
            assert Path(path, "name").read_text() == name
    for name in ("", "x" * 256):
        with pytest.raises(StoreError, match="can not be the name of a cache"), store.cache(name):
            pytest.fail("no such name")


def fill(root: Path) -> None:
    (root / "d/e").mkdir(parents=True)
    for name in ("a", "b", "d/x", "d/e/y"):
        (root / name).write_text(name)
    os.link(root / "a", root / "d/a")


def remove(root: Path) -> None:
    (root / "b").unlink()
    shutil.rmtree(root / "d/e", ignore_errors=True)


def replace(root: Path) -> None:
    shutil.rmtree(root / "d")
    (root / "d").mkdir()
    (root / "d/new").touch()
    os.chmod(root / "d", 0o700)


def write(root: Path) -> None:
    (root / "a").write_text("written")


def rename(root: Path) -> None:
    os.rename(root / "d", root / "moved")
    (root / "moved/new").touch()


@pytest.mark.parametrize(
    "changes", [(remove,), (replace,), (write,), (rename,), (write, rename, remove), (rename, fill)]
)
def test_the_cache_is_a_plain_directory(store: Store, changes: tuple[Callable[[Path], object], ...]) -> None:
    plain = Path(store.path).parent / "plain"
    plain.mkdir()
    for step in (fill, *changes):
        try:
            step(plain)
        except FileNotFoundError:
            continue
        change(store, step)
    for path in plain.rglob("*"):
        os.utime(path, ns=(1, 1))
    change(store, lambda root: [os.utime(path, ns=(1, 1)) for path in root.rglob("*")])
    (number,) = generations(store)
    master = Path(store.path, "cache/c", number, "fs")
    assert describe(master) == describe(plain)
    own = [name for path in (master, *master.rglob("*")) for name in os.listxattr(path, follow_symlinks=False)]
    assert [name for name in own if name.startswith("trusted.overlay.") and not name.endswith(".origin")] == []
    assert attributes(master) == ()


def test_changes_are_put_together_although_it_is_always_in_use(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_MOST_CHANGES", 4)
    change(store, fill)
    with store.cache("c"):
        for number in range(12):
            change(store, lambda root, number=number: (root / f"{number}").touch())  # type: ignore[misc]
            assert len(cache._take(store, f"{store.path}/cache/c")) <= 6
    found = content(store)
    assert {str(number) for number in range(12)} <= found.keys()
    assert found["a"][-1] == ("a", "d/a")
    assert len(generations(store)) == 1


@pytest.mark.parametrize(("module", "function"), [(cache.kernel, "exchange"), (merge, "remove_tree")])
def test_a_settling_that_was_cut_short_is_finished(
    store: Store, monkeypatch: pytest.MonkeyPatch, module: ModuleType, function: str
) -> None:
    def fail(*_: object) -> None:
        raise OSError

    change(store, fill)
    with monkeypatch.context() as patch:
        patch.setattr(module, function, fail)
        change(store, remove)
        expected = content(store)
    assert expected.keys() == {"a", "d", "d/a", "d/x"}
    assert content(store) == expected
    assert len(generations(store)) == 1


def test_a_use_that_is_killed_changes_nothing(store: Store) -> None:
    change(store, fill)
    before = content(store)
    code = (
        "with store.cache('c') as path:\n"
        "    os.unlink(path + '/a'); open(path + '/new', 'w').close()\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    assert elsewhere(code, store).wait(30) == -signal.SIGKILL
    store.clean_up()
    assert content(store) == before


def test_deleting(store: Store) -> None:
    change(store, fill)
    with pytest.raises(StoreError, match='no cache "d" in the store'):
        store.delete_cache("d")
    if store.backend.stacked:
        with store.cache("c"), pytest.raises(StoreError, match='the cache "c" is in use'):
            store.delete_cache("c")
    store.delete_cache("c")
    assert content(store) == {}


def test_many_at_once(store: Store) -> None:
    def work(number: int) -> None:
        for turn in range(6):
            change(store, lambda root, turn=turn: (root / f"{number}-{turn}").touch())  # type: ignore[misc]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 6 <= len(content(store)) <= 24
    assert len(generations(store)) == 1
