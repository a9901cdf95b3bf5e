"""`obuild opam spec`: the spec that builds a package."""

from __future__ import annotations

import json as json_format
import re
import sys

from obuild.cli.option import Argument, Command, Option
from obuild.cli.planner import PLANNING, likely_base, open_world, present_store
from obuild.cli.show import write
from obuild.errors import UsageError, nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import Any

    from obuild.opam.package import Package
    from obuild.plan import PackageBuild, Plan
    from obuild.plan.style import Origin
    from obuild.runs.world import World
    from obuild.spec import Spec
    from obuild.store import Store

__all__ = ["COMMANDS"]

FAILED, NO_SOLUTION = 1, 3

_SWITCHES = ("ocaml-variants", "ocaml-base-compiler", "ocaml-system")
"""The packages that opam's switches are made of."""

_COMMIT = re.compile(r"[0-9a-f]{12,40}").fullmatch


def spec(*, target: str, style: str, of: str | None, plan: bool, json: bool, dot: bool, **given: Any) -> int:
    """Print the spec of a package, or of one that it needs, or what would be built for it; 3 without a solution."""
    from obuild.opam.solver import Solution, parse_request

    store = present_store(given["store"])
    base = likely_base(store, given["platform"])
    world = open_world(given, base, store, [given["compiler"]] if given["compiler"] else [])
    (compiler,) = world.terms.compilers
    (answer,) = world.answers([parse_request(target)], compiler, processes=1)
    case, found = world.case(answer, compiler)
    world.save()
    for error in world.unreadable:
        print(f"note: left out: {error}", file=sys.stderr)
    if case.refusal:
        print(case.refusal.error, file=sys.stderr)
        return NO_SOLUTION if case.refusal.word == "no_solution" else FAILED
    assert found is not None
    assert isinstance(answer, Solution)
    if plan or json or dot:
        _print(_view(store, found, json=json, dot=dot))
    elif style == "native":
        _print_spec(_native(store, found, of))
    else:
        _print_spec(_styled(found, answer.packages, style, _origins(world, given["repo"])))
    return 0


def _native(store: Store | None, plan: Plan, of: str | None) -> Spec:
    from obuild.plan import compile, recorded

    return compile(_named(plan, of) if of else plan.by_key[plan.targets[-1]], plan, recorded(store, plan))


def _named(plan: Plan, text: str) -> PackageBuild:
    """The build of the package called so."""
    names = {name: build for build in plan.builds for name in (build.package.name, str(build.package))}
    if text not in names:
        raise UsageError(f'"{text}" is not built for "{plan.builds[-1].package}"', hint=nearest(text, names))
    return names[text]


def _origins(world: World, texts: Sequence[str]) -> list[Origin]:
    """Where others find each repository."""
    from obuild.clone import address
    from obuild.opam.repo.git import git_folder
    from obuild.plan.style import Origin

    found: list[Origin] = []
    for text, repository in zip(texts, world.repository.repositories, strict=True):
        place, _, commit = repository.where.rpartition("@")
        place, commit = (place, commit) if _COMMIT(commit) else (repository.where, "")
        where = address(text, git_folder(place))
        used = {"default", "opam-repository", *[origin.name for origin in found]}
        found.append(Origin(_unused(_repository_name(where or place), used), where, commit))
    return found


def _repository_name(where: str) -> str:
    """What people call a repository: most are called `opam-repository`, and then by whose it is."""
    parts = [re.sub(r"[^\w.+-]", "-", part) for part in where.removesuffix(".git").split("/") if part]
    return parts[-2] if parts[-1] == "opam-repository" and len(parts) > 1 else parts[-1]


def _unused(name: str, used: Collection[str]) -> str:
    from itertools import count

    return name if name not in used else next(each for n in count(2) if (each := f"{name}-{n}") not in used)


def _styled(plan: Plan, solution: tuple[Package, ...], style: str, origins: Sequence[Origin]) -> Spec:
    from obuild.plan.style import PUBLIC, Task, style_spec

    target = plan.by_key[plan.targets[-1]]
    compilers = sorted(
        [package for package in solution if package.name in _SWITCHES],
        key=lambda package: _SWITCHES.index(package.name),
    )
    task = Task(
        package=target.package,
        platform=plan.base.platform,
        solution=solution,
        compiler=str(compilers[0]) if compilers else "",
        repository=origins[-1].address or PUBLIC,  # the last one is opam's own when there are several
        commit=origins[-1].commit,
        others=tuple(origins[:-1]),
        with_test=target.with_test,
    )
    return style_spec(style, task)


def _view(store: Store | None, plan: Plan, *, json: bool, dot: bool) -> str:
    from obuild.plan.record import package_layer
    from obuild.plan.view import format_dot, format_plan, shown_plan

    if dot:
        return format_dot(plan)
    present = {build.key for build in plan.builds if store and package_layer(store, build, plan)}
    return json_format.dumps(shown_plan(plan, present)) if json else format_plan(plan, present)


def _print_spec(found: Spec) -> None:
    from obuild import spec as language

    _print(language.format(found).removesuffix("\n"))


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
