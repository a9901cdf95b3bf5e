"""The search finds what trying everything finds: the best solution, or none."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st
from solving import VARIABLES, Slow, World

from obuild.opam.audit import Terms, audit
from obuild.opam.package import Package
from obuild.opam.solver import NoSolution, Request, Solution, parse_request, watch
from obuild.opam.solver.core import find_core

NAMES = ("a", "b", "c", "d", "e")
VERSIONS = ("1", "2", "3")

bounds = st.sampled_from(["", "= 1", "= 2", ">= 2", "< 3", "!= 2", "< 2 | > 2", "> 3"])
filters = st.sampled_from(["", "", "", "build", "post", "with-test", 'os = "linux"', 'os != "linux"', "dev"])


@st.composite
def conditions(draw: st.DrawFn) -> str:
    bound, needed = draw(bounds), draw(filters)
    quoted = " ".join([f'"{word}"' if word.isdigit() else word for word in bound.split()])
    both = f"({quoted}) & {needed}" if quoted and needed else quoted or needed
    return f"{{{both}}}" if both else ""


@st.composite
def atoms(draw: st.DrawFn) -> str:
    return f'"{draw(st.sampled_from(NAMES))}" {draw(conditions())}'


formulas = st.recursive(
    atoms(),
    lambda inner: st.tuples(inner, st.sampled_from("&||"), inner).map(lambda parts: f"({' '.join(parts)})"),
    max_leaves=4,
)


@st.composite
def files(draw: st.DrawFn) -> str:
    depends = " ".join(draw(st.lists(formulas, max_size=3)))
    conflicts = " ".join(draw(st.lists(atoms(), max_size=1)))
    lines = [f"depends: [ {depends} ]", f"conflicts: [ {conflicts} ]"]
    if draw(st.integers(0, 5)) == 0:
        lines.append('conflict-class: "k"')
    if draw(st.integers(0, 7)) == 0:
        lines.append("flags: avoid-version")
    if draw(st.integers(0, 9)) == 0:
        lines.append('available: os = "macos"')
    return "\n".join(lines)


@st.composite
def worlds(draw: st.DrawFn) -> dict[str, str]:
    packages = draw(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VERSIONS)), min_size=3, max_size=12))
    return {f"{name}.{version}": draw(files()) for name, version in sorted({*packages, ("a", "1")})}


def shown(answer: Solution | NoSolution) -> set[str] | None:
    return {str(package) for package in answer.packages} if isinstance(answer, Solution) else None


@settings(max_examples=400)
@given(worlds())
def test_finds_the_best_solution(texts: dict[str, str]) -> None:
    world = World(texts)
    solver, slow = world.solver(), Slow(world)
    for package in world.files:
        answer = solver.solve(parse_request(str(package)))
        assert shown(answer) == slow.solve((package.name, package.version)), package


@settings(max_examples=200)
@given(worlds())
def test_what_was_learnt_and_forgotten_again_changes_no_answer(texts: dict[str, str]) -> None:
    world = World(texts)
    with patch.object(watch, "_MORE", 0):
        solver = world.solver()
        for package in [*world.files, *world.files]:
            request = parse_request(str(package))
            assert shown(solver.solve(request)) == shown(world.solver().solve(request)), package


@settings(max_examples=200)
@given(worlds(), st.sampled_from(NAMES))
def test_finds_the_best_solution_beside_a_compiler(texts: dict[str, str], name: str) -> None:
    world = World(texts)
    solver, slow = world.solver(compiler="a.1"), Slow(world)
    for package in [each for each in world.files if each.name in (name, "b", "a")]:
        first = ("a", package.version) if package.name == "a" else ("a", "1")
        answer = solver.solve(parse_request(str(package)))
        assert shown(answer) == slow.solve(first, (package.name, package.version)), package


@settings(max_examples=200)
@given(worlds())
def test_several_packages_and_any_version(texts: dict[str, str]) -> None:
    world = World(texts)
    answer = world.solver().solve(Request((("a", ""), ("b", ""))))
    assert shown(answer) == Slow(world).solve(("a", ""), ("b", ""))


@settings(max_examples=200)
@given(worlds())
def test_solutions_pass_the_audit(texts: dict[str, str]) -> None:
    world = World(texts)
    solver = world.solver()
    for package in world.files:
        answer = solver.solve(parse_request(str(package)))
        if isinstance(answer, Solution):
            terms = Terms({package.name: package.version}, VARIABLES)
            assert audit(world, answer.packages, terms) == ()  # type: ignore[arg-type]


@settings(max_examples=200)
@given(worlds(), worlds())
def test_an_answer_holds_as_long_as_nothing_examined_changes(texts: dict[str, str], others: dict[str, str]) -> None:
    world = World(texts)
    solver = world.solver()
    for package in world.files:
        answer = solver.solve(parse_request(str(package)))
        # Everything about the other names is different in the new world.
        kept = {name: text for name, text in texts.items() if name.partition(".")[0] in answer.examined}
        new = {name: text for name, text in others.items() if name.partition(".")[0] not in answer.examined}
        assert package.name in answer.examined
        assert shown(World({**kept, **new}).solver().solve(parse_request(str(package)))) == shown(answer)


@settings(max_examples=200)
@given(worlds())
def test_a_core_can_not_be_smaller(texts: dict[str, str]) -> None:
    """What it has alone rules out every solution, and without any one thing there is one."""
    solver = World(texts).solver()
    for package in World(texts).files:
        request = parse_request(str(package))
        session, dependencies = solver.session(request)
        if session.search.solve(dependencies) is None:
            problem = session.problem
            core = find_core(problem, dependencies, session.search.examined | {0})
            said = [
                (problem.package(role, value), *problem.statements(role, value)[place])
                for role, value, place in core
                if role
            ]
            assert excerpt_solution(texts, said, request) is None
            for each in said:
                assert excerpt_solution(texts, [other for other in said if other != each], request) is not None, each


def excerpt_solution(texts: dict[str, str], said: list[Any], request: Request) -> set[str] | None:
    """The best solution when packages say nothing in their files but what is given."""
    solver = World(texts).solver()
    universe = solver.universe

    def needs(name: str, version: str, *, tested: bool = False) -> tuple[Any, Any]:
        kept = {
            field: [part for package, where, part in said if where == field and package == Package(name, version)]
            for field in ("depends", "conflicts")
        }
        return ("and", *kept["depends"]), ("or", *kept["conflicts"])

    def fact(name: str, version: str) -> Any:
        kept = [
            part for package, field, part in said if field == "conflict-class" and package == Package(name, version)
        ]
        return (None, None, None, True, tuple(kept), False)

    universe.needs, universe.fact = needs, fact  # type: ignore[method-assign]
    return shown(solver.solve(request))
