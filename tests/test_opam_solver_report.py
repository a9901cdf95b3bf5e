"""opam-0install's report, its parts one by one; whole ones are compared in `test_opam_solver`."""

from __future__ import annotations

from solving import World

from obuild.opam.solver import parse_request


def report(texts: dict[str, str], request: str, *, verbose: bool = False, **rules: object) -> list[str]:
    solver = World(texts).solver(**rules)
    text = solver.report(parse_request(request), verbose=verbose)
    first, *lines = text.split("\n")
    assert first == "Can't find all required versions."
    return lines


def test_a_version_that_is_not_available() -> None:
    texts = {"a.1": "", "a.2": 'available: os = "macos"', "a.3": ""}
    assert report(texts, "a.2") == [
        "Selected: ",
        "- a -> (problem)",
        "    User requested = 2",
        "    No usable implementations:",
        "      a.3: Rejected by user-specified constraint a (= 2)",
        "      a.1: Rejected by user-specified constraint a (= 2)",
    ]


def test_a_package_that_nobody_has() -> None:
    assert report({"a.1": 'depends: "b"'}, "a") == [
        "Selected: a.1",
        "- b -> (problem)",
        "    No known implementations at all",
    ]


def test_a_restriction_that_nothing_meets() -> None:
    texts = {"a.1": 'depends: "b" {>= "3" & != "4"}', "b.1": "", "b.4": ""}
    assert report(texts, "a.1") == [
        "Selected: ",
        "- a -> a.1",
        "    User requested = 1",
        "- b -> (problem)",
        "    a 1 requires >= 3 & <> 4",
        "    Rejected candidates:",
        "      b.4: Incompatible with restriction: >= 3 & <> 4",
        "      b.1: Incompatible with restriction: >= 3 & <> 4",
    ]


def test_a_restriction_is_noted_where_it_mattered() -> None:
    texts = {"a.1": 'depends: ["b" {< "2"} "c" {< "2"} "d"]', "b.1": "", "b.2": "", "c.1": ""}
    assert report(texts, "a") == [
        "Selected: a.1 c.1",
        "- b -> b.1",
        "    a 1 requires < 2",
        "- d -> (problem)",
        "    No known implementations at all",
    ]


def test_a_conflict_with_what_is_chosen_before() -> None:
    texts = {"a.1": 'depends: ["b" "c"]', "b.1": "", "c.1": 'conflicts: "b"', "c.2": 'conflicts: "b" {= "1"}'}
    assert report(texts, "a") == [
        "Selected: a.1 b.1",
        "- c -> (problem)",
        "    Rejected candidates:",
        "      c.2: Requires b not(= 1)",
        "      c.1: Requires b conflict with all versions",
    ]


def test_a_conflict_class_and_one_with_itself() -> None:
    texts = {"a.1": 'depends: ["b" "c" "d"]', "b.1": 'conflict-class: "k"', "c.1": 'conflict-class: "k"'}
    assert report({**texts, "d.1": 'conflicts: "d"'}, "a") == [
        "Selected: a.1 b.1",
        "- c -> (problem)",
        "    Rejected candidates:",
        "      c.1: In same conflict class (k) as b",
        "- d -> (problem)",
        "    Rejected candidates:",
        "      d.1: Requires d conflict with all versions",
    ]


def test_alternatives() -> None:
    texts = {"a.1": 'depends: ["b" ("b" {= "2"} & "c" | ("b" {= "3"} | "d" & "b" {= "4"}))]', "b.1": ""}
    assert report(texts, "a") == [
        "Selected: a.1 b.1 b|d&b",
        "- b|d&b -> (problem)",
        "    Rejected candidates:",
        "      d&b: Requires b = 4",
        "      b: Requires b = 3",
    ]


def test_the_request_of_several_packages_and_the_order_of_names() -> None:
    texts = {"ocaml.1": "", "B.1": 'depends: ["a" "c" "none"]', "a.1": "", "c.1": ""}
    assert report(texts, "B", compiler="ocaml.1") == [
        "Selected: a.1 B.1 c.1 ocaml&B",
        "- none -> (problem)",
        "    No known implementations at all",
        "- ocaml -> ocaml.1",
        "    User requested = 1",
    ]


def test_many_rejected_candidates_and_long_lines() -> None:
    names = [f"package-{number}" for number in range(10, 20)]
    texts = {f"{name}.1": "" for name in names} | {f"b.{number}": "" for number in range(7)}
    needed = " ".join([f'"{name}"' for name in names])
    texts["a.1"] = f'depends: [{needed} "b" {{> "9"}}]'
    lines = report(texts, "a")
    assert lines[:3] == [
        "Selected: a.1 package-10.1 package-11.1 package-12.1 package-13.1",
        "          package-14.1 package-15.1 package-16.1 package-17.1 package-18.1",
        "          package-19.1",
    ]
    assert lines[-3:] == [
        "      b.3: Incompatible with restriction: > 9",
        "      b.2: Incompatible with restriction: > 9",
        "      ...",
    ]
    assert report(texts, "a", verbose=True)[-1] == "      b.0: Incompatible with restriction: > 9"


def test_the_order_of_alternatives_goes_by_what_can_be_met() -> None:
    texts = {
        "ocaml.1": 'depends: "p"',
        "p.2": 'depends: "x"',
        "p.1": 'depends: "y"',
        "x.1": 'depends: "u" | "none"',
        "y.1": 'depends: ["x" "v" | "none" "none"]',
        "u.1": "",
        "v.1": "",
    }
    # When p.2 can be chosen, x is met before y.
    assert report(texts, "p.1", compiler="ocaml.1")[0] == "Selected: u.1 v.1 x.1 y.1 ocaml&p v u"
    assert report({**texts, "p.2": 'depends: ["x" "y"]'}, "ocaml")[0] == "Selected: ocaml.1 p.2 u.1 v.1 x.1 y.1 u v"
