"""Build-ids beside opam: effective hashes of a whole repository, and the ids of a set of packages.

    python -m benchmarks opam_build_id REPOSITORY [COUNT]

REPOSITORY is an opam repository (a directory, or git), COUNT how many packages are taken for installed (200).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from benchmarks.measure import Row, Table, run, turns
from obuild.opam.buildid import Rules, build_ids
from obuild.opam.cache import Cache
from obuild.opam.memory import HashMemory
from obuild.opam.opamfile import OpamFile
from obuild.opam.package import Package
from obuild.opam.repo import Repository, open_repository

__all__ = ["main"]

RULES = Rules(level="2.1", width="bytes", variables={"os": "linux", "arch": "x86_64", "opam-version": "2.1.2"})

PROCESS = """
import json, sys
from obuild.opam.buildid import Rules, build_ids
from obuild.opam.cache import Cache
from obuild.opam.explain import listing
from obuild.opam.memory import HashMemory
from obuild.opam.package import load_packages
from obuild.opam.repo import open_repository
place, cache, installed = sys.argv[1:]
memory = HashMemory(Cache(cache), level="2.1", width="bytes")
found = build_ids(load_packages(installed), open_repository(place, cache).opam, Rules("2.1", "bytes"), hash=memory)
print(json.dumps(listing(found)))
"""


def main(words: list[str]) -> None:
    """Print the tables."""
    if not words:
        print("opam_build_id: name an opam repository")
        return
    place, count = words[0], int(words[1]) if len(words) > 1 else 200
    with tempfile.TemporaryDirectory() as folder:
        cache = f"{folder}/cache"
        repository = open_repository(place, cache)
        everything(repository, cache)
        some(place, repository, folder, count)


def seconds(action: Callable[[], object]) -> float:
    """How long an action takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def everything(repository: Repository, cache: str) -> None:
    """The effective hashes of all packages: worked out, and remembered."""
    items = [
        (Package(name, version), items, repository.blob_id(Package(name, version)))
        for name, versions in repository.load().items()
        for version, items in versions.items()
    ]

    def hashes() -> None:
        memory = HashMemory(Cache(cache), level="2.5", width="scalars")
        for package, file, blob in items:
            memory(OpamFile(package, file, blob=blob))
        memory.save()

    first = Row("worked out, one process", [seconds(hashes)])
    table = Table(f"effective hashes of {len(items)} packages, parsed before")
    table.add(first, bar="30 s")
    table.add(turns(3, {"remembered": lambda: seconds(hashes)})["remembered"], first)


def some(place: str, repository: Repository, folder: str, count: int) -> None:
    """The build-ids of some packages, in this process and in a new one, beside opam's own."""
    newest = [Package(name, versions[-1]) for name, versions in repository.packages().items() if "+" not in name]
    ids = build_ids(newest, repository.opam, RULES).ids
    installed = list(islice((package for package in newest if ids[package]), count))
    Path(f"{folder}/installed").write_text("\n".join(map(str, installed)))
    parsed = {package: repository.opam(package) for package in installed}

    def ours() -> float:
        fresh = {package: OpamFile(package, file.items, blob=file.blob) for package, file in parsed.items()}
        return seconds(lambda: build_ids(installed, fresh.get, RULES))

    argv = [sys.executable, "-c", PROCESS, place, f"{folder}/cache", f"{folder}/installed"]
    variants = {"in this process, nothing kept": ours, "a new process": lambda: run(argv)}
    if shutil.which("opam"):
        environment = opam_root(place, f"{folder}/opam", installed)
        text = " ".join([f"%{{{package.name}:build-id}}%" for package in installed])
        variants["opam"] = lambda: run(["opam", "config", "expand", text], env=environment)
    rows = turns(5, variants)
    table = Table(f"build-ids of {len(installed)} packages")
    for name, row in rows.items():
        table.add(row, rows.get("opam") if name != "opam" else None, bar="100 ms" if "this" in name else "")


def opam_root(place: str, folder: str, installed: list[Package]) -> dict[str, str]:
    """The environment of an opam with this repository, which takes the packages for installed."""
    tree = place
    if not Path(place, "packages").is_dir():
        tree = f"{folder}/repository"
        os.makedirs(tree)
        archive = subprocess.run(["git", "-C", place, "archive", "HEAD"], check=True, capture_output=True)
        subprocess.run(["tar", "x", "-C", tree], input=archive.stdout, check=True)
    os.makedirs(folder, exist_ok=True)
    root = f"{folder}/root"
    environment = {**os.environ, "HOME": folder, "OPAMROOT": root, "OPAMYES": "1", "OPAMROOTISOK": "1"}
    run(["opam", "init", "--bare", "--disable-sandboxing", "--no-setup", "--kind=local", "all", tree], env=environment)
    run(["opam", "switch", "create", "test", "--empty"], env=environment)
    lines = "\n".join([f'"{package}"' for package in installed])
    state = f'opam-version: "2.0"\ncompiler: []\nroots: []\ninstalled: [\n{lines}\n]\n'
    Path(f"{root}/test/.opam-switch/switch-state").write_text(state)
    return environment
