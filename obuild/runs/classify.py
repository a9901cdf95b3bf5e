"""Why a build failed, from its log: a category, and the one line that tells a maintainer what is wrong.

Categories are an open set. Rules are data, in order of precedence: trouble of the machine or the network first, because
a build that met it says nothing about its package. They are anchored to whole lines of the programs that say them:
"is not available" alone is in many a compiler's message.
"""

from __future__ import annotations

import re
from itertools import islice

from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["CATEGORIES", "Category", "Verdict", "classify", "classify_log", "transient"]


@value
class Category:
    """`about` is for people; a `transient` one may pass when tried again; `ours` is not the package's fault."""

    about: str
    transient: bool = False
    ours: bool = False


CATEGORIES = {
    "success": Category("built"),
    "disk_full": Category("no space left on the disk", transient=True, ours=True),
    "transient_failure": Category("the network or a server failed", transient=True, ours=True),
    "timeout": Category("took too long"),
    "log_limit": Category("wrote more log than it may"),
    "out_of_memory": Category("killed, or out of memory", ours=True),
    "checksum_failure": Category("a source is not what its checksum says"),
    "fetch_failure": Category("a source can not be had"),
    "depext_unavailable": Category("a system package is not to be had"),
    "patch_failure": Category("a patch does not apply"),
    "needs_network": Category("the build asks for the network, which no build has"),
    "test_failure": Category("its tests failed"),
    "install_failure": Category("what it built can not be installed"),
    "outside_prefix": Category("writes outside of its prefix"),
    "build_failure": Category("does not build"),
    "dependency_failure": Category("a dependency failed"),
    "no_solution": Category("no choice of dependencies satisfies it"),
}
"""What is known of categories; one that is not here is an ordinary failure of the package."""


@value
class Verdict:
    """Why a build failed; `line` is quoted from its log, or from what obuild said of it."""

    category: str
    line: str


RULES = (
    ("timeout", "time limit: ", r"time limit: "),
    ("log_limit", "log limit: ", r"log limit: "),
    ("disk_full", "No space left on device", ""),
    ("disk_full", "no space left on the disk of ", ""),
    ("disk_full", "Disk quota exceeded", ""),
    ("transient_failure", "Connection timed out", ""),
    ("transient_failure", "Temporary failure", r".*Temporary failure (?:in name resolution|resolving)"),
    ("transient_failure", "resolve host", r".*[Cc]ould ?n[o']t resolve host"),
    ("transient_failure", "Network is unreachable", ""),
    ("transient_failure", "Connection reset by peer", ""),
    ("transient_failure", "Too Many Requests", r".*\b429\b"),
    ("transient_failure", "Bad Gateway", r".*\b502\b"),
    ("transient_failure", "Service Unavailable", r".*\b503\b"),
    ("transient_failure", "rsync: connection unexpectedly closed", ""),
    ("transient_failure", "Disconnected: Switch turned off", ""),
    ("transient_failure", "curl: (", r".*curl: \((?:5|6|7|18|28|35|52|55|56|92)\)"),
    ("transient_failure", "TLS handshake timeout", ""),
    ("transient_failure", "fatal: early EOF", ""),
    ("transient_failure", "RPC failed; ", r"error: RPC failed; "),
    ("out_of_memory", "out of memory: ", r"out of memory: "),
    ("out_of_memory", "Cannot allocate memory", ""),
    ("out_of_memory", "virtual memory exhausted", ""),
    ("out_of_memory", "out of memory allocating", ""),
    ("out_of_memory", "exception Out_of_memory", r"(?:Fatal error: )?exception Out_of_memory"),
    ("out_of_memory", "Killed", r"(?:\S+: (?:line )?\d+: *\d*)? *Killed\b|.*Killed signal terminated program"),
    ("checksum_failure", "hecksum mismatch", ""),
    ("checksum_failure", "ad checksum", r".*\b[Bb]ad checksum"),
    ("fetch_failure", "ERROR while fetching sources", ""),
    ("fetch_failure", "The source of the following could", ""),
    ("fetch_failure", "The sources of the following could", ""),
    ("fetch_failure", "curl: (", r".*curl: \(\d+\)"),
    ("fetch_failure", "fatal: unable to access '", r"fatal: "),
    ("depext_unavailable", "Unable to locate package", ""),
    ("depext_unavailable", "has no installation candidate", r"E: Package '"),
    ("depext_unavailable", " is not available", r"(?:E: )?Package '?[\w.+:-]+'? is not available\b"),
    ("depext_unavailable", "unmet dependencies", r".*\b(?:has|have) unmet dependencies"),
    ("depext_unavailable", "dpkg: dependency problems", ""),
    ("depext_unavailable", "unable to select packages", r"ERROR: "),
    ("depext_unavailable", "No match for argument", r"No match"),
    ("depext_unavailable", "error: target not found", r"error: "),
    ("patch_failure", "FAILED", r"(?:Hunk #\d+ FAILED|\d+ out of \d+ hunks? FAILED)"),
    ("patch_failure", "can't find file to patch", r"can't"),
    ("patch_failure", "These patches did", r".*did ?n[o']t apply"),
    ("patch_failure", "error: patch failed:", r"error: "),
    ("patch_failure", "patch does not apply", ""),
    ("no_solution", "Package conflict!", ""),
    ("no_solution", "No solution for", r"\[ERROR\] "),
    ("test_failure", "# command ", r"command .*\b(?:runtest|make (?:check|test))\b"),
)
"""A category, words, and how a line with them begins that means it; the first rule that fits anywhere decides.

Words are looked for as such, which costs next to nothing in a log of megabytes; expressions see single lines only.
"""

QUOTES = (
    ("error: ", r"(?!conftest)(?!.*\bconftest\.)[^\s:][^:]*:\d+(?::\d+)?: (?:fatal |internal compiler )?error: "),
    ("cannot find", r"\S*\bld(?:\.\w+)?: cannot find"),
    ("undefined reference to", r""),
    ("configure: error: ", r"configure: "),
    ("CMake Error", r"CMake "),
    ("ERROR: ", r"\S*meson\.build:\d+:\d+: "),
    ("error", r"error(?:\[E\d+\])?: (?!aborting)"),
    ("ocamlfind: ", r"ocamlfind: (?:\[E|Package .* not found)"),
    ("Error: ", r"Error: "),
    ("Fatal error: ", r"Fatal "),
    ("fatal: ", r"fatal: "),
    ("Error: ", r"\w+Error: "),
    ("not found", r".*: (?:command )?not found$"),
    ("No rule to make target", r""),
    ("Permission denied", r".*: Permission denied$"),
    ("No such file or directory", r".*: No such file or directory\b"),
    ("Read-only file system", r""),
    ("ERROR", r"\W*ERROR\b"),
    ("rror: ", r".*\b[Ee]rror: "),
    ("***", r".*\*\*\* "),
)
"""Words and beginnings of lines that say what is wrong, the most telling kind first."""

TEST_QUOTES = (
    ("[FAIL]", r""),
    ("FAIL", r".*\bFAIL(?:ED|URE)?\b"),
    ("not ok ", r"not ok \d"),
    ("failed", r".*\b(?:\d+ (?:\w+ )?failed|tests? failed)"),
    ("Assert_failure", r""),
    ("Fatal error: ", r"Fatal "),
)
"""The same of tests, before the others."""

_TAIL = 256 * 1024
"""Bytes of a log that are looked at: its end."""

_LONGEST = 300
"""Letters of a line that are quoted."""

_TRIES = 50
"""Errors without a place that are passed over."""

_SOURCE = 40
"""Lines of a program that a compiler may show between a place and what is wrong there."""

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]{0,500}(?:\x07|\x1b\\)|\x1b[()][A-Z0-9]|[\0\x07\x08]")
_RULES = [(name, words, re.compile(begin)) for name, words, begin in RULES]
_QUOTES = [(words, re.compile(begin)) for words, begin in QUOTES]
_TEST_QUOTES = [(words, re.compile(begin)) for words, begin in TEST_QUOTES]
_ERROR = re.compile(r"Error(?::| \(| )")
_PLACE = re.compile(r'File "[^"]+", lines? [\d-]+(?:, characters [\d-]+)?')


def transient(category: str) -> bool:
    """Whether it makes sense to try such a failure again."""
    return category in CATEGORIES and CATEGORIES[category].transient


def classify(log: bytes, *, status: int = 1, said: str = "", test: bool = False, network: bool = True) -> Verdict:
    """Why a build failed that ended with `status` (128 + n for signal n) and wrote `log`.

    `said` is obuild's own error, which counts before the log. `test`: the step that failed was one of tests.
    `network`: it had one; without, a host that can not be reached is no accident but what the package always does.
    """
    text = _ESCAPES.sub("", log[-_TAIL:].decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n"))
    for name, line in (_ruled(said), _ruled(text)):
        if not name:
            continue
        if name == "test_failure":
            test = True
            continue
        if name in ("transient_failure", "fetch_failure") and not network:
            name = "needs_network"
        return Verdict(name, _cut(line))
    if status == 124:
        return Verdict("timeout", _quoted(text, test=test) or "took too long")
    if status == 137:
        return Verdict("out_of_memory", _quoted(text, test=test) or "killed")
    return Verdict("test_failure" if test else "build_failure", _quoted(text, test=test) or _cut(said))


def classify_log(path: str, *, status: int = 1, said: str = "", test: bool = False, network: bool = True) -> Verdict:
    """The same for the log at `path`; one that can not be read says nothing."""
    import os

    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            log = file.read(_TAIL)
    except OSError:
        log = b""
    return classify(log, status=status, said=said, test=test, network=network)


def _ruled(text: str) -> tuple[str, str]:
    for name, words, begin in _RULES:
        for line, _ in _lines(text, words):
            if begin.match(line):
                return name, line
    return "", ""


def _lines(text: str, words: str) -> Iterator[tuple[str, int]]:
    """The lines that have `words`, without what opam writes before them and cut to a length, and where they begin."""
    at = text.find(words)
    while at >= 0:
        start, end = text.rfind("\n", 0, at) + 1, text.find("\n", at)
        end = len(text) if end < 0 else end
        first = max(start, at - _LONGEST)
        yield _bare(text[first : min(end, at + _LONGEST)]), start
        at = text.find(words, end)


def _bare(line: str) -> str:
    line = line.strip()
    return line[2:].lstrip() if line.startswith(("# ", "- ", "+ ")) else line


def _quoted(text: str, *, test: bool) -> str:
    """The line that says most."""
    if test and (line := _first(_TEST_QUOTES, text)):
        return line
    return _compiler_error(text) or _first(_QUOTES, text) or _last(text)


def _first(rules: list[tuple[str, re.Pattern[str]]], text: str) -> str:
    for words, begin in rules:
        for line, _ in _lines(text, words):
            if begin.match(line):
                return _cut(line)
    return ""


def _compiler_error(text: str) -> str:
    """An OCaml compiler's or dune's first error: its place, what is wrong, and how that goes on in the next lines."""
    found = (item for item in _lines(text, "Error") if _ERROR.match(item[0]))
    for line, start in islice(found, _TRIES):
        before = text[max(0, start - 200 * _SOURCE) : start].splitlines()[-_SOURCE:]
        place = next((match for item in reversed(before) if (match := _PLACE.match(_bare(item)))), None)
        if place:
            after = text[start : start + 8 * _LONGEST].splitlines()[1:5]
            more = [_bare(item) for item in _while_indented(after)]
            return _cut(" ".join([f"{place[0]}: {line}", *more]))
    return ""


def _while_indented(lines: list[str]) -> Iterator[str]:
    for line in lines:
        if not line.removeprefix("#").removeprefix("-").startswith(" " * 6) or not line.strip():
            return
        yield line


def _last(text: str) -> str:
    end = text.rstrip()
    return _cut(end[end.rfind("\n") + 1 :])


def _cut(line: str) -> str:
    line = _bare("".join(char if char.isprintable() else " " for char in line[: 2 * _LONGEST]))
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
