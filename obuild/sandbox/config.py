"""`Process` → OCI `config.json`: a pure function, so that a test can say what every container gets.

Namespaces, capabilities, mounts, masked paths and limits are those of OBuilder's runc sandbox, with these differences:
a reaper is PID 1, the system calls of `seccomp` are denied, and `/sys/fs/cgroup` is left empty (a cgroup v1 host
would need a mount for every controller, which costs more than the rest of the container), and no capability is
inheritable (CVE-2022-24769: a user would get them back from files with inheritable ones).
"""

from __future__ import annotations

from obuild.errors import SandboxError
from obuild.sandbox.seccomp import seccomp
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from obuild.sandbox import Process

__all__ = ["INIT", "Bind", "check", "config"]

INIT = "/dev/.init"
"""Where the reaper is inside: on the tmpfs of `/dev`, so that nothing of it is left in a layer."""

CAPABILITIES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)

MASKED = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
)

READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

SYSTEM: tuple[tuple[str, str, str, str], ...] = (
    ("proc", "proc", "/proc", ""),
    ("tmpfs", "tmpfs", "/dev", "nosuid,strictatime,mode=755,size=65536k"),
    ("devpts", "devpts", "/dev/pts", "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5"),
    ("tmpfs", "shm", "/dev/shm", "nosuid,noexec,nodev,mode=1777,size=65536k"),
    ("mqueue", "mqueue", "/dev/mqueue", "nosuid,noexec,nodev"),
    ("sysfs", "sysfs", "/sys", "nosuid,noexec,nodev,ro"),
)
"""Type, source, target and options of the file systems that every container has."""

OPEN_FILES = 1024
UMASK = 0o022


_LONGEST_PATH, _LONGEST_NAME = 4095, 255
"""Bytes: PATH_MAX without its NUL, and NAME_MAX."""


@value
class Bind:
    """A directory or file of the host seen at `target`, which is there and leads through no symbolic link."""

    source: str
    target: str
    read_only: bool = True


def check(process: Process) -> None:
    """Refuse what can not be handed to a runtime unchanged.

    Its configuration is JSON, which is Unicode, and the runtimes keep strings as C does: crun cuts one at a NUL, and
    runc replaces a byte that is not UTF-8 by U+FFFD without a word.
    """
    texts = [("the command", text) for text in process.argv] + [("the working directory", process.cwd)]
    texts += [(f'the environment variable "{_shown(name)}"', f"{name}={text}") for name, text in process.env]
    texts += [("a mount", text) for mount in process.mounts for text in (mount.source, mount.target)]
    texts += [("a secret's target", secret.target) for secret in process.secrets]
    for what, text in texts:
        if "\0" in text:
            raise SandboxError(f"{what} has a NUL character in it: {_shown(text)}")
        if not text.isascii() and _shown(text) != text:
            raise SandboxError(f"{what} is not UTF-8: {_shown(text)}")
    if not process.argv:
        raise SandboxError("there is no command to run")
    if not process.cwd.startswith("/"):
        raise SandboxError(f'the working directory "{process.cwd}" is not absolute')
    targets = [process.cwd, *(mount.target for mount in process.mounts), *(secret.target for secret in process.secrets)]
    for target in targets:
        if len(target.encode()) > _LONGEST_PATH or any(
            len(name.encode()) > _LONGEST_NAME for name in target.split("/")
        ):
            raise SandboxError(f'"{target[:40]}…" is longer than a path, or a name in one, can be')


def _shown(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace").replace("\0", "\\x00")


def config(
    process: Process,
    root: str,
    binds: tuple[Bind, ...] = (),
    *,
    init: str,
    machine: str,
    netns: str = "",
    cgroup: str = "",
    size: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """The OCI configuration that runs `process` under the reaper `init` (a path of the host) in `root`.

    `binds` are all that is mounted besides `SYSTEM`, in order: mounts, secrets, hosts. `machine` is uname's. `netns` is
    the path of a network namespace to join; without one the process has its own, or the host's for ("host",). `size` is
    that of the caller's terminal, in columns and lines.
    """
    linux: dict[str, Any] = {
        "namespaces": _namespaces(process, netns),
        "maskedPaths": list(MASKED),
        "readonlyPaths": list(READ_ONLY),
        "seccomp": seccomp(machine, fast_sync=process.fast_sync),
    }
    if cgroup:
        linux["cgroupsPath"] = cgroup
    described = _process(process)
    if size:
        described["consoleSize"] = {"width": size[0], "height": size[1]}
    return {
        "ociVersion": "1.0.2",
        "process": described,
        "root": {"path": root, "readonly": False},
        "hostname": process.hostname,
        "mounts": [_system(*row) for row in SYSTEM] + [_bind(Bind(init, INIT)), *map(_bind, binds)],
        "linux": linux,
    }


def _process(process: Process) -> dict[str, Any]:
    capabilities = list(CAPABILITIES)
    uid, gid = process.user
    return {
        "terminal": process.terminal,
        # No additional groups: those of whoever runs obuild have no meaning inside.
        "user": {"uid": uid, "gid": gid, "umask": UMASK, "additionalGids": []},
        # The reaper dies with the runtime, and with the reaper, which is PID 1, everything inside.
        "args": [INIT, "-p", "SIGKILL", "--", *process.argv],
        "env": [f"{name}={text}" for name, text in process.env],
        "cwd": process.cwd,
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": OPEN_FILES, "hard": OPEN_FILES}],
        "noNewPrivileges": process.no_new_privs,
    }


def _namespaces(process: Process, netns: str) -> list[dict[str, str]]:
    found = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount")]
    if netns:
        found.append({"type": "network", "path": netns})
    elif process.network != ("host",):
        found.append({"type": "network"})
    return found


def _system(kind: str, source: str, target: str, options: str) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": source, "options": options.split(",") if options else []}


def _bind(bind: Bind) -> dict[str, Any]:
    options = ["rbind", "rprivate", "nosuid", "nodev", "ro" if bind.read_only else "rw"]
    return {"destination": bind.target, "type": "bind", "source": bind.source, "options": options}
