"""OCaml built from its sources, a compiler that can not be moved: only where OBUILD_TESTS_COMPILER=1 asks for it.

It takes six minutes of two cores. `python -m benchmarks packages compiler` builds the same beside opam.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from real import KEY, PREFIX, Real

from obuild.store import Layer, open_store

REPOSITORY = Path(__file__).with_name("compiler-repository")
COMPILER = "ocaml-compiler.5.3.0"
WHY = f'"{COMPILER}" conflicts with "relocatable"'

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(
        os.environ.get("OBUILD_TESTS_COMPILER") != "1", reason="does not apply without OBUILD_TESTS_COMPILER=1"
    ),
]


class Workshop(Real):
    """A store with the base of the real packages, in which there is a compiler."""

    def prepare(self) -> None:
        """Build it, and a program with it."""
        super().prepare()
        fetch = self._data.parent / "tools" / "fetch-sources"
        words = [sys.executable, fetch, self.folder / "archives", f"overlay:{COMPILER}"]
        done = subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=280)
        if done.returncode:
            pytest.skip(f"the source of OCaml: {done.stderr.strip()}")
        shutil.copytree(REPOSITORY, self.folder / "compilers")
        self.built = self.run("health-check", *self.where, "hello", timeout=1400)

    @property
    def where(self) -> tuple[str | Path, ...]:
        """The options that name the repository and its source."""
        mirror = ("--archive-mirror", self.folder / "archives", "--offline")
        return "--repo", REPOSITORY, "--cache", self.folder / "cache", "--platform", KEY, *mirror

    def layer(self, package: str) -> Layer:
        """The layer of a package."""
        layers = [layer for layer in open_store(self.store).layers() if layer.id.startswith(f"{KEY}/")]
        return next(layer for layer in layers if layer.meta()["package"] == package)

    def plan(self, *words: str) -> dict[str, Any]:
        """What would be built."""
        done = self.run("opam", "spec", *self.where, *words, "--plan", "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found


@pytest.fixture(scope="module")
def workshop(shared_data: Path, can_mount: None, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    made = Workshop(tmp_path_factory.mktemp("compiler"), shared_data)
    made.prepare()
    return made


def test_it_builds_and_compiles(workshop: Workshop) -> None:
    assert workshop.built.returncode == 0, workshop.built.stdout + workshop.built.stderr
    assert "1 package: 1 ok; 2 layers built" in workshop.built.stdout
    here = f"5.3.0{PREFIX}/.opam-switch/build/hello.1\n"
    assert Path(workshop.layer("hello.1").log).read_text().count(here) == 2  # native, and bytecode
    assert workshop.layer("hello.1").parents[-1] == workshop.layer(COMPILER).id


def test_what_is_recorded(workshop: Workshop) -> None:
    meta = workshop.layer(COMPILER).meta()
    assert (meta["relocatable"], meta["relocatable_why"], meta["prefix"]) == (False, WHY, PREFIX)
    assert meta["variant"]["prefix"] == PREFIX
    assert not meta["relocatable_verified"]
    assert "bin/ocaml" in meta["relocations"]["first"]
    assert meta["relocations"]["programs"] > 20
    hello = workshop.layer("hello.1").meta()
    assert (hello["relocatable"], hello["relocatable_why"]) == (False, WHY)
    assert hello["deps"] == [COMPILER]


def test_the_prefix_is_part_of_the_key(workshop: Workshop) -> None:
    plain, other = workshop.plan("hello"), workshop.plan("hello", "--prefix", "/opt/ocaml")
    assert [build["there"] for build in plain["builds"]] == [True, True]
    assert [build["there"] for build in other["builds"]] == [False, False]
    for one, two in zip(plain["builds"], other["builds"], strict=True):
        assert one["key"] == one["build_id"] == two["build_id"]
        assert two["key"].startswith(f"{one['key']}+")


@pytest.mark.parametrize("package", ["hello", COMPILER])
def test_it_is_refused_elsewhere(workshop: Workshop, package: str, tmp_path: Path) -> None:
    done = workshop.run("install", *workshop.where, package, "--prefix", tmp_path / "switch")
    assert done.returncode == 1
    assert f'this can not be installed in "{tmp_path}/switch":\n  {WHY}' in done.stderr
    assert f"hint: they work at the prefix that they are built at: --prefix {PREFIX}" in done.stderr
    assert not (tmp_path / "switch").exists()


def test_opam_believes_it(workshop: Workshop) -> None:
    """In a switch made of the layers opam knows both, by the same build-ids, and has to do nothing for them."""
    stack = "".join(
        f"(copy (from (package {package} {workshop.layer(package).id.partition('/')[2]})) (src /) (dst /))\n"
        for package in (COMPILER, "hello.1")
    )
    ask = (
        "opam list --installed --short --columns=package; opam var ocaml-compiler:build-id; opam var hello:build-id;"
        " opam exec -- hello; opam exec -- ocamlfind list || echo no findlib; opam exec -- ocamlc -where;"
        " opam repository add compilers /home/opam/compilers --kind=local --yes >&2; opam install hello --yes --show"
    )
    text = f"""((from {KEY}) (shell /bin/sh -ec) (user (uid 1000) (gid 1000)) {stack}
      (env HOME /home/opam) (env OPAMNODEPEXTS 1) (env OPAMCOLOR never) (workdir /home/opam)
      (copy (from (opam switch)) (src .) (dst {PREFIX})) (copy (src compilers) (dst /home/opam/))
      (run (shell "{ask}")))"""
    done = workshop.build("assembled.spec", text)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    ids = [workshop.layer(package).id.partition("/")[2] for package in (COMPILER, "hello.1")]
    lines = done.stdout.splitlines()
    first = lines.index("hello.1")
    assert lines[first : first + 5] == ["hello.1", COMPILER, *ids, "5.3.0/home/opam"]
    assert "no findlib" in lines
    assert f"{PREFIX}/lib/ocaml" in lines
    assert any("already installed" in line or "Nothing to do" in line for line in lines)
