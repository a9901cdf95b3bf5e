"""`.changes` files: digests, times as OCaml prints them, printing and reading."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from obuild.opam.changes import KINDS, Change, digest, format_changes, parse_changes, time_text


# Seen with opam 2.1.2 and 2.3.0
@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (1795224454_260000000, "1795224454.26"),
        (1795224454_000000000, "1795224454."),
        (1000000000_500000000, "1000000000.5"),
        (1000000000_123456789, "1000000000.12"),
        (5_250000000, "5.25"),
        (0, "0."),
        (-3_500000000, "-3.5"),
        (15032385535_000000000, "15032385535."),
        (100000, "0.0001"),
        (10000, "1e-05"),
        (123456_789000000, "123456.789"),
    ],
)
def test_times(nanoseconds: int, text: str) -> None:
    assert time_text(nanoseconds) == text


def test_digests(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"hello")
    os.utime(tmp_path / "file", ns=(0, 1795224454_260000000))
    os.symlink("there", tmp_path / "link")
    os.mkfifo(tmp_path / "pipe")
    states = {name: os.lstat(tmp_path / name) for name in ("file", "link", "pipe", "")}
    assert digest(states["file"]) == "F:S5T1795224454.26"
    assert digest(states["link"], "there") == "L:there"
    assert digest(states[""]) == "D"
    assert digest(states["pipe"]) == f"S:{states['pipe'].st_dev}:0"


def test_printing() -> None:
    changes = {
        "lib": Change("added", "D"),
        'lib/a"b\\c': Change("added", "F:S1T1."),
        "caf\xe9": Change("added", "L:x"),
        "gone": Change("removed"),
        "other": Change("contents-changed", "F:S2T2."),
        "share": Change("perm-changed", "D"),
        "kind": Change("kind-changed", "D"),
    }
    text = format_changes(changes)
    assert text == (
        'opam-version: "2.0"\nadded: [\n  "caf\xe9" {"L:x"}\n  "lib" {"D"}\n  "lib/a\\"b\\\\c" {"F:S1T1."}\n]\n'
        'removed: "gone"\ncontents-changed: "other" {"F:S2T2."}\nperm-changed: "share" {"D"}\n'
        'kind-changed: "kind" {"D"}\n'
    )
    assert parse_changes(text) == changes


def test_nothing_changed() -> None:
    assert format_changes({}) == 'opam-version: "2.0"\n'
    assert parse_changes('opam-version: "2.0"\n') == {}
    assert parse_changes("") == {}


NAMES = st.text(st.characters(max_codepoint=255, exclude_characters="\0\r"), min_size=1)
CHANGES = st.builds(Change, st.sampled_from([kind for kind in KINDS if kind != "removed"]), NAMES) | st.just(
    Change("removed")
)


@given(st.dictionaries(NAMES, CHANGES))
def test_what_is_printed_is_read_back(changes: dict[str, Change]) -> None:
    assert parse_changes(format_changes(changes)) == changes


def test_a_compiler_has_many() -> None:
    changes = {f"lib/ocaml/module{number}.cmx": Change("added", "F:S1234T1795224454.26") for number in range(20_000)}
    assert parse_changes(format_changes(changes)) == changes
