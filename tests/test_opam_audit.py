"""The second reading of the rules: what it objects to."""

from __future__ import annotations

import pytest
from solving import VARIABLES, World, opam_file

from obuild.opam.audit import Terms, audit
from obuild.opam.package import Package, parse_package

TEXTS = {
    "a.1": 'depends: ["b" {>= "2"} "c" | "d" {= "9"}]',
    "b.1": "",
    "b.2": "",
    "c.1": 'conflicts: "b" {> "2"} conflict-class: "k"',
    "d.1": 'conflict-class: "k"',
    "m.1": 'available: os = "macos"',
    "t.1": 'depends: "b" {with-test}',
    "v.1": "flags: avoid-version",
    "x.1": 'conflicts: ["a" & ("b" {with-test} | "c" {< "2"})]',
    "f.1": 'depends: [("b" {os = "macos"} | "d" {dev}) & "c" {= no-such-variable}]',
}


def problems(packages: str, *, texts: dict[str, str] = TEXTS, strict: bool = False, **asked: str) -> list[str]:
    selected = [parse_package(text) for text in packages.split()]
    asked = asked or {selected[0].name: selected[0].version}
    return list(audit(World(texts), selected, Terms(asked, VARIABLES, strict=strict)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("packages", "expected"),
    [
        ("a.1 b.2 c.1", []),
        ("a.1 b.1 c.1", ["a.1 lacks something that it depends on", "b.1 is not needed"]),
        ("a.1 c.1", ["a.1 lacks something that it depends on"]),
        ("a.1 b.2", ["a.1 lacks something that it depends on"]),
        ("a.1 b.2 d.1", ["a.1 lacks something that it depends on", "d.1 is not needed"]),
        ("b.2 b.1", ["a package is there in two versions", "b.2 was asked for"]),
        ("b.2 c.1", ["c.1 is not needed"]),
        ("m.1", ["m.1 is not available"]),
        ("t.1", []),
        ("v.1", []),
        ("f.1 c.1", []),
        ("f.1", ["f.1 lacks something that it depends on"]),
    ],
)
def test_problems(packages: str, expected: list[str]) -> None:
    assert problems(packages) == expected


def test_what_was_asked_for() -> None:
    assert problems("b.2", b="") == []
    assert problems("b.2", b="2-0") == []
    assert problems("b.2", b="1") == ["b.1 was asked for"]
    assert problems("b.2", b="2", c="1") == ["c.1 was asked for"]


def test_conflicts_and_classes() -> None:
    assert problems("c.1 d.1", c="", d="") == ["c.1 and d.1 are both of the conflict class k"]
    assert problems("c.1 x.1", c="", x="") == ["x.1 conflicts with c.1"]
    assert problems("b.2 x.1", b="", x="") == []


def test_packages_to_be_avoided() -> None:
    texts = {"a.1": 'depends: "v"', "v.1": "flags: avoid-version"}
    assert problems("a.1 v.1", texts=texts) == ["all versions of v are to be avoided"]
    assert problems("v.1", texts=texts) == []
    assert problems("v.1", texts=texts, strict=True) == ["all versions of v are to be avoided"]
    assert problems("a.1 v.1", texts={**texts, "v.0": ""}) == []
    assert problems("a.1 v.1", texts={**texts, "v.0": "available: false"}) == ["all versions of v are to be avoided"]


def test_tests_and_pins() -> None:
    world = World({**TEXTS, "p.1": ""})
    pins = {"p": opam_file("p.dev", 'available: os = "macos" depends: ["t" {dev} "b" {!dev}]')}
    terms = Terms({"p": ""}, VARIABLES, tested=frozenset("t"), pins=pins)
    selected = [Package("p", "dev"), Package("t", "1")]
    assert audit(world, selected, terms) == ("t.1 lacks something that it depends on",)  # type: ignore[arg-type]
    assert audit(world, [*selected, Package("b", "2")], terms) == ()  # type: ignore[arg-type]
