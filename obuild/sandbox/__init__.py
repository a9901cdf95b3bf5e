"""Running one process in an isolated root file system.

A sandbox has one method that matters, `run`. `open_sandbox("crun")` parses the user's word once and imports the one
back-end it needs.
"""

from __future__ import annotations

from obuild.errors import UsageError, nearest
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from obuild.cancel import Cancel
else:
    Protocol = object

__all__ = ["Limits", "Mount", "Process", "Sandbox", "SecretFile", "open_sandbox"]


@value
class Mount:
    """A directory of the host seen at `target` inside; writable unless `read_only`."""

    source: str
    target: str
    read_only: bool = False


@value
class SecretFile:
    """A value that a process may read at `target`: a 0400 file of its user on a tmpfs, gone when the process ends."""

    target: str
    content: bytes


@value
class Limits:
    """Bounds on a process and all its children: bytes of memory, a share of CPUs, a number of processes, seconds.

    None means no bound of its own. `log` bounds the bytes of output.
    """

    memory: int | None = None
    cpus: float | None = None
    pids: int | None = None
    seconds: float | None = None
    log: int | None = None


@value
class Process:
    """What to run inside a root file system, and with what.

    `user` is (uid, gid); `env` keeps its order; `network` is () for a loopback of its own, ("host",) or names of
    private networks. `hostname` is what the process sees, and its name on private networks.
    `fast_sync` makes the sync system calls succeed at once; `no_new_privs` stops setuid programs from gaining rights;
    `terminal` gives it the terminal that is obuild's standard input and output, and nothing goes to the log.
    """

    argv: tuple[str, ...]
    cwd: str = "/"
    user: tuple[int, int] = (0, 0)
    env: tuple[tuple[str, str], ...] = ()
    mounts: tuple[Mount, ...] = ()
    network: tuple[str, ...] = ()
    secrets: tuple[SecretFile, ...] = ()
    limits: Limits = Limits()
    hostname: str = "builder"
    fast_sync: bool = False
    no_new_privs: bool = False
    terminal: bool = False


class Sandbox(Protocol):
    """Runs processes. Safe to use from several threads at once."""

    def available(self) -> str | None:
        """Why it can not be used on this machine and how to change that, or None when it can."""

    def run(
        self,
        process: Process,
        root: str,
        log: Callable[[bytes], None],
        *,
        state: str | None = None,
        stdin: int | None = None,
        cancel: Cancel | None = None,
    ) -> int:
        """Run `process` with `root` as its `/` until it ends; its exit status, 128 + n after signal n.

        stdout and stderr come through one pipe, so their order is kept, and are given to `log` in pieces as they
        come. `stdin` is a file descriptor, or None for an empty one. All children end with it, and when obuild is
        killed. Meanwhile the directory `state` has a file `container`, one line "RUNTIME STATE-ROOT ID", that says
        how to kill it. Raises `Cancelled` when `cancel` is set, `LimitExceeded` when a limit was broken (its message
        says which: "out of memory", "time limit", "log limit"), and `SandboxError` when the container can not be
        started or a path not be mounted.
        """


def open_sandbox(text: str, *, state: str) -> Sandbox:
    """The sandbox called `text` ("crun" or "runc"); "" takes the first that is installed.

    `state` is a directory for run-time state, made when missing; sandboxes with the same one share private networks.
    Raises `UsageError` for another name.
    """
    from obuild.sandbox.oci import RUNTIMES, OciSandbox

    if text and text not in RUNTIMES:
        raise UsageError(f'unknown sandbox "{text}"', hint=nearest(text, RUNTIMES) or f"one of {', '.join(RUNTIMES)}")
    return OciSandbox(text, state=state)
