"""Plans of several solutions in one graph."""

from __future__ import annotations

from planning import planned

from obuild.runs.merge import Target, merge
from obuild.runs.outcome import NoSolution

TEXTS = {
    "base.1": "",
    "left.1": 'depends: ["base"]',
    "right.1": 'depends: ["base"]',
    "top.1": 'depends: ["left" "right"]',
}


def test_what_two_solutions_have_in_common_is_there_once() -> None:
    left, top = planned(TEXTS, "left"), planned(TEXTS, "top")
    batch = merge([(Target("left.1", "", left.targets[0]), left), (Target("top.1", "5", top.targets[0]), top)])
    packages = {build.package: build for build in batch.graph.builds.values()}
    assert sorted(packages) == ["base.1", "left.1", "right.1", "top.1"]
    assert set(packages["top.1"].deps) == {packages["left.1"].id, packages["right.1"].id}
    assert batch.wanted == {packages["left.1"].id, packages["top.1"].id}
    assert batch.jobs[packages["base.1"].id].compilers == ("", "5")
    assert batch.jobs[packages["right.1"].id].compilers == ("5",)
    assert batch.jobs[packages["left.1"].id].plan is left, "the first plan that has it"


def test_targets_without_a_solution_have_no_build() -> None:
    refusal = NoSolution("x.1", "why")
    batch = merge([(Target("x.1", refusal=refusal), None)])
    assert batch.unsolved == batch.targets
    assert not batch.graph.builds
    assert not batch.wanted
