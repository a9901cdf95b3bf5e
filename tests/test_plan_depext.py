"""System packages: which, and how each distribution installs them."""

from __future__ import annotations

import subprocess

import pytest
from planning import base
from solving import opam_file

from obuild import spec as language
from obuild.errors import OpamError
from obuild.opam.platform import parse_platform
from obuild.plan.depext import depexts, install_step
from obuild.spec import Spec

OLD = '[["debian"] ["old-format"]]'


def found(text: str, key: str = "debian-13-x86_64", present: tuple[str, ...] = ()) -> tuple[str, ...]:
    return depexts([opam_file("a.1", f"depexts: [{text}]")], parse_platform(key).variables.get, present)


def test_each_line_has_its_filter() -> None:
    text = '["b" "a"] {os-family = "debian"} ["c"] {os-distribution = "alpine"} ["d"] {os = "macos"} ["e"]'
    assert found(text) == ("a", "b", "e")
    assert found(text, "ubuntu-24.04-x86_64") == ("a", "b", "e")
    assert found(text, "alpine-3.22-x86_64") == ("c", "e")
    assert found(text, "fedora-42-x86_64") == ("e",)
    assert found('["x"] {os-distribution = "debian" & os-version < "12"}') == ()


def test_what_the_base_has_is_left_out() -> None:
    assert found('["a" "b"]', present=("a",)) == ("b",)


def test_several_packages_come_to_one_list() -> None:
    files = [opam_file("a.1", 'depexts: ["z" "a"]'), opam_file("b.1", 'depexts: ["a" "m"]'), opam_file("c.1", "")]
    assert depexts(files, base().platform.variables.get) == ("a", "m", "z")


def command(key: str, *names: str) -> str:
    return install_step(names or ("x", "y"), parse_platform(key).variables.get, key).shell


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("debian-12-x86_64", "apt install x y"),
        ("ubuntu-24.04-arm64", "apt install x y"),
        ("alpine-3.22-x86_64", "apk --cache-dir /var/cache/apk --no-progress add x y"),
        ("fedora-42-x86_64", "dnf -y --setopt=retries=10 --setopt=keepcache=1 install x y"),
        ("rocky-9-x86_64", "dnf -y --setopt=retries=10 --setopt=keepcache=1 install x y"),
        ("ol-9-x86_64", "dnf -y --setopt=retries=10 --setopt=keepcache=1 install x y"),
        ("centos-7-x86_64", "yum -y --setopt=retries=10 --setopt=keepcache=1 install x y"),
        ("arch-rolling-x86_64", "pacman -Syu --noconfirm --needed --noprogressbar x y"),
        ("opensuse-leap-15.6-x86_64", "zypper --non-interactive install --auto-agree-with-licenses x y"),
        ("opensuse-tumbleweed-20260101-x86_64", "zypper --non-interactive install --auto-agree-with-licenses x y"),
    ],
)
def test_each_distribution_has_its_way(key: str, line: str) -> None:
    assert line in command(key).splitlines()


def test_a_repository_of_packages_comes_first() -> None:
    lines = [line for line in command("rocky-9-x86_64", "a", "epel-release").splitlines() if "install" in line]
    assert [line.split()[-1] for line in lines] == ["epel-release", "a"]


def test_the_first_failure_ends_it() -> None:
    for key in ("debian-13-x86_64", "alpine-3.22-x86_64", "fedora-42-x86_64"):
        text = command(key)
        assert subprocess.run(["sh", "-n", "-c", text]).returncode == 0
        done = subprocess.run(["/bin/sh", "-c", text], env={"PATH": "/nonexistent"}, capture_output=True)
        assert done.returncode == 127


def test_names_are_quoted() -> None:
    assert command("debian-13-x86_64", "a b", "$(id)").splitlines()[-2].endswith("install 'a b' '$(id)'")


def test_a_distribution_without_a_known_way() -> None:
    with pytest.raises(OpamError, match=r'no way to install system packages \(x, y\) on "plan9"'):
        command("plan9-4-x86_64")


def test_what_is_downloaded_is_kept_for_each_platform() -> None:
    step = install_step(["x"], parse_platform("debian-13-x86_64").variables.get, "debian-13-x86_64")
    kept = {cache.target: cache.id for cache in step.cache}
    assert kept == {"/var/cache/apt": "apt-debian-13-x86_64", "/var/lib/apt/lists": "apt-lists-debian-13-x86_64"}
    for key in ("ubuntu-24.04-x86_64", "alpine-3.22-x86_64", "fedora-42-x86_64", "arch-rolling-x86_64"):
        step = install_step(["x"], parse_platform(key).variables.get, key)
        assert step.cache
        assert all(cache.id.endswith(f"-{key}") for cache in step.cache)
        read = language.parse(language.format(Spec(key, (step,))), "s")
        assert read.ops == (step,)
