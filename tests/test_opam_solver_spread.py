"""Many items on several processors."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from obuild.opam.solver.spread import spread


def children() -> set[str]:
    with open(f"/proc/{os.getpid()}/task/{os.getpid()}/children", encoding="ascii") as file:
        return set(file.read().split())


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 1000])
@pytest.mark.parametrize("processes", [1, 2, 5])
def test_all_results_in_order(count: int, processes: int) -> None:
    before = children()
    assert list(spread(lambda index: (index, "x" * index), count, processes=processes)) == [
        (index, "x" * index) for index in range(count)
    ]
    assert children() == before


def test_the_work_is_shared() -> None:
    found = set(spread(lambda _: os.getpid(), 320, processes=2))
    assert os.getpid() not in found
    assert 1 <= len(found) <= 2


def test_a_large_result() -> None:
    assert [len(each) for each in spread(lambda _: b"x" * 300_000, 70, processes=2)] == [300_000] * 70


def test_progress_ends_at_the_whole() -> None:
    heard: list[tuple[int, int]] = []
    list(spread(lambda index: index, 100, processes=2, progress=lambda done, of: heard.append((done, of))))
    assert heard[-1] == (100, 100)
    assert heard == sorted(heard)


def test_what_a_killed_process_had_in_its_hands_is_done_here() -> None:
    here = os.getpid()

    def work(index: int) -> int:
        if index == 40 and os.getpid() != here:
            os.kill(os.getpid(), signal.SIGKILL)
        return index

    assert list(spread(work, 200, processes=2)) == list(range(200))


def test_an_exception_is_raised_here() -> None:
    def work(index: int) -> int:
        return 1 // (index - 50)

    before = children()
    with pytest.raises(ZeroDivisionError):
        list(spread(work, 200, processes=2))
    assert children() == before


def test_processes_end_with_an_iteration_that_is_given_up() -> None:
    before = children()
    results = spread(lambda index: index, 1000, processes=2)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert children() == before


def test_nothing_is_forked_beside_other_threads() -> None:
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    try:
        assert set(spread(lambda _: os.getpid(), 100, processes=2)) == {os.getpid()}
    finally:
        release.set()
        thread.join()
