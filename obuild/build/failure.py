"""What is said of a command that failed."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from obuild.spec import Run

__all__ = ["advice", "failure"]


def failure(argv: tuple[str, ...], status: int) -> str:
    """That a command ended with a status other than 0."""
    import signal

    words = " ".join([f'"{_short(word)}"' for word in argv])
    if status > 128 and status - 128 in set(signal.Signals):
        return f"{words} failed with signal {signal.Signals(status - 128).name} (exit status {status})"
    return f"{words} failed with exit status {status}"


def _short(word: str) -> str:
    """A word of a command on one line."""
    text = " ".join(word.split())
    return text if len(text) <= _SHORT else text[:_SHORT] + "…"


_SHORT = 120

_UNREACHED = (b"name resolution", b"ould not resolve", b"bad address", b"Network is unreachable", b"service not known")
"""What programs say who find no network."""


def advice(op: Run, log: str) -> str:
    """What a beginner may have missed, by the end of the log."""
    with open(log, "rb") as file:
        file.seek(max(0, os.path.getsize(log) - 4096))
        end = file.read()
    if not op.network and any(words in end for words in _UNREACHED):
        return "a step has no network unless it asks for one: (run (network host) …)"
    if b"env: " in end and b"bash" in end:
        return "the image has no bash: (shell /bin/sh -c) before this step names another shell"
    return ""
