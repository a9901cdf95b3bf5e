"""A build on a terminal: what stays on it is what a pipe would have got."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conftest import alive, soon
from house import Gate, House, sh, stage
from terminal import Terminal, screen


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.close()


def test_what_runs_is_shown_below_and_gone_at_the_end(house: House, gate: Gate) -> None:
    text = stage(gate.run("echo before; printf part", "echo ial; echo; printf end"), builds=f"(build n {stage()})")
    terminal = Terminal(house.words("build", "-f", str(house.file(text))))
    gate.wait()
    terminal.until(b".2 s")
    terminal.until(b".8 s")
    below = screen(terminal.seen)
    assert below[-1].split()[1:4] == ["run", "echo", "before;"]
    assert "before" in below
    gate.open()
    status, seen = terminal.end()
    assert status == 0
    plain = house.run("build", "--color", "never", "-f", house.file(text)).stdout
    shown = [line.rstrip() for line in screen(seen)]
    assert [line.replace("saved as", "using").removesuffix(" from cache") for line in shown] == [
        line.removesuffix(" from cache") for line in plain.split("\n")
    ]
    assert seen.count(b"\x1b[?25h") == seen.count(b"\x1b[?25l")  # the cursor is there again


def test_lines_that_end_as_on_windows_and_lines_that_overwrite_themselves(house: House, gate: Gate) -> None:
    text = stage(gate.run("printf 'one\\r\\n\\r\\n10%%\\r20%%\\r\\nend\\n'"))
    terminal = Terminal(house.words("build", "-f", str(house.file(text.replace("\\", "\\\\")))))
    gate.wait()
    terminal.until(b"end")
    gate.open()
    _, seen = terminal.end()
    lines = screen(seen)
    assert lines[lines.index("one") :][:4] == ["one", "", "20%", "end"]


def test_much_output(house: House) -> None:
    text = stage(sh("sleep 0.2; seq 1 20000"))
    _, seen = Terminal(house.words("build", "-f", str(house.file(text)))).end(120)
    assert [line for line in screen(seen) if line.isdecimal()] == [str(number) for number in range(1, 20001)]


def test_a_build_that_finds_everything_shows_nothing_moving(house: House) -> None:
    file = house.file(stage(sh("echo hi")))
    house.run("build", "-f", file)
    status, seen = Terminal(house.words("build", "-f", str(file))).end()
    assert status == 0
    assert b"\x1b[?25l" not in seen
    assert b"\x1b[94m(from b)\x1b[0m" in seen


def test_control_c(house: House, gate: Gate) -> None:
    terminal = Terminal(house.words("build", "-f", str(house.file(stage(gate.run())))))
    gate.wait()
    terminal.until(b".5 s")
    terminal.type(b"\x03")
    status, seen = terminal.end()
    assert status == 130
    assert screen(seen)[-2:] == ["obuild: cancelled by SIGINT", ""]
    assert house.residue() == []


def test_plain_terminals_and_no_colours(house: House) -> None:
    words = house.words("build", "-f", str(house.file(stage(sh("echo hi")))))
    assert b"\x1b" not in Terminal(words, env={"TERM": "dumb", "NO_COLOR": "1"}).end()[1]
    assert b"\x1b[94m" not in Terminal(words, env={"NO_COLOR": "1"}).end()[1]


def test_a_shell_on_a_terminal(house: House) -> None:
    house.run("build", "-f", house.file(stage("(workdir /w)", "(env K value)", sh("exit 3"))))
    terminal = Terminal(house.words("shell", "--failed"), columns=100)
    terminal.until(b"/w # ")
    terminal.type(b"echo is-$K; tty; stty size\n")
    terminal.until(b"24 100")
    assert b"is-value" in terminal.seen
    assert b"/dev/pts/" in terminal.seen
    terminal.type(b"sleep 987681\n")
    assert soon(lambda: bool(alive("987681")))
    terminal.type(b"\x03")  # the shell's own affair, not obuild's
    terminal.type(b"exit 7\n")
    status, seen = terminal.end()
    assert status == 7
    assert b"thrown away at the end" in seen


def test_the_step_below_fits_the_width(house: House, gate: Gate) -> None:
    terminal = Terminal(
        house.words("build", "-f", str(house.file(stage(gate.run("echo " + "long " * 50))))), columns=40
    )
    gate.wait()
    terminal.until(b".5 s")
    assert len(screen(terminal.seen)[-1]) <= 40
    gate.open()
    assert terminal.end()[0] == 0
