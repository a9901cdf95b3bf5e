"""Real packages of the opam repository, for real: the same verdicts, trees and build-ids as Debian's own opam."""

from __future__ import annotations

import json
import os
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from real import BAD, KEY, PACKAGES, PREFIX, Real, tree

from obuild.disk import Lock
from obuild.store import open_store

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="session")
def real(shared_data: Path, can_mount: None, tmp_path_factory: pytest.TempPathFactory) -> Real:
    """All packages built by both, once for all processes that run tests."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "real"
    made = Real(folder, shared_data)
    with Lock.make(f"{folder}.lock"):
        if not (folder / "done").exists():
            folder.mkdir()
            made.prepare()
            _both(made)
            (folder / "done").touch()
    return made


def _both(made: Real) -> None:
    """Build with both at once, each one package after the other."""
    said: dict[str, str] = {}
    thread = Thread(target=lambda: said.update(step=made.opam()))
    thread.start()
    done = made.check(*made.packages, "--jobs", "1", "--json", made.folder / "found")
    thread.join()
    (made.folder / "status").write_text(f"{done.returncode}\n{done.stdout}{done.stderr}")
    (made.folder / "step").write_text(said["step"])


@pytest.fixture(scope="session")
def layers(real: Real) -> dict[str, str]:
    """The layers of packages by name.version."""
    found = {}
    for layer in open_store(real.store).layers():
        if layer.id.startswith(f"{KEY}/"):
            found[str(layer.meta().get("package"))] = layer.id
    return found


@pytest.fixture
def reference(real: Real, tmp_path: Path) -> Any:
    """The home directory that opam has worked in."""
    store = open_store(real.store)
    with store.view(store.layer((real.folder / "step").read_text())) as root:
        yield Path(root, "home/opam")


def test_the_verdicts(real: Real) -> None:
    found = {name: json.loads((real.folder / "found" / f"{name}.json").read_text()) for name in real.packages}
    said = (real.folder / "status").read_text()
    good = {name for name, record in found.items() if record["status"] == "success"}
    assert good == set(PACKAGES), said
    assert said.startswith("1\n")


def test_opam_comes_to_the_same(reference: Path, layers: dict[str, str]) -> None:
    kept = {path.name for path in (reference / ".opam/default/.opam-switch/packages").iterdir()} - {"cache"}
    assert {name for name in kept ^ set(layers) if not name.startswith("base-")} == set()
    assert len(layers) >= 20
    log = (reference / "opam.log").read_text()
    assert all(f"ERROR while compiling {name}" in log for name in BAD)


def test_the_trees(real: Real, reference: Path, layers: dict[str, str]) -> None:
    """Nothing more, nothing less: the layers together are what opam has made of its switch."""
    store = open_store(real.store)
    whole = tree(reference / ".opam/default")
    seen: dict[str, tuple[object, ...]] = {}
    for package, layer in layers.items():
        own = tree(Path(store.layer(layer).fs + PREFIX))
        differing = {path: (found, whole.get(path)) for path, found in own.items() if found != whole.get(path)}
        assert differing == {}, package
        seen |= own
    more = {path for path in whole.keys() - seen.keys() if whole[path] != ("drwxr-xr-x",)}
    assert {path for path in more if "/base-" not in path} == set()  # what `ocaml` wants beside it, nobody builds on


def test_the_build_ids(reference: Path, layers: dict[str, str]) -> None:
    lines = (reference / "build-ids").read_text().splitlines()
    said = dict(line.split() for line in lines)
    ours = {package.partition(".")[0]: layer.partition("/")[2] for package, layer in layers.items()}
    assert {name: id_ for name, id_ in said.items() if name in ours} == ours


def test_opam_accepts_the_assembled_environment(real: Real, layers: dict[str, str]) -> None:
    """It believes the switch that is made of layers, and can go on in it."""
    stack = "".join(
        [f"(copy (from (package {p} {layer.partition('/')[2]})) (src /) (dst /))\n" for p, layer in layers.items()]
    )
    ask = (
        "opam list --installed --short --columns=package; echo ---; opam var zarith:build-id; opam var ocaml:native;"
        " opam exec -- ocamlfind query zarith;"
        " for r in repository overlay; do opam repository add $r /home/opam/$r --kind=local --yes >&2; done;"
        " opam install --fake --yes ocplib-endian >&2; echo ---; opam list --installed --short ocplib-endian"
    )
    text = f"""((from {KEY}) (shell /bin/sh -ec) (user (uid 1000) (gid 1000)) {stack}
      (env HOME /home/opam) (env OPAMNODEPEXTS 1) (env OPAMCOLOR never) (workdir /home/opam)
      (copy (from (opam switch)) (src .) (dst {PREFIX})) (copy (src repository overlay) (dst /home/opam/))
      (run (shell "{ask}")))"""
    done = real.build("assembled.spec", text)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    lines = done.stdout.splitlines()
    first, second = [number for number, line in enumerate(lines) if line == "---"]
    listed = set(layers)
    assert listed <= set(lines[:first])
    build_id = layers["zarith.1.12"].partition("/")[2]
    assert lines[first + 1 : second][:3] == [build_id, "true", f"{PREFIX}/lib/zarith"]
    assert "ocplib-endian" in lines[second:]


def test_all_is_found_again(real: Real) -> None:
    done = real.check(*PACKAGES)
    assert done.returncode == 0
    assert f"{len(PACKAGES)} packages: {len(PACKAGES)} ok ({len(PACKAGES)} found)" in done.stdout
