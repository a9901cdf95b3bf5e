"""What can differ between two states of repositories."""

from __future__ import annotations

from planning import planned

from obuild.runs.merge import Batch, Target, merge
from obuild.runs.outcome import DependencyFailed, Failure, NoSolution, Outcome, Success
from obuild.runs.run import Node
from obuild.runs.since import compare, different, unknown_before

OLD = {"a.1": "", "b.1": 'depends: ["a"]', "c.1": "", "gone.1": ""}
NEW = {"a.1": 'build: ["true"]', "b.1": 'depends: ["a"]', "c.1": "", "new.1": ""}


def batch(texts: dict[str, str], **refused: Outcome) -> Batch:
    cases = []
    for package in texts:
        found = planned(texts, package.partition(".")[0])
        refusal = refused.get(package.partition(".")[0])
        cases.append((Target(package, "", "" if refusal else found.targets[0], refusal), None if refusal else found))
    return merge(cases)


def names(side: Batch) -> list[str]:
    return sorted(target.package for target in side.targets)


def keys(side: Batch) -> dict[str, str]:
    return {target.package: target.key for target in side.targets}


def test_only_what_can_differ_is_left() -> None:
    old, new = different(batch(OLD), batch(NEW))
    assert names(old) == ["a.1", "b.1", "gone.1"]
    assert names(new) == ["a.1", "b.1", "new.1"]
    assert sorted(build.package for build in new.graph.builds.values()) == ["a.1", "b.1", "new.1"]
    assert new.jobs.keys() == new.graph.builds.keys()


def test_a_solution_on_one_side_alone_is_a_difference() -> None:
    unsolved = NoSolution("c.1", "no")
    old, new = different(batch(OLD), batch(OLD, c=unsolved))
    assert (names(old), names(new)) == (["c.1"], ["c.1"])
    assert names(different(batch(OLD, c=unsolved), batch(OLD, c=NoSolution("c.1", "other words")))[1]) == []


def test_the_old_build_is_made_only_of_what_fails_now_and_was_never_known() -> None:
    old, new = different(batch(OLD), batch(NEW))
    before, after = keys(old), keys(new)
    outcomes: dict[str, Outcome] = {
        after["a.1"]: Failure("a.1", after["a.1"]),
        after["b.1"]: DependencyFailed("b.1", after["b.1"], "a.1", after["a.1"]),
        after["new.1"]: Failure("new.1", after["new.1"]),
    }
    assert names(unknown_before(old, {}, new, outcomes)) == ["a.1", "b.1"]
    known: dict[str, Outcome] = {before["a.1"]: Success("a.1", before["a.1"])}
    assert names(unknown_before(old, known, new, outcomes)) == ["b.1"]
    assert names(unknown_before(old, known, new, {key: Success("x", key) for key in after.values()})) == []


def test_what_is_said_of_each() -> None:
    old, new = different(batch(OLD), batch(NEW))
    before, after = keys(old), keys(new)
    known: dict[str, Outcome] = {
        before["a.1"]: Failure("a.1", before["a.1"]),
        before["b.1"]: Success("b.1", before["b.1"]),
    }
    nodes = [
        Node(Success("a.1", after["a.1"])),
        Node(Failure("b.1", after["b.1"], error="no")),
        Node(Success("new.1", after["new.1"])),
        Node(Success("other.1", "a dependency that nobody asked for")),
    ]
    found = compare(old, known, new, nodes)
    lists = {name: [moved.package for moved in items] for name, items in found.lists() if items}
    assert lists == {"newly_failing": ["b.1"], "fixed": ["a.1"], "added": ["new.1"], "removed": ["gone.1"]}
