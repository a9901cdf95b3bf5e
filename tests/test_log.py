"""Redaction of secrets in a stream."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from obuild.log import Redactor


def whole(redactor: Redactor, pieces: list[bytes]) -> bytes:
    return b"".join(redactor.feed(piece) for piece in pieces) + redactor.end()


def test_a_secret_cut_by_the_end_of_a_piece_is_hidden() -> None:
    assert whole(Redactor([b"hunter2secret"]), [b"a hunter", b"2sec", b"ret b"]) == b"a *** b"


def test_lines_of_a_secret_and_its_trailing_newline() -> None:
    assert whole(Redactor([b"first line\nsecond line\n"]), [b"x first line y second line"]) == b"x *** y ***"


def test_short_values_and_none_pass_through() -> None:
    assert whole(Redactor([b"1", b""]), [b"101"]) == b"101"
    assert whole(Redactor([]), [b"abc"]) == b"abc"


@given(st.lists(st.binary(max_size=20)), st.binary(min_size=4, max_size=8).filter(lambda s: s.strip() == s))
def test_nothing_is_lost_and_no_secret_remains(pieces: list[bytes], secret: bytes) -> None:
    shown = whole(Redactor([secret]), pieces)
    text = b"".join(pieces)
    if b"\n" not in secret and b"*" not in secret:
        assert secret not in shown
        assert shown == text.replace(secret, b"***")
