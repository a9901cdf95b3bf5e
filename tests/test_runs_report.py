"""Day10's shapes."""

from __future__ import annotations

import json

from obuild.runs.outcome import DependencyFailed, Failure, NoSolution, Success
from obuild.runs.report import (
    Report,
    format_dot,
    format_json,
    format_markdown,
    format_package_list,
    report_outcome,
)


def test_json_has_what_there_is() -> None:
    report = report_outcome(Success("a.1", "h"), sha="c0ffee", log="fine\n", solution="digraph opam {\n}\n")
    assert json.loads(format_json(report)) == {
        "name": "a.1", "status": "success", "sha": "c0ffee", "layer": "h", "log": "fine\n",
        "solution": "digraph opam {\n}\n",
    }  # fmt: skip
    assert json.loads(format_json(Report("a.1", "solution"))) == {"name": "a.1", "status": "solution", "sha": "unknown"}


def test_the_layer_is_the_one_that_decided() -> None:
    assert report_outcome(DependencyFailed("a.1", "h", "b.1", "hb")).layer == "hb"
    assert report_outcome(Failure("a.1", "h")).layer == "h"
    unsolved = report_outcome(NoSolution("a.1", "no way"), sha="s")
    assert json.loads(format_json(unsolved)) == {
        "name": "a.1", "status": "no_solution", "sha": "s", "solution": "no way"
    }  # fmt: skip


def test_markdown() -> None:
    steps = [("b.1", "built b\n"), ("a.1", "```\nfence\n```")]
    text = format_markdown(report_outcome(Failure("a.1", "h"), sha="s", solution="digraph opam {\n}\n", steps=steps))
    assert text == (
        "---\nstatus: failure\ncommit: s\npackage: a.1\n---\n\n"
        "# Solution\n\n```dot\ndigraph opam {\n}\n```\n\n"
        "# b.1\n\n```\nbuilt b\n```\n\n"
        "# a.1\n\n````\n```\nfence\n```\n````\n"
    )
    assert "no way\n" in format_markdown(report_outcome(NoSolution("a.1", "no way")))


def test_dot() -> None:
    edges = {"a.1": ["b.2"], "b.2": [], "c.3": ["a.1", "b.2"]}
    assert format_dot(edges) == 'digraph opam {\n  "a.1" -> "b.2";\n  "c.3" -> {"a.1" "b.2"};\n}\n'
    assert format_dot({}) == "digraph opam {\n}\n"
    assert format_dot({'a"\\': ["b"]}) == 'digraph opam {\n  "a\\"\\\\" -> "b";\n}\n'


def test_a_list_for_a_health_check() -> None:
    assert json.loads(format_package_list(["a.1", "b.2"])) == {"packages": ["a.1", "b.2"]}
