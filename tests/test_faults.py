"""What goes wrong: steps that misbehave, images that set traps, full disks, kill -9, hostile specs."""

from __future__ import annotations

import os
import random
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import alive, soon
from house import House, gone, sh, stage, users

from obuild import kernel
from obuild.errors import ObuildError, StepFailed, StoreError
from obuild.sandbox import Limits

# Steps that misbehave.


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("sleep 987691 & setsid sleep 987691 & (sleep 987691 >/dev/null 2>&1 <&- &)", 0),
        ("exec >&- 2>&- <&-; exit 6", 6),
        ("kill -9 $$", 137),
        ("kill -9 1; exit 5", 5),
        ("kill -9 -1; exit 5", 5),
        ("kill -USR1 $$", 138),
        ("cd /; rm -rf /bin /etc /tmp; exit 4", 4),
        ("mkdir -p /a; mount -t tmpfs none /a; exit 3", 3),
        ("chmod 000 /; chmod 000 /bin; exit 2", 2),
        (": > /proc/self/oom_score_adj; echo 1 > /proc/sysrq-trigger; exit 9", 9),
    ],
)
def test_the_right_status(house: House, command: str, status: int) -> None:
    text = stage(sh(command))
    if status:
        with pytest.raises(StepFailed) as error:
            house.build(text)
        assert error.value.status == status
    else:
        house.build(text)
    assert alive("987691") == []


def test_a_step_that_fills_its_log_while_nobody_listens(house: House) -> None:
    with pytest.raises(StepFailed, match="log limit"):
        house.build(stage(sh("yes | head -c 50000000; sleep 987692")), limits=Limits(log=1 << 20))
    assert alive("987692") == []


def test_a_tree_that_is_hard_to_remove(house: House) -> None:
    deep = "i=0; while [ $i -lt 300 ]; do mkdir -p d/d/d/d/d/d/d/d; cd d/d/d/d/d/d/d/d; i=$((i+1)); done; exit 1"
    with pytest.raises(StepFailed):
        house.build(stage("(workdir /w)", sh(deep)))
    with pytest.raises(StepFailed):
        house.build(stage("(workdir /w)", sh(deep)), keep_failed=False)
    assert house.run("clean").returncode == 0
    assert house.open().failed() == []


# Images that set traps.


@pytest.fixture
def outside(house: House) -> Path:
    """A directory of the host that no step may touch."""
    folder = house.folder / "outside"
    folder.mkdir()
    (folder / "file").write_text("host")
    return folder


def untouched(outside: Path) -> bool:
    info = outside.stat()
    names = [path.name for path in outside.iterdir()]
    return (names, (outside / "file").read_text(), info.st_uid) == (["file"], "host", 0)


@pytest.mark.parametrize("trap", ["/trap", "/up", "/trap/file", "/trap/new/deep"])
@pytest.mark.parametrize(
    "op",
    [
        '(run (cache (c (target {}))) (shell "touch {}/inside"))',
        "(run (secrets (s (target {}))) (shell true))",
        "(workdir {}) (run (shell true))",
        "(copy (src f) (dst {}))",
        "(copy (src f) (dst {}/))",
    ],
)
def test_a_symlink_as_a_target(house: House, outside: Path, op: str, trap: str) -> None:
    (house.context / "f").write_text("context")
    plant = sh(f"mkdir -p {outside}; ln -s {outside} /trap; ln -s ../../../../../..{outside} /up")
    refusal = None
    try:
        house.build(stage(plant, "(user (uid 77) (gid 77))", op.replace("{}", trap)), secrets={"s": b"value"})
    except ObuildError as error:
        refusal = error
    assert untouched(outside)
    if refusal:
        assert any(words in str(refusal) for words in ("image", "can not mount at", "failed with"))


@pytest.mark.parametrize(
    "path", ["/proc", "/sys", "/dev", "/dev/pts", "/etc", "/etc/hosts", "/etc/resolv.conf", "/tmp"]
)
def test_a_symlink_in_the_place_of_what_every_container_has(house: House, outside: Path, path: str) -> None:
    plant = sh(f"mkdir -p {outside} /dev; rm -rf {path}; ln -s {outside} {path}; ln -sf {outside}/file /etc/file; true")
    text = stage(plant, '(run (network host) (shell "echo > /etc/hosts; echo > /dev/null; true"))')
    refusal = None
    try:
        house.build(text)
    except ObuildError as error:
        refusal = error
    assert untouched(outside)
    if refusal:
        assert any(words in str(refusal) for words in ("image", "can not mount at"))


def test_looking_into_a_failed_tree_that_sets_traps(house: House, outside: Path) -> None:
    plant = f"rm -rf /etc /dev /proc 2>/dev/null; ln -s {outside} /etc; mkdir -p {outside}; exit 1"
    with pytest.raises(StepFailed):
        house.build(stage(sh(plant)))
    done = house.run("shell", "--failed", "--", "/bin/sh", "-c", "echo x > /etc/hosts; echo > /etc/file; echo in")
    assert done.stdout.endswith("in\n") or done.returncode == 4
    assert untouched(outside)


# Full disks.


@pytest.fixture
def small(house: House) -> House:
    """A house whose store is on a file system of 12 MB."""
    kernel.private_mounts()
    path = house.folder / "small"
    path.mkdir()
    kernel.mount_tmpfs(str(path), size=12 << 20)
    house.store = f"overlay:{path}/store"
    yield house  # type: ignore[misc]
    assert soon(lambda: not house.residue())
    kernel.unmount(str(path), detach=True)


def test_a_full_disk(small: House) -> None:
    small.build(stage(sh("echo before > /before")))
    with pytest.raises(ObuildError, match=r"no space left|failed with exit status 1"):
        small.build(stage(sh("echo before > /before"), sh("yes > /big")))
    assert small.open().failed() == []  # it would leave no room for the next build
    assert small.open().fsck() == []
    after, _ = small.build(stage(sh("echo before > /before"), sh("echo after > /after")))
    assert small.read(after, "/before", "/after") == "before\nafter\n"


def test_a_disk_that_the_log_fills(small: House) -> None:
    with pytest.raises(StoreError, match="no space left on the disk") as error:
        small.build(stage(sh("yes")))
    assert error.value.hint.startswith("make room")
    assert small.open().fsck() == []
    layer, _ = small.build(stage(sh("echo whole")))
    assert Path(layer.log).read_text() == "whole\n"


def test_a_disk_that_a_base_or_a_copy_fills(small: House) -> None:
    (small.context / "big").write_bytes(os.urandom(20 << 20))
    with pytest.raises(ObuildError, match=r"[Nn]o space left"):
        small.build(stage("(copy (src big) (dst /big))"))
    assert small.open().fsck() == []
    layer, _ = small.build(stage(sh("echo whole")))
    (small.folder / "base").mkdir()
    (small.folder / "base/big").write_bytes(os.urandom(20 << 20))
    with pytest.raises(ObuildError, match=r"[Nn]o space left"):
        small.build("((from c))", images={"c": f"dir:{small.folder}/base"})
    assert small.open().get(layer.id)


def test_a_disk_with_no_room_at_all_from_the_start(small: House) -> None:
    layer, _ = small.build(stage(sh("echo whole")))
    filler = small.store.partition(":")[2] + "/filler"
    with open(filler, "wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass
    done = small.run("build", "-f", small.file(stage(sh("echo whole"), sh("echo more > /more"))))
    assert done.returncode in (1, 4)
    assert "no space left" in done.stderr.lower()
    assert "Traceback" not in done.stderr
    hit = small.run("build", "-f", small.file(stage(sh("echo whole"))))
    assert hit.stdout.endswith(f'Got: "{layer.id}"\n')  # what is there can still be had
    os.unlink(filler)


# Many at once.


def test_a_layer_that_the_kernel_has_not_let_go_of_yet(house: House) -> None:
    """The mounts of a dead container, and of a killed obuild, are taken down a little after their last process."""
    layer, _ = house.build(stage(sh("echo 1 > /one")))
    busy, work = str(house.folder / "busy"), str(house.folder / "work")
    os.mkdir(busy)
    os.mkdir(work)
    kernel.private_mounts()
    kernel.mount_overlay(busy, house.open().lowers(layer.parents), layer.fs, work)

    def let_go() -> None:
        kernel.private_mounts()
        time.sleep(0.2)
        kernel.unmount(busy)

    thread = threading.Thread(target=let_go)
    thread.start()
    second, _ = house.build(stage(sh("echo 1 > /one"), sh("echo 2 > /two")))
    thread.join()
    assert house.read(second, "/one", "/two") == "1\n2\n"


def test_pruning_while_others_build(house: House) -> None:
    """A build may have to make a step again, but never fails, and its result is whole."""
    text = [stage(*[sh(f"echo {number} >> /log{n}") for number in range(4)]) for n in range(3)]
    over = time.monotonic() + 6
    builds = [house.start(text[n]) for n in range(3)]
    count = 0
    while time.monotonic() < over:
        house.open().prune(max_count=0)
        for n, process in enumerate(builds):
            if process.poll() is not None:
                _, err = process.communicate()
                assert process.returncode == 0, err.decode()
                count += 1
                builds[n] = house.start(text[n])
    for process in builds:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err.decode()
    layer, _ = house.build(text[0])
    assert house.read(layer, "/log0") == "0\n1\n2\n3\n"
    assert count > 3


# kill -9.

CHAIN = 3


def recipe(number: int) -> str:
    """A spec with nested builds, a cache, a secret, a network, copies and limits, that shares its beginning."""
    shared = sh("mkdir /made; for i in 1 2 3 4 5; do echo $i > /made/$i; done; echo shared")
    own = [sh(f"echo {number}.{step} > /made/own{step}; sleep 0.0{step}") for step in range(CHAIN)]
    nested = stage(shared, sh(f"echo nested {number} > /nested; sleep 987693 &"))
    special = (
        f"(run (cache (shared (target /cache))) (secrets (key (target /run/key))) (network lab)"
        f' (shell "cp /run/key /made/length{number}; wc -c < /run/key > /made/length{number}; touch /cache/{number}"))'
    )
    copies = ["(copy (from (build n)) (src nested) (dst /made/))", "(copy (src .) (dst /made/context/))"]
    return stage(shared, own[0], special, *copies, *own[1:], builds=f"(build n {nested})")


def test_what_kill_9_leaves_is_removed_when_the_store_is_opened(house: House, mark: str) -> None:
    """Also by a command that runs nothing: a build of which all is cached, or a listing."""
    (house.folder / "key").write_text("a very secret value")
    text = stage(
        sh("echo before"),
        f'(run (network lab) (secrets (key (target /run/key))) (shell "echo up; sleep {mark}"))',
    )
    path = Path(house.store.partition(":")[2])
    with house.start(text, "--secret", f"key:{house.folder}/key", "--memory", "100M") as build:
        try:
            assert build.stdout
            assert any(line == b"up\n" for line in build.stdout)
            (bundle,) = [found for found in (path / "run").iterdir() if found.name != "networks"]
            assert (path / "run/networks" / bundle.name).exists()
            assert list(Path("/sys/fs/cgroup").glob(f"*/{bundle.name}"))
        finally:
            build.kill()
    assert gone(mark)
    assert (bundle / "container").exists()
    assert house.run("ls").returncode == 0
    assert not bundle.exists()
    assert list(Path("/sys/fs/cgroup").glob(f"*/{bundle.name}")) == []
    assert house.residue() == []


def contents(house: House) -> dict[str, dict[str, Any]]:
    """Of every finished layer, all its files."""
    store, found = house.open(), {}
    for layer in store.layers():
        with store.view(layer) as tree:
            files = {}
            for path in Path(tree).rglob("*"):
                info = path.lstat()
                text = path.read_bytes() if path.is_file() and not path.is_symlink() else None
                files[str(path.relative_to(tree))] = (info.st_mode, info.st_uid, text)
        found[layer.id] = {"files": files, "log": Path(layer.log).read_bytes()}
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kill_9_at_200_random_moments(tmp_path: Path, tiny_base: Path, can_mount: None) -> None:
    """Three processes build at once, again and again; what they leave is whole, and nothing else is left."""
    chance = random.Random(20240229)
    (tmp_path / "key").write_text("a very secret value")
    houses = [House(tmp_path / name, tiny_base) for name in ("reference", "killed")]
    words = ["--secret", f"key:{tmp_path}/key", "--pids", "40", "-j3"]
    for house in houses:
        for name in "abc":
            (house.context / name).write_text(name * 1000)
    reference, killed = houses
    texts = [recipe(number) for number in range(3)]
    for text in texts:
        assert reference.run("build", *words, "-f", reference.file(text)).returncode == 0
    expected = contents(reference)

    running: list[subprocess.Popen[bytes]] = []
    kills = rounds = 0
    while kills < 200:
        while len(running) < 3:
            running.append(killed.start(chance.choice(texts), *words))
        time.sleep(chance.expovariate(1 / 0.08))
        victim = running.pop(chance.randrange(3))
        ended = victim.poll()
        assert ended in (None, 0), victim.communicate()[1].decode()
        victim.kill()
        victim.communicate()
        kills += ended is None
        rounds += 1
        if rounds % 8 == 0:  # what is finished would soon be everything
            killed.open().prune(max_count=chance.randrange(8))
        assert rounds < 2000
    for process in running:
        process.kill()
        process.communicate()

    assert gone("987693")
    assert soon(lambda: not users(killed.store.partition(":")[2]))
    killed.open()  # the next start removes what is left
    assert killed.residue() == []
    assert killed.run("build", *words, "-f", killed.file(texts[0])).returncode == 0
    assert killed.residue() == []
    found = contents(killed)
    assert found
    for layer, content in found.items():
        assert content == expected[layer]
    assert killed.open().fsck() == []
    secret = subprocess.run(["grep", "-rl", "a very secret value", killed.store.partition(":")[2]], capture_output=True)
    assert secret.stdout == b""
    for text in texts:
        assert killed.run("build", *words, "-f", killed.file(text)).returncode == 0
    assert contents(killed) == expected
