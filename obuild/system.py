"""The one door for programs: every process that obuild starts is started here, with a fixed environment.

Nothing is imported that a fully cached build does not need: `subprocess` only when a program is really started.
"""

from __future__ import annotations

import os

from obuild.errors import ObuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping, Sequence
    from typing import IO, Any

__all__ = ["ProgramFailed", "find", "run", "spawn"]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are looked for: the caller's own PATH may lack the sbin directories that mount tools live in."""

ENVIRONMENT = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": "/root"}


class ProgramFailed(ObuildError):
    """A program that obuild started ended with `status`; `stderr` is what it said."""

    exit_code = 4

    def __init__(self, argv: Sequence[str], status: int, stderr: str) -> None:
        last = stderr.strip().rsplit("\n", 1)[-1]
        super().__init__(f'"{argv[0]}" failed with exit status {status}' + (f": {last}" if last else ""))
        self.argv, self.status, self.stderr = tuple(argv), status, stderr


def find(name: str) -> str | None:
    """The absolute path of a program, or None when it is not installed."""
    for folder in PATH.split(":"):
        path = f"{folder}/{name}"
        if os.access(path, os.X_OK):
            return path
    return None


def run(
    argv: Sequence[str],
    *,
    stdin: bytes | int | IO[bytes] | None = None,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end; its output is returned unless `stdout` or `stderr` send it elsewhere.

    `env` is added to the fixed environment; stdin is empty unless given. Raises `ProgramFailed` for a status other
    than 0 (unless `check` is false), and `ObuildError` naming the program when it is not installed.
    """
    import subprocess

    given: dict[str, Any] = {"input": stdin} if isinstance(stdin, bytes) else {"stdin": stdin or subprocess.DEVNULL}
    out = subprocess.PIPE if stdout is None else stdout
    err = subprocess.PIPE if stderr is None else stderr
    whole = {**ENVIRONMENT, **(env or {})}
    try:
        done = subprocess.run(argv, stdout=out, stderr=err, cwd=cwd, env=whole, timeout=timeout, check=False, **given)
    except FileNotFoundError as error:
        raise _missing(argv[0], error) from None
    except subprocess.TimeoutExpired:
        raise ObuildError(f'"{argv[0]}" did not end within {timeout:g} seconds', temporary=True) from None
    if check and done.returncode:
        raise ProgramFailed(argv, done.returncode, (done.stderr or b"").decode(errors="replace"))
    return done


def spawn(
    argv: Sequence[str],
    *,
    stdin: int | IO[bytes] | None = None,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    cwd: str | None = None,
    env: Mapping[str, str] | None = None,
    own_group: bool = True,
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a program and return at once; the caller waits for it.

    It gets a process group of its own, so that the terminal's Ctrl-C reaches obuild alone, which then ends the
    program in its own way. stdin is empty unless given; stdout and stderr are the caller's. It inherits `pass_fds`
    under the same numbers, and no other descriptor.
    """
    import subprocess

    whole = {**ENVIRONMENT, **(env or {})}
    try:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=stdout,
            stderr=stderr,
            cwd=cwd,
            env=whole,
            process_group=0 if own_group else None,
            pass_fds=pass_fds,
        )
    except FileNotFoundError as error:
        raise _missing(argv[0], error) from None


def _missing(program: str, error: FileNotFoundError) -> ObuildError:
    if error.filename is not None and str(error.filename) != program:
        return ObuildError(f'can not start "{program}": no directory "{error.filename}"')
    missing = ObuildError(f'"{program}" is not installed', hint=f'install the package that has "{program}"')
    missing.exit_code = 4
    return missing
