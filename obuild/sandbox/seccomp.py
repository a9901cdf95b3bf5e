"""Which system calls a step may make: all but a few that no build needs and that a namespace does not contain.

Capabilities already keep root in the container from most of the kernel's dangerous doors, so the list is short and a
start costs 0.3 ms more. Denied are those that a process can use without any capability, or with full ones in a user
namespace of its own, and that act on the whole machine: the kernel's key rings (no namespace separates them), bpf,
perf and userfaultfd (the usual steps of a kernel exploit). Behind the capabilities stands a second line for modules,
kexec, swap, clocks and opening files by handle. What package tests do stays allowed: ptrace, io_uring, unshare and
mount in a user namespace (opam's own bubblewrap).
"""

from __future__ import annotations

import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["DENIED", "SYNCS", "seccomp"]

DENIED = (
    "acct",
    "add_key",
    "bpf",
    "clock_adjtime",
    "clock_settime",
    "delete_module",
    "fanotify_init",
    "finit_module",
    "init_module",
    "ioperm",
    "iopl",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "open_by_handle_at",
    "perf_event_open",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "request_key",
    "settimeofday",
    "stime",
    "swapoff",
    "swapon",
    "syslog",
    "userfaultfd",
    "vhangup",
)
"""They fail with EPERM, as they would for want of a capability."""

SYNCS = ("fdatasync", "fsync", "msync", "sync", "sync_file_range", "syncfs")
"""What `fast_sync` makes succeed at once; a sync asked for through io_uring is no system call and still takes place."""

_ARCHITECTURES = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
    "ppc64le": ("SCMP_ARCH_PPC64LE",),
    "riscv64": ("SCMP_ARCH_RISCV64",),
    "s390x": ("SCMP_ARCH_S390X", "SCMP_ARCH_S390"),
}
"""The kernel's name of a machine and what its processes may switch to: a filter for one alone would be a way round."""

_EPERM = 1


def seccomp(machine: str, *, fast_sync: bool = False) -> dict[str, Any]:
    """The `linux.seccomp` member of an OCI configuration for a machine as uname(2) names it."""
    rules = [_rule(DENIED, _EPERM), _no_disk("mknod", 1), _no_disk("mknodat", 2)]
    if fast_sync:
        rules.append(_rule(SYNCS, 0))
    return {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": list(_ARCHITECTURES.get(machine, ())),
        "syscalls": rules,
    }


def _rule(names: tuple[str, ...], error: int, **more: Any) -> dict[str, Any]:
    return {"names": list(names), "action": "SCMP_ACT_ERRNO", "errnoRet": error, **more}


def _no_disk(name: str, mode: int) -> dict[str, Any]:
    """A container may make device nodes (packages do) but not the host's disks, which it could then read and write."""
    kind = {"index": mode, "value": stat.S_IFMT(0o177777), "valueTwo": stat.S_IFBLK, "op": "SCMP_CMP_MASKED_EQ"}
    return _rule((name,), _EPERM, args=[kind])
