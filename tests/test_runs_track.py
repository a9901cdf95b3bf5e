"""What a profile remembers: what is due, from one state to the next, what people are told of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from obuild.runs.merge import Target
from obuild.runs.message import Message, is_worse, write_message
from obuild.runs.outcome import DependencyFailed, Failure, NoSolution, Outcome, Success
from obuild.runs.run import Node
from obuild.runs.track import State, Step, advance, due, load_state, save_state


def node(outcome: Outcome, compiler: str = "") -> Node:
    return Node(outcome, compiler=compiler, t="2026-03-06T12:34:56.000Z", replay="again!" if outcome.id else "")


def state(*outcomes: Outcome) -> State:
    return State("run", ("r@1",), "terms", tuple(map(node, outcomes)))


def step(before: State, *after: Outcome) -> Step:
    targets = [Target(one.package, key=one.id, refusal=one if isinstance(one, NoSolution) else None) for one in after]
    return advance(before, targets, due(before, targets), map(node, after), "next")


@pytest.mark.parametrize(
    ("target", "is_due"),
    [
        (Target("good.1", key="g"), False),
        (Target("good.1", key="other"), True),
        (Target("good.1", "5.4", key="g"), True),
        (Target("new.1", key="n"), True),
        (Target("bad.1", key="b"), False),
        (Target("none.1", refusal=NoSolution("none.1", "for another reason")), False),
        (Target("none.1", key="n"), True),
        (Target("good.1", refusal=NoSolution("good.1")), True),
        (Target("none.1", refusal=Failure("none.1", "", "fetch_failure")), True),
    ],
)
def test_what_is_due(target: Target, is_due: bool) -> None:
    known = state(Success("good.1", "g"), Failure("bad.1", "b"), NoSolution("none.1", "no"))
    assert (due(known, [target]) == (target,)) is is_due


def test_what_failed_is_due_again_when_that_is_asked_for() -> None:
    known = state(Success("good.1", "g"), Failure("bad.1", "b"), DependencyFailed("user.1", "u", "bad.1", "b"))
    targets = [Target("good.1", key="g"), Target("bad.1", key="b"), Target("user.1", key="u")]
    assert [each.package for each in due(known, targets, again=True)] == ["bad.1", "user.1"]


def test_everything_that_can_happen() -> None:
    before = state(
        Success("a.1", "a"),
        Failure("b.1", "b"),
        Failure("c.1", "c"),
        NoSolution("d.1"),
        Success("e.1", "e"),
        Success("gone.1", "g"),
        Success("same.1", "s"),
    )
    found = step(
        before,
        Failure("a.1", "a2", error="why\nmore"),
        Success("b.1", "b2"),
        Failure("c.1", "c2"),
        Success("d.1", "d2"),
        NoSolution("e.1", "no e"),
        Success("new.1", "n"),
        Failure("worse.1", "w"),
        Success("same.1", "s"),
    )
    lists = {name: [moved.package for moved in items] for name, items in found.difference.lists()}
    assert lists == {
        "newly_failing": ["a.1"],
        "fixed": ["b.1"],
        "still_failing": ["c.1"],
        "newly_unsolvable": ["e.1"],
        "newly_solvable": ["d.1"],
        "added": ["new.1", "worse.1"],
        "removed": ["gone.1"],
    }
    assert (found.state.run, found.state.open, len(found.state.nodes)) == ("next", False, 8)
    message = write_message("x", found.difference, notes=["the end"])
    assert message.title == (
        "x: 1 newly failing, 1 newly without solution, 1 new and not well, 1 fixed, 1 newly solvable, "
        "1 still failing, 1 new, 1 gone"
    )
    assert message.text.startswith("newly failing (1):\n  a.1\n    build_failure: why\n    again: again!\n\n")
    assert message.text.endswith("\n\nthe end")
    assert is_worse(found.difference)


def test_a_failure_that_may_pass_is_no_word() -> None:
    before = state(Success("a.1", "a"), Success("b.1", "b"))
    lost = (Failure("a.1", "a2", "transient_failure", "503"), DependencyFailed("b.1", "b2", "a.1", "a2"))
    found = step(before, *lost)
    assert not found.difference
    assert not is_worse(found.difference)
    assert [each.outcome.package for each in found.passing] == ["a.1", "b.1"]
    assert found.state.open
    assert [each.outcome.id for each in found.state.nodes] == ["a", "b"], "it is compared with what it was before"
    assert "a.1: 503" in write_message("x", found.difference, passing=found.passing).text
    after = step(found.state, Failure("a.1", "a2"), Success("b.1", "b2"))
    assert [moved.package for moved in after.difference.newly_failing] == ["a.1"]
    assert not after.state.open


def test_compilers_are_told_apart() -> None:
    before = State("run", nodes=(node(Success("a.1", "a4"), "4"), node(Success("a.1", "a5"), "5")))
    targets = [Target("a.1", "4", "a4"), Target("a.1", "5", "x5")]
    tried = due(before, targets)
    assert tried == (targets[1],)
    found = advance(before, targets, tried, [node(Failure("a.1", "x5"), "5")], "next")
    assert [(moved.package, moved.compiler) for moved in found.difference.newly_failing] == [("a.1", "5")]
    assert {each.compiler: each.outcome.word for each in found.state.nodes} == {"4": "success", "5": "failure"}


def test_when_nothing_can_differ() -> None:
    known = State("run", ("r@1",), "terms")
    assert known.same(("r@1",), "terms")
    assert not known.same(("r@2",), "terms")
    assert not known.same(("r@1",), "others")
    assert not State().same((), "")
    assert not State("run", ("/folder",), "terms").same(("/folder",), "terms"), "a directory may have changed"
    assert not State("run", ("r@1",), "terms", open=True).same(("r@1",), "terms")


def test_saved_and_loaded(tmp_path: Path) -> None:
    path = f"{tmp_path}/track-x.json"
    assert load_state(path) == State()
    known = State(
        "run",
        ("r@1", "s@2"),
        "terms",
        (node(Success("a.1", "a", True, 1.5), "5"), node(NoSolution("b.1", "no")), node(Failure("c.1", "c"))),
        True,
        ((Message("title", "text"), (0, 2)),),
    )
    save_state(path, known)
    assert load_state(path) == known


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"run": 1}', "\0", '{"nodes":[1],"run":"","repos":[],"terms":""}'])
def test_a_damaged_state_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "x").write_text(text)
    assert load_state(f"{tmp_path}/x") == State()


def test_long_lists_and_hostile_lines_are_cut() -> None:
    bad = [Failure(f"p{number}.1", f"{number}", error="\x1b[31mred\x07") for number in range(100)]
    found = step(state(*[Success(each.package, "old") for each in bad]), *bad)
    text = write_message("x", found.difference).text
    assert "and 80 more" in text
    assert "\x1b" not in text
    assert len(text) < 4000
