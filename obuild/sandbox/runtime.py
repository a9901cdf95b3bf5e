"""crun and runc: starting a container and waiting for its end, each in the way that keeps its output in order.

crun gives the container its own stdout and stderr, so `crun run` in the foreground it is: one process to start and to
wait for. `runc run` copies two pipes and loses the order between them, so for runc the container is created, started
and waited for by ourselves.

The container must not outlive obuild, however that ends. The reaper inside dies with its parent (`tini -p`), which in
runc's case is obuild. crun in turn is killed by the kernel: it inherits the reading end of a pipe of which only obuild
has the writing end, and is the one whom the kernel signals when that is closed.
"""

from __future__ import annotations

import fcntl
import os
import signal

from obuild import kernel, system
from obuild.errors import SandboxError
from obuild.sandbox.config import INIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from obuild.sandbox.bundle import Bundle
    from obuild.sandbox.watch import Watch

__all__ = ["Container", "delete"]

_PATIENCE = 250
"""After so many vain attempts (5 s) at killing a container, the runtime is killed itself."""


class Container:
    """One container, described by the `config.json` of `bundle`."""

    def __init__(self, bundle: Bundle, watch: Watch, stdin: int | None) -> None:
        self._bundle, self._watch, self._stdin = bundle, watch, stdin
        self._kills = 0

    def crun(self, *, cgroups: bool, terminal: bool) -> int:
        """Run it with crun until it ends; its exit status, of no meaning when the watch has an error."""
        manager = "cgroupfs" if cgroups else "disabled"
        log = f"{self._bundle.path}/log"
        options = ("--log", log, "--log-format", "json", f"--cgroup-manager={manager}")
        status = self._foreground(("crun", "--root", self._bundle.state_root, *options), terminal=terminal)
        if status and self._watch.error is None:
            _raise_logged("crun", log, status)
        return status

    def runc(self, *, terminal: bool) -> int:
        """Run it with runc until it ends; its exit status, of no meaning when the watch has an error."""
        runc = ("runc", "--root", self._bundle.state_root)
        if terminal:
            log = f"{self._bundle.path}/log"
            status = self._foreground((*runc, "--log", log, "--log-format", "json"), terminal=True)
            if status and self._watch.error is None:
                _raise_logged("runc", log, status)
            return status
        pid = self._create(runc)
        if not pid:
            return 0
        try:
            if self._watch.error is None:
                self._start(runc)
            self._watch.until_end(pid, lambda: _kill(pid))
        finally:
            _kill(pid)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return status if status >= 0 else 128 - status

    def _foreground(self, runtime: Sequence[str], *, terminal: bool) -> int:
        argv = (*runtime, "run", "--bundle", self._bundle.path, self._bundle.id)
        watch = self._watch
        streams = (self._stdin or 0, 1, 2) if terminal else (self._stdin, watch.writer, watch.writer)
        reading, writing = os.pipe2(os.O_CLOEXEC)
        try:
            try:
                stdin, stdout, stderr = streams
                process = system.spawn(
                    argv, stdin=stdin, stdout=stdout, stderr=stderr, own_group=not terminal, pass_fds=(reading,)
                )
                _kill_on_close(reading, process.pid)
            finally:
                os.close(reading)
            watch.close_writer()
            watch.started = lambda: _runs(process.pid)
            watch.until_end(process.pid, lambda: self._kill_inside(process.pid))
            return process.wait()
        finally:
            os.close(writing)

    def _create(self, runc: Sequence[str]) -> int:
        """The process id of a container that only waits to be started, or 0 when it was given up."""
        pid_file = f"{self._bundle.path}/pid"
        argv = (*runc, "create", "--bundle", self._bundle.path, "--pid-file", pid_file, self._bundle.id)
        kernel.adopt_orphans()
        process = system.spawn(argv, stdin=self._stdin, stdout=self._watch.writer, stderr=self._watch.writer)
        self._watch.close_writer()
        self._watch.until_end(process.pid, lambda: self._kill_inside(process.pid))
        if process.wait() == 0:
            with open(pid_file, encoding="ascii") as file:
                return int(file.read())
        if self._watch.error is None:
            raise _can_not_start("runc", self._watch.held.decode(errors="replace"))
        return 0

    def _start(self, runc: Sequence[str]) -> None:
        # What is written before this is no output of the step: it does not run yet.
        self._watch.started = lambda: True
        done = system.run((*runc, "start", self._bundle.id), check=False)
        if done.returncode:
            raise _can_not_start("runc", done.stderr.decode(errors="replace"))

    def _kill_inside(self, runtime: int) -> None:
        """Kill what a runtime has started: it then cleans up and ends by itself."""
        self._kills += 1
        for pid in _children(runtime):
            _kill(pid, parent=runtime)
        if self._kills > _PATIENCE:
            _kill(runtime)


def delete(runtime: str, state_root: str, id: str) -> None:
    """Kill the container `id`, whose obuild is gone, and remove what its runtime knows of it."""
    if system.find(runtime):
        system.run((runtime, "--root", state_root, "delete", "--force", id), check=False, timeout=60)


def _kill_on_close(reading: int, pid: int) -> None:
    """Let the kernel send SIGKILL to `pid` when the last writing end of a pipe is closed (fcntl(2), F_SETSIG).

    This works as long as `pid` keeps the reading end open. A parent-death signal would do the same, but can only be
    asked for between fork and exec, where Python must not run.
    """
    fcntl.fcntl(reading, fcntl.F_SETOWN, pid)
    fcntl.fcntl(reading, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(reading, fcntl.F_SETFL, fcntl.fcntl(reading, fcntl.F_GETFL) | os.O_ASYNC)


def _children(pid: int) -> list[int]:
    try:
        found: list[int] = []
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as file:
                found += map(int, file.read().split())
    except OSError:
        return []  # it has just ended
    return found


def _runs(runtime: int) -> bool:
    """Whether the reaper is there already, in the place of the runtime's own process inside."""
    name = os.path.basename(INIT)
    for pid in _children(runtime):
        try:
            with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                if file.read().rstrip("\n") == name:
                    return True
        except OSError:
            continue
    return False


def _kill(pid: int, parent: int = 0) -> None:
    """Kill a child of obuild or, when it still is one, of its child `parent`."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if not parent or pid in _children(parent):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(fd)


def _raise_logged(runtime: str, log: str, status: int) -> None:
    """Raise what a runtime has put in its log, when its exit status is its own and not the container's."""
    import json

    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            entries = [json.loads(line) for line in file if line.strip()]
    except FileNotFoundError:
        entries = []
    errors = [str(entry.get("msg", "")) for entry in entries if entry.get("level") == "error"]
    if errors:
        raise _can_not_start(runtime, "; ".join(errors))
    if status < 0:
        raise SandboxError(f'"{runtime}" was killed by signal {-status}')


def _can_not_start(runtime: str, said: str) -> SandboxError:
    text = " ".join(said.split())
    for start in ("runc run failed: ", "runc create failed: ", "unable to start container process: "):
        text = text.removeprefix(start)
    return SandboxError(f"can not start the container: {runtime}: {text or 'it does not say why'}")
