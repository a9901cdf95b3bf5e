"""What a build says while it runs: headings, notes and output, as data.

The core only calls a `Reporter`; how a person or a program sees it is decided in `cli`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Redactor", "Reporter"]


class Reporter:
    """Hears what happens; every method may be called from any thread. This one says nothing."""

    def heading(self, text: str) -> None:
        """A new operation of the spec begins: its directory and text, as in OBuilder's logs."""

    def note(self, text: str) -> None:
        """A remark of obuild itself (`---> saved as …`)."""

    def output(self, data: bytes) -> None:
        """Raw output of a step, in pieces of any size, as it comes."""

    def step(self, op: str, id: str, *, cached: bool, status: int, seconds: float) -> None:
        """A `from`, `run` or `copy` ended with an exit status (0 unless it failed) after so many seconds."""

    def started(self, op: str, text: str) -> None:
        """A `from`, `run` or `copy` that is not in the store begins to run."""

    def branch(self, name: str) -> Reporter:
        """The reporter of a nested build that may run beside others; closed when that build ends."""
        return self

    def close(self) -> None:
        """Nothing more will be said on this branch."""


class Redactor:
    """Replaces secrets in a stream of bytes, also where one is cut by the end of a piece.

    Values shorter than four bytes are left alone: replacing every "1" would make a log useless and hide nothing.
    """

    def __init__(self, secrets: Iterable[bytes]) -> None:
        lines = {part for secret in secrets for part in (secret, *secret.split(b"\n"))}
        self._secrets = sorted((s.strip() for s in lines if len(s.strip()) >= 4), key=len, reverse=True)
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What can be shown now; the rest is held back until it can not be the start of a secret."""
        if not self._secrets:
            return data
        data = self._held + data
        for secret in self._secrets:
            data = data.replace(secret, b"***")
        keep = max(_overlap(data, secret) for secret in self._secrets)
        self._held = data[len(data) - keep :]
        return data[: len(data) - keep]

    def end(self) -> bytes:
        """What was held back, once no more comes."""
        held, self._held = self._held, b""
        return held


def _overlap(data: bytes, secret: bytes) -> int:
    """How many bytes at the end of `data` are a proper beginning of `secret`."""
    for size in range(min(len(secret) - 1, len(data)), 0, -1):
        if data.endswith(secret[:size]):
            return size
    return 0
