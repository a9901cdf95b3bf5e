"""Platforms: built from recipes, asked what they are, found again under their keys."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import needs, refused
from house import PROGRAM, House, Log
from machine_opam import MachineOpam, write_repository

from obuild.build import Builder
from obuild.errors import FetchError, ObuildError, SandboxError, StepFailed, StoreError, UsageError
from obuild.opam.platform import Platform
from obuild.platform import Base, delete_platform, list_platforms, open_platform
from obuild.platform.base import format_base, parse_base
from obuild.platform.make import build_platform
from obuild.platform.probe import MARK, SCRIPT, Found, parse_answers
from obuild.platform.recipe import Recipe, find_recipe, list_recipes, suite_of

DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\nVERSION_ID="13"\nVERSION_CODENAME=trixie\n'


def answers(**given: str) -> Found:
    """What is found when the questions are answered so."""
    found = {"machine": "x86_64", "bits": "64", "os_release": DEBIAN, **given}
    return parse_answers("".join(f"\n{MARK}{name.replace('_', '-')}\n{text}\n" for name, text in found.items()))


# What the answers mean.


def test_a_debian() -> None:
    dpkg = "ii |libc6|libc6-2.41\nii |mawk|awk\nrc |gone|\nii |libgmp-dev|libgmp3-dev, libgmp10-dev (= 2:6)\nun |never|"
    found = answers(dpkg=dpkg)
    assert found.platform == Platform("debian", "13", "x86_64", "debian", "13")
    assert found.platform.key == "debian-13-x86_64"
    assert found.name == "Debian GNU/Linux 13 (trixie)"
    names = {"libc6", "libc6-2.41", "mawk", "awk", "libgmp-dev", "libgmp3-dev", "libgmp10-dev"}
    assert found.packages == names


@pytest.mark.parametrize(
    ("os_release", "machine", "key", "family"),
    [
        ("ID=alpine\nVERSION_ID=3.22.1\n", "x86_64", "alpine-3.22.1-x86_64", "alpine"),
        ("ID=fedora\nVERSION_ID=42\n", "aarch64", "fedora-42-arm64", "fedora"),
        ('ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\n', "riscv64", "ubuntu-24.04-riscv64", "debian"),
        ('ID="almalinux"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.6"\n', "x86_64", "almalinux-9.6-x86_64", "rhel"),
        ("ID=debian\nVERSION_CODENAME=forky\n", "x86_64", "debian-forky-x86_64", "debian"),
        (
            'ID="opensuse-leap"\nID_LIKE="suse opensuse"\nVERSION_ID="16.0"\n',
            "x86_64",
            "opensuse-leap-16.0-x86_64",
            "suse",
        ),
    ],
)
def test_distributions(os_release: str, machine: str, key: str, family: str) -> None:
    found = answers(os_release=os_release, machine=machine)
    assert (found.platform.key, found.variables["os-family"]) == (key, family)


@pytest.mark.parametrize(("machine", "arch"), [("x86_64", "x86_32"), ("aarch64", "arm32"), ("i686", "x86_32")])
def test_a_system_of_32_bits(machine: str, arch: str) -> None:
    assert answers(machine=machine, bits="32").platform.arch == arch


def test_packages_of_other_families() -> None:
    assert answers(apk="WARNING: x\nmusl\nbusybox").packages >= {"musl", "busybox"}
    assert answers(rpm="glibc\nbash").packages == {"glibc", "bash"}
    assert answers(pacman="glibc\nbash").packages == {"glibc", "bash"}


CONFIG = "version: 5.3.0\nccomp_type: cc\narchitecture: amd64\nsystem: linux\nos_type: Unix\nc_compiler: gcc: x"


def test_an_ocaml_of_the_system() -> None:
    found = answers(ocaml_version="5.3.0", ocaml_config=CONFIG).variables
    assert {name: text for name, text in found.items() if name.startswith("sys-ocaml")} == {
        "sys-ocaml-version": "5.3.0",
        "sys-ocaml-arch": "x86_64",
        "sys-ocaml-cc": "cc",
        "sys-ocaml-libc": "libc",
        "sys-ocaml-system": "linux",
    }


def test_no_ocaml_of_the_system() -> None:
    found = answers().variables
    assert "sys-ocaml-version" not in found
    assert {found[f"sys-ocaml-{name}"] for name in ("arch", "cc", "libc", "system")} == {""}


@needs("sh")
def test_opam_finds_the_same_on_this_machine(tmp_path: Path) -> None:
    if shutil.which("opam") is None:
        pytest.skip("not installed: opam")
    write_repository(tmp_path / "repository", {})
    opam = MachineOpam(tmp_path, tmp_path / "repository")
    done = subprocess.run(["sh", "-c", SCRIPT], capture_output=True, text=True, errors="replace")
    ours = parse_answers(done.stdout).variables
    for line in opam.run("var", "--global").splitlines():
        name, _, rest = line.partition(" ")
        if name in ours:
            assert rest.partition("#")[0].strip() == ours[name], name
    unknown = (
        "not found" in opam.run("var", "--global", "sys-ocaml-version", check=False) or shutil.which("ocamlc") is None
    )
    assert unknown == ("sys-ocaml-version" not in ours)


@needs("dpkg-query", "sh")
def test_the_system_packages_of_this_machine() -> None:
    done = subprocess.run(["sh", "-c", SCRIPT], capture_output=True, text=True, errors="replace")
    line = ["dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package}\n"]
    rows = [row.split() for row in subprocess.run(line, capture_output=True, text=True).stdout.splitlines()]
    assert parse_answers(done.stdout).packages >= {row[1] for row in rows if row[0] == "ii"}


# Recipes.


def test_recipes_are_found_by_name_key_and_file(tmp_path: Path) -> None:
    names = [recipe.name for recipe in list_recipes()]
    assert {"debian-12", "debian-13", "ubuntu-22.04", "ubuntu-24.04", "alpine-3.22", "fedora-42"} <= set(names)
    assert find_recipe("debian-13") == find_recipe("debian-13-x86_64")
    assert find_recipe("ubuntu-24.04").spec().base == "ubuntu:24.04"
    assert find_recipe(f"{tmp_path}/my.spec") == Recipe("my", f"{tmp_path}/my.spec")
    with refused(UsageError, 'no recipe for a platform "debian-14"'):
        find_recipe("debian-14")
    with refused(UsageError, f'can not read "{tmp_path}/my.spec": no such file or directory'):
        find_recipe(f"{tmp_path}/my.spec").spec()


def test_what_can_be_made_from_packages() -> None:
    assert suite_of("debian:13") == "debootstrap:trixie"
    assert suite_of("ubuntu:24.04") == "debootstrap:noble?components=main,universe"
    with refused(UsageError, '"fedora:42" can not be made from packages'):
        suite_of("fedora:42")


# Building.

SETUP = (
    "for name in uname getconf; do ln -s busybox /bin/$name; done; "
    "printf '#!/bin/sh\\necho 5.3.0\\n' >/bin/ocamlc; chmod +x /bin/ocamlc; "
    "printf 'ID=%s\\nVERSION_ID=%s\\n' toy 1.2 >/etc/os-release"
)


def recipe(house: House, *ops: str, setup: str = SETUP, name: str = "toy") -> Recipe:
    """A recipe on the tiny base."""
    path = house.folder / f"{name}.spec"
    setup = setup.replace("\\", "\\\\")
    path.write_text(f'((from b) (shell /bin/sh -c) (run (shell "{setup}")) {" ".join(ops)})')
    return Recipe(name, str(path))


@pytest.fixture
def builder(house: House) -> Builder:
    return house.builder()


KEY = f"toy-1.2-{os.uname().machine}"


def test_a_platform_is_built_and_found_again(house: House, builder: Builder) -> None:
    log = Log()
    made = build_platform(builder, recipe(house, "(env A b)", "(workdir /w)", "(env A c)", "(env D e)"), reporter=log)
    assert made.key == KEY
    assert made.variables["os-distribution"] == "toy"
    assert made.variables["sys-ocaml-version"] == "5.3.0"
    assert made.env[:2] == (("D", "e"), ("A", "c"))
    assert dict(made.env)["PATH"]
    store = house.open()
    assert open_platform(store, KEY) == open_platform(store, "toy-1.2") == open_platform(store, "toy-1") == made
    assert list_platforms(store) == [made]
    link = f"{store.path}/{KEY}/base"
    assert os.readlink(link) == f"../steps/{made.id}"
    assert os.path.exists(f"{link}/layer.json")
    assert parse_base(json.loads(json.dumps(format_base(made)))) == made
    assert (made.recipe, made.image) == ("toy", f"dir:{house.base}")


def test_building_again_does_nothing(house: House, builder: Builder) -> None:
    first = build_platform(builder, recipe(house))
    description = Path(f"{house.open().path}/{KEY}/platform.json")
    before = description.stat().st_mtime_ns
    log = Log()

    def none() -> Any:
        raise AssertionError("nothing is run")

    assert build_platform(house.builder(none), recipe(house), reporter=log) == first
    assert log.cached("run") == [True]
    assert description.stat().st_mtime_ns == before


def test_a_changed_recipe_replaces_the_base(house: House, builder: Builder) -> None:
    first = build_platform(builder, recipe(house))
    second = build_platform(builder, recipe(house, '(run (shell "echo x >/x"))'))
    assert second.id != first.id
    store = house.open()
    assert open_platform(store, KEY) == second
    assert os.listdir(f"{store.path}/{KEY}") in (["base", "platform.json"], ["platform.json", "base"])
    assert build_platform(builder, recipe(house)) == open_platform(store, KEY)
    assert open_platform(store, KEY).id == first.id
    assert build_platform(builder, recipe(house, "(env NEW x)")).env != first.env


def test_asking_leaves_nothing_behind_and_takes_one_container(house: House, builder: Builder) -> None:
    runs: list[tuple[str, ...]] = []
    sandbox = builder.sandbox()

    class Counting:
        def run(self, process: Any, *args: Any, **given: Any) -> int:
            runs.append(process.argv)
            return sandbox.run(process, *args, **given)

    made = build_platform(house.builder(Counting), recipe(house))  # type: ignore[arg-type, return-value]
    assert [argv[-1] == SCRIPT for argv in runs] == [False, True]
    assert house.open().get(made.id)


@pytest.mark.parametrize(
    ("os_release", "called"),
    [
        ("ID=../../etc\\nVERSION_ID=1\\n", f"../../etc-1-{os.uname().machine}"),
        ("", f"linux-unknown-{os.uname().machine}"),
    ],
)
def test_an_image_that_calls_itself_something_odd(house: House, builder: Builder, os_release: str, called: str) -> None:
    setup = f"ln -s busybox /bin/uname; printf '{os_release}' >/etc/os-release"
    if os_release:
        with refused(ObuildError, f'the base can not be a platform: it calls itself "{called}"'):
            build_platform(builder, recipe(house, setup=setup))
        assert list_platforms(house.open()) == []
    else:
        assert build_platform(builder, recipe(house, setup=setup)).key == called


def test_an_image_without_a_shell(house: House, builder: Builder) -> None:
    setup = "ln -s busybox /bin/uname; rm /bin/sh"
    with pytest.raises((SandboxError, ObuildError)):
        build_platform(builder, recipe(house, setup=setup))
    assert list_platforms(house.open()) == []


def test_a_recipe_that_fails(house: House, builder: Builder) -> None:
    with pytest.raises(StepFailed):
        build_platform(builder, recipe(house, setup="false"))
    assert list_platforms(house.open()) == []


def test_no_platform_of_a_platform(house: House, builder: Builder) -> None:
    build_platform(builder, recipe(house))
    path = house.folder / "more.spec"
    path.write_text(f'((from {KEY}) (shell /bin/sh -c) (run (shell "true")))')
    with refused(UsageError, f'{path}:1:1: a platform can not be made from the platform "{KEY}"'):
        build_platform(builder, Recipe("more", str(path)))


def test_a_platform_that_is_deleted(house: House, builder: Builder) -> None:
    made = build_platform(builder, recipe(house))
    store = house.open()
    with pytest.raises(StoreError) as error:
        store.delete(made.id)
    assert error.value.hint == f"obuild platform delete {KEY}"
    assert delete_platform(store, "toy-1.2") == KEY
    assert list_platforms(store) == []
    with refused(UsageError, 'the platform "toy-1.2" has not been built'):
        delete_platform(store, "toy-1.2")
    assert made.id in store.delete(made.id)
    build_platform(builder, recipe(house))
    assert open_platform(store, KEY).id == made.id


# What is not there, or not whole.


def test_a_platform_that_was_not_built(house: House, builder: Builder) -> None:
    with pytest.raises(UsageError) as error:
        open_platform(house.open(), "debian-13-x86_64")
    assert str(error.value) == 'the platform "debian-13-x86_64" has not been built'
    assert error.value.hint == "obuild platform build debian-13"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 0}', "nonsense"])
def test_a_damaged_description(house: House, builder: Builder, text: str) -> None:
    made = build_platform(builder, recipe(house))
    store = house.open()
    Path(f"{store.path}/{KEY}/platform.json").write_text(text)
    with pytest.raises(StoreError) as error:
        open_platform(store, KEY)
    assert "platform.json" in str(error.value)
    assert error.value.hint == "obuild platform build toy-1.2"
    assert list_platforms(store) == []
    assert build_platform(builder, recipe(house)).id == made.id
    assert open_platform(store, KEY).id == made.id


def test_a_link_and_a_description_that_do_not_belong_together(house: House, builder: Builder) -> None:
    build_platform(builder, recipe(house))
    store = house.open()
    os.unlink(f"{store.path}/{KEY}/base")
    os.symlink("../steps/0123", f"{store.path}/{KEY}/base")
    with pytest.raises(StoreError, match="it describes another base"):
        open_platform(store, KEY)


# The command.


@pytest.fixture
def run(house: House) -> Callable[..., tuple[str, str]]:
    """Runs the program; its output and its errors."""

    def run(*words: str, status: int = 0) -> tuple[str, str]:
        line = [str(PROGRAM), "platform", *words, "--store", house.store]
        done = subprocess.run(line, capture_output=True, text=True, timeout=120)
        assert done.returncode == status, (done.stdout, done.stderr)
        return done.stdout, done.stderr

    return run


def test_the_command(house: House, run: Any) -> None:
    path = recipe(house, "(env A b)").path
    image = ("--image", f"b=dir:{house.base}")
    out, _ = run("build", path, *image)
    assert out.splitlines()[-1] == KEY
    facts = json.loads(run("build", path, *image, "--json")[0])
    assert (facts["key"], facts["path"]) == (KEY, f"{house.open().path}/{KEY}")
    out, err = run("list")
    assert out.split()[:2] == [KEY, facts["id"][:12]]
    assert "OCaml 5.3.0" in out
    assert "debian-13" in err
    listed = json.loads(run("list", "--json")[0])
    assert listed["platforms"] == [facts]
    assert "fedora-42" in listed["recipes"]
    assert json.loads(run("show", "toy-1.2", "--json")[0]) == facts
    shown = dict(line.split(None, 1) for line in run("show", KEY)[0].splitlines() if len(line.split()) > 1)
    assert (shown["key"], shown["sys-ocaml-version"], shown["$A"]) == (KEY, "5.3.0", "b")
    assert run("delete", KEY)[0] == f"{KEY}\n"
    assert json.loads(run("list", "--json")[0])["platforms"] == []
    assert run("show", "nothing", status=2)[1].startswith('obuild: the platform "nothing" has not been built')


def test_two_ways_to_say_where_the_base_comes_from(run: Any) -> None:
    _, err = run("build", "debian-13", "--debootstrap", "--image", "debian:13=tar:x", status=2)
    assert "--debootstrap and --image both say where the base comes from" in err
    _, err = run("build", "fedora-42", "--debootstrap", status=2)
    assert '"fedora:42" can not be made from packages' in err


def test_without_a_registry_the_other_way_is_named(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise FetchError("no network")

    monkeypatch.setattr("obuild.fetch.docker.DockerFetcher.key", fail)
    with pytest.raises(FetchError) as error:
        build_platform(house.builder(images={}), find_recipe("debian-13"))
    assert error.value.hint == "without a registry: obuild platform build debian-13 --debootstrap"
    with pytest.raises(FetchError) as error:
        build_platform(house.builder(images={}), find_recipe("fedora-42"))
    assert error.value.hint == "to take it from elsewhere: --image fedora:42=SOURCE, such as tar:FILE or oci:PATH"


@pytest.mark.slow
def test_a_real_debian(rootfs: Path, house: House) -> None:
    made = build_platform(house.builder(images={"debian:12": f"dir:{rootfs}"}), find_recipe("debian-12"))
    assert made.key == f"debian-12-{os.uname().machine}"
    assert {"build-essential", "gcc", "make", "patch", "unzip", "awk"} <= made.packages
    assert dict(made.env)["HOME"] == "/home/opam"
    assert isinstance(made, Base)
