"""Who needs whom."""

from __future__ import annotations

import pytest
from solving import World

from obuild.errors import UsageError
from obuild.opam.solver import Solution, dependents, format_steps, parse_request, why

WORLD = World(
    {
        "a.1": 'depends: "b" {< "2"}',
        "a.2": 'depends: ["x" | "b" {>= "2"}]',
        "b.1": "",
        "b.2": 'depends: "x" depopts: "a"',
        "c.1": 'depends: "b" {os = "macos"}',
        "d.1": 'available: os = "macos" depends: "b"',
        "t.1": 'depends: "b" {with-test}',
        "x.1": "",
    }
)


@pytest.mark.parametrize(
    ("arguments", "options", "expected"),
    [
        (("b",), {}, ["a.2 needs b >= 2", "a.1 needs b < 2"]),
        (("b", "1"), {}, ["a.1 needs b < 2"]),
        (("b",), {"latest": True}, ["a.2 needs b >= 2"]),
        (("a",), {}, []),
        (("a",), {"optional": True}, ["b.2 can use a"]),
        (("x",), {}, ["a.2 needs x", "b.2 needs x"]),
    ],
)
def test_dependents(arguments: tuple[str, ...], options: dict[str, bool], expected: list[str]) -> None:
    assert [str(step) for step in dependents(WORLD.solver().universe, *arguments, **options)] == expected


def test_dependents_for_tests() -> None:
    found = dependents(WORLD.solver(with_test=True).universe, "b", latest=True)
    assert [str(step) for step in found] == ["a.2 needs b >= 2", "t.1 needs b"]


def test_dependents_of_nothing() -> None:
    with pytest.raises(UsageError) as raised:
        dependents(World({"lwt.1": ""}).solver().universe, "lwtt")
    assert raised.value.hint == 'did you mean "lwt"?'


def test_why() -> None:
    texts = {
        "a.1": 'depends: ["b" "c"]',
        "b.1": 'depends: "d" {> "0"}',
        "c.1": 'depends: "e" | "d"',
        "d.1": 'depends: "f"',
        "f.1": "",
        "ocaml.1": 'depends: "base"',
        "base.1": "",
    }
    solver = World(texts).solver(compiler="ocaml.1")
    answer = solver.solve(parse_request("a"))
    assert isinstance(answer, Solution)
    found = why(solver.universe, answer, "f")
    assert found.package == "f.1"
    assert format_steps(found.chain or (), "{}/opam".format).splitlines() == [
        "a.1 needs b",
        "    a.1/opam: depends",
        "b.1 needs d > 0",
        "    b.1/opam: depends",
        "d.1 needs f",
        "    d.1/opam: depends",
    ]
    assert [str(step) for step in why(solver.universe, answer, "d").users] == ["b.1 needs d > 0", "c.1 needs d"]
    assert [str(step) for step in why(solver.universe, answer, "base").chain or ()] == ["ocaml.1 needs base"]
    assert why(solver.universe, answer, "a").chain == ()
    assert why(solver.universe, answer, "e").chain is None
