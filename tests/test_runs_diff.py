"""What is different between two runs."""

from __future__ import annotations

import itertools

import pytest

from obuild.runs.diff import Difference, diff_nodes
from obuild.runs.outcome import DependencyFailed, Failure, NoSolution, Outcome, Success
from obuild.runs.run import Node
from obuild.value import fields

OUTCOMES: dict[str, Outcome] = {
    "ok": Success("a.1", "h"),
    "fail": Failure("a.1", "h2"),
    "blocked": DependencyFailed("a.1", "h3", "b.1"),
    "unsolved": NoSolution("a.1"),
}
EXPECTED = {
    ("ok", "fail"): "newly_failing",
    ("ok", "blocked"): "newly_failing",
    ("fail", "ok"): "fixed",
    ("blocked", "ok"): "fixed",
    ("fail", "fail"): "still_failing",
    ("fail", "blocked"): "still_failing",
    ("blocked", "fail"): "still_failing",
    ("blocked", "blocked"): "still_failing",
    ("ok", "unsolved"): "newly_unsolvable",
    ("fail", "unsolved"): "newly_unsolvable",
    ("blocked", "unsolved"): "newly_unsolvable",
    ("unsolved", "ok"): "newly_solvable",
    ("unsolved", "fail"): "newly_solvable",
    ("unsolved", "blocked"): "newly_solvable",
}


def places(found: Difference) -> list[str]:
    return [name for name, items in found.lists() for _ in items]


@pytest.mark.parametrize("pair", list(itertools.product(OUTCOMES, repeat=2)))
def test_every_pair_of_outcomes(pair: tuple[str, str]) -> None:
    found = diff_nodes([Node(OUTCOMES[pair[0]], compiler="5")], [Node(OUTCOMES[pair[1]], compiler="5")])
    assert places(found) == ([EXPECTED[pair]] if pair in EXPECTED else [])
    assert bool(found) == (EXPECTED.get(pair, "still_failing") != "still_failing")


def test_added_and_removed() -> None:
    one, two = Node(Success("a.1", "h"), compiler="5"), Node(Success("a.1", "h"), compiler="4")
    found = diff_nodes([one], [two])
    assert (found.added[0].after, found.removed[0].before) == (two, one)
    assert found.removed[0].node == one
    assert not diff_nodes([one], [two], only_common=True)


def test_one_build_stands_for_a_package() -> None:
    blessed = [Node(Failure("a.1", "h"), blessed=True), Node(Success("a.1", "g"))]
    plain = [Node(Failure("a.1", "h")), Node(Success("a.1", "g"))]
    old = [Node(Success("a.1", "x"))]
    for nodes in itertools.permutations(blessed):
        assert places(diff_nodes(old, nodes)) == ["newly_failing"]
    for nodes in itertools.permutations(plain):
        assert places(diff_nodes(old, nodes)) == []
    again = [Node(Failure("a.1", "h")), Node(Failure("a.1", "h", "timeout")), Node(Success("a.1", "h"))]
    assert places(diff_nodes(old, again)) == []


def test_causes_come_before_effects_and_docs_do_not_count() -> None:
    names = ["a.1", "b.1", "c.1"]
    old = [Node(Success(name, "h")) for name in names] + [Node(Success("d.1", "h"), kind="doc")]
    new = [Node(DependencyFailed("a.1", "h", "c.1")), Node(Failure("c.1", "h")), Node(Failure("b.1", "h"))]
    assert [moved.package for moved in diff_nodes(old, new).newly_failing] == ["b.1", "c.1", "a.1"]
    assert len(fields(Difference)) == 7
