"""Sources that a store keeps: counted, pruned by their last use, never while somebody fetches or unpacks one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from obuild.disk import Lock
from obuild.store import Store, open_store
from obuild.store.stock import list_sources

HEX = "ab" + "0" * 62


@pytest.fixture(name="place")
def small_store(tmp_path: Path) -> Store:
    return open_store(f"copy:{tmp_path}/store")


def put(store: Store, name: str, *, hours: float, size: int = 8192) -> Path:
    """A source that was used so many hours ago."""
    kind, _, digest = name.partition("/")
    path = Path(store.path, "sources", kind, digest[:2], digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "git":
        (path / ".git").mkdir(parents=True)
        (path / "f").write_bytes(bytes(size))
    else:
        path.write_bytes(b"x" * size)
    used = path.stat().st_mtime - hours * 3600
    os.utime(path, (used, used))
    return path


def test_sources_are_listed_and_counted(place: Store) -> None:
    assert list(list_sources(place.path)) == []
    put(place, f"sha256/{HEX}", hours=1)
    put(place, f"md5/{HEX[:32]}.part", hours=1)
    put(place, f"git/{HEX[:40]}", hours=1)
    found = {source.name: source.size for source in list_sources(place.path)}
    assert set(found) == {f"sha256/{HEX}", f"md5/{HEX[:32]}.part", f"git/{HEX[:40]}"}
    assert min(found.values()) >= 8192
    assert place.usage().sources == sum(found.values())


def test_what_was_not_used_for_long_is_pruned(place: Store) -> None:
    old, new = put(place, f"sha256/{HEX}", hours=48), put(place, f"sha512/{HEX * 2}", hours=1)
    tree = put(place, f"git/{HEX[:40]}", hours=30)
    said = place.prune(max_age=24 * 3600, dry_run=True)
    assert [(item.kind, item.id) for item in said] == [("source", f"sha256/{HEX}"), ("source", f"git/{HEX[:40]}")]
    assert old.exists()
    assert place.prune(max_age=24 * 3600) == said
    assert (old.exists(), tree.exists(), new.exists()) == (False, False, True)


def test_what_is_in_use_stays(place: Store) -> None:
    part = put(place, f"sha256/{HEX}.part", hours=48)
    fresh = put(place, f"md5/{HEX[:32]}", hours=0)
    with Lock.take(str(part)):
        assert place.prune(max_size=0) == []
    assert fresh.exists()
    assert [item.id for item in place.prune(max_size=0)] == [f"sha256/{HEX}.part"]
    assert not part.exists()
