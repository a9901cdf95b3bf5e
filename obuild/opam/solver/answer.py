"""What is asked of the solver, and what it answers."""

from __future__ import annotations

from obuild.errors import UsageError
from obuild.opam.package import Package, valid_name
from obuild.opam.version import valid_version
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "NoSolution",
    "Request",
    "Solution",
    "format_answer",
    "load_requests",
    "parse_request",
    "parse_requests",
]


@value
class Request:
    """Packages that are needed together: each a name with a version, or with "" for any."""

    wanted: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return " ".join([f"{name}.{version}" if version else name for name, version in self.wanted])


@value
class Solution:
    """All packages that a request comes to, in opam's order of names. `examined` as in `NoSolution`."""

    request: Request
    packages: tuple[Package, ...]
    examined: frozenset[str] = frozenset()


@value
class NoSolution:
    """That there is no solution, and a text that says why, "" when none was wanted.

    The answer is the same as long as nothing changes about the packages whose names were `examined`.
    """

    request: Request
    report: str = ""
    examined: frozenset[str] = frozenset()


def parse_request(text: str) -> Request:
    """The request for one package: `name.version`, or `name` for whichever version is the best. Raises `UsageError`."""
    name, dot, version = text.partition(".")
    if not valid_name(name):
        raise UsageError(f'"{text}" is not a package', hint="write NAME or NAME.VERSION")
    if dot and not valid_version(version):
        raise UsageError(f'"{version}" in "{text}" is not a version')
    return Request(((name, version),))


def parse_requests(text: str, path: str) -> tuple[Request, ...]:
    """The requests of a file: one a line, with `#` comments, or the JSON of `day10 list`, `{"packages": [...]}`.

    Raises `UsageError` with all lines that are none.
    """
    words = _json_words(text, path) if text.lstrip().startswith("{") else _line_words(text)
    found: list[Request] = []
    problems: list[str] = []
    for place, word in words:
        try:
            found.append(parse_request(word))
        except UsageError as error:
            problems.append(f"{path}:{place}: {error}" + (f"; {error.hint}" if error.hint else ""))
    if problems:
        raise UsageError("\n".join(problems))
    return tuple(found)


def _line_words(text: str) -> list[tuple[int, str]]:
    lines = enumerate(text.splitlines(), 1)
    return [(number, word) for number, line in lines if (word := line.partition("#")[0].strip())]


def _json_words(text: str, path: str) -> list[tuple[int, str]]:
    import json

    try:
        packages = json.loads(text)["packages"]
    except (ValueError, KeyError):
        packages = None
    if not isinstance(packages, list) or not all(isinstance(word, str) for word in packages):
        raise UsageError(
            f'"{path}" is not a list of packages', hint='write one a line, or {"packages": ["NAME.VERSION"]}'
        )
    return list(enumerate(packages, 1))


def load_requests(path: str) -> tuple[Request, ...]:
    """The requests in the file at `path`. Raises `UsageError` when it can not be read."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UsageError(f'can not read the package list "{path}": {reason}') from None
    return parse_requests(text, path)


def format_answer(answer: Solution | NoSolution, plan: Mapping[Package, Sequence[Package]] | None = None) -> str:
    """The answer as one line of JSON, with day10's map of what is built before what when given."""
    import json

    shown: dict[str, object] = {"package": _package(answer)}
    if isinstance(answer, NoSolution):
        shown["error"] = answer.report
    else:
        shown["solution"] = list(map(str, answer.packages))
        if plan is not None:
            shown["plan"] = {str(package): list(map(str, needed)) for package, needed in plan.items()}
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":"))


def _package(answer: Solution | NoSolution) -> str:
    """What was asked for, with the version chosen where none was given."""
    chosen = {package.name: package for package in answer.packages} if isinstance(answer, Solution) else {}
    return " ".join(
        [str(chosen.get(name, "")) or str(Request(((name, version),))) for name, version in answer.request.wanted]
    )
