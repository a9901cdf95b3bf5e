"""Real packages, built by obuild and by Debian's opam on the same base, with the sources that Debian has of them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import CACHE
from house import PROGRAM

from obuild.disk import Lock

__all__ = ["BAD", "COMPILER", "KEY", "PACKAGES", "PREFIX", "Real", "tree"]

RECIPE = Path(__file__).with_name("debian-13-ocaml.spec")
KEY = f"debian-13-{os.uname().machine}"
PREFIX = "/home/opam/.opam/default"
COMPILER = "ocaml-system.5.3.0"
PACKAGES = (
    "camlidl.1.13",
    "camlzip.1.11",
    "cmdliner.1.0.4",
    "csexp.1.5.2",
    "getopt.20230213",
    "num.1.6",
    "ocaml-expat.1.3.0",
    "ocamlfind.1.9.8",
    "ocamlwc.0.3",
    "re.1.10.4",
    "sexplib0.v0.17.0",
    "zarith.1.12",
)
"""With what they need some thirty: by configure, make, findlib, dune; with stubs in C, with system packages."""
BAD = ("ocamlbuild.0.14.1", "xml-light.2.4")
"""What does not build with this compiler."""
SOURCES = ("dune.3.17.2", *PACKAGES, *BAD)

_OURS = re.compile(
    r"\.opam-switch/(backup|build|environment|lock|sources|switch-config|switch-state)\b|.*/cache\b"
).match
"""What opam keeps of the whole switch."""

OPAM = """((from {key}) (shell /bin/sh -ec)
 (user (uid 1000) (gid 1000)) (env HOME /home/opam) (workdir /home/opam)
 (env OPAMYES 1) (env OPAMNODEPEXTS 1) (env OPAMCOLOR never) (env OPAMJOBS 1)
 (copy (src repository overlay mirror) (dst /home/opam/))
 (run (shell "opam init --bare --no-setup --disable-sandboxing --kind=local default /home/opam/repository
     opam repository add overlay --kind=local --all --set-default /home/opam/overlay
     opam option --global 'archive-mirrors=[\\"file:///home/opam/mirror\\"]'
     opam switch create default --empty"))
 (run (shell "opam install {packages} >opam.log 2>&1 || true
     for name in $(opam list --short); do echo $name $(opam var $name:build-id); done >build-ids")))"""


class Real:
    """A folder with a store that has the base, the repositories, the archives; the two ways to build in it."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self.store, self._data = folder, f"overlay:{folder}/store", data
        self.packages = (*PACKAGES, *BAD)

    def prepare(self) -> None:
        """Make what is made once for this machine, and a store of our own with the base in it."""
        CACHE.mkdir(parents=True, exist_ok=True)
        made = CACHE / f"real-{hashlib.sha256(RECIPE.read_bytes()).hexdigest()[:12]}"
        with Lock.make(str(CACHE / "real.lock")):
            if not made.exists():
                new = made.with_suffix(".new")
                subprocess.run(["rm", "-rf", new], check=True)
                new.mkdir()
                self._make(new)
                new.rename(made)
        subprocess.run(["cp", "-al", *made.iterdir(), self.folder], check=True)
        shutil.copytree(self._data / "overlay", self.folder / "overlay")

    def _make(self, new: Path) -> None:
        tools = self._data.parent / "tools"
        words = [
            PROGRAM,
            "platform",
            "build",
            "--store",
            f"overlay:{new}/store",
            "--image",
            "debian:13=debootstrap:trixie",
            RECIPE,
        ]
        for argv in (
            [sys.executable, tools / "offline-repository", new / "repository"],
            [sys.executable, tools / "fetch-sources", new / "mirror", *self._archives()],
            words,
        ):
            done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, timeout=280)
            if done.returncode:
                pytest.skip(f"the base of the real packages: {done.stderr.strip().splitlines()[-1]}")

    def _archives(self) -> list[str]:
        """What `fetch-sources` calls the sources; those of the overlay have a mark."""
        files = json.loads((self._data / "source-archives.json").read_text())["files"]
        known = {name for file in files for name in file["packages"]}
        return sorted(name for name in known if name.removeprefix("overlay:") in SOURCES)

    def run(self, *words: str | Path, timeout: int = 290) -> subprocess.CompletedProcess[str]:
        """A command of obuild in the store."""
        line = [PROGRAM, *words, "--store", self.store]
        return subprocess.run(list(map(str, line)), capture_output=True, text=True, timeout=timeout)

    def check(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """A health check."""
        repositories = ("--repo", self.folder / "overlay", "--repo", self.folder / "repository")
        where = ("--archive-mirror", self.folder / "mirror", "--offline", "--platform", KEY, "--compiler", COMPILER)
        return self.run("health-check", *repositories, "--cache", self.folder / "cache", *where, *words)

    def opam(self) -> str:
        """The id of a step in which the real opam has installed all packages."""
        text = OPAM.format(key=KEY, packages=" ".join((COMPILER, *self.packages)))
        done = self.build("opam.spec", text)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr
        return done.stdout.split('Got: "')[1].split('"')[0]

    def build(self, name: str, text: str) -> subprocess.CompletedProcess[str]:
        """Build a spec."""
        (self.folder / name).write_text(text)
        return self.run("build", "-f", self.folder / name, self.folder)


def tree(prefix: Path, *, without: tuple[str, ...] = ()) -> dict[str, tuple[object, ...]]:
    """Everything in a prefix that belongs to packages: kinds, modes, links, contents; times in `.changes` are blank."""
    return {path: found for path, found in _tree(prefix) if not _OURS(path) and path not in without}


def _tree(prefix: Path) -> Iterator[tuple[str, tuple[object, ...]]]:
    for folder, folders, files in os.walk(prefix):
        for name in [*folders, *files]:
            path = Path(folder, name)
            info = path.lstat()
            mode = stat.filemode(info.st_mode)
            if path.is_symlink():
                yield str(path.relative_to(prefix)), (mode, os.readlink(path))
            elif path.is_dir():
                yield str(path.relative_to(prefix)), (mode,)
            else:
                yield str(path.relative_to(prefix)), (mode, _contents(path))


def _contents(path: Path) -> str:
    data = path.read_bytes()
    if path.suffix == ".changes":  # the layout depends on how many digits a time has
        data = b" ".join(re.sub(rb"(F:S\d+T)[\d.]*", rb"\1", data).split())
    return hashlib.sha256(data).hexdigest()
