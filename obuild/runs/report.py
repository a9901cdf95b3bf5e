"""What became of one package, in the shapes of day10: JSON, Markdown, and Graphviz for what it depends on."""

from __future__ import annotations

import json

from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from obuild.runs.outcome import Outcome

__all__ = ["Report", "format_dot", "format_json", "format_markdown", "format_package_list", "report_outcome"]


_OPTIONAL = ("category", "error", "conflict", "layer", "log", "solution")


@value
class Report:
    """One package that was asked for: `status` is a word of `outcome`, or "solution" when nothing was built.

    `sha` is the commits of the repositories, one after the other; `layer` and `log` belong to the build that decided
    (the dependency's, where that failed); `solution` is Graphviz or what the solver said. `steps` are pairs of a
    package and its log, in the order they were built. day10 does not have the category of a failure (see
    `classify`), the line that says why, and files that packages share.
    """

    name: str
    status: str
    sha: str = "unknown"
    category: str | None = None
    error: str | None = None
    conflict: str | None = None
    layer: str | None = None
    log: str | None = None
    solution: str | None = None
    steps: tuple[tuple[str, str], ...] = ()


def report_outcome(
    outcome: Outcome,
    *,
    sha: str = "unknown",
    log: str | None = None,
    solution: str | None = None,
    steps: Sequence[tuple[str, str]] = (),
) -> Report:
    """The report of an outcome; the failing dependency's layer stands in for one that was not built."""
    if outcome.word == "no_solution":
        return Report(outcome.package, outcome.word, sha, solution=outcome.error)
    layer = getattr(outcome, "failed_id", "") or outcome.id
    facts = {"conflict": getattr(outcome, "conflict", "") or None}
    if outcome.word != "success":
        facts |= {"category": outcome.category, "error": outcome.error or None}
    return Report(
        outcome.package, outcome.word, sha, layer=layer or None, log=log, solution=solution, steps=tuple(steps), **facts
    )


def format_json(report: Report) -> str:
    """`{name, status, sha, category?, error?, conflict?, layer?, log?, solution?}`."""
    record = {"name": report.name, "status": report.status, "sha": report.sha}
    record |= {key: text for key in _OPTIONAL if (text := getattr(report, key)) is not None}
    return json.dumps(record) + "\n"


def format_markdown(report: Report) -> str:
    """A page with the status in front, the solution, and the log of every package in the order they were built."""
    parts = [f"---\nstatus: {report.status}\ncommit: {report.sha}\npackage: {report.name}\n---\n"]
    if report.status == "no_solution":
        parts.append(_fenced("Solution", report.solution or "no solution"))
    else:
        if report.solution is not None:
            parts.append(_fenced("Solution", report.solution, "dot"))
        parts += [_fenced(package, log) for package, log in report.steps]
    return "\n".join(parts)


def _fenced(title: str, text: str, language: str = "") -> str:
    fence = "```"
    while fence in text:  # a log may have fences of its own
        fence += "`"
    body = text if text.endswith("\n") or not text else text + "\n"
    return f"# {title}\n\n{fence}{language}\n{body}{fence}\n"


def format_dot(edges: Mapping[str, Sequence[str]]) -> str:
    """Graphviz: a line for each package that needs others, as `opam` would name them."""
    lines = [f"  {_quoted(package)} -> {_targets(needs)};\n" for package, needs in edges.items() if needs]
    return f"digraph opam {{\n{''.join(lines)}}}\n"


def _targets(needs: Sequence[str]) -> str:
    text = " ".join(map(_quoted, needs))
    return text if len(needs) == 1 else f"{{{text}}}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def format_package_list(packages: Sequence[str]) -> str:
    """The file that a health check takes as `@FILE`."""
    return json.dumps({"packages": list(packages)}) + "\n"
