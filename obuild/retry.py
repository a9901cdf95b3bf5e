"""Trying again what failed for a reason that may pass: the one use of tenacity.

Retrying is decided by an error's `temporary` alone; `passes` says which words of other programs mean that.
"""

from __future__ import annotations

from obuild.errors import ObuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from obuild.cancel import Cancel

    T = TypeVar("T")

__all__ = ["passes", "retry"]

ATTEMPTS = 4
FIRST_WAIT = 1.0
LONGEST_WAIT = 20.0

PASSING = (
    "timeout",
    "timed out",
    "connection reset",
    "connection broken",
    "connection refused",
    "unexpected eof",
    "temporary failure",
    "network is unreachable",
    "no route to host",
    "could not connect",
    "could not resolve",
    "server misbehaving",
    "too many requests",
    "toomanyrequests",
    "502",
    "503",
    "504",
    "bad gateway",
    "service unavailable",
)
"""In lower case, what Go programs, apt and HTTP servers say when a network or a server is at fault."""


def passes(text: str) -> bool:
    """Whether an error message of another program tells of a trouble that may pass."""
    text = text.lower()
    return any(words in text for words in PASSING)


def retry(action: Callable[[], T], *, note: Callable[[str], None] | None = None, cancel: Cancel | None = None) -> T:
    """What `action` returns, tried up to four times while it raises `temporary` errors; waits longer each time.

    `note` hears of each failure that is tried again. Raises the last error, and `Cancelled` while waiting.
    """
    try:
        return action()
    except ObuildError as error:
        if not error.temporary:
            raise
        first = error
    import tenacity  # 85 ms, so only once something has failed

    def sleep(seconds: float) -> None:
        if cancel is not None:
            cancel.wait(seconds)
            cancel.check()
        else:
            tenacity.sleep(seconds)

    def say(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        if note and state.next_action:
            note(f"{error}; trying again in {state.next_action.sleep:.0f} seconds")

    pending = [first]

    def again() -> T:
        if pending:
            raise pending.pop()
        return action()

    return tenacity.Retrying(
        retry=tenacity.retry_if_exception(lambda error: isinstance(error, ObuildError) and error.temporary),
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=tenacity.wait_exponential(FIRST_WAIT, LONGEST_WAIT) + tenacity.wait_random(0, FIRST_WAIT),
        sleep=sleep,
        before_sleep=say,
        reraise=True,
    )(again)
