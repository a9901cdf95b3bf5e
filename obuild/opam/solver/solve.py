"""The solver: requests in, solutions out."""

from __future__ import annotations

from obuild.errors import UsageError, nearest
from obuild.opam.package import Package, name_key
from obuild.opam.solver.answer import NoSolution, Request, Solution
from obuild.opam.solver.chain import explain_core
from obuild.opam.solver.core import find_core
from obuild.opam.solver.order import Order
from obuild.opam.solver.problem import Problem
from obuild.opam.solver.report import format_report
from obuild.opam.solver.search import Search
from obuild.opam.solver.wording import dump_explanation, format_explanation
from obuild.opam.version import version_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Literal, TypeAlias

    from obuild.opam.solver.chain import Explanation
    from obuild.opam.solver.problem import Dependency
    from obuild.opam.solver.universe import Universe

    Report: TypeAlias = Literal["", "0install", "short", "json"]

__all__ = ["Session", "Solver"]


class Solver:
    """Solves requests in a universe, one after the other. What it learns from one is kept for the next.

    The compiler of the rules comes first in every request; a request that names it itself replaces its version.
    """

    def __init__(self, universe: Universe, path: Callable[[Package], str] = str) -> None:
        """`path` gives the opam file of a package as explanations name it."""
        self.universe, self.path = universe, path
        self._sessions: dict[bool, Session] = {}

    def check(self, requests: Iterable[Request]) -> None:
        """Raise `UsageError` with all packages of requests, and the compiler, that no repository has."""
        compiler = self.universe.rules.compiler
        wanted = [(compiler.name, compiler.version)] if compiler else []
        wanted += [each for request in requests for each in request.wanted]
        problems = [problem for name, version in dict.fromkeys(wanted) if (problem := self._unknown(name, version))]
        if problems:
            raise UsageError("\n".join(problems))

    def _unknown(self, name: str, version: str) -> str:
        packages = self.universe.packages
        if name in self.universe.pins:
            wrong = version not in ("", "dev")
            return f'"{name}.{version}" is asked for, but "{name}" is pinned to "dev"' if wrong else ""
        if name not in packages:
            hint = nearest(name, packages)
            return f'no package "{name}"' + (f"; {hint}" if hint else "")
        if version and version_key(version) not in map(version_key, packages[name]):
            hint = nearest(version, packages[name]) or f"the newest is {packages[name][-1]}"
            return f'no version "{version}" of "{name}"; {hint}'
        return ""

    def solve(self, request: Request, *, report: Report = "") -> Solution | NoSolution:
        """The best solution of a request, or that there is none, with a report of the kind that is wanted.

        "0install" is opam-0install's, letter by letter, "short" a text made of `explain`, "json" the same with all
        that it was made of, "" none at all.
        """
        session, dependencies = self.session(request)
        chosen = session.search.solve(dependencies)
        problem = session.problem
        names = {problem.names[problem.owners[role]] for role in session.search.examined}
        examined = frozenset(names - {""})
        if chosen is None:
            return NoSolution(request, self.report(request, report) if report else "", examined)
        packages = [problem.package(role, value) for role, value in chosen if problem.names[role]]
        packages.sort(key=lambda package: name_key(package.name))
        return Solution(request, tuple(packages), examined)

    def report(self, request: Request, kind: Report = "0install", *, verbose: bool = False) -> str:
        """A report on a request that has no solution; opam-0install's with all rejected candidates when `verbose`."""
        if kind in ("short", "json"):
            explanation = self.explain(request)
            return (format_explanation if kind == "short" else dump_explanation)(explanation, self.path)
        session, dependencies = self.session(request)
        session.problem.ask(dependencies)
        asked = {name: Package(name, version) for name, version in request.wanted if version}
        compiler = self.universe.rules.compiler
        if compiler:
            asked.setdefault(compiler.name, compiler)
        return format_report(session.problem, session.order, asked, verbose=verbose)

    def explain(self, request: Request) -> Explanation:
        """The shortest reason found why a request has no solution. Raises `ValueError` for one that has."""
        session, dependencies = self.session(request)
        if session.search.solve(dependencies) is not None:
            raise ValueError(f'"{request}" has a solution')
        core = find_core(session.problem, dependencies, session.search.examined | {0})
        return explain_core(session.problem, request, core)

    def session(self, request: Request) -> tuple[Session, list[Dependency]]:
        """The problem that a request belongs to, and its dependencies there."""
        rules = self.universe.rules
        names = frozenset([name for name, _ in request.wanted])
        compiler = rules.compiler if rules.compiler and rules.compiler.name not in names else None
        tested = names if rules.with_test or rules.with_doc else frozenset()
        asked = frozenset(filter(self.universe.is_avoided, names))
        if asked or tested:
            # What these names say is different here, and with it what is learnt.
            session = Session(self.universe, compiler, asked, tested)
        else:
            with_compiler = compiler is not None
            if with_compiler not in self._sessions:
                self._sessions[with_compiler] = Session(self.universe, compiler, asked, tested)
            session = self._sessions[with_compiler]
        wanted = list(request.wanted)
        if rules.compiler and not compiler:
            # As in day10, where the compiler and the package asked for are then the same name, given twice.
            wanted.insert(0, next(each for each in wanted if each[0] == rules.compiler.name))
        return session, [*session.facts, *[session.dependency(name, version) for name, version in wanted]]


class Session:
    """A problem with a compiler, and what was learnt of it so far."""

    def __init__(
        self, universe: Universe, compiler: Package | None, asked: frozenset[str], tested: frozenset[str]
    ) -> None:
        self.problem = Problem(universe, asked | {compiler.name} if compiler else asked, tested)
        self.facts = [self.dependency(compiler.name, compiler.version)] if compiler else []
        self.search = Search(self.problem, self.facts)
        self.order = Order(self.problem)

    def dependency(self, name: str, version: str) -> Dependency:
        """The dependency on a package in this version, "" for any."""
        role = self.problem.role(name)
        pinned = name in self.problem.universe.pins
        return role, self.problem.matching(role, ("is", "=", version) if version and not pinned else None)
