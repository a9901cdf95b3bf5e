"""Trying again: only what is temporary, not for ever, and not once it is cancelled."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from obuild import retry as module
from obuild.cancel import Cancel
from obuild.errors import Cancelled, FetchError
from obuild.retry import passes, retry


class Flaky:
    """Fails so many times, then answers."""

    def __init__(self, failures: int, *, temporary: bool = True) -> None:
        self.left, self.calls, self.temporary = failures, 0, temporary

    def __call__(self) -> str:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise FetchError(f"failure {self.calls}", temporary=self.temporary)
        return "done"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(module, "LONGEST_WAIT", 0.01)


@pytest.mark.parametrize("failures", [0, 1, 3])
def test_a_temporary_failure_is_tried_again(failures: int) -> None:
    action, notes = Flaky(failures), list[str]()
    assert retry(action, note=notes.append) == "done"
    assert (action.calls, len(notes)) == (failures + 1, failures)
    assert all(note.startswith(f"failure {number}; trying again") for number, note in enumerate(notes, 1))


def test_the_last_error_is_raised() -> None:
    action = Flaky(100)
    with pytest.raises(FetchError, match="failure 4"):
        retry(action)
    assert action.calls == 4


def test_a_lasting_failure_is_not_tried_again() -> None:
    action = Flaky(1, temporary=False)
    with pytest.raises(FetchError, match="failure 1"):
        retry(action)
    assert action.calls == 1


def test_waiting_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_WAIT", 60)
    monkeypatch.setattr(module, "LONGEST_WAIT", 60)
    cancel, action = Cancel(), Flaky(1)
    threading.Timer(0.1, cancel.set).start()
    with pytest.raises(Cancelled):
        retry(action, cancel=cancel)
    assert action.calls == 1


def test_other_errors_are_not_swallowed() -> None:
    def action() -> None:
        raise KeyError("bug")

    with pytest.raises(KeyError):
        retry(action)


def test_success_does_not_import_tenacity() -> None:
    code = "import sys; from obuild.retry import retry; retry(int); print('tenacity' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("text", "temporary"),
    [
        ("dial tcp: i/o timeout", True),
        ("invalid status code from registry 503 (Service Unavailable)", True),
        ("toomanyrequests: You have reached your pull rate limit", True),
        ("Could not resolve 'deb.example'", True),
        ("manifest unknown", False),
        ("unauthorized: authentication required", False),
        ("no space left on device", False),
    ],
)
def test_words_of_other_programs(text: str, temporary: bool) -> None:
    assert passes(text) is temporary
