"""The interpreter beside buildah, Docker and the bare machine: steps, cached builds, long chains, copies, failures.

python -m benchmarks interpreter [NAME ...]
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.measure import Row, Table, run, turns
from benchmarks.peer import BASE, Peer, peers, rootfs

__all__ = ["main"]

OBUILD = str(Path(sys.executable).with_name("obuild"))
nonces = iter(range(10**9))


def nonce() -> str:
    """A word that no build has seen."""
    return f"{os.getpid()}-{next(nonces)}"


class Bench:
    """A store, a context directory and the peers."""

    def __init__(self, folder: str, others: list[Peer]) -> None:
        self.folder, self.others = folder, others
        self.store = f"overlay:{folder}/store"
        self.context = f"{folder}/context"
        os.makedirs(self.context)

    def spec(self, ops: list[str], name: str = "spec") -> str:
        """A spec file of operations on the base."""
        path = f"{self.folder}/{name}"
        Path(path).write_text(f"((from tar:{rootfs()})\n (shell /bin/sh -c)\n" + "\n".join(ops) + ")\n")
        return path

    def obuild(self, ops: list[str], *, status: int = 0, name: str = "spec", context: str = "") -> float:
        """Seconds that obuild takes for operations on the base."""
        argv = [OBUILD, "build", "--store", self.store, "-f", self.spec(ops, name), context or self.context]
        return run(argv, status=status)

    def peer(self, peer: Peer, lines: list[str], *, status: int = 0, context: str = "") -> float:
        """Seconds that another builder takes for Dockerfile lines on the base."""
        context = context or self.context
        Path(f"{context}/Dockerfile").write_text(f"FROM {BASE}\n" + "\n".join(lines) + "\n")
        return peer.build(context, status=status)

    def bare(self) -> Callable[[], float]:
        """One step without obuild: an overlay mounted and unmounted by system call, crun from start to exit in it.

        The container has the configuration that obuild gives it.
        """
        from obuild import kernel
        from obuild.sandbox import Process, open_sandbox

        folder = f"{self.folder}/bare"
        for name in ("lower", "root", "state"):
            os.makedirs(f"{folder}/{name}")
        subprocess.run(["tar", "-xf", rootfs(), "-C", f"{folder}/lower"], check=True)
        self._bundle(folder, open_sandbox, Process)
        kernel.private_mounts()

        def step() -> float:
            for name in ("upper", "work"):
                shutil.rmtree(f"{folder}/{name}", ignore_errors=True)
                os.mkdir(f"{folder}/{name}")
            start = time.perf_counter()
            kernel.mount_overlay(f"{folder}/root", [f"{folder}/lower"], f"{folder}/upper", f"{folder}/work")
            argv = ["crun", "--root", f"{folder}/state", "--cgroup-manager=disabled", "run"]
            done = subprocess.run(
                [*argv, "--bundle", f"{folder}/bundle", nonce()],
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
            )
            kernel.unmount(f"{folder}/root")
            seconds = time.perf_counter() - start
            if done.returncode:
                raise SystemExit(done.stderr.decode())
            return seconds

        return step

    def _bundle(self, folder: str, open_sandbox: Callable[..., Any], process: Callable[..., Any]) -> None:
        """The bundle that obuild's sandbox makes for a trivial step, caught while the step runs."""

        def catch(_: bytes) -> None:
            source = next(Path(f"{folder}/state").glob("*/config.json"))
            shutil.copytree(source.parent, f"{folder}/bundle", ignore=shutil.ignore_patterns("run", "log", "pid"))

        sandbox = open_sandbox("crun", state=f"{folder}/state")
        shutil.copytree(f"{folder}/lower", f"{folder}/plain", symlinks=True, ignore=lambda *_: ["dev"])
        os.mkdir(f"{folder}/plain/dev")
        sandbox.run(process(("/bin/sh", "-c", "echo caught; sleep 0.2")), f"{folder}/plain", catch)
        path = Path(f"{folder}/bundle/config.json")
        config = json.loads(path.read_text())
        config["root"]["path"] = f"{folder}/root"
        config["process"]["args"][-1] = "true"
        for mount in config["mounts"]:
            if str(mount.get("source", "")).startswith(f"{folder}/state"):
                mount["source"] = f"{folder}/bundle/{Path(mount['source']).name}"
        path.write_text(json.dumps(config))


def steps(bench: Bench) -> None:
    """Cold steps, and the same builds when all is cached."""

    def obuild(count: int) -> Callable[[], float]:
        return lambda: bench.obuild([f"(run (shell 'true {nonce()}'))".replace("'", '"') for _ in range(count)])

    def other(peer: Peer, count: int) -> Callable[[], float]:
        return lambda: bench.peer(peer, [f"RUN true {nonce()}" for _ in range(count)])

    variants: dict[str, Callable[[], float]] = {"bare crun and overlay": bench.bare()}
    for count in (1, 21):
        variants[f"obuild {count}"] = obuild(count)
        variants |= {f"{peer.name} {count}": other(peer, count) for peer in bench.others}
    rows = turns(7, variants)
    bare = rows["bare crun and overlay"]
    table = Table("what one cold step costs: a build of 21 less a build of one, divided by 20")
    table.add(bare)
    for name in ["obuild", *[peer.name for peer in bench.others]]:
        pairs = zip(rows[f"{name} 1"].seconds, rows[f"{name} 21"].seconds, strict=True)
        table.add(Row(name, [(many - one) / 20 for one, many in pairs]), bare, "<= 2x" if name == "obuild" else "")


def cached(bench: Bench) -> None:
    """A fully cached 20-step build beside `python -c pass`."""
    ops = [f'(run (shell "true {nonce()}"))' for _ in range(20)]
    lines = [f"RUN true {nonce()}" for _ in range(20)]
    variants: dict[str, Callable[[], float]] = {
        "python -c pass": lambda: run([sys.executable, "-c", "pass"]),
        "obuild": lambda: bench.obuild(ops),
    }
    variants |= {peer.name: (lambda peer=peer: bench.peer(peer, lines)) for peer in bench.others}
    rows = turns(15, variants)
    table = Table("20 steps, all cached")
    for row in rows.values():
        table.add(row, rows["python -c pass"], "<= 5x" if row.name == "obuild" else "")


def chain(bench: Bench) -> None:
    """450 steps: what the last ones cost beside the first."""
    ops = [f'(run (shell "echo {nonce()} > /file-{number}"))' for number in range(450)]
    argv = [OBUILD, "build", "--progress", "json", "--store", bench.store, "-f", bench.spec(ops), bench.context]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    seconds = [event["seconds"] for event in events if event["event"] == "step" and event["op"] == "run"]
    first, last = Row("steps 1 to 50", seconds[:50]), Row("steps 401 to 450", seconds[-50:])
    table = Table("a chain of 450 steps")
    table.add(first)
    table.add(Row("steps 201 to 250", seconds[200:250]), first)
    table.add(last, first, "<= 1.5x")


def small_files(folder: str) -> None:
    """5,000 files of 30 MB in all."""
    for number in range(5000):
        path = Path(f"{folder}/dir{number // 100}/file{number}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(6000))


def copies(bench: Bench) -> None:
    """A copy of 5,000 small files, and of one file of 500 MB, cold and unchanged."""
    context = f"{bench.folder}/small"
    small_files(f"{context}/tree")
    _copies(bench, context, "5,000 small files", lambda: small_change(f"{context}/tree"))
    context = f"{bench.folder}/large"
    os.makedirs(f"{context}/tree")
    with open(f"{context}/tree/file", "wb") as file:
        for _ in range(477):
            file.write(os.urandom(1 << 20))
    _copies(bench, context, "a 500 MB file", lambda: large_change(f"{context}/tree/file"))


def small_change(folder: str) -> None:
    """Every file anew, as after a checkout."""
    shutil.rmtree(folder)
    small_files(folder)
    time.sleep(0.1)


def large_change(path: str) -> None:
    """Another content, all of it in the page cache."""
    with open(path, "r+b") as file:
        file.write(os.urandom(4096))
    time.sleep(0.1)


def _copies(bench: Bench, context: str, what: str, change: Callable[[], None]) -> None:
    """Both sides remove what they made the last time: a virtual machine is slow to get memory that it never had."""
    from obuild.store import open_store

    def cp() -> float:
        shutil.rmtree(f"{bench.folder}/cp", ignore_errors=True)
        return run(["cp", "-a", f"{context}/tree", f"{bench.folder}/cp"])

    def cold() -> float:
        open_store(bench.store).prune(max_count=1)
        change()
        return bench.obuild(["(copy (src tree) (dst /copied))"], context=context)

    def again() -> float:
        return bench.obuild(["(copy (src tree) (dst /copied))"], context=context)

    variants: dict[str, Callable[[], float]] = {
        "start-up (base alone, cached)": lambda: bench.obuild([]),
        "obuild, cold": cold,
        "cp -a": cp,
        "obuild, unchanged": again,
    }
    for peer in bench.others:
        variants[f"{peer.name}, unchanged"] = lambda peer=peer: bench.peer(peer, ["COPY tree /copied"], context=context)
    rows = turns(5, variants)
    table = Table(f"copy of {what}")
    table.add(rows["obuild, cold"], rows["cp -a"], "<= 1.5x")
    start = rows["start-up (base alone, cached)"]
    for name in list(variants)[2:]:
        table.add(rows[name], start, "<= 30 ms more" if name == "obuild, unchanged" else "")
    table.add(start)


def failing(bench: Bench) -> None:
    """A failing step tried again behind a cached prefix."""
    prefix = f'(run (shell "true {nonce()}"))'
    variants: dict[str, Callable[[], float]] = {
        "start-up (base alone, cached)": lambda: bench.obuild([]),
        "one cold step": lambda: bench.obuild([prefix, f'(run (shell "true {nonce()}"))']),
        "failing step, again": lambda: bench.obuild([prefix, '(run (shell "false"))'], status=1),
    }
    for peer in bench.others:
        lines = [f"RUN true {nonce()}", "RUN false"]
        variants[peer.name] = lambda peer=peer, lines=lines: _any_failure(bench, peer, lines)
    rows = turns(7, variants)
    table = Table("a failing step, tried again")
    for row in rows.values():
        table.add(row, rows["one cold step"])


def _any_failure(bench: Bench, peer: Peer, lines: list[str]) -> float:
    start = time.perf_counter()
    try:
        bench.peer(peer, lines)
    except SystemExit:
        return time.perf_counter() - start
    raise SystemExit(f"{peer.name} did not fail")


def deleting(bench: Bench) -> None:
    """Deleting a chain of 20 steps."""
    from obuild.store import open_store

    row = Row("delete a 20-step chain")
    for _ in range(5):
        first = nonce()
        bench.obuild([f'(run (shell "true {first} > /f{number}"))' for number in range(20)])
        store = open_store(bench.store)
        layers = sorted(store.layers(), key=lambda layer: layer.meta()["created"])[-20:]
        start = time.perf_counter()
        store.delete(layers[0].id, children=True)
        row.seconds.append(time.perf_counter() - start)
    Table("deleting").add(row, bar="<= 50 ms")


def sharing(bench: Bench) -> None:
    """Eight builds with one prefix, at once, as processes and beside one build."""

    def ops(prefix: str, last: str) -> list[str]:
        shared = [f'(run (shell "sleep 0.2; true {prefix}-{number}"))' for number in range(5)]
        return [*shared, f'(run (shell "sleep 1; true {last}"))']

    def many(count: int) -> Callable[[], float]:
        def go() -> float:
            prefix, start = nonce(), time.perf_counter()
            lists = [ops(prefix, nonce()) for _ in range(count)]
            threads = [
                threading.Thread(target=bench.obuild, args=(item,), kwargs={"name": f"spec{number}"})
                for number, item in enumerate(lists)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return time.perf_counter() - start

        return go

    rows = turns(3, {"one build": many(1), "two processes": many(2), "eight processes": many(8)})
    table = Table("builds that share a prefix of five steps")
    for row in rows.values():
        table.add(row, rows["one build"], "<= 1.2x" if row.name != "one build" else "")


ALL = {f.__name__: f for f in (cached, steps, failing, copies, chain, deleting, sharing)}


def main(names: list[str]) -> None:
    """Run the benchmarks named, or all."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder, peers() as others:
        bench = Bench(folder, others)
        bench.obuild([])
        for name in names or ALL:
            ALL[name](bench)
