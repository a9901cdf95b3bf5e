"""Workers: builds that overlap, fail, are cancelled; what each may use."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from obuild.cancel import Cancel
from obuild.errors import Cancelled, StoreError
from obuild.runs.execute import Halt, Listener, Machine, Share, execute
from obuild.runs.graph import Build, Graph
from obuild.runs.outcome import DependencyFailed, Failure, Outcome, Success
from obuild.runs.schedule import Schedule


def graph(**needs: str) -> Graph:
    return Graph(Build(key, f"{key}.1", tuple(deps.split())) for key, deps in needs.items())


class Recorder(Listener):
    """Remembers all events; fails the test when two come at once."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.shares: dict[str, Share] = {}
        self._busy = threading.Lock()

    def started(self, key: str, share: Share) -> None:
        assert self._busy.acquire(blocking=False)
        self.events.append(f"+{key}")
        self.shares[key] = share
        self._busy.release()

    def ended(self, key: str, outcome: Outcome) -> None:
        assert self._busy.acquire(blocking=False)
        self.events.append(f"{outcome.mark} {key}")
        self._busy.release()


def good(key: str, share: Share, cancel: Cancel) -> Outcome:
    return Success(f"{key}.1", key)


def test_a_failure_ends_its_dependents_at_once_and_nobody_else() -> None:
    release = threading.Event()

    def work(key: str, share: Share, cancel: Cancel) -> Outcome:
        if key == "slow":
            assert release.wait(10)
        return Failure("bad.1", key, error="no") if key == "bad" else good(key, share, cancel)

    class Releaser(Recorder):
        def ended(self, key: str, outcome: Outcome) -> None:
            super().ended(key, outcome)
            if key == "end":  # told while "slow" is still running
                release.set()

    recorder = Releaser()
    made = graph(bad="", slow="", user="bad", end="user slow", free="slow")
    outcomes = execute(Schedule(made), work, Machine(workers=2), listener=recorder)
    assert outcomes["end"] == DependencyFailed("end.1", "end", "bad.1", "bad")
    assert outcomes["user"] == DependencyFailed("user.1", "user", "bad.1", "bad")
    assert outcomes["free"].word == outcomes["slow"].word == "success"
    assert recorder.events.index("cascade end") < recorder.events.index("ok slow")


def test_builds_that_do_not_need_each_other_overlap() -> None:
    both = threading.Barrier(2, timeout=10)

    def work(key: str, share: Share, cancel: Cancel) -> Outcome:
        if key in "ab":
            both.wait()  # passes only when both are running
        return good(key, share, cancel)

    outcomes = execute(Schedule(graph(a="", b="", c="a b")), work, Machine(workers=2))
    assert list(outcomes)[-1] == "c"


@given(st.integers(1, 40), st.integers(1, 6), st.randoms())
@settings(max_examples=30)
def test_all_is_done_once_by_any_number_of_workers(count: int, workers: int, random: object) -> None:
    deps = [tuple(str(d) for d in range(n) if random.random() < 0.2) for n in range(count)]  # type: ignore[attr-defined]
    made = Graph(Build(str(n), f"p{n}.1", deps[n]) for n in range(count))
    running: set[str] = set()
    most = [0]
    lock = threading.Lock()

    def work(key: str, share: Share, cancel: Cancel) -> Outcome:
        with lock:
            running.add(key)
            most[0] = max(most[0], len(running))
        time.sleep(0.0005)
        with lock:
            running.discard(key)
        return good(key, share, cancel)

    outcomes = execute(Schedule(made), work, Machine(workers=workers))
    assert outcomes.keys() == made.builds.keys()
    assert most[0] <= workers
    place = {key: place for place, key in enumerate(outcomes)}
    assert all(place[dep] < place[key] for key in outcomes for dep in made.builds[key].deps)


def test_cancelling_waits_for_what_runs_and_starts_nothing_more() -> None:
    cancel = Cancel()
    ended = []

    def work(key: str, share: Share, token: Cancel) -> Outcome:
        cancel.set("enough")
        assert token.wait(10)
        ended.append(key)
        raise Cancelled(token.reason)

    with pytest.raises(Cancelled, match="enough"):
        execute(Schedule(graph(a="", b="", c="")), work, Machine(workers=2), cancel=cancel)
    assert 1 <= len(ended) <= 2


def test_what_only_the_machine_is_to_blame_for_ends_the_whole_run() -> None:
    begun = threading.Event()

    def work(key: str, share: Share, token: Cancel) -> Outcome:
        if key == "full":
            assert begun.wait(10)
            raise StoreError("no space left")
        begun.set()
        assert token.wait(10), "the others are cancelled"
        raise Cancelled(token.reason)

    with pytest.raises(StoreError, match="no space left"):
        execute(Schedule(graph(full="", other="", after="other")), work, Machine(workers=2))


def test_who_ends_the_whole_run_has_an_outcome_all_the_same() -> None:
    def work(key: str, share: Share, token: Cancel) -> Outcome:
        raise Halt("no space left", Failure("full.1", key, "disk_full"))

    recorder = Recorder()
    with pytest.raises(Halt, match="no space left"):
        execute(Schedule(graph(full="", other="", after="full")), work, Machine(), listener=recorder)
    assert recorder.events == ["+full", "fail full", "cascade after"]


def test_a_build_alone_has_all_cores_and_many_share_them() -> None:
    recorder = Recorder()
    machine = Machine(workers=4, cores=8, memory=4 << 30)
    execute(
        Schedule(graph(root="", a="root", b="root", c="root", d="root", end="a b c d")),
        good,
        machine,
        listener=recorder,
    )
    assert recorder.shares["root"] == Share(8, 1 << 30)
    assert recorder.shares["end"].jobs == 8
    assert recorder.shares[next(event[1:] for event in recorder.events if event[1:] in "abcd")].jobs == 2


def test_nothing_to_do_is_done() -> None:
    assert execute(Schedule(Graph(())), good, Machine()) == {}
    assert execute(Schedule(graph(a=""), done=["a"]), good, Machine(workers=3)) == {}
