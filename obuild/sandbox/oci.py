"""Containers by crun or runc: a `Process` and a root file system in, output and an exit status out."""

from __future__ import annotations

import errno
import os
import re
from contextlib import ExitStack

from obuild import kernel, system
from obuild.errors import SandboxError
from obuild.sandbox import cgroup as cgroups
from obuild.sandbox import network as networks
from obuild.sandbox import runtime
from obuild.sandbox.bundle import Bundle
from obuild.sandbox.cgroup import Cgroup
from obuild.sandbox.config import Bind, check, config
from obuild.sandbox.leftover import clean_up
from obuild.sandbox.network import Network
from obuild.sandbox.point import Points
from obuild.sandbox.watch import Watch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from obuild.cancel import Cancel
    from obuild.sandbox import Process

__all__ = ["RUNTIMES", "OciSandbox"]

RUNTIMES = ("crun", "runc")
"""The runtimes, the preferred one first: crun starts a container in a third of runc's time."""

REAPER = "tini-static"
"""PID 1 of every container: it needs no library of the image, and lets a step die of a signal that it sends itself."""

_COMPLAINT = b"[FATAL tini ("
"""How the reaper begins to say that it can not start the step's program."""


class OciSandbox:
    """Runs processes with the OCI runtime `name`, or with the first of `RUNTIMES` that is installed for "".

    `state` is a directory for run-time state; what killed processes left there is removed before the first run.
    Containers reach each other on private networks of one name when their sandboxes have the same `state`, also in
    different processes.
    """

    def __init__(self, name: str = "", *, state: str) -> None:
        self._name, self._state = name, state
        self._clean = False

    def available(self) -> str | None:
        """Why it can not be used on this machine and how to change that, or None when it can."""
        name = self._runtime()
        for program, package in ((name, name), (REAPER, "tini")):
            if not system.find(program):
                return f'"{program}" is not installed: apt-get install {package}'
        try:
            kernel.private_mounts()
        except OSError as error:
            return f"can not make a private mount namespace ({error.strerror}): run obuild as root"
        return None

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
        """Run `process` with `root` as its `/` until it ends; see `Sandbox.run`."""
        check(process)
        networks.check(process.network)
        reason = self.available()
        if reason:
            raise SandboxError(f"can not run a container: {reason}")
        if cancel is not None:
            cancel.check()
        if not self._clean:
            self._clean = True
            clean_up(self._state)
        with ExitStack() as stack:
            bundle = stack.enter_context(Bundle(self._state, self._runtime(), state))
            points = stack.enter_context(Points(root))
            limits = None
            if cgroups.limited(process.limits) or self._runtime() == "runc":  # runc has no containers without cgroups
                limits = stack.enter_context(Cgroup(bundle.id, process.limits))
            hosts = bundle.write("hosts", networks.hosts(process.hostname), 0o644)
            network = None
            if process.network not in ((), ("host",)):
                network = stack.enter_context(Network(self._state, bundle.id, process, hosts))
            _describe(process, root, bundle, points, hosts, network, limits)
            watch = stack.enter_context(Watch(log, process.limits, cancel, process.user, _COMPLAINT))
            status = self._execute(process, runtime.Container(bundle, watch, stdin), limits)
            if watch.error is None and status and limits is not None:
                limits.check()
            _check_started(process.argv[0], watch, root)
            return status

    def _execute(self, process: Process, container: runtime.Container, limits: Cgroup | None) -> int:
        if self._runtime() == "crun":
            return container.crun(cgroups=limits is not None, terminal=process.terminal)
        return container.runc(terminal=process.terminal)

    def _runtime(self) -> str:
        return self._name or next((name for name in RUNTIMES if system.find(name)), RUNTIMES[0])


def _describe(
    process: Process,
    root: str,
    bundle: Bundle,
    points: Points,
    hosts: str,
    network: Network | None,
    limits: Cgroup | None,
) -> None:
    """Write the container's `config.json`, with mount points for all that it names."""
    import json

    for target in ("/proc", "/dev", "/sys"):
        points.system(target)
    described = config(
        process,
        root,
        tuple(_binds(process, bundle, points, hosts)),
        init=str(system.find(REAPER)),
        machine=os.uname().machine,
        netns=network.namespace if network else "",
        cgroup=limits.path if limits else "",
        size=_terminal_size() if process.terminal else None,
    )
    points.workdir(process.cwd)
    bundle.write("config.json", json.dumps(described).encode())


def _binds(process: Process, bundle: Bundle, points: Points, hosts: str) -> Iterator[Bind]:
    for mount in sorted(process.mounts, key=lambda mount: mount.target.rstrip("/").count("/")):
        if not os.path.exists(mount.source):
            raise SandboxError(f'can not mount "{mount.source}": it does not exist')
        point = points.directory if os.path.isdir(mount.source) else points.file
        yield Bind(mount.source, point(mount.target), mount.read_only)
    yield Bind(hosts, points.file("/etc/hosts"))
    if process.network == ("host",) and os.path.exists("/etc/resolv.conf"):
        yield Bind("/etc/resolv.conf", points.file("/etc/resolv.conf"))
    for secret, source in zip(process.secrets, bundle.secrets(process.secrets, process.user), strict=True):
        yield Bind(source, points.file(secret.target))


def _terminal_size() -> tuple[int, int] | None:
    try:
        return os.get_terminal_size(0)
    except OSError:
        return None  # standard input is no terminal, of which the runtime will complain


def _check_started(program: str, watch: Watch, root: str) -> None:
    """Raise what stopped the step's program from being started, when the reaper says that it was."""
    line = rb"\[FATAL tini \(\d+\)\] exec %s failed: ([^\n]*)\n" % re.escape(os.fsencode(program))
    said = re.fullmatch(line, watch.held)
    if not said:
        return
    watch.held = b""
    reason = said[1].decode(errors="replace")
    if reason != os.strerror(errno.ENOENT):
        raise SandboxError(f'"{program}" can not be executed in the image: {reason.lower()}')
    if "/" in program and _is_in(root, program):
        raise SandboxError(
            f'"{program}" can not be executed: the interpreter or loader that it names is not in the image'
        )
    raise SandboxError(f'"{program}" is not in the image', hint="install it in an earlier step, or name another shell")


def _is_in(root: str, path: str) -> bool:
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(kernel.open_in_root(directory, path, os.O_PATH))
    except OSError:
        return False
    finally:
        os.close(directory)
    return True
