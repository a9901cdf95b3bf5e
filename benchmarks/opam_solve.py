"""The solver over a whole repository, each time from a new process; and beside opam, one package.

    python -m benchmarks opam_solve REPOSITORY [COMPILER [EARLIER]]

REPOSITORY is an opam repository (git, to have more than its present), COMPILER a package of it (ocaml.5.4.1), EARLIER
the same repository at a commit of the day before: `PATH@COMMIT`. Wall clock and CPU seconds of the same runs; the bars
are for opam-repository on two processors.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from benchmarks.measure import Row, Table, run
from benchmarks.opam_build_id import opam_root

__all__ = ["main"]

PROCESS = """
import json, os, resource, sys
from obuild.opam.package import parse_package
from obuild.opam.platform import parse_platform
from obuild.opam.repo import open_repositories
from obuild.opam.solver import *
place, compiler, cache, what, report, remember = sys.argv[1:]
repository = open_repositories([place], cache)
compiler = parse_package(compiler)
rules = Rules(variable_table(parse_platform("debian-12-x86_64"), compiler), compiler)
solver, reader = open_solver(repository, rules, cache=cache)
requests = everything(solver.universe) if what == "all" else [parse_request(word) for word in what.split(",")]
memory = Memory(cache, rules, fingerprints(repository, solver.universe)) if remember else None
solved = sum(isinstance(answer, Solution) for answer in
             solve_all(solver, requests, memory=memory, report=report, processes=os.cpu_count() or 1))
reader.save()
if memory:
    memory.save()
peak = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
print(json.dumps({"asked": len(requests), "solved": solved, "peak": peak // 1024}))
"""
ROUNDS = 3


class Runs:
    """Processes that solve, with the wall clock and CPU seconds of each kind."""

    def __init__(self, place: str, compiler: str) -> None:
        self.place, self.compiler = place, compiler
        self.answer: dict[str, int] = {}

    def solve(self, cache: str, what: str = "all", *, report: str = "", remember: str = "", place: str = "") -> float:
        """The seconds of one process. The cyclic collector is off: nothing that it could find is made."""
        code = f"import gc; gc.disable()\n{PROCESS}"
        argv = [sys.executable, "-c", code, place or self.place, self.compiler, cache, what, report, remember]
        start = time.perf_counter()
        done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, cwd=os.getcwd())
        seconds = time.perf_counter() - start
        self.answer = json.loads(done.stdout)
        return seconds

    def measure(self, name: str, action: Callable[[], float], rounds: int = ROUNDS) -> tuple[Row, Row]:
        """The rows of an action: wall clock and CPU, of all processes that it starts."""
        wall, cpu = Row(name), Row(f"{name}, CPU")
        for _ in range(rounds):
            before = cpu_seconds()
            wall.seconds.append(action())
            cpu.seconds.append(cpu_seconds() - before)
        return wall, cpu


def cpu_seconds() -> float:
    """CPU seconds of all children that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main(words: list[str]) -> None:
    """Print the tables."""
    if not words:
        print("opam_solve: name an opam repository")
        return
    compiler = words[1] if len(words) > 1 else "ocaml.5.4.1"
    runs = Runs(words[0], compiler)
    with tempfile.TemporaryDirectory() as folder:
        whole(runs, folder)
        again(runs, folder, words[2] if len(words) > 2 else "")
        one(runs, folder)


def whole(runs: Runs, folder: str) -> None:
    """All packages of the repository."""
    cold = runs.measure("nothing cached", lambda: runs.solve(f"{folder}/cache"), rounds=1)
    count, solved = runs.answer["asked"], runs.answer["solved"]
    warm = runs.measure("opam files read before", lambda: runs.solve(f"{folder}/cache"))
    peak = runs.answer["peak"]
    reports = runs.measure("with reports", lambda: runs.solve(f"{folder}/cache", report="0install"))
    table = Table(f"the newest version of {count} packages, {solved} of them solved; at most {peak} MB")
    for rows, bar in ((cold, "15 s"), (warm, "4 s, 250 MB"), (reports, "10 s")):
        table.add(rows[0], warm[0] if rows is not warm else None, bar=bar)
        table.add(rows[1], warm[1] if rows is not warm else None)


def again(runs: Runs, folder: str, earlier: str) -> None:
    """All packages once more, at the same commit, and at the one after some work."""
    cache = f"{folder}/cache"
    if earlier:
        runs.solve(cache, remember="yes", place=earlier)
        later = runs.measure("after what changed since", lambda: runs.solve(cache, remember="yes"), rounds=1)
    else:
        runs.solve(cache, remember="yes")
    same = runs.measure("nothing changed", lambda: runs.solve(cache, remember="yes"))
    table = Table("all of them again")
    for rows, bar in ([(later, "1.5 s")] if earlier else []) + [(same, "")]:
        table.add(rows[0], bar=bar)
        table.add(rows[1])


def one(runs: Runs, folder: str) -> None:
    """One package, beside opam's own solver with its own cache."""
    name = "irmin" if "opam-repository" in runs.place else ""
    if not name:
        return
    cache = f"{folder}/cache"
    ours = runs.measure(f"{name}, a new process", lambda: runs.solve(cache, name), rounds=5)
    rows = [(ours[0], None, "350 ms")]
    if shutil.which("opam"):
        environment = opam_root(runs.place, f"{folder}/opam", [])
        argv = ["opam", "list", "--short", "--columns=package", f"--resolve={name},{runs.compiler}"]
        run(argv, env=environment)
        peer = Row("opam list --resolve", [run(argv, env=environment) for _ in range(5)])
        rows = [(ours[0], peer, "350 ms"), (peer, None, "")]
    table = Table(f"{name} and all that it needs")
    for row, beside, bar in rows:
        table.add(row, beside, bar=bar)
