"""What opam does to a switch, done by obuild: compared with the real opam, and against hostile trees."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import time
from pathlib import Path

import pytest
from conftest import needs
from machine_opam import MachineOpam, write_repository
from switches import PACKAGES, Switch, blank_times, definition, listing, recipe

from obuild.errors import ObuildError, UsageError
from obuild.opam.changes import Change, parse_changes
from obuild.opam.package import parse_package
from obuild.opam.state import parse_state
from obuild.opam.variable import FAKE_BUILD_ID


@pytest.fixture
def switch(tmp_path: Path) -> Switch:
    """An empty switch in a tree."""
    made = Switch(tmp_path / "root")
    made.act("switch")
    return made


# Side by side with opam


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> MachineOpam:
    """The real opam with all packages installed one after the other; it has each build directory still."""
    folder = tmp_path_factory.mktemp("opam")
    write_repository(folder / "repository", {parse_package(name): definition(name) for name in PACKAGES})
    opam = MachineOpam(folder, folder / "repository", OPAMNODEPEXTS="1")
    for name in PACKAGES:
        opam.run("install", name)
    return opam


@pytest.fixture(scope="session")
def twin(machine: MachineOpam, tmp_path_factory: pytest.TempPathFactory) -> Switch:
    """A switch of the same path in a tree, with the same packages installed by obuild."""
    made = Switch(tmp_path_factory.mktemp("twin"), str(machine.folder / "root/test"))
    made.act("switch")
    for name in PACKAGES:
        made.run_recipe(name)
    made.act("switch")
    return made


@needs("opam")
def test_the_same_files_as_opam_installs(machine: MachineOpam, twin: Switch) -> None:
    assert listing(twin.place) == listing(machine.folder / "root/test")


@needs("opam")
@pytest.mark.parametrize("kind", ["install", "config"])
def test_the_same_files_as_opam_keeps(machine: MachineOpam, twin: Switch, kind: str) -> None:
    real = machine.folder / "root/test/.opam-switch" / kind
    ours = twin.meta / kind
    assert sorted(os.listdir(ours)) == sorted(os.listdir(real))
    for name in os.listdir(real):
        if not name.endswith(".changes"):
            assert (ours / name).read_bytes() == (real / name).read_bytes(), name


@needs("opam")
@pytest.mark.parametrize("name", PACKAGES)
def test_the_same_changes_as_opam_records(machine: MachineOpam, twin: Switch, name: str) -> None:
    path = f"install/{name.partition('.')[0]}.changes"
    real = (machine.folder / "root/test/.opam-switch" / path).read_bytes().decode("latin-1")
    now = time.time()
    found, expected = [parse_changes(blank_times(text, now=now)) for text in (twin.kept(path), real)]
    if machine.version < "2.2":  # before that, directories made on the way to a file are not recorded
        made = {path for path, change in found.items() if change == Change("added", "D")} - expected.keys()
        assert all(any(each.startswith(path + "/") for each in expected) for path in made)
        found = {path: change for path, change in found.items() if path not in made}
    assert found == expected
    if machine.version >= "2.2":
        assert blank_times(twin.kept(path), now=now) == blank_times(real, now=now)


@needs("opam")
def test_the_same_state_and_environment_as_opam_writes(machine: MachineOpam, twin: Switch) -> None:
    real = machine.folder / "root/test/.opam-switch"
    expected, found = [parse_state((path / "switch-state").read_bytes(), "state") for path in (real, twin.meta)]
    assert found["installed"] == expected["installed"] == found["roots"]
    assert found["compiler"] == (parse_package("base.3"),)
    # opam 2.2 has two columns more where it knows how a path is quoted; it reads the ones without as well
    text = (real / "environment").read_text().replace("\t:\ttarget\t", "\t").replace("\t:\thost\t", "\t")
    assert twin.kept("environment") == text
    assert parse_changes(twin.kept("install/plug.changes"))["bin/opam-plug"].kind == "added"


@needs("opam")
def test_opam_believes_the_switch(machine: MachineOpam, tmp_path: Path) -> None:
    """Moved to where it says it is, as it would be in a container, it is one that opam works with."""
    made = Switch(tmp_path / "tree", f"{tmp_path}/root/default")
    made.act("switch")
    for name in PACKAGES:
        made.run_recipe(name)
    made.act("switch", user=(os.getuid(), os.getgid()))
    os.rename(made.place.parent, tmp_path / "root")
    environment = {**machine.environment, "OPAMROOT": str(tmp_path / "root"), "OPAMSWITCH": ""}

    def opam(*words: str) -> list[str]:
        done = subprocess.run(["opam", *words], env=environment, capture_output=True, text=True, timeout=100)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout.splitlines()

    names = sorted(name.partition(".")[0] for name in PACKAGES)
    assert opam("list", "--installed", "--short") == names
    assert opam("list", "--installed-roots", "--short") == names
    assert opam("var", "dep:l") == ["a b c"]
    assert opam("var", "dep:build-id") == machine.run("var", "dep:build-id").splitlines()
    assert opam("switch", "show") == ["default"]
    assert f"PATH='{tmp_path}/root/default/bin:/two:" in "\n".join(opam("env"))
    assert opam("option", "depext") == ["false"]
    opam("repository", "add", "more", str(machine.folder / "repository"))
    opam("remove", "sections", "script")
    assert not (tmp_path / "root/default/lib/sections/l").exists()
    assert (tmp_path / "root/default/lib/dep/a.h").exists()
    opam("install", "--fake", "sections")
    opam("install", "script")
    assert (tmp_path / "root/default/lib/script/c").exists()
    assert opam("list", "--installed", "--short") == names


# The switch


def test_a_switch_is_what_is_in_its_packages(switch: Switch) -> None:
    for name in ("dep.1.2", "base.3", "plug.1"):
        switch.run_recipe(name)
    (switch.meta / "packages/cache").write_bytes(b"opam's own")
    switch.act("switch", user=(os.getuid(), os.getgid()))
    assert switch.kept("switch-state") == (
        'opam-version: "2.0"\ncompiler: ["base.3"]\nroots: ["base.3" "dep.1.2" "plug.1"]\n'
        'installed: ["base.3" "dep.1.2" "plug.1"]\n'
    )
    assert os.readlink(switch.root / "home/opam/.opam/plugins/bin/opam-plug") == "../../default/bin/opam-plug"
    assert "DEP\t=\t/home/opam/.opam/default/lib/dep\\ true\\ \\ 1.2\tUpdated\\ by\\ package\\ dep\n" in switch.kept(
        "environment"
    )


def test_a_switch_has_the_directories_of_a_new_one(switch: Switch) -> None:
    found = sorted(str(path.relative_to(switch.place)) for path in switch.place.rglob("*") if path.is_dir())
    assert [path for path in found if not path.startswith(".")] == [
        "bin", "doc", "lib", "lib/stublibs", "lib/toplevel", "man", "man/man1", "man/man1M", *[
            f"man/man{number}" for number in (2, 3, 4, 5, 6, 7, 9)
        ], "sbin",
    ]  # fmt: skip
    assert all(stat.S_IMODE(os.stat(switch.place / path).st_mode) == 0o755 for path in found)
    assert switch.kept("switch-state") == 'opam-version: "2.0"\n'
