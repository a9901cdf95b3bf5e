"""Where copies come from: large files that are copied while their digest is taken, and results of nested builds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from house import SHELL, House

from obuild.build import stage

COPY = f'((from b) {SHELL} (copy (src data) (dst /in/)) (run (shell "cat /in/data/*")))'


@pytest.fixture
def data(house: House) -> Path:
    folder = house.context / "data"
    folder.mkdir()
    (folder / "large").write_bytes(os.urandom(5 << 20))
    (folder / "small").write_text("small")
    return folder


def test_copying_early_gives_the_id_that_hashing_first_gives(
    house: House, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, plain = house.build(COPY)
    monkeypatch.setattr(stage, "EARLY", 1000)
    other = House(tmp_path / "other", house.base)
    other.context = house.context
    _, early = other.build(COPY)
    assert early.ids[1:] == plain.ids[1:]
    _, again = other.build(COPY)
    assert again.cached("copy") == [True]


def test_copying_early_what_is_in_the_store_already_keeps_the_first(
    house: House, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "EARLY", 1000)
    _, first = house.build(COPY)
    os.utime(data / "large", (5, 5))
    _, second = house.build(COPY)
    assert second.ids == first.ids
    assert second.cached("run") == [True]
    assert house.open().fsck() == []


def test_what_is_copied_early_is_what_was_hashed(house: House, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "EARLY", 1000)
    layer, _ = house.build(COPY)
    with house.open().view(layer) as tree:
        assert Path(f"{tree}/in/data/large").read_bytes() == (data / "large").read_bytes()


def test_the_digest_of_a_result_is_taken_once(house: House, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"((build n {COPY}) (from b) (copy (from (build n)) (src /in) (dst /out)))"
    house.build(text, jobs=1)
    index = Path(house.store.partition(":")[2], "index")
    before = sorted(path.name for path in index.iterdir())
    monkeypatch.setattr("obuild.store.Store.view", lambda *_: pytest.fail("the result was opened again"))
    _, log = house.build(text, jobs=1)
    assert log.cached("copy") == [True, True]
    assert sorted(path.name for path in index.iterdir()) == before
