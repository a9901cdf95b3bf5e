"""Distributions as opam's images call them, and failures that are known."""

from __future__ import annotations

import pytest
from solving import opam_file

from obuild.opam.platform import parse_platform
from obuild.plan.system import accepts_failure, system_name


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("debian-13-x86_64", "debian-13"),
        ("debian-sid-x86_64", "debian-unstable"),
        ("debian-forky-x86_64", "debian-testing"),
        ("ubuntu-24.04-arm64", "ubuntu-24.04"),
        ("alpine-3.22.1-x86_64", "alpine-3.22"),
        ("fedora-42-x86_64", "fedora-42"),
        ("ol-9.5-x86_64", "oraclelinux-9"),
        ("opensuse-leap-15.6-x86_64", "opensuse-15.6"),
        ("opensuse-tumbleweed-20260101-x86_64", "opensuse-tumbleweed"),
        ("arch-rolling-x86_64", "archlinux"),
        ("rocky-9.4-x86_64", "rocky-9.4"),
    ],
)
def test_names(key: str, name: str) -> None:
    assert system_name(parse_platform(key)) == name


@pytest.mark.parametrize(
    ("field", "accepted"),
    [
        ('x-ci-accept-failures: ["debian-12" "debian-13"]', True),
        ('x-ci-accept-failures: "debian-13"', True),
        ('x-ci-accept-failures: ["debian-12"]', False),
        ('x-ci-accept-failures: ["x86_64"]', True),
        ("x-ci-accept-failures: true", False),
        ('x-ci-accept-failures: os = "linux"', False),
        ("", False),
    ],
)
def test_failures_that_are_known(field: str, accepted: bool) -> None:
    assert accepts_failure(opam_file("a.1", field), parse_platform("debian-13-x86_64")) is accepted
