"""The order of versions, against a slow reading of Debian's rules and opam's own answers."""

from __future__ import annotations

import gzip
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from obuild.opam.version import compare, holds, valid_version, version_key

VERSIONS = st.text(alphabet="019aZ.+-~_", min_size=1, max_size=8)

ORDER = ["1.0~~", "1.0~", "1.0~rc1", "1.0", "1.0-1", "1.0a", "1.0+x", "1.0.", "1.0.1", "1.00.2", "1.1", "1.10", "v1"]


@pytest.mark.parametrize(("older", "newer"), list(pairwise(ORDER)))
def test_versions_are_ordered(older: str, newer: str) -> None:
    assert compare(older, newer) == -1
    assert compare(newer, older) == 1
    assert holds(older, "<", newer)
    assert holds(newer, ">=", older)
    assert holds(newer, "~", older)
    assert holds(newer, "!=", older)


@pytest.mark.parametrize(("one", "other"), [("1", "1-0"), ("1", "1-"), ("1a", "1a0"), ("1.0", "1.00"), ("1", "01")])
def test_different_texts_can_be_the_same_version(one: str, other: str) -> None:
    assert compare(one, other) == 0
    assert version_key(one) == version_key(other)
    assert holds(one, "=", other)
    assert holds(one, "<=", other)
    assert not holds(one, ">", other)


def test_numbers_may_have_any_length() -> None:
    assert compare("1" + "0" * 6000, "9" * 6000) == 1


@pytest.mark.parametrize("text", ["1", "v0.17~preview.130+317", "base", "~", "5.2.0minus31"])
def test_valid_versions(text: str) -> None:
    assert valid_version(text)


@pytest.mark.parametrize("text", ["", "1 ", "1:2", "é", "%{x}%", "1\n"])
def test_invalid_versions(text: str) -> None:
    assert not valid_version(text)


@given(VERSIONS, VERSIONS)
@example("1", "1-0")
@example("1.", "1.0~")
def test_keys_follow_debians_rules(left: str, right: str) -> None:
    assert compare(left, right) == by_the_rules(left, right)


def by_the_rules(left: str, right: str) -> int:
    """Debian's policy, 5.6.12, word by word."""
    for one, other in zip(halves(left), halves(right), strict=True):
        order = parts(one, other)
        if order:
            return order
    return 0


def halves(version: str) -> tuple[str, str]:
    upstream, dash, revision = version.rpartition("-")
    return (upstream, revision) if dash else (version, "")


def parts(one: str, other: str) -> int:
    while one or other:
        first, one = run(one, digits=False)
        second, other = run(other, digits=False)
        for place in range(max(len(first), len(second))):
            a, b = rank(first[place : place + 1]), rank(second[place : place + 1])
            if a != b:
                return 1 if a > b else -1
        first, one = run(one, digits=True)
        second, other = run(other, digits=True)
        if int(first or 0) != int(second or 0):
            return 1 if int(first or 0) > int(second or 0) else -1
    return 0


def run(text: str, *, digits: bool) -> tuple[str, str]:
    size = next((place for place, char in enumerate(text) if char.isdigit() != digits), len(text))
    return text[:size], text[size:]


def rank(char: str) -> tuple[int, str]:
    return (0, "") if char == "~" else (1, "") if not char else (2, char) if char.isalpha() else (3, char)


def test_opams_own_answers(shared_data: Path) -> None:
    with gzip.open(shared_data / "build-ids" / "version-compare.txt.gz", "rt") as file:
        wanted = [line.split() for line in file]
    assert len(wanted) > 3000
    assert [line for line in wanted if compare(line[0], line[1]) != int(line[2])] == []
