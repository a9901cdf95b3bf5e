"""Why a package failed, from what is kept of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from obuild.errors import FetchError
from obuild.runs.cause import cause, cause_of_error
from obuild.store import Layer

SPEC = """((from x) (shell /bin/sh -c)
 (workdir /home/opam/build/a.1)
 (copy (from (url https://x.example/a.tgz md5=00000000000000000000000000000000)) (src .) (dst ./))
 (run (network host) (shell "apt-get install x"))
 (run (shell "make"))
 (run (shell "make test"))
 (copy (from (opam install a.1 k)) (src .) (dst /home/opam)))"""


def kept(folder: Path, op: int | None, log: str = "", **facts: Any) -> Layer:
    record = {"id": "p/k", "parents": [], "op": op, "failure": "StepFailed", "status": 1, "error": "it failed", **facts}
    (folder / "layer.json").write_text(json.dumps(record))
    (folder / "build.spec").write_text(SPEC)
    (folder / "build.log").write_text(log)
    return Layer("p/k", str(folder))


def test_only_the_output_of_the_operation_that_failed_counts(tmp_path: Path) -> None:
    log = "…: (run (network host) (shell …))\nW: Temporary failure resolving 'x'\n"
    log += "/home/opam/build/a.1: (run (shell make))\ncc: fine\na.c:1:2: error: no semicolon\n"
    found = cause(kept(tmp_path, 4, log))
    assert (found.category, found.line) == ("build_failure", "a.c:1:2: error: no semicolon")


def test_a_step_without_a_network_that_asks_for_it(tmp_path: Path) -> None:
    log = "curl: (6) Could not resolve host: x.example\n"
    assert cause(kept(tmp_path, 4, log)).category == "needs_network"
    assert cause(kept(tmp_path, 3, log)).category == "transient_failure"


def test_tests_are_told_by_their_command(tmp_path: Path) -> None:
    assert cause(kept(tmp_path, 5, "1 test failed\n"), tests=["make test"]).category == "test_failure"
    assert cause(kept(tmp_path, 4, "1 test failed\n"), tests=["make test"]).category == "build_failure"


@pytest.mark.parametrize(
    ("op", "facts", "category"),
    [
        (2, {"failure": "FetchError", "error": ": no such archive"}, "fetch_failure"),
        (2, {"failure": "FetchError", "error": "bad checksum of x: expected 1, got 2"}, "checksum_failure"),
        (6, {"failure": "ObuildError", "error": '"bin/a" is missing\nand more'}, "install_failure"),
        (6, {"error": 'the package wrote outside its prefix: "/x"'}, "outside_prefix"),
        (4, {"failure": "LimitExceeded", "error": "time limit: 2 s"}, "timeout"),
        (None, {"failure": "ObuildError", "error": "odd"}, "build_failure"),
        (99, {"failure": "ObuildError", "error": "odd"}, "build_failure"),
    ],
)
def test_what_obuild_said_itself(tmp_path: Path, op: int | None, facts: dict[str, Any], category: str) -> None:
    found = cause(kept(tmp_path, op, "a line of the log\n", **facts))
    assert found.category == category
    assert found.line == facts["error"].removeprefix(": ").partition("\n")[0]


def test_files_that_are_gone(tmp_path: Path) -> None:
    layer = kept(tmp_path, 4)
    (tmp_path / "build.spec").unlink()
    (tmp_path / "build.log").unlink()
    assert cause(layer).line == "it failed"


def test_an_error_alone() -> None:
    assert cause_of_error(FetchError("bad checksum of x")).category == "checksum_failure"
