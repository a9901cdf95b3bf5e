"""A plan as people and programs read it: what would be built upon what, and what is there already."""

from __future__ import annotations

from obuild.opam.key import DEV, is_dev
from obuild.plan.depext import depexts
from obuild.plan.system import accepts_failure

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

    from obuild.plan.build import PackageBuild, Plan

__all__ = ["format_dot", "format_plan", "shown_plan", "system_packages"]

_DIGITS = 12
"""Of an id that people see: enough to tell layers apart, and to find one by."""


def format_plan(plan: Plan, present: Collection[str] = ()) -> str:
    """The builds in their order, a line each; `present` are the keys whose layers are there already."""
    if not plan.builds:
        return "nothing to build"
    width = max(len(str(build.package)) for build in plan.builds)
    lines = [_line(build, plan, width, present) for build in plan.builds]
    missing = sum(build.key not in present for build in plan.builds)
    system = system_packages(plan)
    if system:
        lines.append(f"system packages: {' '.join(system)}")
    counted = "1 package" if len(plan.builds) == 1 else f"{len(plan.builds)} packages"
    lines.append(f"{counted} on {plan.base.platform.key}: {missing} to build, {len(plan.builds) - missing} there")
    return "\n".join(lines)


def _line(build: PackageBuild, plan: Plan, width: int, present: Collection[str]) -> str:
    state = "there" if build.key in present else "build"
    needs = " ".join([plan.by_key[key].package.name for key in reversed(build.needs)])
    return f"{state}  {build.package!s:{width}}  {_short(build.key)}  {needs}".rstrip()


def _short(key: str) -> str:
    """A key with its digest cut, its variants whole."""
    plain, plus, variants = key.partition("+")
    front = DEV if is_dev(key) else ""
    return f"{front}{plain[len(front) :][:_DIGITS]}{plus}{variants}"


def shown_plan(plan: Plan, present: Collection[str] = ()) -> dict[str, Any]:
    """The plan as JSON has it."""
    return {
        "platform": plan.base.platform.key,
        "base": plan.base.id,
        "prefix": plan.prefix,
        "targets": list(plan.targets),
        "system_packages": list(system_packages(plan)),
        "builds": [_shown(build, plan, present) for build in plan.builds],
    }


def _shown(build: PackageBuild, plan: Plan, present: Collection[str]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "package": str(build.package),
        "key": build.key,
        "build_id": build.build_id,
        "there": build.key in present,
        "needs": [str(plan.by_key[key].package) for key in build.needs],
        "parents": list(build.parents),
        "source": build.source.url if build.source else None,
        "with-test": build.with_test,
        "with-doc": build.with_doc,
        "patches": [patch.name for patch in build.patches],
        "relocatable": build.relocation.possible,
        "relocatable_why": build.relocation.why,
        "failure_accepted": accepts_failure(build.file, plan.base.platform),
    }
    return {**shown, "no_build_id": build.why} if build.why else shown


def format_dot(plan: Plan) -> str:
    """The plan for Graphviz: an edge to each dependency, as day10 draws it."""
    lines = []
    for build in plan.builds:
        needs = [f'"{plan.by_key[key].package}"' for key in reversed(build.needs)]
        name = f'"{build.package}{_variants(build)}"'
        targets = needs[0] if len(needs) == 1 else f"{{{' '.join(needs)}}}"
        lines.append(f"  {name} -> {targets};" if needs else f"  {name};")
    return "\n".join(["digraph opam {", *lines, "}"])


def _variants(build: PackageBuild) -> str:
    return " with tests" * build.with_test + " with documentation" * build.with_doc


def system_packages(plan: Plan) -> tuple[str, ...]:
    """The system packages that builds of the plan install on top of the base."""
    return depexts([build.file for build in plan.builds], plan.variables.get, plan.base.packages)
