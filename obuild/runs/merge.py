"""The plans of many solutions as one graph in which every layer is there once."""

from __future__ import annotations

from obuild.runs.graph import Build, Graph
from obuild.runs.outcome import NoSolution
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from obuild.plan import PackageBuild, Plan
    from obuild.runs.outcome import Outcome

__all__ = ["Batch", "Job", "Target", "merge"]


@value
class Target:
    """A package that was asked for with a `compiler` (a version; "" for any), and its build `key`.

    One that can not be built at all has no key; `refusal` says why: there is no solution, or its source, or that of a
    package below it, can not be had.
    """

    package: str
    compiler: str = ""
    key: str = ""
    refusal: Outcome | None = None


@value
class Job:
    """A build with the first plan that has it; `compilers` are those of all targets that need it."""

    build: PackageBuild
    plan: Plan
    compilers: tuple[str, ...]


@value
class Batch:
    """What has to be built for all targets. `jobs` has what `graph` has, by the same keys."""

    targets: tuple[Target, ...]
    graph: Graph
    jobs: Mapping[str, Job]

    @property
    def wanted(self) -> frozenset[str]:
        """The builds of the targets."""
        return frozenset([target.key for target in self.targets if target.key])

    @property
    def unsolved(self) -> tuple[Target, ...]:
        """The targets without a solution."""
        return tuple([target for target in self.targets if isinstance(target.refusal, NoSolution)])


def merge(cases: Iterable[tuple[Target, Plan | None]]) -> Batch:
    """One batch of all targets; a plan is there for each that has a solution."""
    targets: list[Target] = []
    first: dict[str, tuple[PackageBuild, Plan]] = {}
    compilers: dict[str, dict[str, None]] = {}
    for target, plan in cases:
        if plan is not None:
            for build in plan.builds:
                first.setdefault(build.key, (build, plan))
                compilers.setdefault(build.key, {})[target.compiler] = None
        targets.append(target)
    graph = Graph([Build(key, str(build.package), build.needs) for key, (build, _) in first.items()])
    return Batch(
        tuple(targets),
        graph,
        {key: Job(build, plan, tuple(compilers[key])) for key, (build, plan) in first.items()},
    )
