"""Answers that are kept, and for how long."""

from __future__ import annotations

from pathlib import Path

import pytest
from solving import World

from obuild.opam.solver import Memory, NoSolution, Solution, fingerprints, parse_request, solve_all

TEXTS = {"a.1": 'depends: "b" {> "2"}', "b.1": "", "c.1": 'depends: "d"', "d.1": "", "e.1": ""}
REQUESTS = [parse_request(text) for text in ("a.1", "c.1", "e")]


def remembered(folder: Path, texts: dict[str, str], report: str = "", **rules: object) -> list[object]:
    """What a memory knows about the requests; what it does not know is solved, and kept for the next time."""
    world = World(texts)
    solver = world.solver(**rules)
    memory = Memory(str(folder), solver.universe.rules, fingerprints(world, solver.universe))  # type: ignore[arg-type]
    known = [memory.get(request, report) for request in REQUESTS]  # type: ignore[arg-type]
    answers = list(solve_all(solver, REQUESTS, memory=memory, report=report))  # type: ignore[arg-type]
    assert [type(answer) for answer in answers] == [type(solver.solve(request)) for request in REQUESTS]
    memory.save()
    return [answer and ([str(each) for each in getattr(answer, "packages", ["none"])]) for answer in known]


def test_nothing_changed(tmp_path: Path) -> None:
    assert remembered(tmp_path, TEXTS) == [None, None, None]
    assert remembered(tmp_path, TEXTS) == [["none"], ["c.1", "d.1"], ["e.1"]]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"d.2": ""}, [["none"], None, ["e.1"]]),
        ({"d.1": 'synopsis: "changed"'}, [["none"], None, ["e.1"]]),
        ({"b.3": ""}, [None, ["c.1", "d.1"], ["e.1"]]),
        ({"unrelated.1": ""}, [["none"], ["c.1", "d.1"], ["e.1"]]),
        ({"e.2": ""}, [["none"], ["c.1", "d.1"], None]),
    ],
)
def test_what_changed_is_solved_again(change: dict[str, str], expected: list[object], tmp_path: Path) -> None:
    remembered(tmp_path, TEXTS)
    assert remembered(tmp_path, {**TEXTS, **change}) == expected
    assert None not in remembered(tmp_path, {**TEXTS, **change})


def test_a_package_that_appears(tmp_path: Path) -> None:
    texts = {**TEXTS, "a.1": 'depends: "new" | "b"'}
    remembered(tmp_path, texts)
    assert remembered(tmp_path, {**texts, "new.1": ""}) == [None, ["c.1", "d.1"], ["e.1"]]


def test_answers_under_other_rules_are_others(tmp_path: Path) -> None:
    remembered(tmp_path, TEXTS)
    assert remembered(tmp_path, TEXTS, prefer_oldest=True) == [None, None, None]
    assert None not in remembered(tmp_path, TEXTS)


def test_reports_are_kept_as_long_as_nothing_changes(tmp_path: Path) -> None:
    remembered(tmp_path, TEXTS)
    assert remembered(tmp_path, TEXTS, report="0install") == [None, ["c.1", "d.1"], ["e.1"]]
    assert remembered(tmp_path, TEXTS, report="short") == [None, ["c.1", "d.1"], ["e.1"]]
    assert remembered(tmp_path, TEXTS, report="short") == [["none"], ["c.1", "d.1"], ["e.1"]]
    assert remembered(tmp_path, {**TEXTS, "other.1": ""}, report="short") == [None, ["c.1", "d.1"], ["e.1"]]


def test_reports_of_several_processes(tmp_path: Path) -> None:
    texts = {f"a{number}.1": 'depends: "nobody"' if number % 3 else "" for number in range(100)}
    solver = World(texts).solver()
    requests = [parse_request(f"a{number}") for number in range(100)]
    answers = list(solve_all(solver, requests, report="short", processes=3))
    assert [answer.request for answer in answers] == requests
    for number, answer in enumerate(answers):
        assert isinstance(answer, NoSolution if number % 3 else Solution)
        if isinstance(answer, NoSolution):
            assert answer.report == World(texts).solver().report(requests[number], "short")


def test_a_cache_that_can_not_be_written_costs_time_only(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert remembered(tmp_path / "file", TEXTS) == [None, None, None]
    assert remembered(tmp_path / "file", TEXTS) == [None, None, None]
