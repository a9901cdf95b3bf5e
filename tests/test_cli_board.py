"""What is shown of a batch while it is built."""

from __future__ import annotations

import json

import pytest
from clinic import Clinic, fails, install
from house import House
from terminal import Terminal, screen

from obuild.cli.board import Board, JsonBoard, printable
from obuild.runs.execute import Share
from obuild.runs.graph import Build, Graph
from obuild.runs.outcome import DependencyFailed, Failure, Success
from obuild.runs.schedule import Schedule


def schedule() -> Schedule:
    builds = [Build("a", "alpha.1"), Build("b", "b.1", ("a",)), Build("c", "c.1", ("b",))]
    return Schedule(Graph(builds), done=["a"])


NAMES = {"a": "alpha.1", "b": "b.1", "c": "c.1"}


def test_plain_lines(capfd: pytest.CaptureFixture[str]) -> None:
    board = Board(schedule(), NAMES, color=False)
    board.started("b", Share())
    board.ended("b", Failure("b.1", "b", error="no\x1b[31m  room", seconds=1.25))
    board.ended("c", DependencyFailed("c.1", "c", "b.1", "b"))
    board.ended("a", Success("alpha.1", "a", cached=True))
    out = capfd.readouterr().out
    assert out == "[1/2] FAIL  b.1         1.2 s  no [31m room\n[3/2] ok    alpha.1\n"


def test_colours(capfd: pytest.CaptureFixture[str]) -> None:
    Board(schedule(), NAMES, color=True).ended("b", Success("b.1", "b", seconds=1.0))
    assert "\x1b[32mok  \x1b[0m  b.1" in capfd.readouterr().out


def test_events(capfd: pytest.CaptureFixture[str]) -> None:
    board = JsonBoard(schedule(), NAMES, color=False)
    board.started("b", Share(4))
    board.ended("c", DependencyFailed("c.1", "c", "b.1", "b"))
    first, second = map(json.loads, capfd.readouterr().out.splitlines())
    assert first == {"event": "started", "package": "b.1", "key": "b", "jobs": 4}
    assert (second["event"], second["status"], second["failed_dep"]) == ("ended", "cascade", "b.1")


def test_a_line_is_one_line_without_commands_to_the_terminal() -> None:
    assert printable("a\n\tb\x1b]0;title\x07c\u202e") == "a b ]0;title c "


def test_a_terminal_shows_what_runs_and_then_the_same_lines(house: House) -> None:
    clinic = Clinic(house)
    clinic.write(slow__1=install("slow", first="sleep 4"), bad__1=fails("no"))
    terminal = Terminal(clinic.words("slow", "bad", "-j", "2"), columns=100)
    terminal.until(b"1 of 2, 0 ready, 1 failed")
    assert b"slow.1" in terminal.seen
    if b"sleep 4" not in terminal.seen:  # one of the two was the first to be shown
        terminal.until(b"sleep 4")
    status, seen = terminal.end()
    assert status == 1
    shown = [line.rstrip() for line in screen(seen)]
    assert shown[0].startswith("[1/2] FAIL  bad.1")
    assert shown[1].startswith("[2/2] ok    slow.1")
    assert not any("░" in line or "█" in line for line in shown)
    assert seen.count(b"\x1b[?25h") == seen.count(b"\x1b[?25l")  # the cursor is there again
