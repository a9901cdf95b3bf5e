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
    from collections.abc import Iterator, Sequence
    from typing import Any

    from obuild.opam.repo import Overlay
    from obuild.opam.solver import FactReader, NoSolution, Request, Rules, Solution, Solver, Universe

    Answer = Solution | NoSolution

__all__ = ["COMMANDS"]

NO_SOLUTION = 3
"""The exit status for exactly one package without a solution (sysexits has no word for it; the design has)."""


def solve(*, targets: tuple[str, ...], repo: Sequence[str], cache: str | None, **given: Any) -> int:
    """Print the solution of each request, in their order; 3 when the only one has none."""
    from obuild.opam.solver import Memory, fingerprints, solve_all

    overlay, solver, reader = _open(repo, cache, given)
    rules = solver.universe.rules
    requests = _requests(targets, solver, given)
    solver.check(requests)
    memory = None
    if len(requests) > 1:
        memory = Memory(cache_folder(cache), rules, fingerprints(overlay, solver.universe))
    report = given["report"] == "0install"
    shown = _Shown(solver, overlay, given)
    answers = solve_all(
        solver, requests, memory=memory, report=report, processes=given["jobs"], progress=Progress("solving")
    )
    unsolved = 0
    for answer in answers:
        unsolved += not hasattr(answer, "packages")
        shown(answer)
    reader.save()
    if memory:
        memory.save()
    _tell_unreadable(overlay)
    return NO_SOLUTION if unsolved and len(requests) == 1 else 0


def rdeps(*, package: str, repo: Sequence[str], cache: str | None, latest: bool, optional: bool, **given: Any) -> int:
    """Print the packages that depend on one, and in which versions."""
    from obuild.opam.solver import dependents, format_steps

    overlay, solver, reader = _open(repo, cache, given)
    name, _, version = package.partition(".")
    found = dependents(solver.universe, name, version, latest=latest, optional=optional)
    reader.save()
    if given["json"]:
        for step in found:
            _print(json_format.dumps({"packages": list(map(str, step.packages)), "needs": step.subject}))
    elif found:
        _print(format_steps(found, overlay.path))
    return 0


def why(*, target: str, dependency: str, repo: Sequence[str], cache: str | None, **given: Any) -> int:
    """Print why a dependency is part of the solution of a package; 1 when it is not, 3 when there is no solution."""
    from obuild.opam.solver import NoSolution, format_steps, parse_request, why

    overlay, solver, reader = _open(repo, cache, given)
    request = parse_request(target)
    solver.check([request])
    answer = solver.solve(request)
    reader.save()
    if isinstance(answer, NoSolution):
        _Shown(solver, overlay, {**given, "report": "short", "json": False})(answer)
        return NO_SOLUTION
    found = why(solver.universe, answer, dependency)
    if found.chain is None:
        print(f'"{dependency}" is not in the solution of "{target}"', file=sys.stderr)
        return 1
    _print(found.package)
    if found.chain:
        _print(format_steps(found.chain, overlay.path))
    return 0


def _open(repo: Sequence[str], cache: str | None, given: dict[str, Any]) -> tuple[Overlay, Solver, FactReader]:
    from obuild.opam.solver import load_pins, open_solver

    overlay = open_overlay(repo, cache)
    solver, reader = open_solver(
        overlay, _rules(given), cache=cache_folder(cache), pins=load_pins(given.get("pin", ()))
    )
    return overlay, solver, reader


class _Shown:
    """How answers are printed: JSON, Graphviz, the build order, or plain lists."""

    def __init__(self, solver: Solver, overlay: Overlay, given: dict[str, Any]) -> None:
        self._solver, self._overlay, self._given = solver, overlay, given

    def __call__(self, answer: Answer) -> None:
        from obuild.opam.solver import NoSolution, build_map, build_order, format_answer, format_dot

        if isinstance(answer, NoSolution):
            self._unsolved(answer)
            return
        if self._given["verify"]:
            self._verify(answer)
        plan = build_map(self._solver.universe, answer)
        if self._given["json"]:
            _print(format_answer(answer, plan))
        elif self._given["dot"]:
            _print(format_dot(plan))
        elif self._given["order"]:
            _print("\n".join(map(str, build_order(plan))))
        else:
            _print(" ".join(map(str, answer.packages)))

    def _unsolved(self, answer: NoSolution) -> None:
        from obuild.opam.solver import NoSolution, format_answer, format_explanation, shown_explanation

        kind = self._given["report"]
        explanation = self._solver.explain(answer.request) if kind == "short" else None
        if not self._given["json"]:
            text = format_explanation(explanation, self._overlay.path) if explanation else answer.report
            print(text or f"no solution for {answer.request}", file=sys.stderr)
        elif explanation:
            text = format_explanation(explanation, self._overlay.path)
            shown = json_format.loads(format_answer(NoSolution(answer.request, text)))
            _print(json_format.dumps({**shown, "explanation": shown_explanation(explanation, self._overlay.path)}))
        else:
            _print(format_answer(answer))

    def _verify(self, answer: Solution) -> None:
        """Check a solution by a second reading of the rules that shares nothing with the search."""
        from obuild.opam.audit import Terms, audit

        rules = self._solver.universe.rules
        asked = dict(answer.request.wanted)
        if rules.compiler:
            asked.setdefault(rules.compiler.name, rules.compiler.version)
        kinds = {"with-test": rules.with_test, "with-doc": rules.with_doc}
        tested = frozenset(name for name, _ in answer.request.wanted) if any(kinds.values()) else frozenset()
        terms = Terms(asked, {**dict(rules.variables), **kinds}, tested=tested, strict=rules.day10)
        wrong = audit(self._overlay, answer.packages, terms)
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


def _requests(targets: tuple[str, ...], solver: Solver, given: dict[str, Any]) -> list[Request]:
    """What is asked for: packages, lists in files, everything available, or all that is pinned."""
    from obuild.opam.solver import parse_request

    universe = solver.universe
    if given["all"] or given["all_versions"]:
        return [parse_request(text) for text in _available(universe, newest=given["all"])]
    names = [name for target in targets for name in (_listed(target[1:]) if target[:1] == "@" else [target])]
    names = names or list(universe.pins)
    if not names:
        raise UsageError("what shall be solved?", hint="give packages, @FILE with one a line, --all or --all-versions")
    return [parse_request(name) for name in names]


def _available(universe: Universe, *, newest: bool) -> Iterator[str]:
    """Every package that is available, the newest version first or alone."""
    from obuild.opam.version import version_key

    for name in universe.packages:
        versions = sorted(universe.candidates(name, asked=True), key=version_key, reverse=True)
        yield from (f"{name}.{version}" for version in (versions[:1] if newest else versions))


def _listed(path: str) -> list[str]:
    """The packages of a file: one a line, or day10's `{"packages": [...]}`."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UsageError(f'can not read the package list "{path}": {reason}') from None
    if text.lstrip().startswith("{"):
        try:
            return [str(name) for name in json_format.loads(text)["packages"]]
        except (ValueError, KeyError, TypeError):
            raise UsageError(f'"{path}" is no package list', hint='write {"packages": ["NAME.VERSION", ...]}') from None
    return [word for line in text.splitlines() for word in line.partition("#")[0].split()]


def _tell_unreadable(overlay: Overlay) -> None:
    for package, error in overlay.unreadable.items():
        print(f"note: {package} is left out: {error}", file=sys.stderr)


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
