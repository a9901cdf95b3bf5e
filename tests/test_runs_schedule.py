"""What is built next: order, urgency, failures; random graphs with made-up durations."""

from __future__ import annotations

import heapq
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obuild.errors import OpamError
from obuild.runs.graph import Build, Graph
from obuild.runs.schedule import Schedule, build_order, longest_ways


def graph(**needs: str) -> Graph:
    """`graph(a="", b="a")`: b needs a."""
    return Graph(Build(key, f"{key}.1", tuple(deps.split())) for key, deps in needs.items())


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Graph, dict[str, float], dict[str, bool]]:
    """A graph in a shuffled order, how long each build takes, and whether it ends well."""
    count = draw(st.integers(1, 14))
    names = [f"n{number}" for number in range(count)]
    deps = {
        name: tuple(draw(st.sets(st.sampled_from(names[:number])))) if number else ()
        for number, name in enumerate(names)
    }
    order = draw(st.permutations(names))
    seconds = {name: float(draw(st.integers(1, 20))) for name in names}
    good = {name: draw(st.integers(0, 9)) > 0 for name in names}
    return Graph(Build(name, f"{name}.1", deps[name]) for name in order), seconds, good


def simulate(schedule: Schedule, workers: int, seconds: Mapping[str, float], good: Mapping[str, bool]) -> float:
    """Run a schedule with made-up durations and check it at every step; when the last build ended."""
    clock, running = 0.0, list[tuple[float, str]]()
    started: dict[str, float] = {}
    while not schedule.over:
        while len(running) < workers:
            before = schedule.ready
            key = schedule.take()
            if key is None:
                assert before == 0
                break
            assert key not in started, "everything is started once"
            assert schedule.ready == before - 1
            assert all(dep in schedule.done for dep in schedule.graph.builds[key].deps if dep in schedule.graph.builds)
            started[key] = clock
            heapq.heappush(running, (clock + seconds[key], key))
        assert running, "something is running as long as there is something left"
        # Nobody is idle while something is ready.
        assert len(running) == workers or not schedule.ready
        clock, key = heapq.heappop(running)
        if good[key]:
            schedule.succeed(key)
        else:
            lost = schedule.fail(key)
            assert not started.keys() & set(lost)
    return clock


@given(graphs(), st.integers(1, 4), st.booleans())
@settings(max_examples=300)
def test_every_build_comes_after_what_it_needs_and_nobody_is_idle(
    made: tuple[Graph, dict[str, float], dict[str, bool]], workers: int, keep_going: bool
) -> None:
    all_builds, seconds, good = made
    schedule = Schedule(all_builds, ways=longest_ways(all_builds, seconds.__getitem__), keep_going=keep_going)
    simulate(schedule, workers, seconds, good)
    fates = [schedule.done, set(schedule.failed), schedule.dropped]
    assert set.union(*fates) == all_builds.builds.keys()
    assert sum(map(len, fates)) == len(all_builds.builds), "each has one fate"
    bad = {key for key in all_builds.builds if not good[key]}
    for key, cause in schedule.failed.items():
        assert cause in bad
        assert key == cause or cause in all_builds.dependencies([key])
    for key in schedule.done:
        assert not all_builds.dependencies([key]) & bad


@given(graphs(), st.integers(1, 4))
@settings(max_examples=200)
def test_no_schedule_is_worse_than_the_bound_of_list_scheduling(
    made: tuple[Graph, dict[str, float], dict[str, bool]], workers: int
) -> None:
    all_builds, seconds, _ = made
    ways = longest_ways(all_builds, seconds.__getitem__)
    schedule = Schedule(all_builds, ways=ways)
    end = simulate(schedule, workers, seconds, dict.fromkeys(seconds, True))
    longest, total = max(ways.values()), sum(seconds.values())
    # Graham's bound, which holds for any order as long as nobody is idle while something is ready.
    assert max(longest, total / workers) <= end <= total / workers + longest * (workers - 1) / workers + 1e-9


@given(graphs(), st.data())
@settings(max_examples=200)
def test_targets_alone_are_built_with_what_they_lack(
    made: tuple[Graph, dict[str, float], dict[str, bool]], data: st.DataObject
) -> None:
    all_builds, seconds, good = made
    names = sorted(all_builds.builds)
    targets, done = data.draw(st.sets(st.sampled_from(names))), data.draw(st.sets(st.sampled_from(names)))
    schedule = Schedule(all_builds, targets=targets, done=done, keep_going=False)
    simulate(schedule, 2, seconds, good)
    for target in targets:
        assert target in schedule.done or target in schedule.failed, "each target has a verdict"
    for key in schedule.dropped:
        assert key not in targets
    if not targets - done:
        assert schedule.done == done, "nothing is built when all is there"


def test_the_longest_way_goes_first_and_then_what_most_wait_for() -> None:
    made = graph(long="", short="", end="long", x="", y="short", z="short")
    schedule = Schedule(made, ways=longest_ways(made, lambda key: 10.0 if key == "end" else 1.0))
    assert [schedule.take() for _ in range(4)] == ["long", "short", "x", None]


def test_the_way_counts_all_that_comes_after() -> None:
    ways = longest_ways(graph(a="", b="a", c="b", d="a"), lambda key: {"a": 1.0, "b": 2.0, "c": 3.0, "d": 9.0}[key])
    assert ways == {"a": 10.0, "b": 5.0, "c": 3.0, "d": 9.0}


def test_a_failure_takes_its_dependents_and_no_others() -> None:
    schedule = Schedule(graph(bad="", user="bad", end="user", free=""))
    assert schedule.take() == "bad"
    assert schedule.fail("bad") == ["user", "end"]
    assert schedule.failed == {"bad": "bad", "user": "bad", "end": "bad"}
    assert schedule.take() == "free"
    schedule.succeed("free")
    assert schedule.over


def test_what_serves_a_lost_target_alone_is_dropped_unless_all_failures_are_wanted() -> None:
    made = graph(a="", slow="", slower="", deep="slow", t="a deep", u="slower", v="slower a")
    for keep_going, dropped in ((False, {"slow", "deep"}), (True, set())):
        schedule = Schedule(made, targets=["t", "u", "v"], keep_going=keep_going, ways={"a": 9.0})
        assert schedule.take() == "a"
        assert sorted(schedule.fail("a")) == ["t", "v"]
        assert schedule.dropped == dropped
        left = {schedule.take() for _ in range(schedule.ready)}
        assert left == {"slow", "slower"} - dropped


def test_builds_that_need_each_other_are_named() -> None:
    with pytest.raises(OpamError, match=r"a\.1, b\.1"):
        build_order(graph(a="b", b="a", c="", d="b c"))


def test_a_chain_of_any_length_has_an_order() -> None:
    count = 20_000
    chain = Graph(Build(str(n), f"p{n}.1", (str(n - 1),) if n else ()) for n in range(count))
    schedule = Schedule(chain, ways=longest_ways(chain, lambda _: 1.0))
    assert build_order(chain) == [str(n) for n in range(count)]
    assert schedule.take() == "0"
    assert len(schedule.fail("0")) == count - 1
