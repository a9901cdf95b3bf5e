"""Explanations as a maintainer sees them."""

from __future__ import annotations

import pytest
from solving import World

from obuild.opam.package import Package
from obuild.opam.solver import Step, format_explanation, parse_request, shown_explanation


def explained(texts: dict[str, str], request: str, **rules: object) -> list[str]:
    solver = World(texts).solver(**rules)
    return format_explanation(solver.explain(parse_request(request)), "{}/opam".format).splitlines()


def test_the_shortest_of_two_reasons() -> None:
    texts = {
        "a.1": 'depends: ["b" "c" {>= "2"}]',
        "b.1": 'depends: "d"',
        "d.1": 'depends: "e"',
        "e.1": 'depends: "nobody"',
        "c.1": "",
    }
    assert explained(texts, "a.1") == [
        'no solution for "a.1"',
        "  a.1 needs c >= 2, but the only version is 1",
        "      a.1/opam: depends",
    ]


def test_what_is_near_the_request_is_told_first() -> None:
    texts = {
        "ocaml.4": 'depends: ["config" "base" {= "4"} | "system" {= "4"}]',
        "config.1": 'depends: "base" {< "3"}',
        "config.2": 'depends: "base" {>= "5"}',
        "base.2": 'depends: "ocaml" {= "2"}',
        "base.5": 'depends: "ocaml" {= "5"}',
        "a.1": 'depends: "ocaml"',
    }
    assert explained(texts, "a", compiler="ocaml.4") == [
        'no solution for "a" with "ocaml.4"',
        "  ocaml.4 needs base = 4 | system = 4",
        "      ocaml.4/opam: depends",
    ]


def test_a_chain_to_the_compiler() -> None:
    texts = {
        "ocaml.5": "",
        "ocaml.4": "",
        "a.1": 'depends: ["b" {>= "2"} "x"]',
        "x.1": "",
        "b.1": "",
        "b.2": 'depends: "ocaml" {< "5"}',
        "b.3": 'depends: "ocaml" {< "5"}',
    }
    assert explained(texts, "a.1", compiler="ocaml.5") == [
        'no solution for "a.1" with "ocaml.5"',
        "  a.1 needs b >= 2",
        "      a.1/opam: depends",
        "  b.3, b.2 need ocaml < 5",
        "      b.3/opam: depends and 1 more",
    ]


def test_conflicts_and_classes() -> None:
    texts = {"a.1": 'depends: ["b" "c"]', "b.1": 'conflict-class: "k"', "c.1": 'conflict-class: "k"'}
    assert explained(texts, "a") == [
        'no solution for "a"',
        "  a.1 needs b",
        "      a.1/opam: depends",
        "  a.1 needs c",
        "      a.1/opam: depends",
        '  b.1, c.1 are of the conflict class "k"',
        "      b.1/opam: conflict-class and 1 more",
    ]
    assert "  b.1 conflicts with a >= 1" in explained({"a.1": 'depends: "b"', "b.1": 'conflicts: "a" {>= "1"}'}, "a")


def test_why_there_is_nothing_to_choose() -> None:
    texts = {
        "a.1": 'depends: "nobody"',
        "a.2": 'depends: "mac"',
        "a.3": 'depends: "old" {> "4"}',
        "a.4": 'depends: "risky"',
        "mac.1": 'available: os = "macos"',
        "old.1": "",
        "old.2": "",
        "risky.1": "flags: avoid-version",
    }
    notes = [explained(texts, f"a.{version}")[1] for version in range(1, 5)]
    assert notes == [
        "  a.1 needs nobody, but there is no such package",
        "  a.2 needs mac, but no version of it is available on this platform",
        "  a.3 needs old > 4, but the newest version is 2",
        "  a.4 needs risky, but all its versions are to be avoided",
    ]


def test_versions_that_are_not_there_at_all() -> None:
    texts = {"a.1": 'available: os = "macos"'}
    assert explained(texts, "a.1") == ['no solution for "a.1"', '  "a.1": it is not available on this platform']
    texts = {"a.1": "flags: avoid-version", "c.1": texts["a.1"], "b.1": ""}
    found = explained(texts, "a.1", day10=True)
    assert found == ['no solution for "a.1"', '  "a.1": all versions of it are to be avoided']
    assert explained(texts, "b", compiler="c.1") == [
        'no solution for "b" with "c.1"',
        '  "c.1": it is not available on this platform',
    ]


def test_many_versions_that_say_much_the_same() -> None:
    texts = {f"b.{number}": f'depends: "c" {{= "{number}.0"}}' for number in range(1, 9)}
    texts |= {"a.1": 'depends: "b"', "c.1": "", "d.1": "", "d.2": 'depends: "e" {= version}', "e.1": ""}
    assert explained(texts, "a")[3:] == [
        "  b.1 to 8 (8 versions) need c = 8.0, or another version of c like that, but the only version is 1",
        "      b.8/opam: depends and 7 more",
    ]
    assert explained(texts, "d.2")[1] == "  d.2 needs e of the same version, but the only version is 1"


def test_what_only_leads_on_is_told_by_its_ends() -> None:
    """A chain of guards as in the oxcaml repository: each has two forms, and either needs one of the next."""
    texts = {f"{form}{link}.1": f'depends: "g{link + 1}" | "p{link + 1}"' for link in range(1, 8) for form in "gp"}
    texts |= {"g8.1": 'conflicts: "a"', "p8.1": 'depends: "a" {= "2"}', "a.1": "", "c.1": 'depends: "g1" | "p1"'}
    assert explained(texts, "a.1", compiler="c.1") == [
        'no solution for "a.1" with "c.1"',
        "  c.1 needs g1 | p1",
        "      c.1/opam: depends",
        "  and so on, through 12 packages, until",
        "  g7.1, p7.1 need g8 | p8",
        "      g7.1/opam: depends and 1 more",
        "  g8.1 conflicts with a",
        "      g8.1/opam: conflicts",
        "  p8.1 needs a = 2, but the only version is 1",
        "      p8.1/opam: depends",
    ]


def test_json() -> None:
    solver = World({"a.1": 'depends: "b" {> "1"}', "b.1": ""}).solver()
    assert shown_explanation(solver.explain(parse_request("a")), "{}/opam".format) == {
        "package": "a",
        "steps": [
            {
                "packages": ["a.1"],
                "files": ["a.1/opam"],
                "field": "depends",
                "subject": "b > 1",
                "names": ["b"],
                "note": "the only version is 1",
                "text": "a.1 needs b > 1, but the only version is 1",
            }
        ],
    }


@pytest.mark.parametrize(
    ("versions", "field", "subject", "expected"),
    [
        ((4,), "depends", "b >= 2", "a.4 needs b >= 2"),
        ((4, 3), "conflicts", "b", "a.4, a.3 conflict with b"),
        ((4, 3, 2, 1), "depopts", "b", "a.1 to 4 (4 versions) can use b"),
    ],
)
def test_step(versions: tuple[int, ...], field: str, subject: str, expected: str) -> None:
    packages = tuple(Package("a", str(version)) for version in versions)
    assert str(Step(packages, field, subject, ("b",))) == expected
