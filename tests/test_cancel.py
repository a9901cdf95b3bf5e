"""Tokens: set once, for all children, from any thread; forgotten with their descriptor."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from obuild.cancel import Cancel
from obuild.errors import Cancelled


def test_a_token_that_is_set_says_why() -> None:
    token = Cancel()
    token.check()
    assert not token
    token.set("enough")
    token.set("later")
    assert token
    with pytest.raises(Cancelled, match=r"^enough$"):
        token.check()


def test_children_are_cancelled_too_and_alone() -> None:
    parent = Cancel()
    first, second = parent.child(), parent.child()
    first.set("first")
    assert not parent
    parent.set("all")
    assert (first.reason, second.reason) == ("first", "all")
    assert parent.child().reason == "all"


def test_waiting_ends_when_somebody_cancels() -> None:
    token = Cancel()
    assert token.wait(0.01) is False
    threading.Timer(0.05, token.set).start()
    start = time.monotonic()
    assert token.wait(30) is True
    assert time.monotonic() - start < 20


def test_a_child_that_nobody_has_keeps_no_descriptor() -> None:
    parent = Cancel()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        parent.child()
    assert len(os.listdir("/proc/self/fd")) == before
    parent.set()


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_children_may_go_while_their_parent_is_set(hasty: None) -> None:
    """A weak reference gives an object whose `__del__` is running, and so its closed descriptor."""
    for _ in range(40):
        parent, errors = Cancel(), list[OSError]()

        def come_and_go(parent: Cancel = parent) -> None:
            for _ in range(200):
                parent.child()

        threads = [threading.Thread(target=come_and_go) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(50):
                parent._set = False
                parent.set("again")
        except OSError as error:
            errors.append(error)
        for thread in threads:
            thread.join()
        assert errors == []
