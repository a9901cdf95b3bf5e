"""Private networks: a bridge in a network namespace of its own that no interface leads out of.

A container on `(network db web)` has one interface for each name, `/etc/hosts` with every member's host name, and no
way to the host or the internet. Nothing on disk keeps a network alive: its namespace is held open by the processes of
its members, and the kernel removes bridge and interfaces when the last one has gone, however it went. Newcomers, also
from other processes, find it through `/proc/PID/fd/N` of any member.

    STATE/networks/
      lock         held while members are counted
      ID           one member, locked as long as it lives: JSON of its networks, host name and hosts file
"""

from __future__ import annotations

import os

from obuild import kernel
from obuild.disk import Lock
from obuild.errors import SandboxError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    from obuild.sandbox import Process

__all__ = ["Network", "check", "forget", "hosts"]

_SUBNET = "10.213.{network}.{member}"
_BITS = 24
_NETWORKS, _MEMBERS = range(256), range(1, 255)
_BRIDGE = "switch"


def check(names: tuple[str, ...]) -> None:
    """Refuse `host` together with private networks, and a name given twice."""
    if "host" in names and len(names) > 1:
        raise SandboxError(
            'the network "host" can not be combined with private networks',
            hint="on the host's network a process reaches no private one: take (network host) or the other names",
        )
    for name in names:
        if not name or names.count(name) > 1:
            raise SandboxError(f'the network "{name}" is given twice' if name else "a network needs a name")


def hosts(hostname: str, others: tuple[tuple[str, str], ...] = ()) -> bytes:
    """The `/etc/hosts` of a container; `others` are addresses with names."""
    own = "" if any(name == hostname for _, name in others) else f" {hostname}"
    lines = [f"127.0.0.1 localhost{own}", "::1 localhost ip6-localhost ip6-loopback"]
    return "".join(f"{line}\n" for line in (*lines, *(f"{address} {name}" for address, name in others))).encode()


class Network:
    """Membership of the container `id` in the private networks `process.network`; leaving the block ends it.

    `namespace` is the path of the network namespace that the container joins. `hosts_file` is kept up to date for it
    as others come and go.
    """

    def __init__(self, state: str, id: str, process: Process, hosts_file: str) -> None:
        check(process.network)
        self._directory, self._id, self._process, self._hosts_file = f"{state}/networks", id, process, hosts_file
        self._open: list[int] = []
        self._lock: Lock | None = None
        self.namespace = ""

    def __enter__(self) -> Network:
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        try:
            with Lock.make(f"{self._directory}/lock"):
                self._join()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with Lock.make(f"{self._directory}/lock"):
            if self._lock is not None:
                os.unlink(f"{self._directory}/{self._id}")
                self._lock.release()
            for fd in self._open:
                os.close(fd)
            _write_hosts(_members(self._directory))

    def _join(self) -> None:
        members = _members(self._directory)
        own = kernel.new_network()
        self._open.append(own)
        self.namespace = f"/proc/{os.getpid()}/fd/{own}"
        networks: dict[str, Any] = {}
        with _Links(own) as inside:
            inside.up("lo")
            for number, name in enumerate(self._process.network):
                switch = self._switch(name, members)
                subnet, address = _free(name, members, networks)
                networks[name] = {"subnet": subnet, "address": address, **_reference(switch)}
                with _Links(switch) as outside:
                    outside.plug(f"v{self._id[-11:]}{number}", f"eth{number}", own)
                inside.address(f"eth{number}", _SUBNET.format(network=subnet, member=address))
        member = {"hostname": self._process.hostname, "hosts": self._hosts_file, "networks": networks}
        self._record(member)
        _write_hosts([*members, member])

    def _record(self, member: dict[str, Any]) -> None:
        import json

        path = f"{self._directory}/{self._id}"
        with open(path, "x", encoding="utf-8") as file:
            json.dump(member, file)
        self._lock = Lock.take(path)

    def _switch(self, name: str, members: list[dict[str, Any]]) -> int:
        """The namespace with the bridge of the network `name`, made when nobody is there yet."""
        for member in members:
            network = member["networks"].get(name)
            if network:
                try:
                    fd = os.open(network["switch"], os.O_RDONLY | os.O_CLOEXEC)
                except OSError:
                    continue
                self._open.append(fd)
                if os.fstat(fd).st_ino == network["inode"]:
                    return fd
        fd = kernel.new_network()
        self._open.append(fd)
        with _Links(fd) as links:
            links.bridge()
        return fd


def forget(state: str, id: str) -> None:
    """End the membership of a container whose obuild was killed; the others no longer find it by name."""
    directory = f"{state}/networks"
    if os.path.exists(f"{directory}/{id}"):
        with Lock.make(f"{directory}/lock"):
            _write_hosts(_members(directory))


def _members(directory: str) -> list[dict[str, Any]]:
    """Everybody who is there; the records of those who were killed are removed on the way."""
    import json

    found = []
    for name in sorted(os.listdir(directory)):
        path = f"{directory}/{name}"
        if name == "lock":
            continue
        gone = Lock.attempt(path)
        if gone is None:
            with open(path, encoding="utf-8") as file:
                found.append(json.load(file))
        else:
            os.unlink(path)
            gone.release()
    return found


class _Links:
    """The interfaces of one network namespace."""

    def __init__(self, namespace: int) -> None:
        from pyroute2.iproute.linux import IPRoute

        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            kernel.use_network(namespace)
            try:
                self._netlink = IPRoute()  # its socket stays in this namespace
            finally:
                kernel.use_network(here)
        finally:
            os.close(here)

    def __enter__(self) -> _Links:
        return self

    def __exit__(self, *_: object) -> None:
        self._netlink.close()

    def _index(self, name: str) -> int:
        return int(self._netlink.link_lookup(ifname=name)[0])

    def up(self, name: str) -> None:
        """Start an interface."""
        self._netlink.link("set", index=self._index(name), state="up")

    def bridge(self) -> None:
        """Make the bridge; it needs no address: it only connects its members."""
        self._netlink.link("add", ifname=_BRIDGE, kind="bridge")
        self.up(_BRIDGE)

    def plug(self, port: str, name: str, namespace: int) -> None:
        """Connect the bridge to a new interface `name` in another namespace."""
        self._netlink.link("add", ifname=port, kind="veth", peer={"ifname": name, "net_ns_fd": namespace})
        self._netlink.link("set", index=self._index(port), master=self._index(_BRIDGE), state="up")

    def address(self, name: str, address: str) -> None:
        """Give an interface its address and start it."""
        self._netlink.addr("add", index=self._index(name), address=address, prefixlen=_BITS)
        self.up(name)


def _reference(switch: int) -> dict[str, Any]:
    """How others find a namespace; its inode number tells whether what they find is it."""
    return {"switch": f"/proc/{os.getpid()}/fd/{switch}", "inode": os.fstat(switch).st_ino}


def _free(name: str, members: list[dict[str, Any]], own: dict[str, Any]) -> tuple[int, int]:
    """The number of the network's subnet, and the lowest address in it that nobody has."""
    networks = [(other, network) for member in members for other, network in member["networks"].items()]
    here = [network for other, network in networks if other == name]
    used = {network["subnet"] for _, network in networks} | {network["subnet"] for network in own.values()}
    taken = {network["address"] for network in here}
    subnet = here[0]["subnet"] if here else next((number for number in _NETWORKS if number not in used), None)
    address = next((number for number in _MEMBERS if number not in taken), None)
    if subnet is None or address is None:
        raise SandboxError(f'the network "{name}" has no free address')
    return subnet, address


def _write_hosts(members: list[dict[str, Any]]) -> None:
    """Tell every member who is there. The file is changed in place: a container sees the one that it was given."""
    for member in members:
        others = [
            (_SUBNET.format(network=other["networks"][name]["subnet"], member=other["networks"][name]["address"]), host)
            for name in member["networks"]
            for other in sorted(members, key=lambda one: one is not member)
            if name in other["networks"]
            for host in (other["hostname"],)
        ]
        data = hosts(member["hostname"], tuple(others))
        try:
            fd = os.open(member["hosts"], os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # it is leaving
        try:
            os.pwrite(fd, data, 0)
            os.ftruncate(fd, len(data))
        finally:
            os.close(fd)
