"""Every recorded answer of the real opam-0install: solutions as sets, reports letter by letter."""

from __future__ import annotations

import gzip
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from solving import VARIABLES, World

from obuild.errors import UsageError
from obuild.opam.package import parse_package
from obuild.opam.platform import parse_platform
from obuild.opam.repo import Overlay, open_repositories
from obuild.opam.solver import (
    Memory,
    NoSolution,
    Rules,
    Solution,
    Solver,
    build_map,
    build_order,
    fingerprints,
    format_answer,
    open_solver,
    parse_request,
    solve_all,
    variable_table,
    verify,
)

PLATFORM = parse_platform("debian-12-x86_64")
RECORDINGS = {
    "day10-ocaml.5.4.1-latest": ("ocaml.5.4.1", {}),
    "day10-ocaml.4.14.2-sample300": ("ocaml.4.14.2", {}),
    "day10-ocaml.5.3.0-sample400": ("ocaml.5.3.0", {}),
    "allversions-ocaml.5.4.1-sample1000": ("ocaml.5.4.1", {}),
    "withtest-ocaml.5.4.1-sample400": ("ocaml.5.4.1", {"with_test": True}),
    "preferoldest-ocaml.5.4.1-sample400": ("ocaml.5.4.1", {"prefer_oldest": True}),
    "noocaml-constraint-sample400": ("", {}),
    "oxcaml-ocaml-variants.5.2.0+ox-sample200": ("ocaml-variants.5.2.0+ox", {}),
}


@pytest.fixture(scope="session")
def facts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A cache for what is read from opam files, for all tests."""
    return str(tmp_path_factory.mktemp("facts"))


def opened(names: list[str], facts: str, compiler: str, **flags: Any) -> tuple[Overlay, Solver]:
    repository = open_repositories(names, facts)
    package = parse_package(compiler) if compiler else None
    rules = Rules(variable_table(PLATFORM, package), package, day10=True, **flags)
    solver, reader = open_solver(repository, rules, cache=facts)
    # Reading ahead, and keeping it, makes each later solver of these tests start quickly.
    for name in repository.packages():
        solver.universe.candidates(name)
    reader.save()
    assert not reader.unreadable
    return repository, solver


def rows(shared_data: Path, recording: str) -> list[dict[str, Any]]:
    with gzip.open(shared_data / "solutions" / f"{recording}.jsonl.gz", "rt") as file:
        return [json.loads(line) for line in file]


@pytest.mark.slow
@pytest.mark.parametrize("recording", RECORDINGS)
def test_recorded_answers(recording: str, shared_data: Path, recorded_repositories: Path, facts: str) -> None:
    compiler, flags = RECORDINGS[recording]
    names = ["oxcaml.git", "opam-repository.git"] if recording.startswith("oxcaml") else ["opam-repository.git"]
    _, solver = opened([str(recorded_repositories / name) for name in names], facts, compiler, **flags)
    recorded = rows(shared_data, recording)
    has_reports = any(row.get("error") for row in recorded)
    answers = solve_all(
        solver, [parse_request(row["package"]) for row in recorded], report="0install" if has_reports else ""
    )
    wrong = []
    for row, answer in zip(recorded, answers, strict=True):
        shown = json.loads(format_answer(answer))
        same = set(shown.get("solution", ())) == set(row.get("solution", ())) and shown["package"] == row["package"]
        if not same or ("error" in shown) != ("error" in row) or shown.get("error", "") != row.get("error", ""):
            wrong.append(row["package"])
    assert recorded
    assert not wrong


@pytest.mark.slow
def test_recorded_solutions_pass_the_audit(shared_data: Path, recorded_repositories: Path, facts: str) -> None:
    repository = open_repositories([str(recorded_repositories / "opam-repository.git")], facts)
    for recording, (compiler, flags) in RECORDINGS.items():
        if not recording.startswith("oxcaml"):
            package = parse_package(compiler) if compiler else None
            rules = Rules(variable_table(PLATFORM, package), package, day10=True, **flags)
            for row in rows(shared_data, recording)[::40]:
                packages = tuple(map(parse_package, row.get("solution", ())))
                solution = Solution(parse_request(row["package"]), packages)
                assert not packages or verify(repository, rules, solution) == (), row["package"]


@pytest.mark.slow
def test_every_solution_can_be_built_in_some_order(shared_data: Path, recorded_repositories: Path, facts: str) -> None:
    _, solver = opened([str(recorded_repositories / "opam-repository.git")], facts, "ocaml.5.4.1")
    requests = [parse_request(row["package"]) for row in rows(shared_data, "day10-ocaml.5.4.1-latest")[::10]]
    for answer in solve_all(solver, requests):
        if isinstance(answer, Solution):
            plan = build_map(solver.universe, answer)
            order = build_order(plan)
            assert sorted(order) == list(plan)
            done = set()
            for package in order:
                assert done.issuperset(plan[package])
                done.add(package)
            assert str(answer.request) in map(str, plan)


@pytest.mark.slow
def test_answers_of_an_earlier_commit(recorded_repositories: Path, facts: str, tmp_path: Path) -> None:
    """What is reused for another commit is what would be found there."""
    bare = str(recorded_repositories / "opam-repository.git")
    log = subprocess.run(["git", "-C", bare, "rev-list", "--first-parent", "HEAD"], check=True, capture_output=True)
    commits = log.stdout.decode().split()
    reused = 0
    for commit in (commits[-1], commits[len(commits) // 2], commits[0]):
        repository, solver = opened([f"{bare}@{commit}"], facts, "ocaml.5.4.1")
        requests = [parse_request(name) for name in list(repository.packages())[::3]]
        memory = Memory(str(tmp_path), solver.universe.rules, fingerprints(repository, solver.universe))
        reused += sum(memory.get(request) is not None for request in requests)
        answers = list(solve_all(solver, requests, memory=memory))
        memory.save()
        fresh = opened([f"{bare}@{commit}"], facts, "ocaml.5.4.1")[1]
        for answer in answers:
            again = fresh.solve(answer.request)
            assert type(again) is type(answer)
            assert getattr(again, "packages", ()) == getattr(answer, "packages", ())
    assert reused > len(commits)


def test_unknown_packages_are_told_all_at_once() -> None:
    world = World({"aa.1": "", "aa.2": "", "ocaml.5": ""})
    with pytest.raises(UsageError) as raised:
        world.solver(compiler="ocam.5").check([parse_request(text) for text in ("aa.3", "ab", "aa", "aa.1")])
    assert str(raised.value).splitlines() == [
        'no package "ocam"; did you mean "ocaml"?',
        'no version "3" of "aa"; the newest is 2',
        'no package "ab"; did you mean "aa"?',
    ]


def test_a_pinned_package_has_no_other_version() -> None:
    solver = World({"a.1": 'depends: "b" {>= "2"}', "b.2": ""}).solver(pins={"b": ""})
    with pytest.raises(UsageError, match=r'"b\.2" is asked for, but "b" is pinned to "dev"'):
        solver.check([parse_request("b.2")])
    answer = solver.solve(parse_request("a"))
    assert isinstance(answer, Solution)
    assert [str(package) for package in answer.packages] == ["a.1", "b.dev"]


def test_the_compiler_comes_first_and_a_request_for_another_one_replaces_it() -> None:
    world = World({"c.1": "", "c.2": "", "a.1": 'depends: "c"', "a.2": 'depends: "c" {= "2"}'})
    solver = world.solver(compiler="c.1")
    shown = {text: format_answer(solver.solve(parse_request(text))) for text in ("a", "a.2", "c.2")}
    assert shown == {
        "a": '{"package":"a.1","solution":["a.1","c.1"]}',
        "a.2": '{"package":"a.2","error":""}',
        "c.2": '{"package":"c.2","solution":["c.2"]}',
    }


def test_a_compiler_that_can_not_be_had() -> None:
    solver = World({"c.1": 'depends: "d"', "a.1": "", "c.2": ""}).solver(compiler="c.1")
    for _ in range(2):
        answer = solver.solve(parse_request("a.1"), report="short")
        assert isinstance(answer, NoSolution)
        assert answer.examined >= {"c", "d"}
        assert answer.report.splitlines() == [
            'no solution for "a.1" with "c.1"',
            "  c.1 needs d, but there is no such package",
            "      c.1: depends",
        ]
    assert isinstance(solver.solve(parse_request("c.2")), Solution)


def test_tests_and_documentation_of_what_is_asked_for_alone() -> None:
    texts = {"a.1": 'depends: ["b" "t" {with-test} "d" {with-doc}]', "b.1": 'depends: "u" {with-test}', "t.1": ""}
    world = World({**texts, "d.1": "", "u.1": ""})
    for flags, expected in (({}, "a b"), ({"with_test": True}, "a b t"), ({"with_doc": True}, "a b d")):
        answer = world.solver(**flags).solve(parse_request("a"))
        assert isinstance(answer, Solution)
        assert " ".join([package.name for package in answer.packages]) == expected


def test_packages_to_be_avoided() -> None:
    world = World(
        {
            "a.1": "",
            "a.2": "flags: avoid-version",
            "b.1": "flags: avoid-version",
            "c.1": 'depends: "b"',
            "d.1": 'available: os = "macos"',
            "d.2": "flags: avoid-version",
        }
    )
    requests = [parse_request(text) for text in ("a", "a.2", "b", "b.1", "c", "d.2")]
    found = [isinstance(world.solver().solve(request), Solution) for request in requests]
    assert found == [True, True, True, True, False, True]
    found = [isinstance(world.solver(day10=True).solve(request), Solution) for request in requests]
    assert found == [True, True, False, False, False, False]
    assert format_answer(world.solver().solve(requests[0])) == '{"package":"a.1","solution":["a.1"]}'


def test_ocaml_of_the_system() -> None:
    world = World(
        {
            "ocaml.1": 'depends: "ocaml-base" | "ocaml-system"',
            "ocaml-system.1": 'available: sys-ocaml-version = "4.14.1"',
        }
    )
    assert isinstance(world.solver().solve(parse_request("ocaml")), NoSolution)
    given = (("sys-ocaml-version", "4.14.1"),)
    table = dict(variable_table(PLATFORM, given=given))
    assert isinstance(world.solver(variables=table).solve(parse_request("ocaml")), Solution)
    assert dict(variable_table(PLATFORM))["sys-ocaml-version"] == ""


def test_a_solution_in_the_presence_of_unreadable_files(tmp_path: Path) -> None:
    for package, text in {"a.1": 'depends: "b"', "b.1": "", "b.2": "depends: ["}.items():
        folder = tmp_path / "packages" / package.partition(".")[0] / package
        folder.mkdir(parents=True)
        (folder / "opam").write_text(f'opam-version: "2.0"\n{text}\n')
    repository = open_repositories([str(tmp_path)], "")
    solver, reader = open_solver(repository, Rules(tuple(VARIABLES.items())))
    answer = solver.solve(parse_request("a"))
    assert isinstance(answer, Solution)
    assert [str(package) for package in answer.packages] == ["a.1", "b.1"]
    (unreadable,) = reader.unreadable.items()
    assert str(unreadable[0]) == "b.2"
    assert "packages/b/b.2/opam:2:11" in str(unreadable[1])
