"""The machine's own opam in a root of its own, to compare with."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from obuild.opam.package import Package

__all__ = ["MachineOpam", "write_repository"]


def write_repository(folder: Path, packages: Mapping[Package, Mapping[str, bytes]]) -> None:
    """Make an opam repository of packages, each given by its files (`opam`, `files/…`)."""
    folder.mkdir(exist_ok=True)
    (folder / "repo").write_text('opam-version: "2.0"\n')
    (folder / "packages").mkdir(exist_ok=True)
    for package, files in packages.items():
        for path, data in files.items():
            file = folder / "packages" / package.name / str(package) / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)


class MachineOpam:
    """An opam with an empty switch called "test" and one repository."""

    def __init__(self, folder: Path, repository: Path, **variables: str) -> None:
        self.folder = folder
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "OPAMROOT": str(folder / "root"),
            "OPAMYES": "1",
            "OPAMROOTISOK": "1",
            "OPAMCOLOR": "never",
            **variables,
        }
        self.run("init", "--bare", "--disable-sandboxing", "--no-setup", "--kind=local", "test", str(repository))
        self.run("switch", "create", "test", "--empty")

    @property
    def version(self) -> str:
        """Such as 2.1.2."""
        return self.run("--version").strip()

    def run(self, *words: str, check: bool = True) -> str:
        """What a command of opam prints."""
        done = subprocess.run(["opam", *words], env=self.environment, capture_output=True, text=True, timeout=250)
        assert not check or done.returncode == 0, (words[0], done.stdout[-2000:], done.stderr[-2000:])
        return done.stdout

    def pretend(self, packages: Iterable[Package]) -> None:
        """Write down that these packages are installed, without asking opam."""
        lines = "\n".join([f'"{package}"' for package in packages])
        state = f'opam-version: "2.0"\ncompiler: []\nroots: []\ninstalled: [\n{lines}\n]\n'
        (self.folder / "root" / "test" / ".opam-switch" / "switch-state").write_text(state)

    def variables(self) -> dict[str, str]:
        """The global variables that have a value."""
        lines = [line.partition("#")[0].split(None, 1) for line in self.run("var", "--global").splitlines()]
        return {words[0]: words[1].strip() for words in lines if len(words) == 2 and words[1].strip()}

    def build_ids(self, packages: Iterable[Package]) -> dict[Package, str | None]:
        """What opam says the build-ids are, None where it has none."""
        asked = list(packages)
        text = "\n".join([f"%{{{package.name}:build-id}}%" for package in asked])
        answers = self.run("config", "expand", text).split("\n")
        return {package: answer or None for package, answer in zip(asked, answers, strict=False)}
