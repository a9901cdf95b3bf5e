"""The status of everything: totals, what has changed, what is new and gone, and how little is read."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obuild.runs.history import Entry, History
from obuild.runs.status import Change, Rollup, Status, format_status, generate_status, load_status, save_status

OK, BAD = "success", "build_failure"


class Past:
    """Histories, told run by run."""

    def __init__(self, tmp_path: Path) -> None:
        self.root = str(tmp_path)
        self.history = History(self.root)

    def tell(self, run: int, package: str, hash: str, category: str = OK, *, blessed: bool = True, **more: str) -> None:
        status = "success" if category == OK else "failure"
        entry = Entry(f"{run}", f"run-{run}", hash, status, category, blessed, **more)
        self.history.append(package, entry)

    def status(self, run: int, **more: object) -> Status:
        return generate_status(self.root, f"run-{run}", **more)  # type: ignore[arg-type]


@pytest.fixture
def past(tmp_path: Path) -> Past:
    return Past(tmp_path)


def test_nothing_yet(past: Past) -> None:
    status = past.status(1)
    assert (status.blessed_totals, status.packages, status.changes) == ({}, {}, ())
    assert load_status(past.root) is None


def test_totals_of_blessed_and_other_builds(past: Past) -> None:
    past.tell(1, "a.1", "a")
    past.tell(1, "a.1", "a2", BAD, blessed=False)
    past.tell(1, "b.1", "b", "timeout")
    past.tell(1, "c.1", "c", blessed=False, compiler="5.3.0")
    status = past.status(1)
    assert status.blessed_totals == {OK: 1, "timeout": 1}
    assert status.non_blessed_totals == {BAD: 1, OK: 1}
    assert status.packages == {"a.1": {"": OK}, "b.1": {"": "timeout"}, "c.1": {"5.3.0": OK}}
    assert status.new_packages == ("a.1", "b.1", "c.1")
    assert status.changes == ()


def test_the_same_hash_changes(past: Past) -> None:
    past.tell(1, "a.1", "h")
    past.tell(2, "a.1", "h", BAD)
    (change,) = past.status(2).changes
    assert change == Change("a.1", "", "h", True, OK, BAD)
    assert change.kind == "new_failure"
    assert past.status(2).new_packages == ()


def test_a_repaired_package_has_another_hash_and_is_a_recovery(past: Past) -> None:
    past.tell(1, "a.1", "h1", BAD, compiler="5.3.0", universe="u1")
    past.tell(2, "a.1", "h2", OK, compiler="5.3.0", universe="u2")
    (change,) = past.status(2).changes
    assert (change.kind, change.build_hash, change.compiler) == ("recovery", "h2", "5.3.0")


def test_a_failure_that_is_another_now(past: Past) -> None:
    past.tell(1, "a.1", "h1", BAD)
    past.tell(2, "a.1", "h2", "dependency_failure")
    assert [change.kind for change in past.status(2).changes] == ["other"]


def test_compilers_are_told_apart(past: Past) -> None:
    for run, category in ((1, OK), (2, BAD)):
        past.tell(run, "a.1", f"x{run}", OK, compiler="5.3.0", blessed=False)
        past.tell(run, "a.1", f"y{run}", category, compiler="5.4.1")
    status = past.status(2)
    assert [(change.compiler, change.kind) for change in status.changes] == [("5.4.1", "new_failure")]
    assert status.packages["a.1"] == {"5.3.0": OK, "5.4.1": BAD}


def test_a_run_without_a_compiler_leaves_its_state(past: Past) -> None:
    past.tell(1, "a.1", "x", BAD, compiler="5.3.0", blessed=False)
    past.tell(2, "a.1", "y", OK, compiler="5.4.1")
    past.tell(3, "a.1", "y", OK, compiler="5.4.1")
    status = past.status(3)
    assert status.packages["a.1"] == {"5.3.0": BAD, "5.4.1": OK}
    assert (status.blessed_totals, status.non_blessed_totals) == ({OK: 1}, {BAD: 1})


def test_universes_are_compared_with_themselves(past: Past) -> None:
    for run in (1, 2):
        past.tell(run, "a.1", f"u{run}", OK, universe="u", blessed=False)
        past.tell(run, "a.1", f"v{run}", BAD, universe="v", blessed=False)
    assert past.status(2).changes == ()
    past.tell(3, "a.1", "u3", BAD, universe="u", blessed=False)
    past.tell(3, "a.1", "w3", OK, universe="w", blessed=False)
    assert [change.build_hash for change in past.status(3).changes] == ["u3"]


def test_back_to_an_old_hash_is_compared_with_yesterday(past: Past) -> None:
    past.tell(1, "a.1", "good")
    past.tell(2, "a.1", "bad", BAD)
    past.tell(3, "a.1", "good")
    assert [change.kind for change in past.status(3).changes] == ["recovery"]


def test_one_that_was_tried_again_counts_once(past: Past) -> None:
    past.tell(1, "a.1", "h")
    past.tell(2, "a.1", "h", "transient_failure")
    past.tell(2, "a.1", "h")
    status = past.status(2)
    assert (status.changes, status.blessed_totals) == ((), {OK: 1})


def test_new_and_removed_packages(past: Past) -> None:
    past.tell(1, "a.1", "h")
    past.tell(1, "gone.1", "h")
    first = past.status(1)
    past.tell(2, "a.1", "h")
    past.tell(2, "b.1", "h")
    status = past.status(2, previous=first, expected={"a.1", "b.1"})
    assert (status.new_packages, status.removed_packages) == (("b.1",), ("gone.1",))
    assert status.blessed_totals == {OK: 2}
    assert past.status(2, previous=first).removed_packages == ()


def test_damaged_histories_cost_what_is_damaged(past: Past) -> None:
    past.tell(1, "a.1", "h")
    past.tell(2, "a.1", "h", BAD)
    with open(past.history.path("a.1"), "ab") as file:
        file.write(b'{"torn')
    (Path(past.root) / "packages" / "empty.1").mkdir()
    (Path(past.root) / "packages" / "empty.1" / "history.jsonl").write_bytes(b"")
    (Path(past.root) / "packages" / "file.1").write_text("no directory")
    (Path(past.root) / "packages" / "odd.1" / "history.jsonl").mkdir(parents=True)
    status = past.status(2)
    assert list(status.packages) == ["a.1"]
    assert len(status.changes) == 1


# How much is read.


def test_only_what_changed_is_read_again(past: Past) -> None:
    for number in range(20):
        past.tell(1, f"p{number}.1", "h")
    rollup = Rollup(past.root)
    one = past.status(1, rollup=rollup)
    assert rollup.reads == 20
    past.tell(2, "p3.1", "h", BAD)
    two = past.status(2, rollup=rollup)
    assert rollup.reads == 21
    assert [change.package for change in two.changes] == ["p3.1"]
    assert (one.packages["p4.1"], two.packages) == ({"": OK}, past.status(2).packages)


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("xyz"), st.booleans(), st.sampled_from(["", "5"]))))
def test_what_is_kept_in_memory_is_what_a_new_look_finds(told: list[tuple[int, str, bool, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        past, rollup = Past(Path(folder)), Rollup(folder)
        for number, (package, key, good, compiler) in enumerate(told):
            run = number // 3
            past.tell(run, f"p{package}.1", key, OK if good else BAD, blessed=good, compiler=compiler)
            if number % 2:
                assert past.status(run, rollup=rollup, now=0.0) == past.status(run, now=0.0)


def test_long_histories_are_read_from_their_end(past: Past) -> None:
    for run in range(2000):
        past.tell(run, "a.1", f"{run:064}", OK if run % 2 else BAD, compiler="5.3.0")
    ((_, entries),) = Rollup(past.root).entries()
    assert len(entries) < 10
    assert [change.kind for change in past.status(1999).changes] == ["recovery"]


def test_runs_with_many_builds_of_a_package_are_seen_whole(past: Past) -> None:
    for run in (1, 2):
        for number in range(40):
            category = BAD if (run, number) == (2, 0) else OK
            past.tell(run, "a.1", f"{run}-{number}", category, universe=str(number), blessed=number == 0)
    status = past.status(2)
    assert (status.blessed_totals, status.non_blessed_totals) == ({BAD: 1}, {OK: 39})
    assert [change.build_hash for change in status.changes] == ["2-0"]


# The file.


def test_saved_and_loaded(past: Past) -> None:
    past.tell(1, "a.1", "h", compiler="5")
    past.tell(2, "a.1", "h", BAD, compiler="5")
    status = past.status(2, now=0.0)
    save_status(past.root, status)
    assert load_status(past.root) == status
    record = json.loads(format_status(status))
    assert record["changes_since_last"] == [
        {"package": "a.1", "compiler": "5", "build_hash": "h", "blessed": True, "from": OK, "to": BAD,
         "kind": "new_failure"}
    ]  # fmt: skip
    assert format_status(status).endswith("}\n")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"generated": "t"}', '{"generated": 1, "run_id": "r"}', "\0"])
def test_malformed_files_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "status.json").write_text(text)
    assert load_status(str(tmp_path)) is None


def test_a_file_of_another_writer(tmp_path: Path) -> None:
    record = {"generated": "t", "run_id": "r", "blessed_totals": {"success": 3, "x": "y"}, "scanned": 7}
    record["changes_since_last"] = [{"package": "a", "build_hash": "h", "blessed": True, "from": "x", "to": "y"}, 5]
    (tmp_path / "status.json").write_text(json.dumps(record))
    status = load_status(str(tmp_path))
    assert status
    assert (status.blessed_totals, status.packages) == ({"success": 3}, {})
    assert status.changes == (Change("a", "", "h", True, "x", "y"),)
