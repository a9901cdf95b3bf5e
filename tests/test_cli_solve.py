"""`obuild opam solve`, `rdeps` and `why`, as they are typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from obuild import cli

Run = Callable[..., tuple[int, str, str]]

TEXTS = {
    "ocaml.5": "",
    "ocaml.4": "",
    "a.1": 'depends: ["ocaml" "b" {>= "2"} "c" {post}]',
    "b.1": "",
    "b.2": 'depends: "ocaml"',
    "b.3": 'depends: "ocaml" {< "5"}',
    "c.1": 'depends: "a"',
    "t.1": 'depends: ["b" {with-test} "c" {with-doc & = "1"} "x" {dev}]',
    "old.1": "flags: avoid-version",
    "far.1": 'available: os = "win32"',
    "no.1": 'depends: "b" {>= "3"}',
}


def write(folder: Path, texts: dict[str, str] = TEXTS) -> str:
    for package, text in texts.items():
        place = folder / "packages" / package.partition(".")[0] / package
        place.mkdir(parents=True)
        (place / "opam").write_text(text if text.startswith("!") else f'opam-version: "2.0"\n{text}\n')
    return str(folder)


@pytest.fixture
def run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    repository = write(tmp_path / "repository")

    def run(command: str, *words: str, compiler: str = "ocaml.5", repo: str = repository) -> tuple[int, str, str]:
        options = ["--repo", repo, "--cache", str(tmp_path / "cache"), "--platform", "debian-12-x86_64"]
        status = cli.main(["opam", command, *options, *(["--compiler", compiler] if compiler else []), *words])
        return status, *capfd.readouterr()

    return run


def test_a_solution_in_all_its_forms(run: Run) -> None:
    assert run("solve", "a") == (0, "a.1 b.2 c.1 ocaml.5\n", "")
    assert run("solve", "a.1", "--order") == (0, "ocaml.5\nb.2\na.1\n", "")
    assert run("solve", "a", "--dot")[1].splitlines()[1] == '  "a.1" -> {"b.2" "ocaml.5"};'
    assert json.loads(run("solve", "a", "--json", "--verify")[1]) == {
        "package": "a.1",
        "solution": ["a.1", "b.2", "c.1", "ocaml.5"],
        "plan": {"a.1": ["b.2", "ocaml.5"], "b.2": ["ocaml.5"], "ocaml.5": []},
    }
    assert run("solve", "a", compiler="ocaml.4")[1] == "a.1 b.3 c.1 ocaml.4\n"
    assert run("solve", "b", "--prefer-oldest")[1] == "b.1 ocaml.5\n"


def test_several_requests_keep_their_order(run: Run, tmp_path: Path) -> None:
    (tmp_path / "list").write_text("no.1  # a comment\n\na\n")
    (tmp_path / "day10.json").write_text('{"packages": ["b.1"]}')
    words = ["b", f"@{tmp_path}/list", f"@{tmp_path}/day10.json", "--json", "--report", "none"]
    for _ in range(2):  # the second time from memory
        status, out, _ = run("solve", *words)
        found = [json.loads(line) for line in out.splitlines()]
        assert status == 0
        assert [each["package"] for each in found] == ["b.2", "no.1", "a.1", "b.1"]
        assert [each.get("error") for each in found] == [None, "", None, None]


def test_everything(run: Run) -> None:
    status, out, err = run("solve", "--all", "--json", "--verify", "--rules", "day10")
    found = {each["package"]: each.get("solution") for each in map(json.loads, out.splitlines())}
    assert (status, err) == (0, "")
    assert list(found) == ["a.1", "b.3", "c.1", "no.1", "ocaml.5", "old.1", "t.1"]
    assert [package for package, solution in found.items() if not solution] == ["b.3", "no.1", "old.1"]
    assert len(run("solve", "--all-versions", "--json", compiler="")[1].splitlines()) == len(TEXTS) - 1
    assert run("solve", "--all", "a")[0] == 2


def test_tests_and_documentation_are_verified_too(run: Run) -> None:
    assert run("solve", "t", "--verify")[1] == "ocaml.5 t.1\n"
    assert run("solve", "t", "--verify", "--with-test")[1] == "b.2 ocaml.5 t.1\n"
    assert run("solve", "t", "--verify", "--with-doc")[1] == "a.1 b.2 c.1 ocaml.5 t.1\n"


def test_what_is_to_be_avoided_is_solved_when_asked_for(run: Run) -> None:
    assert run("solve", "old", "--verify")[:2] == (0, "ocaml.5 old.1\n")
    assert run("solve", "old", "--rules", "day10")[0] == 3


def test_no_solution_is_explained(run: Run, tmp_path: Path) -> None:
    status, out, err = run("solve", "no")
    assert (status, out) == (3, "")
    assert err.splitlines() == [
        'no solution for "no" with "ocaml.5"',
        "  no.1 needs b >= 3",
        f"      {tmp_path}/repository/packages/no/no.1/opam: depends",
        "  b.3 needs ocaml < 5",
        f"      {tmp_path}/repository/packages/b/b.3/opam: depends",
    ]
    status, out, _ = run("solve", "no", "--json")
    shown = json.loads(out)
    assert (status, shown["package"], shown["error"]) == (3, "no", err.rstrip())
    assert [step["subject"] for step in shown["explanation"]["steps"]] == ["b >= 3", "ocaml < 5"]
    assert run("solve", "no", "--report", "0install")[2].startswith("Can't find all required versions.\nSelected: ")
    assert json.loads(run("solve", "no", "--report", "none", "--json")[1]) == {"package": "no", "error": ""}
    assert "it is not available on this platform" in run("solve", "far")[2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["aa"], 'no package "aa"; did you mean "a"?'),
        (["a.2"], 'no version "2" of "a"; the newest is 1'),
        (["a", "--compiler", "ocalm.5"], 'no package "ocalm"; did you mean "ocaml"?'),
        (["a", "--compiler", "ocaml.6"], 'no version "6" of "ocaml"; the newest is 5'),
        (["a", "--compiler", "ocaml"], '"ocaml" has no version'),
        ([], "what shall be solved?"),
        (["@/nowhere"], 'can not read the package list "/nowhere"'),
        (["a", "--platform", "debian"], '"debian" is not a platform'),
        (["a", "--var", "x"], '"x" does not set a variable'),
        (["a", "--pin", "/nowhere"], 'no file "NAME.opam" in "/nowhere"'),
    ],
)
def test_what_can_not_be_asked(run: Run, words: list[str], message: str) -> None:
    status, out, err = run("solve", *words)
    assert (status, out) == (2, "")
    assert message in err


def test_unreadable_files_are_named_and_the_rest_is_solved(run: Run, tmp_path: Path) -> None:
    broken = {"a.1": "", "b.1": "depends: [", "c.1": "!\0\1\x1b[2J", "d.1": "x" * 300_000, "e.1": 'depends: "a" | "b"'}
    nested = f"depends: {'[' * 50_000}"
    place = write(tmp_path / "broken", {**broken, "f.1": nested, "g.1": '!opam-version: "3.0"'})
    status, out, err = run("solve", "--all", "--json", repo=place, compiler="")
    assert status == 0
    assert [json.loads(line)["solution"] for line in out.splitlines()] == [["a.1"], ["a.1", "e.1"]]
    for name in "bcdfg":
        assert f"note: left out: {place}/packages/{name}/{name}.1/opam" in err
    assert "\x1b" not in err
    assert '"b": its opam file can not be read' in run("solve", "b", repo=place, compiler="")[2]


def test_pins(run: Run, tmp_path: Path) -> None:
    for name, text in (("b", 'depends: "ocaml"'), ("own", 'depends: ["b" "x" {with-test}]\navailable: false')):
        (tmp_path / "pin").mkdir(exist_ok=True)
        (tmp_path / "pin" / f"{name}.opam").write_text(f'opam-version: "2.0"\n{text}\n')
    pin = ("--pin", str(tmp_path / "pin"))
    assert run("solve", "a", *pin, "--verify")[1] == "a.1 b.dev c.1 ocaml.5\n"
    assert run("solve", *pin, "--verify")[1].splitlines() == ["b.dev ocaml.5", "b.dev ocaml.5 own.dev"]
    status, _, err = run("solve", "own", *pin, "--with-test")
    assert status == 3
    assert f"{tmp_path}/pin/own.opam: depends" in err
    assert 'but "b" is pinned to "dev"' in run("solve", "b.1", *pin)[2]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "b.opam").write_text('opam-version: "2.0"\n')
    status, _, err = run("solve", "a", *pin, "--pin", str(tmp_path / "other"))
    assert (status, '"b" is pinned to both' in err) == (2, True)
    assert run("why", "a", "b", *pin)[1].splitlines()[-1] == f"    {tmp_path}/repository/packages/a/a.1/opam: depends"


def test_a_cycle_has_no_order(run: Run, tmp_path: Path) -> None:
    place = write(tmp_path / "cycle", {"a.1": 'depends: "b"', "b.1": 'depends: "a"'})
    assert run("solve", "a", repo=place, compiler="")[1] == "a.1 b.1\n"
    status, _, err = run("solve", "a", "--order", repo=place, compiler="")
    assert (status, '"a.1" needs "b.1" needs "a.1"' in err) == (2, True)


def test_who_needs_whom(run: Run, tmp_path: Path) -> None:
    status, out, _ = run("rdeps", "b.2")
    assert (status, [line for line in out.splitlines() if line[0] != " "]) == (0, ["a.1 needs b >= 2"])
    assert json.loads(run("rdeps", "b.2", "--json")[1]) == {"packages": ["a.1"], "needs": "b >= 2"}
    assert run("rdeps", "bb")[0] == 2
    status, out, _ = run("why", "c", "b")
    files = f"    {tmp_path}/repository/packages"
    assert (status, out.splitlines()) == (
        0,
        ["b.2", "c.1 needs a", f"{files}/c/c.1/opam: depends", "a.1 needs b >= 2", f"{files}/a/a.1/opam: depends"],
    )
    assert run("why", "b.2", "a")[0] == 1
    assert run("why", "no", "b")[0] == 3
