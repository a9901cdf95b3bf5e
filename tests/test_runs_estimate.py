"""How long builds probably take."""

from __future__ import annotations

from pathlib import Path

import pytest

from obuild.runs.estimate import FILE, load_estimates, save_estimates
from obuild.runs.outcome import Failure, Success


def test_what_was_built_is_remembered_and_serves_other_versions(tmp_path: Path) -> None:
    estimates = load_estimates(str(tmp_path))
    estimates.learn(
        [Success("a.1", "k", seconds=10.0), Success("a.2", "k", seconds=20.0), Failure("b.1", "k", seconds=9.0)]
    )
    estimates.learn([Success("a.1", "k", cached=True), Success("c.1", "k", seconds=0.0)])
    save_estimates(str(tmp_path), estimates)
    read = load_estimates(str(tmp_path))
    assert (read("a.1"), read("a.2"), read("a.3")) == (10.0, 20.0, 20.0)
    assert read("b.1") == read("c.1") == read("unheard.of")
    assert read("ocaml-base-compiler.5.4.1") > 10 * read("unheard.of")


def test_the_last_version_that_was_built_counts(tmp_path: Path) -> None:
    estimates = load_estimates(str(tmp_path))
    estimates.learn([Success("a.2", "k", seconds=20.0)])
    estimates.learn([Success("a.1", "k", seconds=10.0)])
    save_estimates(str(tmp_path), estimates)
    assert load_estimates(str(tmp_path))("a.3") == 10.0


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a.1": "x", "b.1": -1, "c.1": null}', "\0\0"])
def test_a_damaged_file_is_no_estimate(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    assert load_estimates(str(tmp_path)).seconds == {}
