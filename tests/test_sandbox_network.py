"""Private networks: who reaches whom, by name and by address, and what is left when the last one has gone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PATH_ONLY, make_tiny, soon

from obuild.cancel import Cancel
from obuild.errors import Cancelled, SandboxError
from obuild.sandbox import Process, Sandbox, open_sandbox
from obuild.sandbox.network import check, forget, hosts

pytestmark = pytest.mark.usefixtures("can_mount")

Join = Callable[..., "Member"]


class Member:
    """A container on private networks that stays until it is told to go; commands are run in it from outside."""

    def __init__(self, sandbox: Sandbox, root: Path, state: Path, hostname: str, networks: tuple[str, ...]) -> None:
        self.hostname, self._root, self._state = hostname, root, state
        self._cancel, self._output = Cancel(), bytearray()
        self._process = Process(
            ("/bin/sh", "-c", "mkfifo /tmp/in; echo up; while true; do sh /tmp/in; echo ended $?; done"),
            env=PATH_ONLY,
            hostname=hostname,
            network=networks,
        )
        self._thread = threading.Thread(target=self._run, args=(sandbox,))
        self._thread.start()
        assert soon(lambda: b"up\n" in self._output)

    def _run(self, sandbox: Sandbox) -> None:
        with pytest.raises(Cancelled):
            sandbox.run(self._process, str(self._root), self._output.extend, cancel=self._cancel)

    def do(self, script: str) -> tuple[int, str]:
        """Run a script in it; its status and output."""
        start = len(self._output)
        (self._root / "tmp/in").write_text(script)
        assert soon(lambda: b"\nended " in b"\n" + self._output[start:])
        text, _, status = self._output[start:].decode().rpartition("ended ")
        return int(status), text

    def address(self, number: int = 0) -> str:
        """That of one of its interfaces."""
        return self.do(f"ip -o -4 addr show eth{number}")[1].split()[3].partition("/")[0]

    def leave(self) -> None:
        self._cancel.set()
        self._thread.join(20)
        assert not self._thread.is_alive()


@pytest.fixture
def join(sandbox: Sandbox, state: Path, tmp_path: Path) -> Iterator[Join]:
    members: list[Member] = []

    def join(hostname: str, *networks: str, sandbox: Sandbox = sandbox) -> Member:
        root = make_tiny(tmp_path / f"root{len(members)}")
        members.append(Member(sandbox, root, state, hostname, networks))
        return members[-1]

    yield join
    for member in members:
        member.leave()


LISTEN = """
rm -f /tmp/heard; [ -p /tmp/open ] || mkfifo /tmp/open; exec 3<>/tmp/open; (nc -l -p 7000 <&3 >/tmp/heard &)
until grep -q ":1B58 " /proc/net/tcp /proc/net/tcp6; do sleep 0.01; done
"""
"""The listener's input stays open: at its end it would hang up, perhaps before anything was sent."""

HEARD = """
for i in 1 2 3 4 5 6 7 8 9; do [ -s /tmp/heard ] && break; sleep 0.05; done; cat /tmp/heard
for p in /proc/[0-9]*; do case $(cat $p/comm 2>/dev/null) in nc) kill ${p#/proc/};; esac; done
"""


def reaches(one: Member, other: Member, name: str) -> bool:
    """Whether `one` can send a word to `other`, which it calls `name`."""
    assert other.do(LISTEN)[0] == 0
    one.do(f"echo word from {one.hostname} | nc -w 2 {name} 7000")
    return other.do(HEARD)[1] == f"word from {one.hostname}\n"


def test_members_reach_each_other_by_name_and_by_address(join: Join) -> None:
    web, db = join("web", "lab"), join("db", "lab")
    assert reaches(web, db, "db")
    assert reaches(db, web, "web")
    assert reaches(web, db, db.address())
    assert web.do("cat /etc/hosts")[1].splitlines()[2:] == [f"{web.address()} web", f"{db.address()} db"]
    assert web.address() != db.address()


def test_who_comes_and_goes_is_known_to_the_others(join: Join) -> None:
    first = join("first", "lab")
    assert "second" not in first.do("cat /etc/hosts")[1]
    second = join("second", "lab")
    assert " second\n" in first.do("cat /etc/hosts")[1]
    address = second.address()
    second.leave()
    assert "second" not in first.do("cat /etc/hosts")[1]
    third = join("third", "lab")
    assert third.address() == address, "what is free is given again"
    assert reaches(first, third, "third")


def test_networks_are_apart(join: Join) -> None:
    one, other = join("one", "left"), join("other", "right")
    assert "other" not in one.do("cat /etc/hosts")[1]
    assert not reaches(one, other, other.address())
    between = join("between", "left", "right")
    assert reaches(one, between, "between")
    assert reaches(between, other, "other")
    assert not reaches(one, other, other.address()), "who is on both is no way through"


def test_there_is_no_way_out(join: Join) -> None:
    member = join("alone", "lab")
    routes = member.do("ip route")[1].splitlines()
    assert [line.split()[0].rpartition(".")[2] for line in routes] == ["0/24"]
    assert member.do("ping -c 1 -W 1 192.0.2.1")[0] != 0
    links = [line.split(":")[1].strip().partition("@")[0] for line in member.do("ip -o link")[1].splitlines()]
    assert {name for name in links if not name.startswith(("sit", "tun", "gre", "ip", "erspan"))} == {"lo", "eth0"}


def test_members_in_several_processes(runtime: str, state: Path, join: Join, tmp_path: Path) -> None:
    server = join("server", "lab")
    code = (
        "import sys; from obuild.sandbox import Process, open_sandbox\n"
        "process = Process(('/bin/sh', '-c', 'cat /etc/hosts; echo from afar | nc -w 5 server 7000'),"
        " env=(('PATH', '/bin'),), hostname='client', network=('lab',))\n"
        "show = lambda data: sys.stdout.write(data.decode())\n"
        "sys.exit(open_sandbox(sys.argv[1], state=sys.argv[2]).run(process, sys.argv[3], show))\n"
    )
    assert server.do(LISTEN)[0] == 0
    root = make_tiny(tmp_path / "client")
    done = subprocess.run(
        [sys.executable, "-c", code, runtime, state, root], capture_output=True, text=True, timeout=60
    )
    assert f"{server.address()} server\n" in done.stdout, done.stderr
    assert server.do(HEARD)[1] == "from afar\n"
    assert "client" not in server.do("cat /etc/hosts")[1]


def namespaces() -> set[str]:
    """The network namespaces that anything on this machine runs in or holds open."""
    found = set()
    for path in [*Path("/proc").glob("[0-9]*/ns/net"), *Path("/proc").glob("[0-9]*/fd/*")]:
        try:
            target = os.readlink(path)
        except OSError:
            continue
        if target.startswith("net:["):
            found.add(target)
    return found


def switches(state: Path) -> set[str]:
    """The namespaces that the networks of `state` are made of."""
    found: set[str] = set()
    for path in (state / "networks").iterdir():
        if path.name != "lock":
            member: dict[str, Any] = json.loads(path.read_text())
            found.update(f"net:[{network['inode']}]" for network in member["networks"].values())
    return found


def test_nothing_is_left_when_the_last_one_leaves(join: Join, state: Path) -> None:
    members = [join("a", "lab", "other"), join("b", "lab")]
    there = switches(state)
    assert len(there) == 2
    assert there <= namespaces()
    for member in members:
        member.leave()
    assert soon(lambda: not there & namespaces())
    assert [path.name for path in (state / "networks").iterdir()] == ["lock"]


KILLED = (
    "import sys; from obuild.sandbox import Process, open_sandbox\n"
    "process = Process(('/bin/sh', '-c', 'echo up; sleep 1000'), env=(('PATH', '/bin'),), network=('lab',),"
    " hostname='victim')\n"
    "show = lambda data: print(data.decode(), end='', flush=True)\n"
    "open_sandbox(sys.argv[1], state=sys.argv[2]).run(process, sys.argv[3], show)\n"
)


def test_who_is_killed_leaves_nothing_after_the_next_start(
    runtime: str, state: Path, tiny_rootfs: Path, join: Join
) -> None:
    witness = join("witness", "lab")
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, runtime, state, tiny_rootfs], stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"up\n"
            assert " victim\n" in witness.do("cat /etc/hosts")[1]
        finally:
            process.kill()
    assert len(list((state / "networks").iterdir())) == 3
    again = open_sandbox(runtime, state=str(state))
    assert soon(lambda: again.run(Process(("/bin/true",), env=PATH_ONLY), str(tiny_rootfs), print) == 0)
    assert len(list((state / "networks").iterdir())) == 2, "the lock and the witness"
    assert "victim" not in witness.do("cat /etc/hosts")[1]
    there = switches(state)
    witness.leave()
    assert soon(lambda: not there & namespaces())


def test_forgetting_who_is_not_there_is_nothing(tmp_path: Path) -> None:
    forget(str(tmp_path), "obuild-0123456789ab")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("host", "lab"), "can not be combined"),
        (("lab", "lab"), "given twice"),
        (("",), "needs a name"),
    ],
)
def test_names_that_can_not_be(names: tuple[str, ...], message: str) -> None:
    with pytest.raises(SandboxError, match=message):
        check(names)


def test_hosts() -> None:
    assert hosts("box") == b"127.0.0.1 localhost box\n::1 localhost ip6-localhost ip6-loopback\n"
    lines = hosts("box", (("10.0.0.1", "box"), ("10.0.0.2", "db"))).splitlines()
    assert lines[0] == b"127.0.0.1 localhost"
    assert lines[2:] == [b"10.0.0.1 box", b"10.0.0.2 db"]
