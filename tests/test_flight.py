"""Sharing work within a process: joining, late listeners, reference-counted cancelling."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from obuild.build.flight import Flight, Flights, Slots
from obuild.cancel import Cancel
from obuild.errors import Cancelled, ObuildError


class Party:
    """Somebody who asks for an id in a thread of its own."""

    def __init__(self, flights: Flights, work: object, id: str = "a") -> None:
        self.cancel, self.heard, self.notes = Cancel(), b"", []
        self.result: object = None
        self.error: BaseException | None = None
        self._boarded = threading.Event()

        def run() -> None:
            try:
                self.result = flights.join(id, work, listener=self._listen, note=self.notes.append, cancel=self.cancel)
            except BaseException as error:
                self.error = error

        self.thread = threading.Thread(target=run)
        self.thread.start()

    def _listen(self, data: bytes) -> None:
        self.heard += data

    def end(self) -> None:
        self.thread.join(10)
        assert not self.thread.is_alive()


class Job:
    """Work that the test lets go on step by step, logging to a real file."""

    def __init__(self, log: Path) -> None:
        self.log, self.count = log, 0
        self.started, self.go = threading.Event(), threading.Event()
        self.cancelled = False
        log.write_bytes(b"")

    def __call__(self, flight: Flight) -> str:
        self.count += 1
        flight.logged(str(self.log))
        flight.write(b"one ", self.keep)
        self.started.set()
        while not self.go.wait(0.01):
            if flight.cancel:
                self.cancelled = True
                raise Cancelled()
        flight.write(b"two", self.keep)
        return "done"

    def keep(self, data: bytes) -> None:
        with self.log.open("ab") as file:
            file.write(data)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path / "log")


def users(flights: Flights, count: int) -> None:
    while sum(flight.users for flight in flights._running.values()) != count:
        threading.Event().wait(0.005)


def test_two_who_want_the_same_share_one_piece_of_work(job: Job) -> None:
    flights = Flights()
    first = Party(flights, job)
    assert job.started.wait(5)
    second = Party(flights, job)
    users(flights, 2)
    job.go.set()
    first.end(), second.end()
    assert (job.count, first.result, second.result) == (1, "done", "done")


def test_a_late_listener_hears_everything_also_when_the_log_has_moved(job: Job) -> None:
    flights = Flights()
    first = Party(flights, job)
    assert job.started.wait(5)
    moved = job.log.with_name("moved")
    job.log = job.log.rename(moved)
    second = Party(flights, job)
    users(flights, 2)
    job.go.set()
    first.end(), second.end()
    assert first.heard == second.heard == b"one two"


def test_who_joins_when_it_is_just_over_hears_everything_too(job: Job) -> None:
    flights = Flights()
    first = Party(flights, job)
    assert job.started.wait(5)
    (flight,) = flights._running.values()
    flight.users += 1  # a second one is on its way from boarding to listening
    job.go.set()
    flight.wait(None)
    heard: list[bytes] = []
    flight.attach(heard.append)
    first.end()
    assert b"".join(heard) == b"one two"
    flights._leave(flight, heard.append, "over")


def test_a_listener_that_fails_does_not_keep_the_work_going(job: Job) -> None:
    flights = Flights()

    def broken(_: bytes) -> None:
        raise BrokenPipeError

    first = Party(flights, job)
    assert job.started.wait(5)
    first.cancel.set()
    with pytest.raises(BrokenPipeError):
        flights.join("a", job, listener=broken, note=str, cancel=Cancel())
    first.end()
    assert job.cancelled
    assert not flights._running


def test_one_of_two_gives_up_and_the_work_goes_on(job: Job) -> None:
    flights = Flights()
    first = Party(flights, job)
    assert job.started.wait(5)
    second = Party(flights, job)
    users(flights, 2)
    first.cancel.set()
    first.end()
    assert isinstance(first.error, Cancelled)
    job.go.set()
    second.end()
    assert second.result == "done"
    assert not job.cancelled


def test_when_the_last_one_gives_up_the_work_is_cancelled_and_has_ended(job: Job) -> None:
    flights = Flights()
    first, second = Party(flights, job), Party(flights, job)
    users(flights, 2)
    first.cancel.set()
    first.end()
    second.cancel.set()
    second.end()
    assert job.cancelled
    assert isinstance(second.error, Cancelled)
    assert not flights._running


def test_an_error_is_for_everybody_and_is_not_remembered(job: Job) -> None:
    flights = Flights()
    hold = threading.Event()

    def fail(_: Flight) -> str:
        hold.wait(5)
        raise ObuildError("no")

    first, second = Party(flights, fail), Party(flights, fail)
    users(flights, 2)
    hold.set()
    first.end(), second.end()
    assert str(first.error) == str(second.error) == "no"
    job.go.set()
    again = Party(flights, job)
    again.end()
    assert again.result == "done"


def test_who_asks_while_it_is_being_cancelled_waits_and_starts_anew(tmp_path: Path) -> None:
    flights = Flights()
    leaving, leave, runs = threading.Event(), threading.Event(), []

    def slow(flight: Flight) -> str:
        runs.append(flight)
        if len(runs) == 1:
            flight.cancel.wait(10)
            leaving.set()
            assert leave.wait(5)
            raise Cancelled()
        return "second"

    first = Party(flights, slow)
    users(flights, 1)
    first.cancel.set()
    assert leaving.wait(5)
    second = Party(flights, slow)
    while not second.notes:
        threading.Event().wait(0.005)
    leave.set()
    first.end(), second.end()
    assert second.result == "second"
    assert second.notes == ["Waiting for previous build to finish cancelling"]


def test_waiting_for_a_slot_ends_with_its_cancel() -> None:
    slots, cancel = Slots(1), Cancel()
    with slots.take(cancel):
        cancel.set("enough")
        with pytest.raises(Cancelled, match="enough"), slots.take(cancel):
            pytest.fail("there was no free slot")
