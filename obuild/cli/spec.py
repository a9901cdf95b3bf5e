"""`obuild opam spec`: the spec that builds a package."""

from __future__ import annotations

import json as json_format
import sys

from obuild.cli.option import Argument, Command, Option
from obuild.cli.planner import PLANNING, Planner
from obuild.cli.show import write
from obuild.errors import UsageError, nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from obuild.opam.package import Package
    from obuild.plan import Plan
    from obuild.plan.style import Task
    from obuild.spec import Spec

__all__ = ["COMMANDS"]

NO_SOLUTION = 3


def spec(*, target: str, style: str, of: str | None, plan: bool, json: bool, dot: bool, **given: Any) -> int:
    """Print the spec of a package, or of one that it needs, or what would be built for it; 3 without a solution."""
    from obuild import spec as language
    from obuild.opam.solver import NoSolution, parse_request

    planner = Planner(given, built=False)
    request = parse_request(target)
    planner.solver.check([request])
    answer = planner.solver.solve(request, report="short")
    if isinstance(answer, NoSolution):
        planner.close()
        print(answer.report, file=sys.stderr)
        return NO_SOLUTION
    found = planner.plan(answer)
    planner.close()
    if plan or json or dot:
        _print(_view(planner, found, json=json, dot=dot))
    elif style == "native":
        _print(language.format(_native(planner, found, of)).rstrip("\n"))
    else:
        _print(language.format(_styled(planner, found, style, answer.packages)).rstrip("\n"))
    return 0


def _native(planner: Planner, plan: Plan, of: str | None) -> Spec:
    from obuild.plan import compile, recorded

    build = plan.by_key[plan.targets[-1]]
    if of:
        names = {name: each for each in plan.builds for name in (each.package.name, str(each.package))}
        if of not in names:
            raise UsageError(f'"{of}" is not built for "{build.package}"', hint=nearest(of, names))
        build = names[of]
    return compile(build, plan, recorded(planner.store, plan))


def _styled(planner: Planner, plan: Plan, style: str, solution: tuple[Package, ...]) -> Spec:
    from obuild.plan.style import style_spec

    return style_spec(style, _task(planner, plan, solution))


def _task(planner: Planner, plan: Plan, solution: tuple[Package, ...]) -> Task:
    from obuild.plan.style import Task

    compilers = [package for package in solution if package.name in _SWITCHES]
    return Task(
        package=plan.by_key[plan.targets[-1]].package,
        platform=planner.base.platform,
        solution=solution,
        compiler=str(min(compilers, key=lambda package: _SWITCHES.index(package.name))) if compilers else "",
        commit=planner.commit,
        with_test=plan.by_key[plan.targets[-1]].with_test,
    )


_SWITCHES = ("ocaml-variants", "ocaml-base-compiler", "ocaml-system")
"""The packages that opam's switches are made of."""


def _view(planner: Planner, plan: Plan, *, json: bool, dot: bool) -> str:
    from obuild.plan.record import package_layer
    from obuild.plan.view import format_dot, format_plan, shown_plan

    if dot:
        return format_dot(plan)
    store = planner.store
    present = {build.key for build in plan.builds if store and package_layer(store, build, plan)}
    return json_format.dumps(shown_plan(plan, present)) if json else format_plan(plan, present)


def _print(text: str) -> None:
    write(1, text.encode("utf-8", "surrogateescape") + b"\n")


COMMANDS = {
    "opam spec": Command(
        spec,
        "Print the spec that builds a package.",
        (
            *PLANNING,
            Option(
                ("--style",),
                "As obuild builds it, or as others do.",
                default="native",
                choices=("native", "opam", "opam-repo-ci", "opam-health-check"),
            ),
            Option(("--of",), "The spec of this package, which the target needs.", metavar="PACKAGE"),
            Option(("--plan",), "What would be built, and what is there already.", None),
            Option(("--json",), "The same as JSON.", None),
            Option(("--dot",), "The same as a Graphviz graph.", None),
        ),
        (Argument("target"),),
    ),
}
