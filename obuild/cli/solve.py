"""`obuild opam solve`, `rdeps` and `why`."""

from __future__ import annotations

import json as json_format
import os
import sys

from obuild.cli.option import Argument, Command, Option, jobs
from obuild.cli.repository import (
    CACHE,
    JSON,
    PLATFORM,
    REPO,
    VARIABLE,
    Progress,
    cache_folder,
    open_overlay,
    platform_named,
)
from obuild.cli.show import write
from obuild.errors import OpamError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypeAlias

    from obuild.opam.solver import NoSolution, Request, Rules, Solution, Universe
    from obuild.opam.solver.solve import Report

    Answer: TypeAlias = Solution | NoSolution

__all__ = ["COMMANDS"]

NO_SOLUTION = 3
"""The exit status for exactly one package without a solution (sysexits has no word for it; the design has)."""


def solve(*, targets: tuple[str, ...], repo: Sequence[str], cache: str | None, **given: Any) -> int:
    """Print the solution of each request, in their order; 3 when the only one has none."""
    from obuild.opam.solver import Memory, Solution, fingerprints, solve_all

    world = _World(repo, cache, given)
    solver = world.solver
    requests = _requests(targets, solver.universe, given)
    solver.check(requests)
    memory = None
    if len(requests) > 1:
        memory = Memory(cache_folder(cache), solver.universe.rules, fingerprints(world.overlay, solver.universe))
    answers = solve_all(
        solver,
        requests,
        memory=memory,
        report=_report(given),
        processes=given["jobs"],
        progress=Progress("solving"),
    )
    unsolved = 0
    for answer in answers:
        unsolved += not isinstance(answer, Solution)
        _show(answer, world, given)
    if memory:
        memory.save()
    world.close()
    return NO_SOLUTION if unsolved and len(requests) == 1 else 0


def rdeps(*, package: str, repo: Sequence[str], cache: str | None, latest: bool, optional: bool, **given: Any) -> int:
    """Print the packages that depend on one, and in which versions."""
    from obuild.opam.solver import dependents, format_steps

    world = _World(repo, cache, given)
    name, _, version = package.partition(".")
    found = dependents(world.solver.universe, name, version, latest=latest, optional=optional)
    world.close()
    if given["json"]:
        for step in found:
            _print(json_format.dumps({"packages": list(map(str, step.packages)), "needs": step.subject}))
    elif found:
        _print(format_steps(found, world.solver.path))
    return 0


def why(*, target: str, dependency: str, repo: Sequence[str], cache: str | None, **given: Any) -> int:
    """Print why a dependency is part of the solution of a package; 1 when it is not, 3 when there is no solution."""
    from obuild.opam.solver import NoSolution, format_steps, parse_request, why

    world = _World(repo, cache, given)
    request = parse_request(target)
    world.solver.check([request])
    answer = world.solver.solve(request, report="short")
    world.close()
    if isinstance(answer, NoSolution):
        print(answer.report, file=sys.stderr)
        return NO_SOLUTION
    found = why(world.solver.universe, answer, dependency)
    if found.chain is None:
        print(f'"{dependency}" is not in the solution of "{target}"', file=sys.stderr)
        return 1
    _print(found.package)
    if found.chain:
        _print(format_steps(found.chain, world.solver.path))
    return 0


class _World:
    """The repositories with the user's own packages, and a solver over them."""

    def __init__(self, repo: Sequence[str], cache: str | None, given: dict[str, Any]) -> None:
        from obuild.opam.solver import load_pins, open_solver

        self.overlay = open_overlay(repo, cache)
        self.pins = load_pins(given.get("pin", ()))
        self.solver, self.reader = open_solver(self.overlay, _rules(given), cache=cache_folder(cache), pins=self.pins)

    def close(self) -> None:
        """Keep what was read from opam files, and name those that could not be."""
        self.reader.save()
        for error in self.reader.unreadable.values():
            print(f"note: left out: {error}", file=sys.stderr)


def _report(given: dict[str, Any]) -> Report:
    """The kind of report that is wanted."""
    if given["report"] == "short" and given["json"]:
        return "json"
    return "" if given["report"] == "none" else given["report"]


def _show(answer: Answer, world: _World, given: dict[str, Any]) -> None:
    """Print an answer: as JSON, for Graphviz, as the build order, or plainly."""
    from obuild.opam.solver import NoSolution, build_map, build_order, format_answer, format_dot

    if isinstance(answer, NoSolution):
        if given["json"]:
            shown = format_answer(answer)
            explained = json_format.loads(answer.report) if given["report"] == "short" else {}
            _print(json_format.dumps({**json_format.loads(shown), **explained}) if explained else shown)
        else:
            print(answer.report or f'no solution for "{answer.request}"', file=sys.stderr)
        return
    if given["verify"]:
        _verify(answer, world)
    if not (given["json"] or given["dot"] or given["order"]):
        _print(" ".join(map(str, answer.packages)))
        return
    plan = build_map(world.solver.universe, answer)
    if given["json"]:
        _print(format_answer(answer, plan))
    elif given["dot"]:
        _print(format_dot(plan))
    else:
        _print("\n".join(map(str, build_order(plan))))


def _verify(answer: Solution, world: _World) -> None:
    """Check a solution by a second reading of the rules that shares nothing with the search."""
    from obuild.opam.solver import verify

    wrong = verify(world.overlay, world.solver.universe.rules, answer, world.pins)
    if wrong:
        raise OpamError(f'the solution of "{answer.request}" is wrong: ' + "; ".join(wrong))


def _rules(given: dict[str, Any]) -> Rules:
    from obuild.opam.package import parse_package
    from obuild.opam.platform import parse_variables
    from obuild.opam.solver import OPAM_VERSION, Rules, variable_table

    compiler = parse_package(given["compiler"]) if given["compiler"] else None
    variables = variable_table(
        platform_named(given["platform"]),
        compiler,
        opam_version=given["opam_version"] or OPAM_VERSION,
        given=tuple(parse_variables(given["var"]).items()),
    )
    return Rules(
        variables=variables,
        compiler=compiler,
        with_test=given["with_test"],
        with_doc=given["with_doc"],
        prefer_oldest=given["prefer_oldest"],
        day10=given["rules"] == "day10",
    )


def _requests(targets: tuple[str, ...], universe: Universe, given: dict[str, Any]) -> tuple[Request, ...]:
    """What is asked for: packages, lists in files, everything available, or all that is pinned."""
    from obuild.opam.solver import everything, load_requests, parse_request

    if given["all"] or given["all_versions"]:
        if targets:
            raise UsageError(f'"{targets[0]}" is asked for beside everything', hint="leave one of them out")
        return everything(universe, all_versions=given["all_versions"])
    found: list[Request] = []
    for target in targets or universe.pins:
        found += load_requests(target[1:]) if target[:1] == "@" else [parse_request(target)]
    if not (found or targets):
        raise UsageError("what shall be solved?", hint="give packages, @FILE with one a line, --all or --all-versions")
    return tuple(found)


def _print(text: str) -> None:
    write(1, text.encode("utf-8", "surrogateescape") + b"\n")


RULES = (
    REPO,
    CACHE,
    Option(("--compiler",), "The compiler that all are built with, such as ocaml.5.4.1.", metavar="PACKAGE"),
    PLATFORM,
    VARIABLE,
    Option(("--opam-version",), "The version of opam that packages see.", metavar="VERSION"),
    Option(("--with-test",), "With the dependencies of the tests of what is asked for.", None),
    Option(("--with-doc",), "With the dependencies of its documentation.", None),
    Option(("--prefer-oldest",), "The oldest versions that will do, not the newest.", None),
    Option(("--pin",), "A directory with .opam files, which stand for their packages.", many=True, metavar="DIR"),
    Option(("--rules",), "Whose rules about versions to avoid.", default="opam", choices=("opam", "day10")),
)

SOLVE = (
    *RULES,
    Option(("--all",), "The newest available version of every package.", None),
    Option(("--all-versions",), "Every available version of every package.", None),
    Option(("--report",), "How to say that there is none.", default="short", choices=("short", "0install", "none")),
    Option(("--json",), "One JSON object a request, with day10's build map as its plan.", None),
    Option(("--dot",), "The build map as a Graphviz graph.", None),
    Option(("--order",), "The packages to build, dependencies first.", None),
    Option(("--verify",), "Check each solution by a second reading of the rules.", None),
    Option(("-j", "--jobs"), "Processes that solve at once.", jobs, default=os.cpu_count() or 1, metavar="NUMBER"),
)

COMMANDS = {
    "opam solve": Command(
        solve,
        "Choose the packages that a package needs, exactly as opam-0install does.",
        SOLVE,
        (Argument("targets", "*"),),
    ),
    "opam rdeps": Command(
        rdeps,
        "List the packages that depend on one.",
        (
            *RULES,
            Option(("--latest",), "Only the newest version of each.", None),
            Option(("--optional",), "Also those that use it when it is there.", None),
            JSON,
        ),
        (Argument("package"),),
    ),
    "opam why": Command(
        why,
        "Say why a package is part of another one's solution.",
        RULES,
        (Argument("target"), Argument("dependency")),
    ),
}
