"""Local projects: their packages checked, and commands run in them on cached dependencies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from clinic import Clinic, install
from conftest import alive, soon
from house import PROGRAM, House, gone
from terminal import Terminal


class Workshop(Clinic):
    """A clinic with a project: `mine` in its directory, which `other` below needs."""

    def __init__(self, house: House) -> None:
        super().__init__(house)
        self.project = house.folder / "project"
        (self.project / "lib" / "_build").mkdir(parents=True)
        commands = 'build: ["sh" "-c" "cat data"]\nrun-test: ["sh" "-c" "grep good data && checker"]\n'
        self.definition(
            "mine.opam",
            'depends: ["base" "checker" {with-test}]\n'
            f'{commands}install: ["sh" "-c" "mkdir -p %{{bin}}% && cp data %{{bin}}%/mine"]',
        )
        self.definition("lib/other.opam", 'depends: "mine"\nbuild: ["sh" "-c" "mine && ls ../data || ls"]')
        self.definition("lib/_build/old.opam", 'depends: "nowhere"')
        self.data("good")
        checker = (
            'install: ["sh" "-c" "mkdir -p %{bin}%; echo echo checked >%{bin}%/checker; chmod 755 %{bin}%/checker"]'
        )
        self.write(base__1=install("base"), checker__1=checker)

    def definition(self, path: str, text: str) -> None:
        (self.project / path).write_text(f'opam-version: "2.0"\n{text}\n')

    def data(self, word: str) -> None:
        (self.project / "data").write_text(f"#!/bin/sh\necho {word}\n")
        (self.project / "data").chmod(0o755)

    def line(self, command: str, *words: str | Path, directory: Path | None = None) -> list[str]:
        line = [PROGRAM, command, "--store", self.house.store, "--platform", self.key, "--repo", self.repo]
        line += ["--cache", self.house.folder / "cache", directory or self.project, *words]
        return [str(word) for word in line]

    def run(
        self, command: str, *words: str | Path, directory: Path | None = None, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        line = self.line(command, *words, directory=directory)
        return subprocess.run(line, capture_output=True, text=True, timeout=120, input=stdin)


@pytest.fixture
def clinic(house: House) -> Workshop:
    return Workshop(house)


def test_all_packages_of_a_project_are_checked(clinic: Workshop, tmp_path: Path) -> None:
    done = clinic.run("ci", "--json", tmp_path / "json", "--md", tmp_path / "md", "--dot", tmp_path / "dot")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 packages: 2 ok; 3 layers built" in done.stdout
    assert clinic.nodes()["mine.dev"].outcome.id.startswith("dev-")
    assert {path.name for path in (tmp_path / "json").iterdir()} == {"mine.dev.json", "other.dev.json"}
    assert json.loads((tmp_path / "json" / "mine.dev.json").read_text())["status"] == "success"
    assert "0 layers built" in clinic.run("ci").stdout
    clinic.data("better")
    assert "2 layers built" in clinic.run("ci").stdout
    assert list(clinic.built()).count("base.1") == 1


def test_with_their_tests(clinic: Workshop) -> None:
    assert clinic.run("ci", "--with-test").returncode == 0
    clinic.data("bad")
    assert clinic.run("ci").returncode == 0
    done = clinic.run("ci", "--with-test")
    assert done.returncode == 1
    assert "FAIL  mine.dev  test_failure" in done.stdout


def test_what_would_be_built(clinic: Workshop) -> None:
    done = clinic.run("ci", "--dry-run")
    assert done.returncode == 0
    assert "3 layers: 0 there, 3 to build" in done.stdout
    assert clinic.runs() == []


@pytest.mark.parametrize("command", ["ci", "exec"])
def test_no_project(clinic: Workshop, tmp_path: Path, command: str) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    done = clinic.run(command, directory=empty)
    assert (done.returncode, done.stderr) == (2, f'obuild: no file "NAME.opam" in "{empty}"\n')
    missing = clinic.run(command, directory=tmp_path / "missing")
    assert missing.returncode == 2
    assert "there is no such directory" in missing.stderr


@pytest.mark.parametrize(("command", "status"), [("ci", 1), ("exec", 3)])
def test_no_solution(clinic: Workshop, command: str, status: int) -> None:
    clinic.definition("mine.opam", 'depends: "nowhere"')
    done = clinic.run(command, "--", "true") if command == "exec" else clinic.run(command)
    assert done.returncode == status
    assert "nowhere" in done.stdout + done.stderr


def test_a_command_in_a_project(clinic: Workshop) -> None:
    script = "pwd; cat data; ls $OPAM_SWITCH_PREFIX/share; echo new >made; echo >~/elsewhere; echo $OPAM_PACKAGE_NAME"
    done = clinic.run("exec", "--", "sh", "-c", f"{script}; exit 7")
    assert done.returncode == 7, done.stderr
    assert done.stdout == "/home/opam/src\n#!/bin/sh\necho good\nbase\n\n"
    assert "[1/1] ok    base.1" in done.stderr
    made = clinic.project / "made"
    assert made.read_text() == "new\n"
    assert made.stat().st_uid == clinic.project.stat().st_uid
    assert sorted(node for node in clinic.built()) == ["base.1"]
    again = clinic.run("exec", "--", "true")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert clinic.house.open().fsck() == []


def test_a_command_with_the_dependencies_of_tests(clinic: Workshop) -> None:
    assert clinic.run("exec", "--", "checker").returncode != 0
    done = clinic.run("exec", "--with-test", "--", "checker")
    assert (done.returncode, done.stdout) == (0, "checked\n")


def test_a_project_of_somebody_else(clinic: Workshop, can_own: None) -> None:
    os.chown(clinic.project, 4321, 4321)
    done = clinic.run("exec", "--", "sh", "-c", "id -u; mkdir ~/.cache && touch ~/.cache/x && touch made")
    assert (done.returncode, done.stdout) == (0, "4321\n")
    assert (clinic.project / "made").stat().st_uid == 4321


def test_a_command_has_no_network_unless_asked(clinic: Workshop) -> None:
    probe = ("sh", "-c", "ip -o link | wc -l")
    assert clinic.run("exec", "--", *probe).stdout == "1\n"
    with_network = ("exec", "--network", "host", "--", *probe)
    host = len(os.listdir("/sys/class/net"))
    assert clinic.run(with_network[0], *with_network[1:]).stdout == f"{host}\n"


def test_a_shell_without_a_command(clinic: Workshop) -> None:
    done = clinic.run("exec", stdin="ls; exit 3\n")
    assert (done.returncode, done.stdout) == (3, "data\nlib\nmine.opam\n")


def test_a_dependency_that_fails(clinic: Workshop) -> None:
    clinic.write(base__1='build: "false"')
    done = clinic.run("exec", "--", "true")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "FAIL  base.1" in done.stderr


def test_a_command_that_is_stopped(clinic: Workshop, mark: str) -> None:
    assert clinic.run("exec", "--", "true").returncode == 0
    process = subprocess.Popen(clinic.line("exec", "--", "sleep", mark), stderr=subprocess.PIPE)
    assert soon(lambda: bool(inside(mark)))
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"cancelled by SIGTERM" in said
    assert gone(mark)


def inside(mark: str) -> list[str]:
    """The processes that sleep, without the programs that started them."""
    return [number for number in alive(mark) if Path("/proc", number, "cmdline").read_bytes().startswith(b"sleep\0")]


def test_a_shell_on_a_terminal(clinic: Workshop) -> None:
    assert clinic.run("exec", "--", "true").returncode == 0
    terminal = Terminal(clinic.line("exec"))
    terminal.until(b"/home/opam/src")
    terminal.type(b"echo $TERM-$((6*7)); exit 4\n")
    status, seen = terminal.end()
    assert status == 4
    assert b"xterm-256color-42" in seen
