"""Times as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obuild.runs.moment import format_time, parse_time


def test_one_format_in_utc() -> None:
    assert format_time(0) == "1970-01-01T00:00:00.000Z"
    assert format_time(1772800496.789) == "2026-03-06T12:34:56.789Z"
    assert format_time(1.9996) == "1970-01-01T00:00:02.000Z"


@given(st.integers(0, 4 * 10**12), st.integers(0, 4 * 10**12))
def test_texts_sort_as_times_and_are_read_back(one: int, other: int) -> None:
    texts = format_time(one / 1000), format_time(other / 1000)
    assert (texts[0] < texts[1]) == (one < other)
    assert parse_time(texts[0]) == pytest.approx(one / 1000, abs=1e-6)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-03-06T12:34:56Z", 1772800496),
        ("2026-03-06T13:34:56+01:00", 1772800496),
        ("2026-03-06T12:34:56", 1772800496),
        (1772800496.5, 1772800496.5),
        ("yesterday", None),
        ("", None),
        (None, None),
        (True, None),
        ([], None),
        ("9999-99-99T00:00:00Z", None),
    ],
)
def test_what_others_wrote(text: object, seconds: float | None) -> None:
    assert parse_time(text) == seconds
