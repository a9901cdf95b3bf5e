"""Platforms: keys, os-release files, opam's variables."""

from __future__ import annotations

import pytest

from obuild.errors import UsageError
from obuild.opam.platform import Platform, parse_os_release, parse_platform, parse_variables, platform_of

TRIXIE = """PRETTY_NAME="Debian GNU/Linux 13 (trixie)"
# a comment
VERSION_ID="13"
ID=debian
"""


def test_a_key_gives_opams_variables() -> None:
    platform = parse_platform("debian-13-x86_64")
    assert platform.key == "debian-13-x86_64"
    assert platform.variables == {
        "arch": "x86_64",
        "os": "linux",
        "os-distribution": "debian",
        "os-family": "debian",
        "os-version": "13",
    }


@pytest.mark.parametrize(
    ("key", "distribution", "family", "version", "arch"),
    [
        ("ubuntu-24.04-arm64", "ubuntu", "debian", "24.04", "arm64"),
        ("alpine-3.20-aarch64", "alpine", "alpine", "3.20", "arm64"),
        ("debian-sid-amd64", "debian", "debian", "unknown", "x86_64"),
        ("opensuse-leap-15.6-x86_64", "opensuse-leap", "suse", "15.6", "x86_64"),
        ("fedora-41-s390x", "fedora", "fedora", "41", "s390x"),
        ("debian-12-i386", "debian", "debian", "12", "x86_32"),
        ("debian-12-ppc64le", "debian", "debian", "12", "ppc64"),
    ],
)
def test_opams_words(key: str, distribution: str, family: str, version: str, arch: str) -> None:
    platform = parse_platform(key)
    found = (platform.distribution, platform.family, platform.version, platform.arch)
    assert found == (distribution, family, version, arch)
    assert parse_platform(platform.key) == platform


@pytest.mark.parametrize("key", ["", "debian", "debian-13", "debian-13-", "Debian-13-x86_64", "debian-13-pdp11"])
def test_other_keys_are_refused(key: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_platform(key)
    assert f'"{key}"' in str(caught.value)
    assert caught.value.hint


def test_a_root_file_system_gives_the_same_platform() -> None:
    assert platform_of(TRIXIE, "x86_64") == parse_platform("debian-13-x86_64")
    assert platform_of('ID="ubuntu"\nID_LIKE=debian\nVERSION_ID="24.04"', "aarch64") == parse_platform(
        "ubuntu-24.04-arm64"
    )


def test_a_rolling_release_has_no_version() -> None:
    sid = platform_of("ID=debian\nVERSION_CODENAME=sid\n", "x86_64")
    assert sid == Platform("debian", "sid", "x86_64", "debian", "unknown")
    assert sid.key == "debian-sid-x86_64"
    assert platform_of("", "riscv64").key == "linux-unknown-riscv64"


def test_the_family_is_the_first_word() -> None:
    assert platform_of('ID=rocky\nID_LIKE="rhel centos fedora"\nVERSION_ID=9.4', "x86_64").family == "rhel"


def test_quotes_of_os_release() -> None:
    text = 'A=1\nB=\'two words\'\nC="a \\"quoted\\" \\$word"\nD=\nbroken line\n E=x \n'
    assert parse_os_release(text) == {"A": "1", "B": "two words", "C": 'a "quoted" $word', "D": "", "E": "x"}


def test_variables_of_the_command_line() -> None:
    assert parse_variables(["os-version=13", "sys-ocaml-version=", "x=a=b", "x=c"]) == {
        "os-version": "13",
        "sys-ocaml-version": "",
        "x": "c",
    }


@pytest.mark.parametrize("text", ["os", "=1", "a b=1", "12=3"])
def test_what_sets_no_variable_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=text):
        parse_variables([text])
