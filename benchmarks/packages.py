"""Packages beside Debian's opam, both on one base in one run: overhead, a real set, what is cached, environments.

    python -m benchmarks packages [overhead|cached|assemble|set|compiler] …

`set` and `compiler` want recordings (OBUILD_SHARED_DATA, or `../shared/data` beside the checkout); the base, a Debian
with OCaml and opam, is made once for the machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.assembly import assemble
from benchmarks.measure import Row, Table, run, turns

__all__ = ["main"]

OBUILD = str(Path(sys.executable).with_name("obuild"))
ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "tests" / "debian-13-ocaml.spec"
CACHE = Path("/var/tmp/obuild-tests")
KEY = f"debian-13-{os.uname().machine}"
COUNT = 60
ROUNDS = 3

COMMANDS = 'build: ["true"]\ninstall: ["sh" "-c" "mkdir -p %{lib}%/NAME && echo x >%{lib}%/NAME/f"]\n'

OPAM = """((from KEY) (shell /bin/sh -ec)
 (user (uid 1000) (gid 1000)) (env HOME /home/opam) (workdir /home/opam)
 (env OPAMYES 1) (env OPAMNODEPEXTS 1) (env OPAMCOLOR never) (env OPAMJOBS JOBS)
 (copy (src FOLDERS) (dst /home/opam/))
 (run (shell "opam init --bare --no-setup --disable-sandboxing --kind=local default /home/opam/repository
     if [ -d overlay ]; then opam repository add overlay --kind=local --all --set-default /home/opam/overlay; fi
     if [ -d mirror ]; then opam option --global 'archive-mirrors=[\\"file:///home/opam/mirror\\"]'; fi
     opam switch create default --empty"))
 (run (shell "date +%s.%N; opam install PACKAGES >log 2>&1 || true; date +%s.%N; grep -c '^-> installed' log || true"))
 NONCE)"""


class Bench:
    """A folder with a store that has the base, for as long as the object."""

    def __init__(self, folder: str) -> None:
        self.folder, self.store, self.platform = Path(folder), "", KEY
        self._count = 0
        made = CACHE / f"bench-{hashlib.sha256(RECIPE.read_bytes()).hexdigest()[:12]}"
        if not made.exists():
            new = made.with_suffix(".new")
            shutil.rmtree(new, ignore_errors=True)
            image = ["--image", "debian:13=debootstrap:trixie", str(RECIPE)]
            run([OBUILD, "platform", "build", "--store", f"overlay:{new}", *image])
            new.rename(made)
        self._made = made
        self.fresh()

    def fresh(self) -> None:
        """A store with the base alone. The one before stays until the end: ext4 is slow after thousands are deleted."""
        self._count += 1
        self.store = f"overlay:{self.folder}/store-{self._count}"
        subprocess.run(["cp", "-al", self._made, self.folder / f"store-{self._count}"], check=True)

    def check(self, *words: str, status: int = 0) -> float:
        """Seconds of a health check."""
        line = [OBUILD, "health-check", "--store", self.store, "--platform", KEY, "--cache", f"{self.folder}/cache"]
        return run([*line, *words], status=status)

    def opam(self, packages: str, *, jobs: int, folders: str = "repository") -> tuple[float, int]:
        """Seconds of `opam install` in a container of the base, and how many packages it has installed."""
        words = {"KEY": KEY, "JOBS": str(jobs), "FOLDERS": folders, "PACKAGES": packages, "NONCE": f"; {time.time()}\n"}
        text = OPAM
        for name, word in words.items():
            text = text.replace(name, word)
        (self.folder / "opam.spec").write_text(text)
        line = [OBUILD, "build", "--store", self.store, "-f", str(self.folder / "opam.spec"), str(self.folder)]
        said = subprocess.run(line, check=True, capture_output=True, text=True).stdout
        first, last = [float(each) for each in re.findall(r"^\d{10}\.\d+$", said, re.M)]
        return last - first, int(re.findall(r"^\d+$", said, re.M)[-1])

    def repository(self, *, chain: bool, count: int = COUNT) -> str:
        """A repository of packages p1, p2, … with trivial commands, each upon the one before or alone."""
        shutil.rmtree(self.folder / "repository", ignore_errors=True)
        (self.folder / "repository").mkdir()
        (self.folder / "repository/repo").write_text('opam-version: "2.0"\n')
        for number in range(1, count + 1):
            name = f"p{number}"
            place = self.folder / "repository/packages" / name / f"{name}.1"
            place.mkdir(parents=True)
            depends = f'depends: "p{number - 1}"\n' if chain and number > 1 else ""
            (place / "opam").write_text('opam-version: "2.0"\n' + depends + COMMANDS.replace("NAME", name))
        return str(self.folder / "repository")


def overhead(bench: Bench) -> None:
    """What a package costs besides its commands, which take 3 ms; opam runs them without any sandbox."""
    table = Table(f"{COUNT} packages with trivial commands, seconds for each package")
    for chain in (False, True):
        repository = bench.repository(chain=chain)
        names = [f"p{COUNT}"] if chain else [f"p{number}" for number in range(1, COUNT + 1)]

        def ours(repository: str = repository, names: list[str] = names) -> float:
            bench.fresh()
            return bench.check("--repo", repository, *names, "--jobs", "1") / COUNT

        def theirs(names: list[str] = names) -> float:
            seconds, installed = bench.opam(" ".join(names), jobs=1)
            assert installed == COUNT
            return seconds / COUNT

        kind = "each upon the one before" if chain else "independent"
        rows = turns(ROUNDS, {f"opam, {kind}": theirs, f"obuild, {kind}": ours})
        opam, own = rows.values()
        table.add(opam)
        table.add(own, opam, "≤ 0.1 s")


def cached(bench: Bench) -> None:
    """A solution of 60 packages of which all is there, from a cold process."""
    repository = bench.repository(chain=True)
    bench.fresh()
    words = ("--repo", repository, f"p{COUNT}")
    bench.check(*words)
    rows = turns(10, {f"checking a cached solution of {COUNT}": lambda: bench.check(*words)})
    table = Table("nothing to do")
    for row in rows.values():
        table.add(row, bar="≤ 0.3 s")


def real_set(bench: Bench) -> None:
    """All packages whose archives there are and whose system packages the base has, with two workers."""
    data = _recordings()
    tools, folder = data.parent / "tools", bench.folder / "set"
    bench.folder = folder
    folder.mkdir()
    run([sys.executable, str(tools / "offline-repository"), f"{folder}/repository"])
    run([sys.executable, str(tools / "fetch-sources"), f"{folder}/mirror"])
    shutil.copytree(data / "overlay", folder / "overlay")
    names = _chosen(data)
    words = [*("--repo", f"{folder}/overlay"), *("--repo", f"{folder}/repository"), "--offline", "--jobs", "2"]
    words += ["--archive-mirror", f"{folder}/mirror", "--compiler", "ocaml-system.5.3.0", *names]
    opam, own = Row("opam install, two jobs"), Row("obuild health-check, two workers")
    seconds, installed = bench.opam(
        " ".join(("ocaml-system.5.3.0", *names)), jobs=2, folders="repository overlay mirror"
    )
    assert installed > len(names), f"opam gave up after {installed} packages"
    opam.seconds.append(seconds)
    own.seconds.append(bench.check(*words))
    table = Table(f"{len(names)} real packages and what they need ({installed} by opam)")
    table.add(opam)
    table.add(own, opam, "less")


def _recordings() -> Path:
    data = Path(os.environ.get("OBUILD_SHARED_DATA") or ROOT.parent / "shared/data")
    if not data.is_dir():
        sys.exit("no recordings of real tools: OBUILD_SHARED_DATA names their directory")
    return data


def _chosen(data: Path) -> list[str]:
    """Packages that build on the base, which is small: no system packages but those of its recipe."""
    wanted = (
        "angstrom base batteries benchmark bigstringaf bitstring calendar camlidl camlp-streams camlzip chrome-trace "
        "cinaps cmdliner cppo csexp cudf dune dune-rpc dune-site dyn extlib fieldslib getopt integers mew num "
        "ocaml-compiler-libs ocaml-expat ocamlfind ocamlwc ocplib-endian octavius ohex ordering ounit2 parmap "
        "parsexp patch pp pprint qcheck qcheck-ounit qtest re sexplib sexplib0 stdio stdune stringext swhid_core trie "
        "xdg zarith"
    ).split()
    names = json.loads((data / "offline-packages.json").read_text())["with_source"]
    return [name for name in wanted if any(name == each.partition(".")[0] for each in names)]


def compiler(bench: Bench) -> None:
    """OCaml from its sources: one package that takes minutes, and 260 MB of layer."""
    fetch = _recordings().parent / "tools" / "fetch-sources"
    package, mirror = "ocaml-compiler.5.3.0", f"{bench.folder}/mirror"
    shutil.copytree(ROOT / "tests" / "compiler-repository", bench.folder / "repository")
    run([sys.executable, str(fetch), mirror, f"overlay:{package}"])
    opam, own = Row("opam install, two jobs"), Row("obuild health-check, two cores")
    seconds, installed = bench.opam(package, jobs=2, folders="repository mirror")
    assert installed == 1
    opam.seconds.append(seconds)
    words = ("--repo", f"{bench.folder}/repository", "--archive-mirror", mirror, "--offline", "--cores", "2", package)
    own.seconds.append(bench.check(*words))
    table = Table("a compiler from its sources")
    table.add(opam)
    table.add(own, opam, "≤ 1.05x")


BENCHES = {"overhead": overhead, "cached": cached, "assemble": assemble, "set": real_set, "compiler": compiler}


def main(words: list[str]) -> None:
    """Run those that are named, or all."""
    for name in words or BENCHES:
        with tempfile.TemporaryDirectory(dir="/var/tmp", ignore_cleanup_errors=True) as folder:
            BENCHES[name](Bench(folder))
