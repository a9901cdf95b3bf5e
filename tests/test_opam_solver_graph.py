"""What is built before what, and how it is shown."""

from __future__ import annotations

import json

import pytest
from solving import World

from obuild.errors import OpamError
from obuild.opam.package import parse_package
from obuild.opam.solver import Solution, build_map, build_order, closure, format_answer, format_dot, parse_request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from obuild.opam.solver.graph import BuildMap


def plan(texts: dict[str, str], request: str, **rules: object) -> BuildMap:
    solver = World(texts).solver(**rules)
    answer = solver.solve(parse_request(request))
    assert isinstance(answer, Solution)
    return build_map(solver.universe, answer)


def shown(found: BuildMap) -> dict[str, str]:
    return {package.name: " ".join([each.name for each in needed]) for package, needed in found.items()}


def test_packages_that_nothing_is_built_against_are_left_out() -> None:
    texts = {
        "ocaml.1": 'depends: ["config" "base" {post}]',
        "config.1": "",
        "base.1": 'depends: ["ocaml" {post}]',
        "a.1": 'depends: ["b" {build} "c" {post}]',
        "b.1": "",
        "c.1": 'depends: "d"',
        "d.1": "",
    }
    assert shown(plan(texts, "a", compiler="ocaml.1")) == {"a": "b", "b": ""}
    assert shown(plan(texts, "ocaml")) == {"config": "", "ocaml": "config"}


def test_a_dependency_that_is_post_in_one_place_only_counts() -> None:
    assert shown(plan({"a.1": 'depends: ["b" {post} "b"]', "b.1": ""}, "a")) == {"a": "b", "b": ""}


def test_optional_dependencies_that_are_there() -> None:
    texts = {"a.1": 'depends: ["b" "c"]', "b.1": 'depopts: ["c" {>= "7"} "d"]', "c.1": ""}
    assert shown(plan(texts, "a")) == {"a": "b c", "b": "c", "c": ""}


def test_alternatives_that_were_chosen() -> None:
    texts = {"a.1": 'depends: ["b" {> "1"} | ("c" & ("d" | "e"))] conflicts: "d"', "b.1": "", "c.1": "", "e.1": ""}
    assert shown(plan({**texts, "d.1": ""}, "a")) == {"a": "c e", "c": "", "e": ""}


def test_tests_of_the_requested_package() -> None:
    texts = {"a.1": 'depends: ["b" "t" {with-test}]', "b.1": 'depends: "t" {with-test}', "t.1": ""}
    assert shown(plan(texts, "a")) == {"a": "b", "b": ""}
    assert shown(plan(texts, "a", with_test=True)) == {"a": "b t", "b": "", "t": ""}


TEXTS = {"a.1": 'depends: ["c" "b"]', "b.1": 'depends: "d"', "c.1": 'depends: "d"', "d.1": "", "B.1": ""}


def test_order_and_closure() -> None:
    found = plan(TEXTS, "a")
    assert [str(package) for package in build_order(found)] == ["d.1", "b.1", "c.1", "a.1"]
    assert [str(package) for package in closure(found, parse_package("a.1"))] == ["b.1", "c.1", "d.1"]
    assert closure(found, parse_package("d.1")) == ()


def test_a_cycle_has_no_order() -> None:
    texts = {"a.1": 'depends: "b"', "b.1": 'depends: "c"', "c.1": 'depends: "b"'}
    with pytest.raises(OpamError) as raised:
        build_order(plan(texts, "a"))
    assert str(raised.value) == 'no order to build in: "b.1" needs "c.1" needs "b.1"'
    assert "{post}" in raised.value.hint


def test_graphviz() -> None:
    assert format_dot(plan(TEXTS, "a")) == (
        'digraph opam {\n  "a.1" -> {"b.1" "c.1"};\n  "b.1" -> "d.1";\n  "c.1" -> "d.1";\n  "d.1";\n}'
    )


def test_json() -> None:
    solver = World(TEXTS).solver()
    answer = solver.solve(parse_request("b"))
    assert isinstance(answer, Solution)
    assert json.loads(format_answer(answer, build_map(solver.universe, answer))) == {
        "package": "b.1",
        "solution": ["b.1", "d.1"],
        "plan": {"b.1": ["d.1"], "d.1": []},
    }
