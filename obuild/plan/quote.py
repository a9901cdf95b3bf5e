"""Commands of opam files as text for /bin/sh that runs exactly the same arguments.

Opam starts programs itself, without any shell. So a word is never expanded, a name is looked up in PATH even where the
shell has a builtin of that name (`exec` does that), and nothing is a keyword or an assignment.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["JOBS", "command_line", "quote"]

JOBS = "\0jobs\0"
"""Stands for the number of jobs while a command is worked out: each machine has its own when the command runs. No
argument of a program can hold it."""

_AT_RUN_TIME = "${OBUILD_JOBS:-1}"

_PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./^-]+").fullmatch

# What POSIX, dash, bash, ksh and busybox do themselves when the word begins a command.
_OWN = frozenset(
    "alias bg bind builtin caller case cd chdir command compgen complete compopt coproc declare dirs disown do done "
    "echo elif else enable esac eval exec exit export false fc fg fi for function getopts hash help history if in jobs "
    "kill let local logout mapfile newgrp popd printf pushd pwd read readarray readonly return select set shift shopt "
    "source suspend test then time times trap true type typeset ulimit umask unalias unset until wait while "
    ". : [ [[ ! { }".split()
)


def command_line(words: Sequence[str]) -> str:
    """The command that starts the program `words[0]` with these arguments."""
    line = " ".join(map(quote, words))
    return f"exec {line}" if words[0] in _OWN or "=" in words[0] else line


def quote(word: str) -> str:
    """The text that the shell reads as exactly this word, with the jobs of the machine where `JOBS` stands."""
    return _AT_RUN_TIME.join(map(_quote, word.split(JOBS))) if JOBS in word else _quote(word) or "''"


def _quote(text: str) -> str:
    if not text or _PLAIN(text):
        return text
    if "'" not in text:
        return f"'{text}'"
    if not any(mark in text for mark in '"$`\\!'):
        return f'"{text}"'
    return "'" + text.replace("'", "'\\''") + "'"
