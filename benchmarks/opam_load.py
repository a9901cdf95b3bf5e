"""Loading an opam repository beside opam: for the first time, again, after a day's commits, and one package of it.

    python -m benchmarks opam_load REPOSITORY [ROUNDS]

REPOSITORY is a bare git repository. The last table reads every file with the fast reader and by the grammar, and ends
with an error if they ever differ.
"""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.measure import Row, Table, run, turns
from obuild.opam.grammar import parse_located
from obuild.opam.lexer import blank
from obuild.opam.package import Package
from obuild.opam.reader import read
from obuild.opam.repo import Repository, open_repository

__all__ = ["main"]

LOAD = """
import sys
from obuild.opam.repo import open_repository
open_repository(*sys.argv[1:3]).load()
"""
LIST = LOAD.replace("load()", "packages()")
FIELDS = LOAD.replace(
    ".load()",
    '.derive("bench-1", lambda file: (file.depends, file.depopts, file.conflicts, file.available, file.flags))',
)
ONE = """
import sys
from obuild.opam.package import parse_package
from obuild.opam.repo import open_repository
open_repository(*sys.argv[1:3]).opam(parse_package(sys.argv[3])).depends
"""
FIRST, AGAIN, AFTER = "first load", "later load", "load after a commit"


def main(words: list[str]) -> None:
    """Print the tables."""
    if not words:
        print("opam_load: name a bare git repository of opam packages")
        return
    place, rounds = words[0], int(words[1]) if len(words) > 1 else 5
    with tempfile.TemporaryDirectory() as folder:
        rows = turns(rounds, ours(place, folder) | theirs(place, folder))
    repository = open_repository(place, "")
    table = Table(f"{sum(map(len, repository.packages().values()))} packages, each row a new process")
    bars = {FIRST: "8 s", AGAIN: "0.6 s", AFTER: "0.8 s", "one package": "0.15 s", "fields of all": "0.3 s"}
    opam = rows.get("opam list, nothing kept"), rows.get("opam list, its state kept")
    for name, row in rows.items():
        beside = None if name.startswith("opam") else opam[0] if "first" in name else opam[1]
        table.add(row, beside, bars.get(name, ""))
    readers(repository)


def ours(place: str, folder: str) -> dict[str, Callable[[], float]]:
    """What obuild does, every time from a new process."""
    kept, old, package = f"{folder}/kept", f"{folder}/old", newest(place)
    for code in (LOAD, FIELDS):
        run([sys.executable, "-c", code, place, kept])
    before = earlier(place)
    run([sys.executable, "-c", LOAD, f"{place}@{before}", old])

    def python(code: str, cache: str, *arguments: str) -> Callable[[], float]:
        return lambda: run([sys.executable, "-c", code, place, cache, *arguments])

    def first(code: str, *arguments: str) -> Callable[[], float]:
        def measure() -> float:
            shutil.rmtree(f"{folder}/first", ignore_errors=True)
            return run([sys.executable, "-c", code, place, f"{folder}/first", *arguments])

        return measure

    def after() -> float:
        shutil.rmtree(f"{folder}/after", ignore_errors=True)
        shutil.copytree(old, f"{folder}/after")
        return run([sys.executable, "-c", LOAD, place, f"{folder}/after"])

    return {
        "python -c pass": lambda: run([sys.executable, "-c", "pass"]),
        FIRST: first(LOAD),
        AGAIN: python(LOAD, kept),
        AFTER: after,
        "fields of all": python(FIELDS, kept),
        "names and versions": python(LIST, kept),
        "one package": python(ONE, kept, package),
        "one package, first": first(ONE, package),
    }


def theirs(place: str, folder: str) -> dict[str, Callable[[], float]]:
    """The same of opam, where it is installed, and the blobs as git hands them out."""
    names = subprocess.run(["git", "-C", place, "ls-tree", "-r", "HEAD", "packages"], check=True, capture_output=True)
    blobs = b"\n".join([line.split()[2] for line in names.stdout.splitlines() if line.endswith(b"/opam")])
    Path(f"{folder}/blobs").write_bytes(blobs + b"\n")
    found = {
        "git cat-file": lambda: run(
            ["sh", "-c", f"git -C {place} cat-file --batch --buffer <{folder}/blobs >{folder}/out"]
        )
    }
    if not shutil.which("opam"):
        return found
    tree, root = f"{folder}/tree", f"{folder}/root"
    os.makedirs(tree)
    archive = subprocess.run(["git", "-C", place, "archive", "HEAD"], check=True, capture_output=True)
    subprocess.run(["tar", "x", "-C", tree], input=archive.stdout, check=True)
    environment = {**os.environ, "HOME": folder, "OPAMROOT": root, "OPAMYES": "1", "OPAMROOTISOK": "1"}
    run(["opam", "init", "--bare", "--disable-sandboxing", "--no-setup", "--kind=local", "all", tree], env=environment)
    listing = ["opam", "list", "--all", "--short", "--safe"]
    state = next(Path(root, "repo").glob("state*.cache"))

    def uncached() -> float:
        state.rename(f"{folder}/state")
        seconds = run(listing, env=environment)
        Path(f"{folder}/state").rename(state)
        return seconds

    return found | {
        "opam list, nothing kept": uncached,
        "opam list, its state kept": lambda: run(listing, env=environment),
    }


def newest(place: str) -> str:
    """A package in the middle of the repository."""
    packages = open_repository(place, "").packages()
    name = sorted(packages)[len(packages) // 2]
    return f"{name}.{packages[name][-1]}"


def earlier(place: str) -> str:
    """The newest commit that at least 50 packages of the head are different from."""

    def git(*words: str) -> list[str]:
        return subprocess.run(["git", "-C", place, *words], check=True, capture_output=True, text=True).stdout.split()

    commits = git("log", "--format=%H")
    for commit in commits:
        if sum(path.endswith("/opam") for path in git("diff", "--name-only", commit, "HEAD")) >= 50:
            return commit
    return commits[-1]


def readers(repository: Repository) -> None:
    """Every file by the fast reader and by the grammar, which must agree."""
    names = [Package(name, version) for name, versions in repository.packages().items() for version in versions]
    texts = [blank(repository.text(package).decode("latin-1")) for package in names]
    gc.disable()
    rows, found = [], []
    for name, way in (("fast reader", read), ("grammar, by lark", parse_located)):
        start = time.perf_counter()
        found.append([way(text) for text in texts])
        rows.append(Row(name, [time.perf_counter() - start]))
    gc.enable()
    table = Table(f"{len(texts)} texts, one process")
    for row in rows:
        table.add(row, rows[0] if row is not rows[0] else None)
    different = [str(package) for package, one, other in zip(names, *found, strict=True) if one != other]
    if different:
        raise SystemExit(f"the reader and the grammar differ on {', '.join(different)}")
