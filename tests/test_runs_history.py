"""Histories: what day11's tests ask, and what its traps were."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from obuild.errors import UsageError
from obuild.runs.history import Compacted, Entry, History, format_entry, outcome_entry, parse_entry
from obuild.runs.moment import DAY, format_time
from obuild.runs.outcome import DependencyFailed, Failure, NoSolution
from obuild.value import replace

NOW = 1_800_000_000.0
FIRST = Entry(format_time(NOW), "run-1", "h1", "success", "success", compiler="5.3.0")


def at(days: float, **changes: object) -> Entry:
    return replace(FIRST, ts=format_time(NOW - days * DAY), **changes)


def filled(tmp_path: Path, *entries: Entry) -> History:
    history = History(str(tmp_path))
    for entry in entries:
        history.append("a.1", entry)
    return history


def test_newest_first(tmp_path: Path) -> None:
    history = filled(tmp_path, at(2), at(1), at(0))
    assert history.read("a.1") == [at(0), at(1), at(2)]
    assert history.packages() == ["a.1"]


def test_nothing_is_there_yet(tmp_path: Path) -> None:
    history = History(str(tmp_path / "none"))
    assert (history.packages(), history.read("a.1"), history.read_blessed("a.1")) == ([], [], None)
    assert list(history.recent("a.1", 100)) == []
    assert history.compact("a.1", max_age_days=0) == Compacted(0, 0, 0)


def test_latest_of_each_hash_and_the_blessed_one(tmp_path: Path) -> None:
    entries = at(3, blessed=True), at(2, build_hash="h2", blessed=True), at(1), at(0, build_hash="h3")
    history = filled(tmp_path, *entries)
    assert [entry.build_hash for entry in history.read_latest("a.1")] == ["h3", "h1", "h2"]
    assert history.read_blessed("a.1") == entries[1]


def test_optional_keys_are_left_out() -> None:
    assert format_entry(replace(FIRST, compiler="")).keys() == {
        "ts",
        "run",
        "build_hash",
        "status",
        "category",
        "blessed",
    }


@pytest.mark.parametrize("missing", ["ts", "run", "build_hash", "status", "category"])
def test_an_entry_needs_its_keys(missing: str) -> None:
    record = format_entry(FIRST)
    assert parse_entry(record) == FIRST
    del record[missing]
    assert parse_entry(record) is None
    assert parse_entry({**record, missing: 7}) is None


def test_both_schemas_are_read(tmp_path: Path) -> None:
    old = {"ts": "2026-03-06T12:34:56Z", "run": "r", "build_hash": "h", "status": "success", "category": "success"}
    entry = parse_entry({**old, "blessed": True, "universe": "u", "later": [1]})
    assert entry == Entry(*old.values(), blessed=True, universe="u")
    assert parse_entry({**old, "failed_dep": "b.1", "error": 5}) == Entry(*old.values(), failed_dep="b.1")


def test_damage_is_skipped_and_counted(tmp_path: Path) -> None:
    history = filled(tmp_path, at(1))
    path = Path(history.path("a.1"))
    path.write_bytes(path.read_bytes() + b'{"ts": "torn\n\xff\xff\n\0\0\0\n{"ts": "only"}\n' + b'{"half')
    history.append("a.1", at(0))
    assert history.read_all("a.1") == ([at(0), at(1)], 5)
    assert list(history.recent("a.1", 1 << 16)) == [at(0), at(1)]


@pytest.mark.parametrize("name", ["../../etc", "a/b", "", ".."])
def test_a_package_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        History(str(tmp_path)).append(name, FIRST)


CHILD = """
import sys
from obuild.runs.history import Entry, History
for number in range(100):
    History(sys.argv[1]).append("a.1", Entry(str(number), sys.argv[2], "h" * 64, "success", "success"))
"""


def test_threads_and_processes_append_together(tmp_path: Path) -> None:
    children = [subprocess.Popen([sys.executable, "-c", CHILD, tmp_path, str(number)]) for number in range(3)]

    def work(name: str) -> None:
        for number in range(100):
            History(str(tmp_path)).append("a.1", replace(FIRST, ts=str(number), run=name))

    threads = [threading.Thread(target=work, args=(f"t{number}",)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait() for process in children] == [0, 0, 0]
    entries, broken = History(str(tmp_path)).read_all("a.1")
    assert (len(entries), broken) == (600, 0)
    for name in ("0", "1", "2", "t0", "t1", "t2"):
        assert [int(entry.ts) for entry in entries if entry.run == name] == list(range(99, -1, -1))


# Compacting.


def days(history: History) -> list[float]:
    return [round((NOW - 1e-4 - _seconds(entry.ts)) / DAY) for entry in reversed(history.read("a.1"))]


def _seconds(text: str) -> float:
    from obuild.runs.moment import parse_time

    return parse_time(text) or 0.0


def test_old_series_keep_their_ends(tmp_path: Path) -> None:
    history = filled(tmp_path, *(at(day) for day in range(20, 0, -1)))
    assert history.compact("a.1", max_age_days=10, now=NOW) == Compacted(kept=12, dropped=8, broken=0)
    assert days(history) == [20, 11, *range(10, 0, -1)]


def test_compacting_with_zero_thins_everything_and_empties_nothing(tmp_path: Path) -> None:
    history = filled(
        tmp_path, *(at(day) for day in (5, 4, 3)), at(2, status="failure", category="build_failure"), at(1)
    )
    assert history.compact("a.1", max_age_days=0, now=NOW).dropped == 1
    assert days(history) == [5, 3, 2, 1]
    assert history.compact("a.1", max_age_days=0, now=NOW).dropped == 0


def test_young_entries_stay_byte_for_byte(tmp_path: Path) -> None:
    history = filled(tmp_path, at(3), at(2), at(1))
    before = Path(history.path("a.1")).read_bytes()
    history.compact("a.1", max_age_days=30, now=NOW)
    assert Path(history.path("a.1")).read_bytes() == before


def test_series_of_several_compilers_do_not_hide_each_other(tmp_path: Path) -> None:
    both = [at(day, compiler=c, build_hash=c) for day in range(9, 0, -1) for c in ("5.3.0", "5.4.1")]
    history = filled(tmp_path, *both)
    assert history.compact("a.1", max_age_days=0, now=NOW).kept == 4
    assert {(entry.compiler, day) for entry, day in zip(reversed(history.read("a.1")), days(history), strict=True)} == {
        ("5.3.0", 9), ("5.4.1", 9), ("5.3.0", 1), ("5.4.1", 1)
    }  # fmt: skip


@pytest.mark.parametrize("changes", [{"category": "timeout"}, {"blessed": True}, {"universe": "u"}, {"compiler": "x"}])
def test_what_differs_is_no_series(tmp_path: Path, changes: dict[str, object]) -> None:
    history = filled(tmp_path, at(4), at(3, **changes), at(2), at(1, **changes))
    assert history.compact("a.1", max_age_days=0, now=NOW).dropped == 0


def test_unknown_keys_and_odd_lines_survive(tmp_path: Path) -> None:
    history = filled(tmp_path, at(9), at(8), at(7))
    path = Path(history.path("a.1"))
    odd = [b'{"later": "thing"}', json.dumps({**format_entry(at(6)), "future": {"x": 1}}).encode()]
    odd.append(json.dumps({**format_entry(FIRST), "ts": "long ago"}).encode())
    path.write_bytes(path.read_bytes() + b"\n".join([*odd, b"torn {", b""]))
    assert history.compact("a.1", max_age_days=0, now=NOW) == Compacted(kept=4, dropped=3, broken=1)
    assert path.read_bytes().splitlines()[1:] == [odd[0], odd[1], odd[2]]


# What becomes an entry.


def test_outcomes_become_entries() -> None:
    failed = outcome_entry(
        Failure("a.1", "h", "timeout", "slow"), "r", compiler="5", universe="u", blessed=True, ts="t"
    )
    assert failed == Entry("t", "r", "h", "failure", "timeout", True, "5", "u", "slow")
    blocked = outcome_entry(DependencyFailed("a.1", "h", "b.2", "hb"), "r")
    assert (blocked.category, blocked.failed_dep, blocked.failed_dep_hash) == ("dependency_failure", "b.2", "hb")
    assert len(outcome_entry(NoSolution("a.1", "why " * 1000), "r").error) == 1000
