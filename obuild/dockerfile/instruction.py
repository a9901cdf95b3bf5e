"""The instructions of a Dockerfile: its lines, here-documents, options, words and variables.

The rules are those of BuildKit's parser (docs.docker.com/reference/dockerfile), which the older builders share but for
here-documents.
"""

from __future__ import annotations

import json
import re

from obuild.errors import Problem
from obuild.spec.check import shown
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Heredoc", "Instruction", "Unsaid", "expand", "read", "words"]

DIRECTIVES = ("syntax", "escape", "check")
"""What a comment above everything else may set."""

DOCUMENTS = ("RUN", "COPY", "ADD")
"""The instructions that here-documents may follow."""


@value
class Heredoc:
    """A here-document: the word that began it, and its lines as they stand, with the one that ends it."""

    mark: str
    body: str
    end: str


@value
class Instruction:
    """One instruction, `name` in capitals; a comment has the name "#", an empty line the name "".

    `flags` are the options in front, without dashes, and `rest` what follows them on the joined lines. `line` counts
    from 1 and `text` is the line that it begins with.
    """

    name: str
    rest: str
    line: int
    text: str
    flags: tuple[tuple[str, str], ...] = ()
    heredocs: tuple[Heredoc, ...] = ()

    @property
    def words(self) -> tuple[str, ...] | None:
        """The words of the form `["a", "b"]`, behind which nothing is looked at, or None for the other form."""
        try:
            found = json.JSONDecoder().raw_decode(self.rest)[0] if self.rest.startswith("[") else None
        except (ValueError, RecursionError):
            return None
        return tuple(found) if isinstance(found, list) and all(isinstance(word, str) for word in found) else None


class Unsaid(Exception):
    """Something that a spec has no form for, or that Docker would refuse; its place is that of the instruction."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.hint = message, hint

    def problem(self, path: str, instruction: Instruction) -> Problem:
        """The problem, with its place."""
        return Problem(shown(self.message), path, instruction.line, 1, quote=instruction.text, hint=shown(self.hint))


def read(text: str) -> tuple[str, list[Instruction]]:
    """The escape character of a Dockerfile, and all its instructions in order."""
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    escape, start = "\\", 0
    while start < len(lines) and (directive := _directive(lines[start])):
        escape = directive[1] if directive[0] == "escape" and directive[1] in ("\\", "`") else escape
        start += 1
    return escape, list(_instructions(lines, start, escape))


def _directive(line: str) -> tuple[str, str] | None:
    match = re.fullmatch(r"\s*#\s*([a-zA-Z]+)\s*=\s*(\S*)\s*", line)
    return (match[1].lower(), match[2]) if match and match[1].lower() in DIRECTIVES else None


def _instructions(lines: list[str], at: int, escape: str) -> Iterator[Instruction]:
    while at < len(lines):
        first = at
        text, at = _joined(lines, at, escape)
        stripped = text.strip()
        if not stripped or stripped.startswith("#"):
            yield Instruction("#" if stripped else "", stripped.removeprefix("#").strip(), first + 1, lines[first])
            continue
        name, _, rest = re.sub(r"\s+", " ", stripped, count=1).partition(" ")
        marks = _marks(rest) if name.upper() in DOCUMENTS else []
        heredocs = []
        for mark in marks:
            heredoc, at = _heredoc(mark, lines, at)
            heredocs.append(heredoc)
        flags, rest = _flags(rest.strip())
        yield Instruction(name.upper(), rest, first + 1, lines[first], tuple(flags), tuple(heredocs))


def _joined(lines: list[str], at: int, escape: str) -> tuple[str, int]:
    """The line at `at` with those that continue it, and where the next one begins.

    Comments and empty lines inside an instruction are no part of it.
    """
    going_on = re.compile(rf"(?:^|[^{re.escape(escape)}]){re.escape(escape)}[ \t]*$")
    parts: list[str] = []
    while at < len(lines):
        line = lines[at]
        at += 1
        if parts and (not line.strip() or line.lstrip().startswith("#")):
            continue
        if parts and parts[-1].endswith((" ", "\t")) and _is_outside("".join(parts)):
            line = line.lstrip(" \t")  # it is indented for the reader
        goes_on = not line.lstrip().startswith("#") and going_on.search(line)
        parts.append(line.rstrip(" \t")[:-1] if goes_on else line)
        if not goes_on:
            break
    return "".join(parts), at


def _is_outside(text: str) -> bool:
    """Whether the end of a command is surely outside of quotes, where one blank is as good as many."""
    return not re.search(r"[\\`\"']|\$\(", re.sub("'[^']*'|\"[^\"$`]*\"", "", text))


def _marks(rest: str) -> list[str]:
    """The words that begin a here-document: outside of quotes, with a name."""
    return [word for word in words(rest) if re.fullmatch(r"\d*<<-?([\"']?)[^<\s\"']+\1", word)]


def _heredoc(mark: str, lines: list[str], at: int) -> tuple[Heredoc, int]:
    name = re.sub(r"^\d*<<-?|[\"']", "", mark)
    strip = "<<-" in mark
    for end in range(at, len(lines)):
        line = lines[end].lstrip("\t") if strip else lines[end]
        if line == name:
            return Heredoc(mark, "".join([f"{line}\n" for line in lines[at:end]]), lines[end]), end + 1
    return Heredoc(mark, "", ""), len(lines)


def _flags(rest: str) -> tuple[list[tuple[str, str]], str]:
    """The options that an instruction begins with, and what follows them."""
    flags = []
    while match := re.match(r"--([a-zA-Z][a-zA-Z-]*)(?:=((?:\"[^\"]*\"|'[^']*'|\\.|[^\s\"'\\])*))?(?=\s|$)\s*", rest):
        text = re.sub(r"\\(.)|[\"']", lambda found: found[1] or "", match[2] or "")
        flags.append((match[1].lower(), text))
        rest = rest[match.end() :]
    return flags, rest


def words(text: str, escape: str = "\\") -> list[str]:
    """The words of a line as they stand; blanks in quotes or behind the escape character are part of one."""
    mark = re.escape(escape)
    return re.findall(rf"(?s)(?:{mark}.|\"(?:{mark}.|[^\"{mark}])*\"?|'[^']*'?|[^\s\"'{mark}]|{mark})+", text)


def expand(text: str, variable: Callable[[str, bool], str | None], escape: str = "\\") -> str:
    """What Docker makes of a word: variables replaced, quotes and escapes removed.

    `variable` gives the value of a name, None when it is not set; it is told whether the word offers nothing else.
    Raises `Unsaid` for other things in `${…}`.
    """
    return _Word(text, variable, escape).until("")


class _Word:
    """A word being expanded, character by character."""

    def __init__(self, text: str, variable: Callable[[str, bool], str | None], escape: str) -> None:
        self.text, self.variable, self.escape = text, variable, escape
        self.at = self.depth = 0

    def until(self, end: str) -> str:
        """The expansion up to an unquoted character `end`, which is passed; "" is the end of the word."""
        out = ""
        while self.at < len(self.text):
            char = self.text[self.at]
            self.at += 1
            if char == end:
                return out
            if char == "'":
                out += self.upto("'")
            elif char == '"':
                out += self.quoted()
            elif char == self.escape:
                out += self.text[self.at : self.at + 1]
                self.at += 1
            else:
                out += self.dollar() if char == "$" else char
        if end:
            raise Unsaid(f'"{end}" is missing in "{self.text}"')
        return out

    def upto(self, end: str) -> str:
        start, stop = self.at, self.text.find(end, self.at)
        if stop < 0:
            raise Unsaid(f"a quote is never closed in {self.text}")
        self.at = stop + 1
        return self.text[start:stop]

    def quoted(self) -> str:
        out = ""
        while (char := self.text[self.at : self.at + 1]) != '"':
            if not char:
                raise Unsaid(f"a quote is never closed in {self.text}")
            self.at += 1
            if char == self.escape and self.text[self.at : self.at + 1] in ('"', "$", self.escape):
                out += self.text[self.at]
                self.at += 1
            else:
                out += self.dollar() if char == "$" else char
        self.at += 1
        return out

    def dollar(self) -> str:
        match = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9@*#?!$-]").match(self.text, self.at)
        if match:
            self.at = match.end()
            return self.variable(match[0], True) or ""
        if self.text[self.at : self.at + 1] != "{":
            return "$"
        match = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(:?[-+?]|\})").match(self.text, self.at)
        if not match:
            raise Unsaid(f'"{self.text[self.at - 1 :]}" is more than a variable and a default')
        self.at = match.end()
        return self.braced(match[1], match[2])

    def braced(self, name: str, operator: str) -> str:
        found = self.variable(name, operator == "}")
        if operator == "}":
            return found or ""
        self.depth += 1
        if self.depth > 50:
            raise Unsaid("variables are nested too deep")
        word = self.until("}")
        self.depth -= 1
        there = found is not None and (found != "" or ":" not in operator)
        if operator.endswith("+"):
            return word if there else ""
        if operator.endswith("?") and not there:
            raise Unsaid(f'"{name}" is not set' + (f": {word}" if word else ""))
        return (found or "") if there else word
