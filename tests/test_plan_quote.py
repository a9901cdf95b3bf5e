"""Commands as text for a shell: exactly the same arguments, and programs instead of builtins."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obuild.plan.quote import JOBS, command_line, quote

SHELLS = [
    pytest.param(words, marks=pytest.mark.skipif(not shutil.which(words[0]), reason=f"there is no {words[0]}"))
    for words in (["sh"], ["dash"], ["bash", "--posix"], ["busybox", "sh"])
]
TRICKY = ["", " ", "a b", "'", '"', "''", "it's", "$HOME", "`id`", "\\", "a\\nb", "\n", "a\nb\n", "*", "~", "~root"]
TRICKY += ["-n", "--", "!", "!!", "#", "a#b", "{a,b}", "[a-z]", "?", "&&", ";", "|", "<x", ">y", "(", ")", "=", "a=b"]
TRICKY += ["\t", "\r", "\x01", "é", "日本", "\udcff", "%{x}%", "%", "^", "$(id)", "${x}", "'\"'\"'", "\\'", "-j4"]

word = st.one_of(st.sampled_from(TRICKY), st.text(st.characters(exclude_characters="\0", exclude_categories=())))


def run(shell: list[str], line: str, **variables: str) -> bytes:
    env = {"PATH": os.environ["PATH"], **variables}
    text = line.encode("utf-8", "surrogateescape")
    return subprocess.run([*shell, "-c", text], env=env, capture_output=True, check=True).stdout


def printed(words: list[str]) -> bytes:
    return b"".join([text.encode("utf-8", "surrogateescape") + b"\0" for text in words])


def valid(text: str) -> bool:
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape") == text
    except UnicodeEncodeError:
        return False


@settings(max_examples=300)
@given(words=st.lists(word.filter(valid), min_size=1, max_size=6))
def test_a_shell_gives_the_program_the_same_arguments(words: list[str]) -> None:
    assert run(["sh"], command_line(["printf", "%s\\0", *words])) == printed(words)


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_does(shell: list[str]) -> None:
    assert run(shell, command_line(["printf", "%s\\0", *TRICKY])) == printed(TRICKY)


def test_plain_words_stay_readable() -> None:
    words = ["dune", "build", "-p", "re", "-j", JOBS, "@install", "--prefix=/home/opam/.opam", "a b", "it's"]
    assert command_line(words) == (
        "dune build -p re -j ${OBUILD_JOBS:-1} @install --prefix=/home/opam/.opam 'a b' \"it's\""
    )


def test_the_number_of_jobs_is_that_of_the_machine() -> None:
    line = command_line(["printf", "%s\\0", f"-j{JOBS}", JOBS, f"a b{JOBS}c'd"])
    assert "4" not in line
    assert run(["sh"], line, OBUILD_JOBS="4") == printed(["-j4", "4", "a b4c'd"])
    assert run(["sh"], line) == printed(["-j1", "1", "a b1c'd"])
    assert quote(f"%s{JOBS}") == "%s${OBUILD_JOBS:-1}"


# Debian's busybox takes its own applets before any program; that of Alpine does not.
@pytest.mark.parametrize("shell", SHELLS[:3])
@pytest.mark.parametrize(
    "name", ["echo", "test", "printf", "cd", "[", "if", "!", "{", "true", "FOO=bar", "a b", "exit"]
)
def test_a_command_is_a_program_and_nothing_else(name: str, shell: list[str], tmp_path: Path) -> None:
    program = tmp_path / name
    program.write_text('#!/bin/sh\necho "ran with $1"\n')
    program.chmod(0o755)
    assert run(shell, command_line([name, "x"]), PATH=f"{tmp_path}:{os.environ['PATH']}") == b"ran with x\n"


def test_a_program_that_is_missing_is_said_to_be() -> None:
    done = subprocess.run(["sh", "-c", command_line(["no such program"])], capture_output=True)
    assert done.returncode == 127
    assert b"no such program" in done.stderr
