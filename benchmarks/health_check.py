"""Health checks of a whole repository: planning it, writing it down, and keeping the processors busy.

    python -m benchmarks health_check REPOSITORY [COMPILER [EARLIER]]

As `opam_solve`: REPOSITORY in git, COMPILER a package of it, EARLIER the same at a commit of the day before. Needs root
and busybox-static: the platform is one busybox that calls itself Debian 13.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

from benchmarks.measure import Row, Table, run
from obuild.build import Builder, Options
from obuild.cancel import Cancel
from obuild.opam.package import parse_package
from obuild.opam.repo import open_repositories
from obuild.plan import meta
from obuild.plan.build import facts
from obuild.plan.record import layer_id
from obuild.platform import open_platform
from obuild.platform.make import build_platform
from obuild.platform.recipe import Recipe
from obuild.runs.batch import run_batch
from obuild.runs.execute import Machine, Share
from obuild.runs.make import Maker
from obuild.runs.merge import Batch, merge
from obuild.runs.outcome import Outcome, Success
from obuild.runs.world import Terms, World
from obuild.sandbox import open_sandbox
from obuild.store import open_store

__all__ = ["main"]

RECIPE = """((from tiny) (shell /bin/sh -c)
 (run (shell "mkdir -p /home/opam; chown 1000:1000 /home/opam"))
 (run (shell "printf 'ID=debian\\\\nVERSION_ID=13\\\\n' >/etc/os-release"))
 (env PATH /bin) (env HOME /home/opam))"""


UNFETCHED = 1
"""The exit status: a few packages of opam-repository have sources without checksums, which offline nobody knows."""

BUSY = 20
"""Packages that compute, for each processor."""


def main(words: list[str]) -> None:
    """Print the tables."""
    if not words or os.geteuid() or not os.path.exists("/bin/busybox"):
        print("health_check: as root, with busybox-static, name an opam repository")
        return
    compiler = words[1] if len(words) > 1 else "ocaml.5.4.1"
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        key = platform(folder)
        line = [sys.executable, "-m", "obuild", "health-check", "--all", "--store", f"overlay:{folder}/store"]
        line += ["--platform", key, "--compiler", compiler, "--offline", "--dry-run", "--cache", f"{folder}/cache"]
        planning(folder, line, words[0], words[2] if len(words) > 2 else "", key, compiler)
        recording(folder, words[0], key, compiler)
        working(folder, key)


def platform(folder: str) -> str:
    """Make a platform of one busybox in a new store; its key."""
    root = f"{folder}/root"
    for name in ("bin", "dev", "etc", "proc", "root", "sys", "tmp"):
        os.makedirs(f"{root}/{name}")
    shutil.copy("/bin/busybox", f"{root}/bin/busybox")
    for name in "sh cat chown env getconf mkdir printf touch true uname".split():
        os.symlink("busybox", f"{root}/bin/{name}")
    with open(f"{folder}/tiny.spec", "w", encoding="utf-8") as file:
        file.write(RECIPE)
    return build_platform(builder(folder), Recipe("tiny", f"{folder}/tiny.spec")).key


def builder(folder: str) -> Builder:
    store = open_store(f"overlay:{folder}/store")
    images = {"tiny": f"dir:{folder}/root"}
    return Builder(store, lambda: open_sandbox("", state=f"{store.path}/run"), Options(images=images, fast_sync=True))


def planning(folder: str, line: list[str], place: str, earlier: str, key: str, compiler: str) -> None:
    """Solving, planning and looking for layers, each in a new process."""
    rows = [(Row("nothing known"), "")]
    rows[0][0].seconds.append(run([*line, "--repo", earlier or place], status=UNFETCHED))
    if earlier:
        rows.append((Row("after what changed since"), ""))
        rows[-1][0].seconds.append(run([*line, "--repo", place], status=UNFETCHED))
    rows.append((Row("nothing changed"), ""))
    rows[-1][0].seconds += [run([*line, "--repo", place], status=UNFETCHED) for _ in range(3)]
    batch = planned(folder, place, key, compiler)
    fill(folder, batch)
    rows.append((Row("nothing changed, all layers there"), ""))
    rows[-1][0].seconds += [run([*line, "--repo", place], status=UNFETCHED) for _ in range(3)]
    table = Table(f"plan of {len(batch.targets)} packages, {len(batch.jobs)} layers")
    for row, bar in rows:
        table.add(row, bar=bar)


def planned(folder: str, place: str, key: str, compiler: str) -> Batch:
    """The batch of everything."""
    base = open_platform(open_store(f"overlay:{folder}/store"), key)
    terms = Terms(compilers=(parse_package(compiler),))
    world = World(open_repositories([place], f"{folder}/cache"), base, terms, cache=f"{folder}/cache")
    requests = world.everything(terms.compilers[0], all_versions=False)
    answers = world.answers(requests, terms.compilers[0], processes=1)
    return merge([world.case(answer, terms.compilers[0]) for answer in answers])


def fill(folder: str, batch: Batch) -> None:
    """Put layers that have nothing in them into the store."""
    for job in batch.jobs.values():
        name = layer_id(job.build, job.plan)
        os.makedirs(f"{folder}/store/{name}")
        record = {"id": name, "parents": [job.plan.base.id], **meta(job.build, job.plan), **facts(job.build, job.plan)}
        with open(f"{folder}/store/{name}/layer.json", "w", encoding="utf-8") as file:
            json.dump(record, file)


class Instant(Maker):
    """Everything is built at once."""

    def __call__(self, key: str, share: Share, cancel: Cancel) -> Outcome:
        return Success(self._batch.graph.builds[key].package, key, seconds=1.0)


def recording(folder: str, place: str, key: str, compiler: str) -> None:
    """All that is done for a package besides building it."""
    batch = planned(folder, place, key, compiler)
    made = builder(folder)
    rows = [Row("nothing there before"), Row("a second run"), Row("all layers there")]
    for number, row in enumerate(rows):
        start = time.perf_counter()
        maker = Instant(batch, made.store, made.sandbox, made.options)
        hits = list(batch.jobs) if number == 2 else ()
        run_batch(
            batch,
            maker,
            Machine(2, 2),
            f"{folder}/runs",
            hits=hits,
            facts={},
            replay=lambda key: f"obuild replay {key}",
        )
        row.seconds.append((time.perf_counter() - start) / len(batch.jobs))
    table = Table(f"book-keeping for each of {len(batch.jobs)} builds")
    for row in rows:
        table.add(row, bar="5 ms")


def working(folder: str, key: str) -> None:
    """Whether as many workers keep all processors busy with builds that need them, while there is work for each."""
    repo, workers = f"{folder}/repository", os.cpu_count() or 1
    for number in range(BUSY * workers):
        busy_package(f"{repo}/packages/p{number}/p{number}.1")
    line = [sys.executable, "-m", "obuild", "health-check", "--all", "--store", f"overlay:{folder}/store"]
    line += ["-j", str(workers), "--platform", key, "--repo", repo, "--cache", f"{folder}/cache", "--progress", "json"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        looks = [Look(process.pid) for event in process.stdout if json.loads(event)["event"] in ("started", "ended")]
    start, end = looks[0], looks[-workers]  # from then on some have nothing to do
    total = (end.time - start.time) * workers
    used, idle = (100 * part / total for part in (end.cpu - start.cpu, end.idle - start.idle))
    print(f"\n{BUSY * workers} packages by {workers} workers: {total / workers:.1f} s, processors busy with them")
    print(f"{used:.0f} % (bar: 90 %), with other things {100 - used - idle:.0f} %, with nothing {idle:.0f} %")


def busy_package(path: str) -> None:
    """A package that computes for about half a second."""
    os.makedirs(path)
    loop = "i=0; while [ $i -lt 250000 ]; do i=$((i+1)); done"
    with open(f"{path}/opam", "w", encoding="utf-8") as file:
        file.write(f'opam-version: "2.0"\nbuild: ["sh" "-c" "{loop}"]\ninstall: ["sh" "-c" "mkdir -p %{{share}}%"]\n')


class Look:
    """The processor seconds that a process and all its descendants that have ended used until now.

    `idle` are those that nobody used: on a machine that does other things too, what is used by neither is what counts.
    """

    def __init__(self, pid: int) -> None:
        self.time = time.perf_counter()
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            used = file.read().rpartition(")")[2].split()[11:15]  # utime stime cutime cstime
        with open("/proc/stat", encoding="utf-8") as file:
            idle = file.readline().split()[4:6]  # idle iowait
        ticks = os.sysconf("SC_CLK_TCK")
        self.cpu, self.idle = sum(map(int, used)) / ticks, sum(map(int, idle)) / ticks
