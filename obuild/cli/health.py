"""`obuild health-check`: whether packages build, some or all of a repository."""

from __future__ import annotations

import os

from obuild.cli.build import LIMITS
from obuild.cli.option import Argument, Command, Option, duration, jobs, size
from obuild.cli.planner import PLANNING
from obuild.cli.where import SANDBOX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["COMMANDS"]


def health_check(*, targets: tuple[str, ...], **given: Any) -> int:
    """Solve, build, record and report; see `Check.status` for what is returned."""
    from obuild.cli.check import Check

    check = Check(targets, given)
    if given["since"]:
        from obuild.cli.since import check_since

        return check_since(check, given["since"])
    batch = check.batch(check.world(given["repo"]))
    if given["dry_run"]:
        return check.show_plan(batch)
    return check.finish(check.run(batch))


OPTIONS = (
    *[option for option in PLANNING if option.name not in ("compiler", "prefix")],
    Option(
        ("--compiler",),
        "The compiler that all are built with, such as ocaml.5.4.1; give it again for each of several.",
        many=True,
        metavar="PACKAGE",
    ),
    Option(("--all",), "Check the newest available version of every package.", None),
    Option(("--all-versions",), "Check every available version of every package.", None),
    Option(("--since",), "Only what can differ from COMMIT of the repository, and what does.", metavar="COMMIT"),
    Option(("--json",), "Write what became of each package: a file, for several a directory.", metavar="PATH"),
    Option(("--md",), "The same as Markdown, with all logs.", metavar="PATH"),
    Option(("--dot",), "What is built upon what, for Graphviz.", metavar="PATH"),
    Option(("--dry-run",), "Only say what would be built.", None),
    Option(
        ("-k", "--keep-going"),
        "After a failure also build what only serves packages that can not succeed any more.",
        None,
    ),
    Option(("--trust-failures",), "Report what failed before as it is remembered, and do not build it again.", None),
    Option(("-j", "--jobs"), "Packages built at once.", jobs, default=os.cpu_count() or 1, metavar="NUMBER"),
    Option(("--cores",), "Cores that all builds share.", jobs, default=os.cpu_count() or 1, metavar="NUMBER"),
    Option(("--total-memory",), "Memory that all builds share, such as 8G.", size, metavar="SIZE"),
    Option(("--timeout",), "Time that one package may take, such as 30m.", duration, default=7200.0, metavar="TIME"),
    *[option for option in LIMITS if option.name in ("step_timeout", "log_limit", "pids", "fast_sync")],
    SANDBOX,
    Option(("--runs",), "Where the run is recorded; in the store when not given.", metavar="DIR"),
    Option(("--progress",), "How to show it.", default="auto", choices=("auto", "plain", "live", "json", "none")),
    Option(("--color",), "Whether to use colours.", default="auto", choices=("auto", "always", "never")),
)

COMMANDS = {
    "health-check": Command(
        health_check,
        "Check whether packages build: PACKAGE, @FILE with one a line, or --all.",
        OPTIONS,
        (Argument("targets", "*"),),
    )
}
