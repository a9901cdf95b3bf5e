"""Limits on memory, CPUs and processes by a cgroup of our own, on hosts with cgroup v1, v2 or both.

The container's cgroup (`/ID/box`) is made by the runtime, below one of ours (`/ID`) that has the limits: the runtime
removes its own when the container ends, and with it the only place that says whether memory ran out.
"""

from __future__ import annotations

import os
import time

from obuild.disk import remove_tree
from obuild.errors import LimitExceeded, SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from obuild.sandbox import Limits

__all__ = ["Cgroup", "delete", "limited"]

_ROOT = "/sys/fs/cgroup"
_PERIOD = 100_000
"""Microseconds over which the share of CPUs is counted, the kernel's default."""

_LEAST_QUOTA = 1000
_REAPER = 1
"""Processes that are in the container without being the step's."""


def limited(limits: Limits) -> bool:
    """Whether a cgroup is needed at all; without one a container starts in half the time."""
    return limits.memory is not None or limits.cpus is not None or limits.pids is not None


class Cgroup:
    """The cgroup of the container `id`, with `limits`; leaving the block removes it."""

    def __init__(self, id: str, limits: Limits) -> None:
        self._id, self._limits = id, limits
        self.path = f"/{id}/box"
        self._event = -1
        self._unified = os.path.exists(f"{_ROOT}/cgroup.controllers")

    def __enter__(self) -> Cgroup:
        try:
            for controller, settings in self._settings().items():
                self._limit(controller, settings)
            if self._limits.memory is not None and not self._unified:
                self._event = self._listen()
        except BaseException:
            delete(self._id)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._event >= 0:
            os.close(self._event)
        delete(self._id)

    def check(self) -> None:
        """Raise `LimitExceeded` when the kernel has killed something for want of memory."""
        if self._limits.memory is not None and self._out_of_memory():
            raise LimitExceeded(
                f"out of memory: the step used more than {_size(self._limits.memory)}", hint="allow it more memory"
            )

    def _settings(self) -> dict[str, dict[str, str]]:
        """Controller → file → value. Files that end in "?" exist only where swap is accounted."""
        memory, cpus, pids = self._limits.memory, self._limits.cpus, self._limits.pids
        found: dict[str, dict[str, str]] = {}
        if memory is not None:
            if self._unified:
                found["memory"] = {"memory.max": str(memory), "memory.swap.max?": "0"}
            else:
                found["memory"] = {"memory.limit_in_bytes": str(memory), "memory.memsw.limit_in_bytes?": str(memory)}
        if cpus is not None:
            quota = max(_LEAST_QUOTA, int(cpus * _PERIOD))
            found["cpu"] = (
                {"cpu.max": f"{quota} {_PERIOD}"}
                if self._unified
                else {"cpu.cfs_period_us": str(_PERIOD), "cpu.cfs_quota_us": str(quota)}
            )
        if pids is not None:
            found["pids"] = {"pids.max": str(pids + _REAPER)}
        return found

    def _directory(self, controller: str) -> str:
        return f"{_ROOT}/{self._id}" if self._unified else f"{_ROOT}/{controller}/{self._id}"

    def _limit(self, controller: str, settings: dict[str, str]) -> None:
        directory = self._directory(controller)
        try:
            if self._unified:
                _write(f"{_ROOT}/cgroup.subtree_control", f"+{controller}")
            os.makedirs(directory, exist_ok=True)
            for name, text in settings.items():
                path = f"{directory}/{name.removesuffix('?')}"
                if not name.endswith("?") or os.path.exists(path):
                    _write(path, text)
        except OSError as error:
            raise SandboxError(
                f"can not limit {controller}: {error.strerror} ({error.filename})",
                hint=f'this needs the cgroup controller "{controller}"; leave the limit out, or run on the host itself',
            ) from None

    def _listen(self) -> int:
        """An eventfd that counts times of no memory: cgroup v1 counts the killed in the box only, which goes away."""
        directory = self._directory("memory")
        event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        control = os.open(f"{directory}/memory.oom_control", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _write(f"{directory}/cgroup.event_control", f"{event} {control}")
        finally:
            os.close(control)
        return event

    def _out_of_memory(self) -> bool:
        if self._unified:
            with open(f"{self._directory('memory')}/memory.events", encoding="ascii") as file:
                return any(line.startswith("oom_kill ") and line != "oom_kill 0\n" for line in file)
        try:
            return os.eventfd_read(self._event) > 0
        except BlockingIOError:
            return False


def delete(id: str) -> None:
    """Remove the cgroups of the container `id` in all hierarchies; nothing runs in them any more."""
    try:
        roots = [_ROOT, *(f"{_ROOT}/{name}" for name in os.listdir(_ROOT) if "." not in name and name != "unified")]
    except FileNotFoundError:
        return  # a host without cgroups
    for path in [f"{root}/{id}{below}" for root in roots for below in ("/box", "")]:
        _remove(path)
    if not os.path.ismount(f"{_ROOT}/unified"):
        # Where `private_mounts` has unmounted cgroup2, crun writes plain files on the tmpfs below.
        remove_tree(f"{_ROOT}/unified/{id}")


def _remove(path: str) -> None:
    for _ in range(100):
        try:
            os.rmdir(path)
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.005)  # the last process is gone, but not yet for its cgroup
        else:
            return


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(fd)


def _size(size: int) -> str:
    """`size` bytes in the largest unit that gives a whole number."""
    units = ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and size % 1024 == 0 and len(units) > 1:
        size //= 1024
        del units[0]
    return f"{size} {units[0]}"
