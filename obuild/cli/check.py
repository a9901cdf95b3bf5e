"""A health check from its command line to its exit status: what is asked for, built and reported."""

from __future__ import annotations

import json
import os
import sys

from obuild.build import Options
from obuild.cancel import Cancel
from obuild.cli.board import Board, JsonBoard, LiveBoard
from obuild.cli.build import named_sandbox, on_signals
from obuild.cli.planner import load_patches
from obuild.cli.repository import Progress, cache_folder, open_overlay, platform_named
from obuild.cli.show import show
from obuild.cli.verdict import counted, summary_lines
from obuild.cli.where import default_store, open_named_store, seconds_text
from obuild.errors import UsageError
from obuild.opam.package import parse_package
from obuild.opam.platform import parse_variables
from obuild.opam.solver import OPAM_VERSION, load_pins, load_requests, parse_request
from obuild.plan.view import format_plan
from obuild.platform import open_platform
from obuild.runs.batch import find_hits, run_batch
from obuild.runs.estimate import load_estimates
from obuild.runs.execute import Machine, execute
from obuild.runs.make import Maker
from obuild.runs.merge import Target, merge
from obuild.runs.outcome import DependencyFailed, Failure, Success
from obuild.runs.output import Writer, write_outputs
from obuild.runs.schedule import Schedule
from obuild.runs.world import Terms, World
from obuild.sandbox import Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from obuild.opam.package import Package
    from obuild.opam.repo import Repository
    from obuild.opam.solver import Request
    from obuild.opam.source import Source
    from obuild.plan import Plan
    from obuild.runs.batch import Result
    from obuild.runs.execute import Listener
    from obuild.runs.merge import Batch
    from obuild.runs.outcome import Outcome

__all__ = ["Check", "own_mirrors"]

FAILED, NO_SOLUTION = 1, 3


class Check:
    """The options of one health check, and what follows from them."""

    def __init__(self, targets: tuple[str, ...], given: Mapping[str, Any]) -> None:
        self.given, self._words = given, targets
        _check_words(targets, given)
        self.store = open_named_store(given["store"])
        self._base = open_platform(self.store, given["platform"] or platform_named(None).key)
        self._opened: Any = None
        self._places: tuple[str, ...] = ()
        self._mirrors: tuple[str, ...] = given["archive_mirror"]
        self.cancel: Cancel | None = None

    def world(self, repo: Sequence[str]) -> World:
        """The repositories named, on the platform asked for."""
        given = self.given
        terms = Terms(
            compilers=tuple([parse_package(text) for text in given["compiler"]]) or (None,),
            with_test=given["with_test"],
            with_doc=given["with_doc"],
            prefer_oldest=given["prefer_oldest"],
            day10=given["rules"] == "day10",
            opam_version=given["opam_version"] or OPAM_VERSION,
            variables=tuple(parse_variables(given["var"]).items()),
            pins=load_pins(given["pin"]),
            patches=load_patches(given["patches"]),
        )
        overlay = open_overlay(repo, given["cache"])
        self._places = tuple([repository.where for repository in overlay.repositories])
        own = [mirror for repository in overlay.repositories for mirror in own_mirrors(repository)]
        self._mirrors = tuple(dict.fromkeys([*given["archive_mirror"], *own]))
        return World(overlay, self._base, terms, cache=cache_folder(given["cache"]), content=self._content)

    def _content(self, package: Package, source: Source) -> str:
        from obuild.download import Sources

        sources = Sources(f"{self.store.path}/sources", mirrors=self._mirrors, offline=self.given["offline"])
        return sources.content_key(source.url, (), source.mirrors, subpath=source.subpath)

    def batch(self, world: World) -> Batch:
        """All that is asked for, solved, planned and merged."""
        batch = merge(case for compiler in world.terms.compilers for case in self._cases(world, compiler))
        world.save()
        for error in world.unreadable:
            print(f"note: left out: {error}", file=sys.stderr)
        return batch

    def _cases(self, world: World, compiler: Package | None) -> Iterable[Any]:
        requests = self._requests(world, compiler)
        progress = Progress("solving")
        # All are solved before the first is planned: processes are forked for it, which threads would forbid.
        answers = list(world.answers(requests, compiler, processes=self.given["jobs"], progress=progress))
        planning = Progress("planning")
        for number, answer in enumerate(answers, 1):
            yield world.case(answer, compiler)
            planning(number, len(answers))

    def _requests(self, world: World, compiler: Package | None) -> tuple[Request, ...]:
        if self.whole:
            return world.everything(compiler, all_versions=self.given["all_versions"])
        found: list[Request] = []
        for word in self._words or tuple(world.terms.pins):
            found += load_requests(word[1:]) if word[:1] == "@" else [parse_request(word)]
        return tuple(dict.fromkeys(found))

    @property
    def whole(self) -> bool:
        """Whether everything is asked for."""
        return bool(self.given["all"] or self.given["all_versions"])

    @property
    def listed(self) -> bool:
        """Whether what is asked for was not named one by one: what has no solution is then no failure."""
        return self.whole or any(word[:1] == "@" for word in self._words)

    @property
    def root(self) -> str:
        """The directory where runs are recorded."""
        return self.given["runs"] or f"{self.store.path}/runs"

    def maker(self, batch: Batch) -> Maker:
        """What makes the builds of a batch."""
        return Maker(
            batch,
            self.store,
            self._sandbox,
            self._options(),
            trust_failures=self.given["trust_failures"],
        )

    def _sandbox(self) -> Any:
        if self._opened is None:
            self._opened = named_sandbox(self.given["sandbox"], self.store)
        return self._opened

    def _options(self) -> Options:
        given = self.given
        return Options(
            jobs=given["jobs"],
            limits=Limits(pids=given["pids"], seconds=given["step_timeout"], log=given["log_limit"]),
            timeout=given["timeout"],
            fast_sync=given["fast_sync"],
            archive_mirrors=self._mirrors,
            offline=given["offline"],
        )

    def build(self, batch: Batch) -> dict[str, Outcome]:
        """Build a batch beside the run: it is recorded nowhere. What became of all of it."""
        maker = self.maker(batch)
        hits = find_hits(batch, maker)
        found: dict[str, Outcome] = {key: Success(batch.graph.builds[key].package, key, cached=True) for key in hits}
        schedule = Schedule(batch.graph, targets=batch.wanted, done=hits, keep_going=False)
        return found | execute(schedule, maker, self._machine, cancel=self.cancel)

    @property
    def _machine(self) -> Machine:
        given = self.given
        return Machine(given["jobs"], given["cores"], given["total_memory"])

    @property
    def base_id(self) -> str:
        """The base of the platform."""
        return self._base.id

    def run(self, batch: Batch, maker: Maker | None = None, *, expected: Collection[str] | None = None) -> Result:
        """Build and record a batch; `expected` is for the status, see `run_batch`."""
        self.cancel = self.cancel or on_signals()
        maker = maker or self.maker(batch)
        boards: list[Board] = []

        def watch(schedule: Schedule) -> Listener:
            board = self._board(schedule, batch)
            maker.said = board.say
            boards.append(board)
            return board

        given = self.given
        try:
            return run_batch(
                batch,
                maker,
                self._machine,
                self.root,
                hits=find_hits(batch, maker, Progress("looking")),
                facts=self._facts(batch),
                replay=self.replay,
                keep_going=given["keep_going"],
                expected=expected,
                watch=watch if given["progress"] != "none" else None,
                cancel=self.cancel,
            )
        finally:
            for board in boards:
                board.close()

    def complete(self, plan: Plan) -> int:
        """Build what of a plan is not in the store; the status of a health check of it, 0 when all is there."""
        batch = merge([(Target(str(build.package), "", build.key), plan) for build in plan.builds])
        maker = self.maker(batch)
        if all(maker.hit(key) for key in batch.jobs):
            return 0
        return self.finish(self.run(batch, maker))

    def _board(self, schedule: Schedule, batch: Batch) -> Board:
        given = self.given
        names = {key: build.package for key, build in batch.graph.builds.items()}
        terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        progress = given["progress"]
        if progress == "json":
            return JsonBoard(schedule, names, color=False, cancel=self.cancel)
        colored = given["color"] == "always" or (given["color"] == "auto" and terminal and "NO_COLOR" not in os.environ)
        kind = LiveBoard if progress == "live" or (progress == "auto" and terminal) else Board
        return kind(schedule, names, color=colored, cancel=self.cancel)

    def _facts(self, batch: Batch) -> dict[str, Any]:
        """What the run's `plan.json` says of what was asked for."""
        given = self.given
        return {
            "repos": [_place(where) for where in self._places],
            "ocaml_version": " ".join(given["compiler"]) or None,
            "platform": self._base.key,
            "base": self._base.id,
            "with_test": given["with_test"],
            "with_doc": given["with_doc"],
            "all_versions": given["all_versions"],
        }

    def replay(self, key: str) -> str:
        """The command that builds a failed package again from the step that failed."""
        where = f"{self.store.kind}:{self.store.path}"
        return f"obuild replay {key[:12]}" + ("" if where == default_store() else f" --store {where}")

    def show_plan(self, batch: Batch) -> int:
        """Say what would be built, and write what can be said of packages already."""
        maker = self.maker(batch)
        hits = find_hits(batch, maker, Progress("looking"))
        outcomes: dict[str, Outcome] = {key: Success(batch.graph.builds[key].package, key, cached=True) for key in hits}
        self.write(batch, outcomes, maker)
        if self.given["progress"] == "json":
            for target in batch.targets:
                print(
                    json.dumps(
                        {
                            "package": target.package,
                            "compiler": target.compiler,
                            "key": target.key,
                            "there": target.key in hits,
                        }
                    )
                )
        elif len(batch.targets) == 1 and batch.targets[0].key:
            print(format_plan(batch.jobs[batch.targets[0].key].plan, hits))
        else:
            self._print_plan(batch, hits)
        return self.status(batch, outcomes)

    def _print_plan(self, batch: Batch, hits: Collection[str]) -> None:
        schedule = Schedule(batch.graph, targets=batch.wanted, done=hits)
        solved = len(batch.targets) - len(batch.unsolved)
        estimates = load_estimates(self.root)
        missing = [key for key in batch.graph.builds if key not in hits and key not in schedule.dropped]
        seconds = sum(estimates(batch.graph.builds[key].package) for key in missing)
        print(f"{counted(len(batch.targets), 'package')}: {solved} with a solution, {len(batch.unsolved)} without")
        print(
            f"{counted(len(batch.graph.builds), 'layer')}: {len(hits)} there, {len(missing)} to build, about "
            f"{seconds_text(seconds / self.given['jobs'])}"
        )

    def finish(self, result: Result) -> int:
        """Write the outputs, say what the check came to, and return its exit status. Raises what has ended it early."""
        try:
            self.write(result.batch, result.outcomes, self.maker(result.batch))
        except UsageError as error:
            if not result.error:
                raise
            print(f"obuild: {error}", file=sys.stderr)  # of the two it is the lesser
        if self.given["progress"] != "json":
            self.print_lines(summary_lines(result))
        if result.error:
            raise result.error
        return self.status(result.batch, result.outcomes)

    def write(self, batch: Batch, outcomes: Mapping[str, Outcome], maker: Maker) -> None:
        """Write the files asked for with --json, --md and --dot."""
        sha = "".join([commit for where in self._places if (commit := _place(where)["commit"])]) or "unknown"
        writer = Writer(batch, outcomes, lambda key: _log(maker, key, outcomes.get(key)), sha)
        write_outputs(batch, writer, {form: self.given[form] for form in ("json", "md", "dot")})

    def status(self, batch: Batch, outcomes: Mapping[str, Outcome]) -> int:
        """0 when all that was asked for is well; 1 when something failed; 3 for one package without a solution.

        A package without a solution fails a check of several only when each was named: a list has whatever there is.
        """
        ends = [target.refusal or outcomes.get(target.key) for target in batch.targets]
        if any(isinstance(outcome, Failure | DependencyFailed) for outcome in ends):
            return FAILED
        if not batch.unsolved or self.listed:
            return 0
        return NO_SOLUTION if len(batch.targets) == 1 else FAILED

    def print_lines(self, lines: Iterable[str]) -> None:
        """Print lines, whatever letters are in them."""
        for line in lines:
            show(line.encode("utf-8", "replace") + b"\n", self.cancel)


def _check_words(words: tuple[str, ...], given: Mapping[str, Any]) -> None:
    whole = given["all"] or given["all_versions"]
    if whole and words:
        raise UsageError(f'"{words[0]}" is asked for beside everything', hint="leave one of them out")
    if not (whole or words or given["pin"]):
        raise UsageError("what shall be checked?", hint="give packages, @FILE with one a line, --all or --all-versions")


def own_mirrors(repository: Repository) -> Iterator[str]:
    """The archive caches that a repository names in its file `repo`: addresses, and directories in one on disk."""
    for mirror in repository.mirrors:
        if "://" in mirror:
            yield mirror
        elif os.path.isdir(f"{repository.where}/{mirror}"):
            yield f"{repository.where}/{mirror}"


def _place(where: str) -> dict[str, str]:
    """A repository as `plan.json` has it."""
    path, at, commit = where.rpartition("@")
    place = path if at else where
    return {"path": os.path.abspath(place) if os.path.exists(place) else place, "commit": commit if at else ""}


def _log(maker: Maker, key: str, outcome: Outcome | None) -> str:
    place = maker.place(key, outcome) if outcome else ""
    path = f"{place}/build.log"
    return path if place and os.path.exists(path) else ""
