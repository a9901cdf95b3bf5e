"""The cache of what was parsed: what it keeps, and what happens to it in crashes, on full disks, in company."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from obuild.opam.cache import MERGE, Cache, Draft, Table


def add(table: Table, **values: object) -> None:
    draft = Draft()
    for key, value in values.items():
        draft[key.encode()] = value
    table.add(draft)


def packs(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.pack"))


def test_values_are_kept(tmp_path: Path) -> None:
    table = Cache(str(tmp_path)).table("t")
    assert (table.get(b"a"), list(table.items())) == (None, [])
    add(table, a=("list", (1, True, "x\xff")), b=None, c=0)
    for reader in (table, Cache(str(tmp_path)).table("t")):
        assert reader.get(b"a") == ("list", (1, True, "x\xff"))
        assert dict(reader.items()) == {b"a": ("list", (1, True, "x\xff")), b"b": None, b"c": 0}
        assert dict(reader.items({b"c"})) == {b"c": 0}
    assert Cache(str(tmp_path)).table("other").get(b"a") is None


def test_a_draft_takes_values_as_they_are_then(tmp_path: Path) -> None:
    table = Cache(str(tmp_path)).table("t")
    value = [1]
    draft = Draft()
    draft[b"a"] = value
    value.append(2)
    table.add(draft)
    assert table.get(b"a") == [1]


def test_many_packs_become_one(tmp_path: Path) -> None:
    table = Cache(str(tmp_path)).table("t")
    for number in range(MERGE):
        add(table, **{f"k{number}": number})
    assert len(packs(tmp_path)) == MERGE
    reader = Cache(str(tmp_path)).table("t")
    assert reader.get(b"k3") == 3
    add(table, last="x")
    assert len(packs(tmp_path)) == 1
    assert dict(table.items()) == {**{f"k{number}".encode(): number for number in range(MERGE)}, b"last": "x"}
    assert reader.get(b"k5") == 5, "who had the old packs open still reads them"


def test_nothing_is_kept_without_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cache = Cache("")
    add(cache.table("t"), a=1)
    cache.save("r", 1)
    assert (cache.table("t").get(b"a"), cache.load("r"), cache.written("r"), list(tmp_path.iterdir())) == (
        None,
        None,
        0,
        [],
    )


def test_damage_counts_as_absent(tmp_path: Path) -> None:
    table = Cache(str(tmp_path)).table("t")
    add(table, a="first value", b="second value")
    (pack,) = packs(tmp_path)
    whole = pack.read_bytes()
    pack.write_bytes(whole.replace(b"first value", b"fIrst value"))
    damaged = Cache(str(tmp_path)).table("t")
    assert (damaged.get(b"a"), damaged.get(b"b"), dict(damaged.items())) == (
        None,
        "second value",
        {b"b": "second value"},
    )
    for size in (0, 10, 25, len(whole) - 1):
        pack.write_bytes(whole[:size])
        assert Cache(str(tmp_path)).table("t").get(b"b") is None
        assert not pack.exists(), "a torn file is removed"
    pack.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert Cache(str(tmp_path)).table("t").get(b"b") is None


def test_records_are_replaced_and_forgotten(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path))
    for number in range(6):
        cache.save(f"listing-{number}", {"n": number}, keep=3)
        os.utime(Path(cache.folder, f"listing-{number}.record"), ns=(number, number))
    cache.save("other-1", "kept")
    assert [cache.load(f"listing-{number}") for number in range(6)] == [None, None, None, {"n": 3}, {"n": 4}, {"n": 5}]
    assert cache.load("other-1") == "kept"
    assert cache.written("listing-5") == 5
    cache.save("other-1", "new")
    assert Cache(str(tmp_path)).load("other-1") == "new"
    record = Path(cache.folder, "other-1.record")
    record.write_bytes(record.read_bytes()[:-1])
    assert cache.load("other-1") is None


def test_a_place_that_can_not_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = Cache(str(tmp_path / "file"))
    add(cache.table("t"), a=1)
    assert cache.table("t").get(b"a") is None
    assert cache.problem.startswith(f'can not write "{tmp_path}/file')
    assert cache.problem.endswith("Not a directory")


def python(code: str, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)])


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """A limit on the size of files ends a write in the middle, as a full disk does."""
    add(Cache(str(tmp_path)).table("t"), a="before")
    code = """
import resource, sys
from obuild.opam.cache import Cache, Draft
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
table = Cache(sys.argv[1]).table("t")
draft = Draft()
draft[b"big"] = "x" * 10_000
table.add(draft)
assert table.cache.problem.endswith("File too large"), table.cache.problem
assert table.get(b"a") == "before" and table.get(b"big") is None
"""
    assert python(code, tmp_path).wait() == 0
    assert len(packs(tmp_path)) == 1
    assert not list(tmp_path.rglob("*.tmp"))


def test_many_processes_add_at_once(tmp_path: Path) -> None:
    code = """
import sys
from obuild.opam.cache import Cache, Draft
for number in range(20):
    table = Cache(sys.argv[1]).table("t")
    draft = Draft()
    draft[f"{sys.argv[2]}-{number}".encode()] = number
    table.add(draft)
    assert table.get(f"{sys.argv[2]}-{number}".encode()) == number
"""
    writers = [python(code, tmp_path, name) for name in "abcd"]
    assert [writer.wait() for writer in writers] == [0] * 4
    found = dict(Cache(str(tmp_path)).table("t").items())
    assert found == {f"{name}-{number}".encode(): number for name in "abcd" for number in range(20)}


def test_drafts_of_the_dead_are_removed(tmp_path: Path) -> None:
    table = Cache(str(tmp_path)).table("t")
    add(table, a=1)
    folder = packs(tmp_path)[0].parent
    old, young = folder / "x.pack.1-1.tmp", folder / "x.pack.2-2.tmp"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    assert Cache(str(tmp_path)).table("t").get(b"a") == 1
    assert (old.exists(), young.exists()) == (False, True)
