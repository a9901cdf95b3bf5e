"""What can be chosen, in which order, and what it needs: opam-0install's rules, one by one."""

from __future__ import annotations

import pytest
from solving import World, opam_file

from obuild.opam.package import parse_package
from obuild.opam.platform import parse_platform
from obuild.opam.solver import DEV, Rules, Universe, format_answer, parse_request, variable_table
from obuild.opam.solver.fact import fact_of
from obuild.opam.solver.text import format_formula


def universe(texts: dict[str, str], **rules: object) -> Universe:
    return World(texts).solver(**rules).universe


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, ("1.10", "1.9", "1.9~rc1", "2~avoided", "1.11")),
        ({"prefer_oldest": True}, ("1.9~rc1", "1.9", "1.10", "1.11", "2~avoided")),
    ],
)
def test_order_of_versions(flags: dict[str, bool], expected: tuple[str, ...]) -> None:
    avoid = "flags: [ avoid-version deprecated ]"
    texts = {"a.1.9": "", "a.1.10": "", "a.1.9~rc1": "", "a.2~avoided": avoid, "a.1.11": avoid}
    assert universe(texts, **flags).candidates("a") == expected


def test_deprecated_versions_are_like_others() -> None:
    assert universe({"a.1": "", "a.2": "flags: deprecated"}).candidates("a") == ("2", "1")


@pytest.mark.parametrize(
    ("available", "expected"),
    [
        ('os = "linux"', True),
        ('os != "linux"', False),
        ("true", True),
        ("false", False),
        ("no-such-variable", False),
        ("!no-such-variable", False),
        ('no-such-variable = "x"', False),
        ('os = "linux" | no-such-variable', True),
        ('version = "1"', True),
        ("with-test", False),
        ("!with-test", False),
        ("build", False),
        ('"true"', True),
        ("os", False),
        ('opam-version >= "2.1"', True),
        ("ocaml:native", False),
        ('_:version = "1"', False),
        ("b:installed | !b:installed", False),
    ],
)
def test_availability(available: str, expected: bool) -> None:
    assert bool(universe({"a.1": f"available: {available}"}).candidates("a")) is expected


def test_variables_of_a_platform() -> None:
    table = dict(variable_table(parse_platform("debian-12-x86_64"), parse_package("ocaml.5.4.1"), opam_version="2.4.0"))
    assert table == {
        "arch": "x86_64",
        "ocaml:native": True,
        "ocaml:version": "5.4.1",
        "opam-version": "2.4.0",
        "os": "linux",
        "os-distribution": "debian",
        "os-family": "debian",
        "os-version": "12",
        "sys-ocaml-arch": "",
        "sys-ocaml-cc": "",
        "sys-ocaml-libc": "",
        "sys-ocaml-system": "",
        "sys-ocaml-version": "",
    }


@pytest.mark.parametrize(
    ("depends", "expected"),
    [
        ('"b"', "b"),
        ('"b" {>= "2" & < "3"}', "b >= 2 & < 3"),
        ('"b" {!= "2" | > "3"} "c"', "b <> 2 | > 3 & c"),
        ('"b" {with-test} "c"', "c"),
        ('"b" {build} "c" {post}', "b & c"),
        ('"b" {dev} | "c"', "c"),
        ('"b" {!dev & = version}', "b = 1"),
        ('"b" {= "%{version}%~"}', "b = 1~"),
        ('"b" {= no-such-variable}', "b"),
        ('"b" {no-such-variable} "c"', "c"),
        ('("b" | "c") & ("d" | "e" & "f")', "(b | c) & (d | (e & f))"),
        ('"b" {(>= "1" | < "0") & != "4"}', "b (>= 1 | < 0) & <> 4"),
        ('("b" {os = "macos"} | "c" {os = "win32"}) "d"', "d"),
        ('"b" {!(< "2" & != "1")}', "b >= 2 | = 1"),
    ],
)
def test_dependencies_without_filters(depends: str, expected: str) -> None:
    needed, _ = universe({"a.1": f"depends: [{depends}]"}).needs("a", "1")
    assert format_formula(needed) == expected


def test_all_parts_of_conflicts_are_alternatives() -> None:
    _, conflicts = universe({"a.1": 'conflicts: ["b" & ("c" {< "2"} | "d" {with-test})]'}).needs("a", "1")
    assert format_formula(conflicts) == "b | c < 2"


def test_a_pinned_package_is_available_everywhere_and_under_development() -> None:
    text = 'available: os = "macos"\nflags: avoid-version\ndepends: ["b" {dev} "c" {!dev}]'
    pins = {"a": fact_of(opam_file("a.dev", text))}
    found = Universe({"a": ("1",)}, lambda name, version: None, Rules(()), pins)
    assert found.candidates("a") == (DEV,)
    assert format_formula(found.needs("a", DEV)[0]) == "b"


def test_equal_versions_are_one_to_a_constraint() -> None:
    solver = World({"a.1": 'depends: "b" {= "1"}', "b.1-0": ""}).solver()
    assert format_answer(solver.solve(parse_request("a.1"))) == '{"package":"a.1","solution":["a.1","b.1-0"]}'
    assert format_answer(solver.solve(parse_request("b.1"))) == '{"package":"b.1-0","solution":["b.1-0"]}'
