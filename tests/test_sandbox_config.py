"""`Process` → `config.json`: what every container gets, word for word.

The files in golden/config are what a person has read and found right; a change of one is a line in the diff.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from obuild.sandbox import Limits, Mount, Process, SecretFile
from obuild.sandbox.config import CAPABILITIES, INIT, Bind, config

GOLDEN = Path(__file__).parent / "golden" / "config"

CASES: dict[str, dict[str, Any]] = {
    "plain": {
        "process": Process(("/bin/sh", "-c", "true"), env=(("PATH", "/bin"), ("B", "2"), ("A", "1"))),
        "binds": (Bind("/state/hosts", "/etc/hosts"),),
        "machine": "x86_64",
    },
    "everything": {
        "process": Process(
            ("/usr/bin/env", "bash", "-c", 'echo "é"\n'),
            cwd="/home/opam",
            user=(1000, 1001),
            env=(("HOME", "/home/opam"),),
            mounts=(Mount("/store/cache", "/home/opam/.cache"),),
            network=("db", "web"),
            secrets=(SecretFile("/run/secrets/key", b"never in here"),),
            limits=Limits(memory=1 << 30, cpus=1.5, pids=100, seconds=60, log=1 << 20),
            hostname="box",
            fast_sync=True,
            no_new_privs=True,
        ),
        "binds": (
            Bind("/store/cache", "/home/opam/.cache", read_only=False),
            Bind("/state/hosts", "/etc/hosts"),
            Bind("/state/secrets/0", "/run/secrets/key"),
        ),
        "machine": "aarch64",
        "netns": "/proc/7/fd/5",
        "cgroup": "/obuild-0123456789ab/box",
    },
    "terminal on the host's network": {
        "process": Process(("/bin/bash",), network=("host",), terminal=True),
        "machine": "riscv64",
        "size": (111, 33),
    },
}


def described(case: dict[str, Any]) -> dict[str, Any]:
    rest = {name: given for name, given in case.items() if name != "process"}
    return config(case["process"], "/store/tmp/1/fs", init="/usr/bin/tini-static", **rest)


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    file = GOLDEN / f"{name.replace(' ', '-')}.json"
    assert described(CASES[name]) == json.loads(file.read_text())


def test_nothing_of_a_secret_is_in_it() -> None:
    assert "never in here" not in json.dumps(described(CASES["everything"]))


def test_the_same_process_gives_the_same_text() -> None:
    case = CASES["everything"]
    assert json.dumps(described(case)) == json.dumps(described(dict(case)))


@pytest.mark.parametrize("name", CASES)
def test_what_holds_for_every_container(name: str) -> None:
    found = described(CASES[name])
    process, linux = found["process"], found["linux"]
    assert process["args"][:4] == [INIT, "-p", "SIGKILL", "--"]
    assert set(process["capabilities"]) == {"bounding", "effective", "permitted"}, "nothing inheritable or ambient"
    assert all(process["capabilities"][kind] == list(CAPABILITIES) for kind in process["capabilities"])
    assert not {"CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SYS_PTRACE", "CAP_SYS_MODULE", "CAP_NET_RAW"} & set(CAPABILITIES)
    assert {"pid", "ipc", "uts", "mount"} <= {item["type"] for item in linux["namespaces"]}
    assert {"/proc/kcore", "/proc/keys", "/sys/firmware"} <= set(linux["maskedPaths"])
    assert {"/proc/sys", "/proc/sysrq-trigger"} <= set(linux["readonlyPaths"])
    assert linux["seccomp"]["defaultAction"] == "SCMP_ACT_ALLOW"
    targets = [mount["destination"] for mount in found["mounts"]]
    assert targets.index("/dev") < targets.index(INIT), "the reaper is on the tmpfs"
    for mount in found["mounts"]:
        if mount["type"] == "bind":
            assert {"nosuid", "nodev", "rprivate"} <= set(mount["options"])
    assert next(mount for mount in found["mounts"] if mount["destination"] == "/sys")["options"][-1] == "ro"
