"""Outcomes as lines and back."""

from __future__ import annotations

import pytest

from obuild.errors import UsageError
from obuild.runs.outcome import (
    DependencyFailed,
    Failure,
    NoSolution,
    Outcome,
    Success,
    check_package,
    format_outcome,
    parse_outcome,
)

OUTCOMES: list[tuple[Outcome, str, str]] = [
    (Success("a.1", "h"), "success", "ok"),
    (Success("a.1", "h", cached=True, seconds=1.5), "success", "ok"),
    (Failure("a.1", "h", "fetch_failure", "no route", seconds=2.0), "failure", "fail"),
    (DependencyFailed("a.1", "h", "b.2", "i"), "dependency_failed", "cascade"),
    (NoSolution("a.1", "b conflicts with c"), "no_solution", "unsolved"),
]


@pytest.mark.parametrize(("outcome", "word", "mark"), OUTCOMES)
def test_words_and_lines(outcome: Outcome, word: str, mark: str) -> None:
    assert (outcome.word, outcome.mark) == (word, mark)
    record = format_outcome(outcome)
    assert record["status"] == mark
    assert parse_outcome(record) == outcome


def test_a_line_says_only_what_there_is_to_say() -> None:
    assert format_outcome(Success("a.1", "h")) == {"pkg": "a.1", "hash": "h", "status": "ok"}


@pytest.mark.parametrize(
    "record", [{}, {"pkg": "a.1"}, {"pkg": 7, "status": "ok"}, {"pkg": "a.1", "status": "new"}, {"status": "ok"}]
)
def test_other_lines_are_no_outcomes(record: dict[str, object]) -> None:
    assert parse_outcome(record) is None


def test_odd_types_are_left_out() -> None:
    record = {"pkg": "a.1", "hash": 5, "status": "fail", "error": None, "seconds": "long", "cached": 1}
    assert parse_outcome(record) == Failure("a.1", "")


@pytest.mark.parametrize("text", ["", ".", "..", "../x", "a/b", "a\0b", ".hidden", "x" * 300])
def test_what_can_be_no_file(text: str) -> None:
    with pytest.raises(UsageError):
        check_package(text)
