"""The packages that a failed build stands on: which of them are not there any more, and how they are built again."""

from __future__ import annotations

from obuild.errors import ObuildError, StoreError, UsageError
from obuild.opam.package import parse_package
from obuild.opam.solver import Request, Solution
from obuild.platform import open_platform
from obuild.replay.memory import stacked
from obuild.runs.batch import find_hits
from obuild.runs.execute import execute
from obuild.runs.merge import Target, merge
from obuild.runs.outcome import Failure
from obuild.runs.schedule import Schedule
from obuild.store.package import recorded_base

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from obuild.cancel import Cancel
    from obuild.plan import Plan
    from obuild.replay.memory import Failed
    from obuild.runs.execute import Listener, Machine
    from obuild.runs.make import Maker
    from obuild.runs.merge import Batch
    from obuild.runs.world import World
    from obuild.store import Store

__all__ = ["check_base", "missing", "planned_again", "recorded_repositories", "restore"]


def check_base(store: Store, failed: Failed) -> None:
    """Raise `UsageError` when the platform's base is not the one that the build failed on."""
    base = open_platform(store, failed.platform)
    if failed.meta.get("base", base.id) != base.id:
        hint = f"see whether it still fails: obuild health-check {failed.package}"
        message = f'"{failed.platform}" has another base than when "{failed.package}" failed'
        raise UsageError(message, hint=hint)


def missing(store: Store, failed: Failed) -> dict[str, str]:
    """The package layers below a build that are not in the store: their ids, each with its `NAME.VERSION`."""
    return {layer: package for layer, package in stacked(failed.spec).items() if not _is_there(store, layer, failed)}


def _is_there(store: Store, name: str, failed: Failed) -> bool:
    layer = store.get(name)
    try:
        return layer is not None and recorded_base(store, layer.id) == failed.meta.get("base")
    except (OSError, StoreError):
        return False


def recorded_repositories(root: str, failed: Failed) -> tuple[str, ...]:
    """The repositories of the last run in which the build failed, as they were named there; `root` has the runs."""
    from obuild.runs.run import list_runs

    for run in reversed(list_runs(root)):
        if any(node.outcome.id == failed.key for node in run.nodes("build")):
            repositories: Any = run.phase("plan").get("repos") or ()
            return tuple(_named(one) for one in repositories)
    return ()


def _named(one: dict[str, Any]) -> str:
    return f"{one['path']}@{one['commit']}" if one.get("commit") else str(one["path"])


def planned_again(world: World, failed: Failed) -> tuple[Target, Plan]:
    """The plan that the build was part of: what it was solved to is known, and is not solved again.

    Raises `UsageError` when it would come to another build now.
    """
    package = parse_package(failed.package)
    packages = sorted([package, *[parse_package(str(name)) for name in failed.meta.get("deps", ())]])
    answer = Solution(Request(((package.name, package.version),)), tuple(packages))
    target, plan = world.case(answer, world.terms.compilers[0])
    if plan is None or target.key != failed.key:
        hint = f"see whether it still fails: obuild health-check {failed.package}"
        raise UsageError(f'with these repositories "{failed.package}" is not the build that failed', hint=hint)
    return target, plan


def restore(
    maker: Callable[[Batch], Maker],
    case: tuple[Target, Plan],
    wanted: dict[str, str],
    machine: Machine,
    *,
    watch: Callable[[Schedule], Listener],
    cancel: Cancel,
) -> None:
    """Build the package layers `wanted` again, and nothing that is there. Raises `ObuildError` when one fails."""
    batch = merge([case])
    made = maker(batch)
    keys = [layer.partition("/")[2] for layer in wanted]
    schedule = Schedule(batch.graph, targets=keys, done=find_hits(batch, made), keep_going=False)
    outcomes = execute(schedule, made, machine, listener=watch(schedule), cancel=cancel)
    for outcome in outcomes.values():
        if isinstance(outcome, Failure):
            hint = f"obuild replay {outcome.package}"
            raise ObuildError(f'"{outcome.package}", which it needs, fails now: {outcome.error}', hint=hint)
