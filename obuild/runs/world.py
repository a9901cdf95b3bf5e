"""Repositories on one platform: what is in them, what each package comes to, what has to be built for it."""

from __future__ import annotations

from obuild.errors import FetchError, OpamError
from obuild.opam.buildid import Rules as IdRules
from obuild.opam.cache import Cache
from obuild.opam.effective import parse_level, usual_width
from obuild.opam.memory import HashMemory
from obuild.opam.solver import Memory, Rules, Solution, everything, fingerprints, open_solver, solve_all, variable_table
from obuild.plan import PREFIX, Definitions, Planner
from obuild.runs.cause import cause_of_error
from obuild.runs.merge import Target
from obuild.runs.outcome import DependencyFailed, Failure, NoSolution
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import TypeAlias

    from obuild.opam.package import Package
    from obuild.opam.repo import Overlay
    from obuild.opam.solver import FactReader, Pin, Request, Solver
    from obuild.opam.solver import NoSolution as Unsolved
    from obuild.opam.source import Source
    from obuild.plan import Patch, Plan
    from obuild.platform import Base
    from obuild.runs.outcome import Outcome

    Progress: TypeAlias = Callable[[int, int], None]
    Content: TypeAlias = Callable[[Package, Source], str]

__all__ = ["Terms", "World"]


@value
class Terms:
    """How packages are solved and built.

    `compilers` are tried each by itself, None stands for whichever the solver chooses. `variables` replace those of the
    platform; `pins` are the user's own packages by name, `patches` those for packages, by `name` or `name.version`.
    `opam_version` is the opam that packages see. What can not be moved is installed at `prefix`.
    """

    compilers: tuple[Package | None, ...] = (None,)
    with_test: bool = False
    with_doc: bool = False
    prefer_oldest: bool = False
    day10: bool = False
    opam_version: str = "2.5.2"
    variables: tuple[tuple[str, str | bool], ...] = ()
    pins: Mapping[str, Pin] = {}
    patches: Mapping[str, Sequence[Patch]] = {}
    prefix: str = PREFIX


class World:
    """The packages of `repository` on the platform `base`. `cache` is a directory for what is worth keeping, or ""."""

    def __init__(
        self, repository: Overlay, base: Base, terms: Terms, *, cache: str, content: Content | None = None
    ) -> None:
        self.repository, self.base, self.terms = repository, base, terms
        self._cache, self._read = cache, content or _unread
        self._contents: dict[Package, str | _Unknown] = {}
        self._solvers: dict[Package | None, tuple[Solver, FactReader]] = {}
        self._planners: dict[Package | None, Planner] = {}
        level = parse_level(terms.opam_version)
        self._level, self._width = level, usual_width(level)
        self._definitions = Definitions(repository, terms.pins, level)
        self._hash = HashMemory(Cache(cache), level=level, width=self._width)

    def solver(self, compiler: Package | None) -> Solver:
        """The solver with one of the compilers."""
        if compiler not in self._solvers:
            terms = self.terms
            rules = Rules(
                self._variables(compiler), compiler, terms.with_test, terms.with_doc, terms.prefer_oldest, terms.day10
            )
            self._solvers[compiler] = open_solver(self.repository, rules, cache=self._cache, pins=terms.pins)
        return self._solvers[compiler][0]

    def _variables(self, compiler: Package | None) -> tuple[tuple[str, str | bool], ...]:
        given = (*self.base.variables.items(), *self.terms.variables)
        return variable_table(self.base.platform, compiler, opam_version=self.terms.opam_version, given=given)

    def everything(self, compiler: Package | None, *, all_versions: bool) -> tuple[Request, ...]:
        """A request for the newest version of all that is available with a compiler, or for each version."""
        return everything(self.solver(compiler).universe, all_versions=all_versions)

    def answers(
        self, requests: Sequence[Request], compiler: Package | None, *, processes: int, progress: Progress | None = None
    ) -> Iterator[Solution | Unsolved]:
        """The answers to requests with one of the compilers. Raises `UsageError` for packages that do not exist."""
        solver = self.solver(compiler)
        solver.check(requests)
        memory = None
        if len(requests) > 1:
            memory = Memory(self._cache, solver.universe.rules, fingerprints(self.repository, solver.universe))
        yield from solve_all(solver, requests, memory=memory, report="short", processes=processes, progress=progress)
        if memory:
            memory.save()

    def case(self, answer: Solution | Unsolved, compiler: Package | None) -> tuple[Target, Plan | None]:
        """What was asked for with its plan, or without one where a source or definition makes that impossible."""
        version = compiler.version if compiler else ""
        name = self._name(answer, compiler)
        if not isinstance(answer, Solution):
            return Target(name, version, refusal=NoSolution(name, answer.report)), None
        try:
            made = self._planner(compiler).plan(answer)
        except OpamError as error:
            return Target(name, version, refusal=NoSolution(name, str(error))), None
        except _Unknown as unknown:
            return Target(name, version, refusal=unknown.outcome(name)), None
        return Target(name, version, made.targets[0]), made

    def plan(self, answer: Solution, compiler: Package | None, *, whole: bool = False) -> Plan:
        """The plan of a solution, as `plan.plan` says. Raises `OpamError`, and `FetchError` for a source."""
        try:
            return self._planner(compiler).plan(answer, whole=whole)
        except _Unknown as unknown:
            raise unknown.error from None

    def _content(self, package: Package, source: Source) -> str:
        """What a source without a checksum holds. Raises `_Unknown`; each is asked for once."""
        if package not in self._contents:
            try:
                self._contents[package] = self._read(package, source)
            except FetchError as error:
                self._contents[package] = _Unknown(package, error)
        found = self._contents[package]
        if isinstance(found, _Unknown):
            raise found
        return found

    def _name(self, answer: Solution | Unsolved, compiler: Package | None) -> str:
        """The package that was asked for; where no version was, the one chosen, or else the newest there is."""
        name, version = answer.request.wanted[0]
        if isinstance(answer, Solution):
            return str(next(package for package in answer.packages if package.name == name))
        universe = self.solver(compiler).universe
        newest = [*universe.available(name), *universe.packages.get(name, ())[::-1], "dev"]
        return f"{name}.{version or newest[0]}"

    def _planner(self, compiler: Package | None) -> Planner:
        if compiler not in self._planners:
            self._planners[compiler] = Planner(
                self._definitions,
                self.base,
                rules=IdRules(self._level, self._width, dict(self._variables(compiler))),
                with_test=self.terms.with_test,
                with_doc=self.terms.with_doc,
                patches=self.terms.patches,
                prefix=self.terms.prefix,
                content=self._content,
                hash=self._hash,
            )
        return self._planners[compiler]

    @property
    def unreadable(self) -> tuple[OpamError, ...]:
        """Definitions that were left out because they can not be read."""
        return tuple([error for _, reader in self._solvers.values() for error in reader.unreadable.values()])

    def save(self) -> None:
        """Keep what was worked out for the next time."""
        self._hash.save()
        self.repository.save()
        for _, reader in self._solvers.values():
            reader.save()


class _Unknown(Exception):
    """The source of a package has no checksum, and what it holds can not be found out."""

    def __init__(self, package: Package, error: FetchError) -> None:
        super().__init__(str(error))
        self._package, self.error = str(package), error

    def outcome(self, target: str) -> Outcome:
        """What becomes of a target that is this package or needs it. There is no key, so the name stands for it."""
        if target != self._package:
            return DependencyFailed(target, target, self._package, self._package)
        verdict = cause_of_error(self.error)
        return Failure(target, target, verdict.category, verdict.line)


def _unread(package: Package, source: Source) -> str:
    raise FetchError(f'the source of "{package}", "{source.url}", has no checksum and is not read')
