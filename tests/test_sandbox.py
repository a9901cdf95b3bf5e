"""What every sandbox promises, on real containers of every runtime that is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, alive, refused, soon, tree

from obuild.cancel import Cancel
from obuild.errors import Cancelled, SandboxError, UsageError
from obuild.sandbox import Limits, Process, Sandbox, SecretFile, open_sandbox

pytestmark = pytest.mark.usefixtures("can_mount")

PATH = (("PATH", "/bin:/usr/bin"),)


def test_names() -> None:
    with pytest.raises(UsageError, match='unknown sandbox "cru"') as error:
        open_sandbox("cru", state="/nonexistent")
    assert error.value.hint == 'did you mean "crun"?'


def test_first_that_works(tmp_path: Path) -> None:
    assert open_sandbox("", state=str(tmp_path)).available() is None


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("true", 0),
        ("exit 1", 1),
        ("exit 127", 127),
        ("exit 255", 255),
        ("kill -9 $$", 137),
        ("kill -TERM $$", 143),
        ("kill -SEGV $$", 139),
        ("kill -9 1; exit 5", 5),
        ("kill -9 -1; exit 5", 5),
        ("exec >&- 2>&- <&-; exit 6", 6),
        ("/bin/missing", 127),
    ],
)
def test_status(run: Run, script: str, status: int) -> None:
    assert run(script)[0] == status


def test_order_of_stdout_and_stderr(run: Run) -> None:
    status, output = run("for i in 1 2 3 4 5 6 7 8; do echo o$i; echo e$i >&2; done")
    assert (status, output.split()) == (0, [f"{kind}{i}".encode() for i in range(1, 9) for kind in "oe"])


def test_much_output_arrives_whole(run: Run) -> None:
    assert run("seq 1 300000")[1] == b"".join(b"%d\n" % number for number in range(1, 300001))


def test_a_log_that_looks_like_the_reapers_complaint(run: Run) -> None:
    line = "[FATAL tini (7)] exec a failed: b"
    assert run(f"echo '{line}'; sleep 0.05; echo more; exit 3") == (3, f"{line}\nmore\n".encode())


def test_daemons_end_with_the_step(run: Run, mark: str) -> None:
    status, output = run(f"sleep {mark} & (sleep {mark} &) ; setsid sleep {mark} & echo done")
    assert (status, output) == (0, b"done\n")
    assert alive(mark) == []


def test_orphans_are_reaped(run: Run) -> None:
    status, output = run("for i in 1 2 3; do (true &) ; done; sleep 0.2; cat /proc/[0-9]*/stat")
    assert status == 0
    assert b"(cat)" in output
    assert b") Z " not in output


def test_stdin(run: Run) -> None:
    assert run("cat; echo end") == (0, b"end\n")
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as source:
        os.write(writing, b"given\n")
        os.close(writing)
        assert run("cat; echo end", stdin=source.fileno()) == (0, b"given\nend\n")


def test_no_descriptor_is_inherited(run: Run) -> None:
    # `ls` has its directory open as number 3.
    assert run("ls /proc/self/fd")[1].split() == [b"0", b"1", b"2", b"3"]


def test_environment_and_arguments_arrive_unchanged(run: Run) -> None:
    env = (
        *PATH,
        ("HOME", "/root"),
        ("EMPTY", ""),
        ("TEXT", 'a "b"\n\\ $HOME \t=é\N{CLINKING BEER MUGS}'),
        ("Z", "\x01\x7f"),
    )
    status, output = run(argv=("/bin/cat", "/proc/self/environ"), env=env)
    assert (status, output.decode().split("\0")[:-1]) == (0, [f"{name}={text}" for name, text in env])
    assert run(argv=("/bin/printf", "%s|", "", 'a"\n', "é"))[1].decode() == '|a"\n|é|'


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"env": (("A", os.fsdecode(b"x\xff")),)}, r'the environment variable "A" is not UTF-8: A=x\xff'),
        ({"env": (("A", "x\0y"),)}, r'the environment variable "A" has a NUL character in it: A=x\x00y'),
        ({"argv": ("/bin/echo", os.fsdecode(b"\xe9"))}, r"the command is not UTF-8: \xe9"),
        ({"argv": ()}, "there is no command to run"),
        ({"cwd": "a"}, 'the working directory "a" is not absolute'),
    ],
)
def test_what_no_runtime_can_pass_on_is_refused(run: Run, given: dict[str, Any], message: str) -> None:
    with refused(SandboxError, f"{message}"):
        run(**given)


def test_user(run: Run) -> None:
    assert run("id -u; id -G; umask", user=(1000, 1001))[1].split() == [b"1000", b"1001", b"0022"]
    assert run("id -u; id -G; umask")[1].split() == [b"0", b"0", b"0022"]


def test_capabilities(run: Run) -> None:
    shown = "grep -E 'Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs' /proc/self/status"
    root = dict(line.split(b":\t") for line in run(shown)[1].splitlines())
    assert root == {
        b"CapInh": b"0" * 16,
        b"CapPrm": b"00000000a80401fb",
        b"CapEff": b"00000000a80401fb",
        b"CapBnd": b"00000000a80401fb",
        b"CapAmb": b"0" * 16,
        b"NoNewPrivs": b"0",
    }
    user = dict(line.split(b":\t") for line in run(shown, user=(1000, 1000), no_new_privs=True)[1].splitlines())
    assert (user[b"CapEff"], user[b"CapPrm"], user[b"NoNewPrivs"]) == (b"0" * 16, b"0" * 16, b"1")


def test_a_user_can_open_its_standard_streams(run: Run) -> None:
    assert run("echo x > /dev/stderr; echo y > /dev/stdout", user=(1000, 1000)) == (0, b"x\ny\n")


def test_isolation(run: Run) -> None:
    status, output = run(
        "hostname; echo $$; ip -o link; ls /sys/class/net; touch /proc/sys/kernel/hostname || echo no", hostname="box"
    )
    lines = output.decode().splitlines()
    assert status == 0
    assert lines[0] == "box"
    assert int(lines[1]) < 10
    assert [line.split(":")[1] for line in lines if "LOOPBACK,UP" in line] == [" lo"]
    assert "eth0" not in output.decode()
    assert lines[-1] == "no"


def test_loopback_works(run: Run) -> None:
    # The listener's input stays open: at its end it would hang up, perhaps before anything was sent.
    script = "mkfifo /tmp/open; exec 3<>/tmp/open; "
    script += "(until echo through | nc -w 5 127.0.0.1 7000; do sleep 0.01; done) & nc -l -p 7000 <&3"
    assert run(script)[1].splitlines()[-1] == b"through"


def test_host_network(run: Run, tiny_rootfs: Path) -> None:
    status, output = run("readlink /proc/self/ns/net; cat /etc/resolv.conf; touch /etc/resolv.conf", network=("host",))
    assert status == 1
    assert output.startswith(os.readlink("/proc/self/ns/net").encode() + b"\n" + Path("/etc/resolv.conf").read_bytes())
    assert not (tiny_rootfs / "etc/resolv.conf").exists()
    assert run("ls /etc/resolv.conf")[0] == 1


def test_hosts(run: Run) -> None:
    status, output = run("cat /etc/hosts; echo >> /etc/hosts || exit 7", hostname="box")
    assert status == 7
    assert output.startswith(b"127.0.0.1 localhost box\n::1 localhost ip6-localhost ip6-loopback\n")
    assert output.endswith(b"Read-only file system\n")


@pytest.mark.parametrize("program", ["/usr/bin/env", "bash"])
def test_missing_program(run: Run, sandbox: Sandbox, tiny_rootfs: Path, program: str) -> None:
    output: list[bytes] = []
    with refused(SandboxError, f'"{program}" is not in the image'):
        sandbox.run(Process((program, "-c", "true"), env=PATH), str(tiny_rootfs), output.append)
    assert output == []


def test_programs_that_can_not_be_executed(run: Run, tiny_rootfs: Path) -> None:
    (tiny_rootfs / "text").write_text("no program")
    with refused(SandboxError, '"/text" can not be executed in the image: permission denied'):
        run(argv=("/text",))
    (tiny_rootfs / "script").write_text("#!/bin/lua\n")
    (tiny_rootfs / "script").chmod(0o755)
    with pytest.raises(SandboxError, match="interpreter or loader that it names is not in the image"):
        run(argv=("/script",))
    (tiny_rootfs / "bin/sh").unlink()
    (tiny_rootfs / "bin/sh").write_bytes(b"\x7fELF\1\1\1" + bytes(100))
    (tiny_rootfs / "bin/sh").chmod(0o755)
    with refused(SandboxError, '"/bin/sh" can not be executed in the image: exec format error'):
        run("true")


def test_the_runtimes_own_errors(sandbox: Sandbox, tmp_path: Path) -> None:
    output: list[bytes] = []
    with pytest.raises(SandboxError, match=r"^can not start the container: "):
        sandbox.run(Process(("/bin/true",), hostname="x" * 65), str(tmp_path), output.append)
    assert output == []


def test_secrets(run: Run, tiny_rootfs: Path) -> None:
    secrets = (SecretFile("/run/secrets/key", b"hidden\n"), SecretFile("/etc/token", b"\0\xff" * 5000))
    before = tree(tiny_rootfs)
    script = "cat /run/secrets/key; stat -c '%a %u %g %s' /run/secrets/key /etc/token; "
    script += "echo > /etc/token; rm /etc/token; grep /etc/token /proc/mounts"
    status, output = run(script, secrets=secrets, user=(1000, 1001))
    assert status == 0
    assert output.startswith(b"hidden\n400 1000 1001 7\n400 1000 1001 10000\n")
    assert output.splitlines()[-1].startswith(b"tmpfs /etc/token tmpfs ro,")
    assert tree(tiny_rootfs) == before


def test_time_limit(run: Run, mark: str) -> None:
    with refused(SandboxError, "time limit: the step took more than 0.3 seconds"):
        run(f"trap '' TERM INT; sleep {mark}", limits=Limits(seconds=0.3))
    assert alive(mark) == []


def test_log_limit(sandbox: Sandbox, tiny_rootfs: Path) -> None:
    output: list[bytes] = []
    process = Process(("/bin/yes",), limits=Limits(log=10_001))
    with refused(SandboxError, "log limit: the step wrote more than 10001 bytes"):
        sandbox.run(process, str(tiny_rootfs), output.append)
    assert b"".join(output) == b"y\n" * 5000 + b"y"
    assert run_exact(sandbox, tiny_rootfs, 10_001) == 10_001


def run_exact(sandbox: Sandbox, root: Path, size: int) -> int:
    """Write just as much as is allowed."""
    output: list[bytes] = []
    process = Process(("/bin/sh", "-c", f"yes | /bin/busybox head -c {size}"), env=PATH, limits=Limits(log=size))
    assert sandbox.run(process, str(root), output.append) == 0
    return len(b"".join(output))


def test_a_log_that_can_not_be_written_ends_the_step(sandbox: Sandbox, tiny_rootfs: Path, mark: str) -> None:
    def full(data: bytes) -> None:
        raise OSError(28, "No space left on device")

    process = Process(("/bin/sh", "-c", f"echo; sleep {mark}"), env=PATH)
    with pytest.raises(OSError, match="No space left"):
        sandbox.run(process, str(tiny_rootfs), full)
    assert alive(mark) == []


def test_cancel_before_the_start(run: Run, mark: str) -> None:
    cancel = Cancel()
    cancel.set("not wanted")
    with refused(Cancelled, "not wanted"):
        run(f"sleep {mark}", cancel=cancel)


@pytest.mark.parametrize("delay", [0.0, 0.002, 0.004, 0.006, 0.008, 0.012, 0.02, 0.03, 0.05, 0.3])
def test_cancel_at_any_moment(run: Run, mark: str, delay: float) -> None:
    cancel = Cancel()
    timer = threading.Timer(delay, cancel.set)
    timer.start()
    with pytest.raises(Cancelled):
        run(f"sleep {mark}", cancel=cancel)
    timer.join()
    assert alive(mark) == []


def test_containers_side_by_side(sandbox: Sandbox, tiny_rootfs: Path, tmp_path: Path) -> None:
    results: dict[int, tuple[int, bytes]] = {}

    def go(number: int) -> None:
        output: list[bytes] = []
        root = shutil.copytree(tiny_rootfs, tmp_path / str(number), symlinks=True)
        process = Process(("/bin/sh", "-c", f"echo {number}; sleep 0.0{number}; exit {number}"), env=PATH)
        status = sandbox.run(process, str(root), output.append)
        results[number] = (status, b"".join(output))

    threads = [threading.Thread(target=go, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: (number, b"%d\n" % number) for number in range(8)}


TERMINAL = """
import sys
from obuild.sandbox import Process, open_sandbox
script = "tty; stty size; read line; echo got $line; exit 9"
process = Process(("/bin/sh", "-c", script), env=(("PATH", "/bin"),), terminal=True)
sys.exit(open_sandbox(sys.argv[1], state=sys.argv[2]).run(process, sys.argv[3], print, stdin=0))
"""


def test_terminal(runtime: str, state: Path, tiny_rootfs: Path) -> None:
    import fcntl
    import pty
    import struct
    import termios

    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", TERMINAL, runtime, str(state), str(tiny_rootfs)])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 111, 0, 0))
    os.write(terminal, b"typed\n")
    output = b""
    try:
        while piece := os.read(terminal, 4096):
            output += piece
    except OSError:
        pass  # EIO: the other end is closed
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    assert b"/dev/pts/0\r\n" in output
    assert b"33 111\r\n" in output
    assert output.endswith(b"got typed\r\n")


KILLED = """
import sys
from obuild.sandbox import Limits, Process, SecretFile, open_sandbox
process = Process(("/bin/sh", "-c", "echo up; (sleep {0} &); sleep {0}".format(sys.argv[5])), env=(("PATH", "/bin"),),
    secrets=(SecretFile("/run/secrets/key", b"do-not-leak"),), limits=Limits(pids=20), network=("net",))
show = lambda data: print(data.decode(), end="", flush=True)
open_sandbox(sys.argv[1], state=sys.argv[2]).run(process, sys.argv[3], show, state=sys.argv[4])
"""


def test_kill_9_of_obuild_ends_its_containers(
    runtime: str, state: Path, tiny_rootfs: Path, mark: str, tmp_path: Path
) -> None:
    beside = tmp_path / "beside"
    beside.mkdir()
    argv = [sys.executable, "-c", KILLED, runtime, str(state), str(tiny_rootfs), str(beside), mark]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"up\n"
            name, root, container = (beside / "container").read_text().split()
            assert (name, root) == (runtime, f"{state}/{container}/run")
            assert soon(lambda: len(alive(mark)) == 3)  # the program itself and both that sleep
        finally:
            process.kill()
    assert soon(lambda: alive(mark) == [])
    assert list((state / container / "secrets").iterdir()) == []
    assert not any(b"do-not-leak" in path.read_bytes() for path in (state / container).rglob("*") if path.is_file())
    output: list[bytes] = []
    again = open_sandbox(runtime, state=str(state))
    assert again.run(Process(("/bin/ls", "/run"), env=PATH), str(tiny_rootfs), output.append) == 0
    assert not (state / container).exists()
    assert list(Path("/sys/fs/cgroup").glob(f"*/{container}")) == []


def test_those_of_living_processes_are_left_alone(run: Run, runtime: str, state: Path, tiny_rootfs: Path) -> None:
    statuses = []

    def other(data: bytes) -> None:
        process = Process(("/bin/true",), env=PATH)
        statuses.append(open_sandbox(runtime, state=str(state)).run(process, str(tiny_rootfs), print))

    process = Process(("/bin/sh", "-c", "echo go; sleep 0.1; exit 4"), env=PATH)
    assert open_sandbox(runtime, state=str(state)).run(process, str(tiny_rootfs), other) == 4
    assert statuses == [0]
