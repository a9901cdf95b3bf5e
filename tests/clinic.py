"""A platform of one busybox, a repository written by the test; the installed program checks it, or tracks it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from conftest import soon
from house import PROGRAM, House

from obuild import kernel
from obuild.platform.make import build_platform
from obuild.platform.recipe import Recipe
from obuild.runs.run import Node, Run, list_runs

SETUP = (
    "for name in uname getconf patch; do ln -s busybox /bin/$name; done; "
    "mkdir -p /home/opam; chown 1000:1000 /home/opam; "
)


class Clinic:
    """Packages are given by name.version and what their opam file says besides the version of the format."""

    def __init__(self, house: House, release: str = "ID=toy\\\\nVERSION_ID=1\\\\n") -> None:
        self.house = house
        self.repo = house.folder / "repository"
        (self.repo / "packages").mkdir(parents=True)
        (self.repo / "repo").write_text('opam-version: "2.0"\n')
        recipe = self.house.folder / "toy.spec"
        commands = f"{SETUP} printf '{release}' >/etc/os-release"
        recipe.write_text(
            f'((from b) (shell /bin/sh -c) (run (shell "{commands}")) (env PATH /bin) (env HOME /home/opam))'
        )
        self.key = build_platform(self.house.builder(), Recipe("toy", str(recipe))).key

    def write(self, **packages: str) -> None:
        """Write definitions; `a__1` stands for `a.1`, "" removes one."""
        for name, text in packages.items():
            package = name.replace("__", ".").replace("_", "-")
            folder = self.repo / "packages" / package.partition(".")[0] / package
            folder.mkdir(parents=True, exist_ok=True)
            if text:
                (folder / "opam").write_text(f'opam-version: "2.0"\n{text}\n')
            else:
                (folder / "opam").unlink()
                folder.rmdir()

    def words(self, *words: str | Path) -> list[str]:
        line = [PROGRAM, "health-check", "--store", self.house.store, "--repo", self.repo, "--platform", self.key]
        return [str(word) for word in (*line, "--cache", self.house.folder / "cache", *words)]

    def check(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.words(*words), capture_output=True, text=True, timeout=120)

    def start(self, *words: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(self.words(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    @property
    def root(self) -> str:
        """Where the runs are."""
        return f"{self.house.folder}/store/runs"

    def runs(self) -> list[Run]:
        return list_runs(self.root)

    def nodes(self) -> dict[str, Node]:
        """What the last run says of each package."""
        return {node.outcome.package: node for node in self.runs()[-1].nodes()}

    def built(self) -> Iterator[str]:
        """What was really built, in all runs."""
        for run in self.runs():
            yield from (n.outcome.package for n in run.nodes() if n.outcome.word == "success" and not n.outcome.cached)

    def commit(self, message: str) -> str:
        """Make what the repository has now a commit of git; its id."""
        git = ["git", "-C", str(self.repo), "-c", "user.name=t", "-c", "user.email=t@example.org"]
        if not (self.repo / ".git").exists():
            subprocess.run([*git, "init", "-q"], check=True)
        subprocess.run([*git, "add", "-A"], check=True)
        subprocess.run([*git, "commit", "-q", "-m", message], check=True)
        done = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
        return done.stdout.strip()


class Tracked(Clinic):
    """A clinic whose repository is in git, and a profile of it."""

    def __init__(self, house: House, release: str = "ID=toy\\\\nVERSION_ID=1\\\\n") -> None:
        super().__init__(house, release)
        self.profile = house.folder / "daily.toml"

    def describe(self, text: str = "", **keys: str) -> None:
        """Write the profile: `keys` replace those that every one has, `text` comes after them."""
        known = {
            "repositories": f'["git+file://{self.repo}"]',
            "platforms": f'["{self.key}"]',
            "store": f'"{self.house.store}"',
            "jobs": "2",
        }
        lines = [f"{key.replace('_', '-')} = {item}" for key, item in (known | keys).items()]
        self.profile.write_text("\n".join(lines) + f"\n{text}\n")

    def line(self, *words: str) -> list[str]:
        cache = str(self.house.folder / "cache")
        return [str(PROGRAM), "track", str(self.profile), "--cache", cache, "--progress", "none", *words]

    def track(self, *words: str, status: int = 0, **env: str) -> str:
        """What it prints; it must end with `status`."""
        done = subprocess.run(self.line(*words), capture_output=True, text=True, timeout=120, env={**os.environ, **env})
        assert done.returncode == status, done.stdout + done.stderr
        self.errors = done.stderr
        return done.stdout

    def layers(self) -> set[str]:
        """The keys of the packages that are built."""
        return {name for name in os.listdir(f"{self.house.folder}/store/{self.key}") if len(name) == 64}

    def tell(self, command: str, *words: str) -> str:
        line = [str(PROGRAM), command, "--store", self.house.store, *words]
        return subprocess.run(line, capture_output=True, text=True, timeout=60, check=True).stdout


@contextmanager
def cramped(house: House, megabytes: int) -> Iterator[Clinic]:
    """A clinic whose store is on a file system of so many megabytes."""
    kernel.private_mounts()
    path = house.folder / "small"
    path.mkdir()
    kernel.mount_tmpfs(str(path), size=megabytes << 20)
    house.store = f"overlay:{path}/store"
    yield Clinic(house)
    assert soon(lambda: not house.residue())
    kernel.unmount(str(path), detach=True)


def install(name: str, *, first: str = "true", depends: str = "", extra: str = "") -> str:
    """A package that installs one file, after a command."""
    command = f"{first} && mkdir -p %{{share}}% && echo {name} >%{{share}}%/{name}"
    text = f'install: ["sh" "-c" "{command}"]'
    return text + (f"\ndepends: [{depends}]" if depends else "") + (f"\n{extra}" if extra else "")


def fails(message: str, depends: str = "") -> str:
    """A package that does not build."""
    text = f'build: ["sh" "-c" "echo \'Error: {message}\' >&2; exit 2"]'
    return text + (f"\ndepends: [{depends}]" if depends else "")


def report(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def residue(store: str) -> list[str]:
    """What killed builds have left in a store."""
    return [name for name in os.listdir(f"{store}/tmp") if not name.startswith("gone-")]
