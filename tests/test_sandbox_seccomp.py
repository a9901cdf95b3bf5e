"""The system calls that a step may not make, by the profile and by what really happens in a container."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest
from conftest import Run

from obuild.sandbox.seccomp import DENIED, SYNCS, seccomp

EPERM, EBADF, EINVAL = 1, 9, 22

native = pytest.mark.skipif(os.uname().machine != "x86_64", reason="does not apply: machine code of x86-64")


def program(number: int, *arguments: int, legacy: bool = False) -> bytes:
    """A static x86-64 program: it makes one system call and exits with 0 or the error's number.

    With `legacy` the call is made as 32-bit programs do, by number in their own table.
    """
    registers = (b"\xbb", b"\xb9", b"\xba") if legacy else (b"\xbf", b"\xbe", b"\xba")
    code = b"".join(
        [register + struct.pack("<i", argument) for register, argument in zip(registers, arguments, strict=False)]
    )
    code += b"\xb8" + struct.pack("<i", number) + (b"\xcd\x80" if legacy else b"\x45\x31\xd2\x45\x31\xc0\x0f\x05")
    # Not negative: no error. Otherwise its number is the status.
    code += b"\x31\xff\x85\xc0\x79\x04\xf7\xd8\x89\xc7" + b"\xb8\x3c\0\0\0\x0f\x05"
    place, head = 0x400000, 64 + 56
    elf = b"\x7fELF\2\1\1" + bytes(9)
    elf += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, place + head, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    elf += struct.pack("<IIQQQQQQ", 1, 5, 0, place, place, head + len(code), head + len(code), 0x1000)
    return elf + code


KEYCTL, PERF, USERFAULTFD = 250, 298, 323
GET_SESSION_KEYRING = (0, -3, 1)
USER_MODE_ONLY = 1

CALLS = {
    "keyctl": program(KEYCTL, *GET_SESSION_KEYRING),
    "keyctl, as 32-bit programs call it": program(288, *GET_SESSION_KEYRING, legacy=True),
    "perf_event_open": program(PERF, 0, 0, 0),
    "userfaultfd": program(USERFAULTFD, USER_MODE_ONLY),
}


def executable(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    path.chmod(0o755)
    return path


@native
@pytest.mark.parametrize("name", CALLS)
def test_what_is_denied_is_denied(run: Run, tiny_rootfs: Path, tmp_path: Path, name: str) -> None:
    outside = subprocess.run([executable(tmp_path / "call", CALLS[name])]).returncode
    if outside < 0:
        pytest.skip("does not apply: this kernel runs no 32-bit programs")
    assert outside != EPERM, "the host itself has no objection"
    executable(tiny_rootfs / "call", CALLS[name])
    assert run("/call")[0] == EPERM
    assert run("/call", user=(1000, 1000))[0] == EPERM
    assert run("/call", user=(1000, 1000), no_new_privs=True, fast_sync=True)[0] == EPERM


SYNC_CALLS = {
    "fsync": (program(74, -1), EBADF),
    "fdatasync": (program(75, -1), EBADF),
    "syncfs": (program(306, -1), EBADF),
    "sync_file_range": (program(277, -1), EBADF),
    "msync": (program(26, 0, 0, 0x7F), EINVAL),
}


@native
@pytest.mark.parametrize("name", SYNC_CALLS)
def test_fast_sync_answers_in_the_place_of_the_kernel(run: Run, tiny_rootfs: Path, name: str) -> None:
    """Of a descriptor that there is not, only the kernel would say so."""
    call, error = SYNC_CALLS[name]
    executable(tiny_rootfs / "call", call)
    assert run("/call")[0] == error
    assert run("/call", fast_sync=True)[0] == 0


def test_programs_that_sync_go_on(run: Run) -> None:
    script = "sync && dd if=/bin/sh of=/tmp/copy conv=fsync 2>/dev/null && cat /tmp/copy | wc -c"
    assert run(script, fast_sync=True) == run(script)
    assert run("dd if=/dev/zero of=/dev/null count=1 conv=fsync")[0] != 0, "the kernel can not sync a device"
    assert run("dd if=/dev/zero of=/dev/null count=1 conv=fsync", fast_sync=True)[0] == 0


def test_devices_may_be_made_but_no_disks(run: Run) -> None:
    status, output = run("mknod /tmp/null c 1 3 && mkfifo /tmp/fifo && mknod /tmp/disk b 8 0")
    assert (status, b"Operation not permitted" in output) == (1, True)
    assert run("stat -c %F /tmp/null /tmp/fifo; ls /tmp/disk")[1].startswith(b"character special file\nfifo\n")


def test_what_packages_test_stays_allowed(run: Run) -> None:
    assert run("unshare -U true", user=(1000, 1000))[0] == 0


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "ppc64le", "riscv64", "s390x"])
def test_the_profile(machine: str) -> None:
    plain, fast = seccomp(machine), seccomp(machine, fast_sync=True)
    assert plain["syscalls"][0] == {"names": list(DENIED), "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM}
    assert fast["syscalls"] == [
        *plain["syscalls"],
        {"names": list(SYNCS), "action": "SCMP_ACT_ERRNO", "errnoRet": 0},
    ]
    assert [rule["names"] for rule in plain["syscalls"][1:]] == [["mknod"], ["mknodat"]]
    assert plain["architectures"][0] == f"SCMP_ARCH_{machine.upper()}"
    assert not set(DENIED) & set(SYNCS)
    allowed = {"ptrace", "io_uring_setup", "unshare", "mount", "clone", "clone3", "personality", "fallocate"}
    assert not allowed & set(DENIED)


def test_every_way_to_call_is_covered() -> None:
    assert seccomp("x86_64")["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    assert seccomp("an unknown machine")["architectures"] == [], "the runtime then takes the one that it runs on"
