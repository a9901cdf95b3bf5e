"""`obuild opam list`, `show`, `lint`, `diff` and `build-id`, as they are typed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from conftest import needs
from machine_opam import write_repository

from obuild import cli
from obuild.opam.package import parse_package

Run = Callable[..., tuple[int, str, str]]

TEXTS = {
    "a.1": 'depends: ["b" "c" {post}]',
    "a.2": 'depends: "b" {os = "linux"}',
    "b.1": 'synopsis: "s"',
    "c.1": 'url { src: "git+https://x.org/c" }',
    "d.1": 'depends: "c"',
    "e.1": 'depends: "f" build: "é"',
    "f.1": 'depends: "e"',
    "g.1": "depends: [",
}


def write(folder: Path, texts: dict[str, str]) -> None:
    files = {parse_package(name): {"opam": f'opam-version: "2.0"\n{text}\n'.encode()} for name, text in texts.items()}
    write_repository(folder, files)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    write(tmp_path / "repository", TEXTS)
    return tmp_path / "repository"


@pytest.fixture
def run(repository: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    def run(command: str, *words: str, repo: str = str(repository)) -> tuple[int, str, str]:
        status = cli.main(["opam", command, "--repo", repo, "--cache", str(tmp_path / "cache"), *words])
        return status, *capfd.readouterr()

    return run


def sha(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def test_list_and_show(run: Run, repository: Path) -> None:
    assert run("list", "a", "c") == (0, "a.2\nc.1\n", "")
    assert run("list", "a", "--all-versions") == (0, "a.1\na.2\n", "")
    assert json.loads(run("list", "--json")[1])["a"] == "2"
    assert run("list", "aa")[0] == 2
    assert run("show", "b")[1] == f'# {repository}/packages/b/b.1/opam\nopam-version: "2.0"\nsynopsis: "s"\n'
    assert run("show", "b", "--effective")[1] == 'opam-version: "2.0"\nname: "b"\nversion: "1"\n'
    assert 'no version "3" of "a"' in run("show", "a.3")[2]


def test_lint(run: Run, repository: Path, tmp_path: Path) -> None:
    status, out, err = run("lint", "--errors-only", "g.1")
    assert (status, err) == (1, "1 error, 0 warnings\n")
    assert f"{repository}/packages/g/g.1/opam:2:11: the file ends too early" in out
    (tmp_path / "own.opam").write_text('opam-version: "2.0"\nbiuld: "make"\n')
    found = [json.loads(line) for line in run("lint", "--json", str(tmp_path / "own.opam"))[1].splitlines()]
    assert ('unknown field "biuld"', 2, 1) in [(each["message"], each["line"], each["column"]) for each in found]


def build_ids(run: Run, packages: str, *words: str) -> dict[str, str | None]:
    status, out, _ = run("build-id", "--packages", packages, "--json", *words)
    assert status == 0
    found: dict[str, str | None] = json.loads(out)
    return found


def test_build_ids(run: Run, tmp_path: Path) -> None:
    installed = "a.1 b.1 c.1 d.1 e.1 f.1 g.1 unknown.1"
    found = build_ids(run, installed)
    own = {name: sha(run("show", f"{name}.1", "--effective")[1].rstrip("\n")) for name in "ab"}
    assert list(found) == installed.split()
    assert found["b.1"] == sha(own["b"])
    assert found["a.1"] == sha(f"{own['a']} {found['b.1']}")
    assert [name for name, text in found.items() if not text] == installed.split()[2:]
    (tmp_path / "installed").write_bytes("\r\n".join(["\ufeffa.1", "b.1 # why", "", "c.1"]).encode())
    from_file = json.loads(run("build-id", "--installed", str(tmp_path / "installed"), "--json")[1])
    assert from_file == {name: found[name] for name in ("a.1", "b.1", "c.1")}
    reasons = run("build-id", "--packages", installed)[1]
    for reason in (
        '"c.1" has a url without a checksum',
        '"e.1" → "f.1" → "e.1"',
        '"g.1" can not be read by opam 2.5: the file ends too early',
        '"unknown.1" is in none of the repositories',
    ):
        assert reason in reasons


def test_what_changes_build_ids(run: Run) -> None:
    usual = build_ids(run, "a.2 b.1", "--var", "os=linux")
    assert build_ids(run, "a.2 b.1", "--platform", "debian-12-x86_64") == usual
    assert build_ids(run, "a.2 b.1", "--var", "os=macos")["a.2"] != usual["a.2"]
    assert build_ids(run, "a.2 b.1", "--pin", "b") == {"a.2": None, "b.1": None}
    assert build_ids(run, "a.2 b.1", "--pin", "b.1") == {"a.2": None, "b.1": None}
    assert build_ids(run, "a.2 b.1", "--opam-version", "2.1.2") == usual


def test_the_width_of_texts_goes_by_the_release(run: Run, tmp_path: Path) -> None:
    long = " ".join([f'"{"é" * 5}"'] * 6)
    write(tmp_path / "wide", {"w.1": f"build: [{long}]"})

    def found(*words: str) -> str | None:
        return build_ids(run, "w.1", "--repo", str(tmp_path / "wide"), *words)["w.1"]

    scalars, counted = found(), found("--width", "bytes")
    assert scalars != counted
    assert [found("--opam-version", version) for version in ("2.1.2", "2.3.0", "2.4.1", "2.6.1")] == [
        counted, counted, scalars, scalars,
    ]  # fmt: skip
    assert found("--opam-version", "2.3", "--width", "scalars") == scalars


def test_an_explanation(run: Run) -> None:
    found = build_ids(run, "a.1 b.1")
    text = run("build-id", "--packages", "a.1 b.1", "--explain", "a")[1]
    assert text.startswith(f"a.1: {found['a.1']}\n")
    assert f"{found['b.1']}  b.1" in text
    assert run("build-id", "--packages", "a.1", "--explain", "z")[0] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "which packages are installed?"),
        (["--packages", "a.1", "--installed", "f"], "one of them"),
        (["--installed", "/nowhere"], 'can not read the package list "/nowhere"'),
        (["--packages", "a a.1 a.2 .3 b."], '--packages:1: "a" has no version'),
        (["--packages", "a.1 a.2"], '"a.2" beside "a.1"'),
        (["--packages", "a.1", "--opam-version", "2.0"], 'no compatibility level for opam "2.0"'),
        (["--packages", "a.1", "--var", "=x"], '"=x" does not set a variable'),
        (["--packages", "a.1", "--repo", "/nowhere"], 'no opam repository at "/nowhere"'),
    ],
)
def test_what_can_not_be_asked(run: Run, words: list[str], message: str) -> None:
    status, out, err = run("build-id", *words)
    assert (status, out) == (2, "")
    assert message in err


@needs("git")
def test_two_commits(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "commits"

    def commit(texts: dict[str, str]) -> str:
        write(folder, texts)
        who = ["-c", "user.name=n", "-c", "user.email=e@x.org"]
        for words in (["init", "-q"], ["add", "-A"], [*who, "commit", "-qm", "c"]):
            subprocess.run(["git", *words], cwd=folder, check=True)
        head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True)
        return head.stdout.strip()

    old = commit({"a.1": 'depends: "b"', "b.1": "", "c.1": ""})
    new = commit({"b.1": 'build: "make"', "c.1": 'synopsis: "s"', "d.1": ""})
    repo = f"{folder}@{new}"
    assert run("diff", old, new, repo=repo)[1].splitlines() == [
        "+ d.1", "~ b.1  build; build-id: build", "~ c.1  synopsis",
    ]  # fmt: skip
    assert json.loads(run("diff", old, new, "--effective", "--json", repo=repo)[1]) == {
        "added": ["d.1"],
        "removed": [],
        "changed": [{"package": "b.1", "fields": ["build"], "effective": ["build"]}],
    }
    assert run("build-id", "--packages", "a.1 b.1 c.1", "--diff", old, repo=repo)[1].splitlines() == [
        "a.1: another build-id",
        "  depends on b.1: another build-id",
        "b.1: another build-id",
        "  build",
        '    + build: "make"',
    ]
    assert 'no commit "nope"' in run("list", repo=f"{folder}@nope")[2]


@pytest.mark.parametrize("name", ["opam-2.1.2--torture", "opam-2.6.1--torture"])
def test_a_recorded_switch(run: Run, name: str, shared_data: Path, tmp_path: Path) -> None:
    for path, text in json.loads((shared_data / "build-ids" / "torture-repo.json").read_text()).items():
        place = tmp_path / "torture" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(text.encode("latin-1"))
    recording = json.loads((shared_data / "build-ids" / f"{name}.json").read_text())
    (tmp_path / "installed").write_text("\n".join(recording["installed"]))
    words = [f"--var={variable}={contents}" for variable, contents in recording["variables"].items()]
    words += ["--opam-version", recording["opam_version"], "--installed", str(tmp_path / "installed"), "--json"]
    assert json.loads(run("build-id", *words, repo=str(tmp_path / "torture"))[1]) == recording["build_ids"]
