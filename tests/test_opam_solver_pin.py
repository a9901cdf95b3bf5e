"""The user's own packages."""

from __future__ import annotations

from pathlib import Path

import pytest
from solving import VARIABLES

from obuild.errors import OpamError, UsageError
from obuild.opam.package import Package
from obuild.opam.repo import open_repositories
from obuild.opam.solver import NoSolution, Rules, Solution, load_pins, open_solver, parse_request, verify
from obuild.value import replace

OPAM = 'opam-version: "2.0"\n'


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        (path.parent / f"{path.name}.opam").write_text(OPAM + text)
    return folder


def test_all_opam_files_below_a_directory(tmp_path: Path) -> None:
    write(tmp_path, a="", sub__b="", _build__c="", _opam__d="", x__y__e="")
    write(tmp_path / ".git", f="")
    (tmp_path / "not a name.opam").write_text(OPAM)
    pins = load_pins([str(tmp_path)])
    assert list(pins) == ["a", "b", "e"]
    assert pins["b"].path == str(tmp_path / "sub" / "b.opam")
    assert str(pins["b"].file.package) == "b.dev"


def test_a_name_that_is_there_twice(tmp_path: Path) -> None:
    one, two = write(tmp_path / "one", a=""), write(tmp_path / "two", a="")
    with pytest.raises(UsageError) as raised:
        load_pins([str(one), str(two)])
    assert str(raised.value) == f'"a" is pinned to both "{one}/a.opam" and "{two}/a.opam"'
    assert list(load_pins([str(one), str(one)])) == ["a"]


def test_directories_without_any(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file") as raised:
        load_pins([str(tmp_path)])
    assert raised.value.hint == ""
    with pytest.raises(UsageError, match="no file") as raised:
        load_pins([str(tmp_path / "none")])
    assert raised.value.hint == "there is no such directory"


def test_a_file_that_can_not_be_read(tmp_path: Path) -> None:
    write(tmp_path, a="depends: [")
    with pytest.raises(OpamError, match=r"a\.opam:2:11"):
        load_pins([str(tmp_path)])


def test_solving_with_pins(tmp_path: Path) -> None:
    for package, text in {"b.1": "", "b.2": "", "lib.1": 'depends: "b"', "lib.2": ""}.items():
        folder = tmp_path / "repository" / "packages" / package.partition(".")[0] / package
        folder.mkdir(parents=True)
        (folder / "opam").write_text(OPAM + text)
    project = write(tmp_path / "project", app='depends: ["lib" "t" {dev}]', lib='depends: "b" {< "2"}')
    repository = open_repositories([str(tmp_path / "repository")], "")
    solver, _ = open_solver(repository, Rules(tuple(VARIABLES.items())), pins=load_pins([str(project)]))
    answer = solver.solve(parse_request("app"), report="short")
    assert isinstance(answer, NoSolution)
    assert answer.report.splitlines() == [
        'no solution for "app"',
        "  app.dev needs t, but there is no such package",
        f"      {project}/app.opam: depends",
    ]
    write(project, t="")
    solver, _ = open_solver(repository, Rules(tuple(VARIABLES.items())), pins=load_pins([str(project)]))
    answer = solver.solve(parse_request("app"))
    assert isinstance(answer, Solution)
    assert [str(package) for package in answer.packages] == ["app.dev", "b.1", "lib.dev", "t.dev"]
    rules, pins = solver.universe.rules, load_pins([str(project)])
    assert verify(repository, rules, answer, pins) == ()
    wrong = replace(answer, packages=(*answer.packages[:1], Package("b", "2"), *answer.packages[2:]))
    assert verify(repository, rules, wrong, pins) == ("lib.dev lacks something that it depends on", "b.2 is not needed")
