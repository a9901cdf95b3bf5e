"""A program that takes its time: its output as it comes, and an end to it when nobody wants the result any more."""

from __future__ import annotations

import os
import signal
import time

from obuild import system
from obuild.archive import read_chunks

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping, Sequence

    from obuild.cancel import Cancel

__all__ = ["run"]

PATIENCE = 30
"""Seconds that a program gets to unmount and clean up after SIGTERM."""

BOUND = ("setpriv", "--pdeathsig", "TERM")
"""In front of a command: the kernel ends it when obuild dies, so nothing goes on in what the next start removes."""


def run(
    argv: Sequence[str],
    *,
    log: Callable[[bytes], None] | None = None,
    cancel: Cancel | None = None,
    env: Mapping[str, str] | None = None,
) -> tuple[bytes, str]:
    """Run a program: its output, and when it failed the last lines that it said (otherwise "").

    With `log`, standard output and error go there as they come, in order, and only their end is returned. Raises
    `Cancelled` once the program has ended.
    """
    errors, back = os.pipe()
    bound = BOUND if system.find(BOUND[0]) else ()
    process = system.spawn([*bound, *argv], stdout=back if log else -1, stderr=back, env=env)
    os.close(back)
    try:
        output = b""
        if process.stdout is not None:  # what goes to stderr is a line or two, and fits its pipe meanwhile
            output = b"".join(read_chunks(process.stdout.fileno(), cancel))
        said = b""
        for chunk in read_chunks(errors, cancel):
            said = (said + chunk)[-4096:]
            if log:
                log(chunk)
        process.wait()
    finally:
        _end(process)
        os.close(errors)
    return output or said, _problem(process.returncode, said)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Make sure that a program has ended, giving it a chance to do so well."""
    if process.poll() is None:
        process.terminate()
        patience = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < patience:
            time.sleep(0.01)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _problem(status: int, said: bytes) -> str:
    return "" if not status else said.decode(errors="replace").strip() or f"exit status {status}"
