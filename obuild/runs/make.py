"""Making one package of a batch: a hit in the store, or its spec compiled and built, and what came of that.

A failure is the package's: its log is read for why. What the machine alone is to blame for (a full disk, no right to
make containers) is raised and ends the batch, because every other build would meet it too. A build that finds the disk
full has an outcome nevertheless, so that it is known which one it was.
"""

from __future__ import annotations

import os
import time

from obuild.build import Builder, Context
from obuild.errors import Cancelled, LimitExceeded, ObuildError, SandboxError, StepFailed, StoreError
from obuild.log import Reporter
from obuild.plan import compile, meta, recorded
from obuild.plan.build import facts
from obuild.plan.record import layer_id, package_layer
from obuild.retry import retry
from obuild.runs.cause import cause, cause_of_error
from obuild.runs.classify import CATEGORIES, transient
from obuild.runs.execute import Halt
from obuild.runs.outcome import Failure, Success
from obuild.spec import Run
from obuild.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from obuild.build import Options
    from obuild.cancel import Cancel
    from obuild.opam.filter import Contents
    from obuild.plan import PackageBuild
    from obuild.runs.classify import Verdict
    from obuild.runs.execute import Share
    from obuild.runs.merge import Batch
    from obuild.runs.outcome import Outcome
    from obuild.sandbox import Sandbox
    from obuild.store import Layer, Store

__all__ = ["Maker"]

DISK_FULL = "disk_full"

ROOM = 1 << 30
"""Bytes: where as many are free, the disk is not full. A container has small file systems too, such as `/dev/shm`."""


class Maker:
    """Makes the builds of a batch in a store: called with a key it returns the outcome.

    With `trust_failures` a failure that the store remembers is the answer, and nothing is built again. `said` may be
    set to what hears, for a key, what is being done.
    """

    def __init__(
        self,
        batch: Batch,
        store: Store,
        sandbox: Callable[[], Sandbox],
        options: Options,
        *,
        trust_failures: bool = False,
    ) -> None:
        self._batch, self._store, self._sandbox, self._options = batch, store, sandbox, options
        self._trust_failures = trust_failures
        self.said: Callable[[str, str], None] = _nothing
        self._variables: dict[str, Mapping[str, Contents] | None] = {}

    def hit(self, key: str) -> Layer | None:
        """The layer with this key, if there is one and it was made as it would be made now."""
        job = self._batch.jobs[key]
        return package_layer(self._store, job.build, job.plan)

    def place(self, key: str, outcome: Outcome) -> str:
        """The directory of what a build has left: its layer, or what is kept of a failed one; "" for neither."""
        job = self._batch.jobs[key]
        layer = layer_id(job.build, job.plan)
        if outcome.word == "success":
            return f"{self._store.path}/{layer}"
        failed = self._failed(key) if outcome.word == "failure" else None
        return failed.path if failed else ""

    def known_failure(self, key: str) -> Failure | None:
        """The failure of this very build that the store remembers."""
        failed, job = self._failed(key), self._batch.jobs[key]
        asked, known = facts(job.build, job.plan), failed.meta() if failed else {}
        if failed is None or any(known.get(name) != fact for name, fact in asked.items()):
            return None
        found = cause(failed, tests=self._tests(key))
        return Failure(str(job.build.package), key, found.category, found.line, cached=True)

    def __call__(self, key: str, share: Share, cancel: Cancel) -> Outcome:
        """Make the build `key` with its share of the machine. Raises what is no fault of the package."""
        package = str(self._batch.jobs[key].build.package)
        if self.hit(key):
            return Success(package, key, cached=True)
        known = self.known_failure(key) if self._trust_failures else None
        if known and not transient(known.category):
            return known
        start = time.monotonic()

        def attempt() -> Outcome:
            outcome, again = self._attempt(key, share, cancel)
            if again and isinstance(outcome, Failure) and transient(outcome.category):
                raise _Passing(outcome)
            return outcome

        try:
            outcome = retry(attempt, note=lambda text: self.said(key, text), cancel=cancel)
        except _Passing as error:
            outcome = error.failure
        return replace(outcome, seconds=round(time.monotonic() - start, 3))

    def _attempt(self, key: str, share: Share, cancel: Cancel) -> tuple[Outcome, bool]:
        """What comes of a build, and whether a failure may be tried again: a download has been, several times."""
        package = str(self._batch.jobs[key].build.package)
        try:
            return Success(package, key, conflict=_conflict(self._build(key, share, cancel))), False
        except ObuildError as error:
            verdict = self._verdict(key, error)
            failure = Failure(package, key, verdict.category, verdict.line)
            if verdict.category == DISK_FULL and (isinstance(error, StoreError) or not self._has_room()):
                hint = "make room with `obuild prune` and start again: what is built is kept"
                message = f'no space left on the disk, in the build of "{package}"'
                raise Halt(message, failure, hint=hint) from error
            return failure, isinstance(error, StepFailed)

    def _build(self, key: str, share: Share, cancel: Cancel) -> Layer:
        job = self._batch.jobs[key]
        try:
            return self._builder(share).build(
                compile(job.build, job.plan, self._recorded(key)),
                Context(source="/var/empty"),
                id=layer_id(job.build, job.plan),
                meta=meta(job.build, job.plan),
                files={"opam": job.plan.definitions.text(job.build.package)},
                reporter=_Steps(lambda text: self.said(key, text)),
                cancel=cancel,
            )
        except OSError as error:
            raise self._store.explain(error, f'can not build "{job.build.package}"') from error

    def _verdict(self, key: str, error: ObuildError) -> Verdict:
        """Why a build failed; raises an error again that is no fault of the package, but for a full disk."""
        if isinstance(error, StoreError | SandboxError | Cancelled) and not isinstance(error, LimitExceeded):
            verdict = cause_of_error(error)
            if verdict.category != DISK_FULL:
                raise error
            return verdict
        failed = self._failed(key)
        verdict = cause(failed, tests=self._tests(key)) if failed else cause_of_error(error)
        return replace(verdict, category="transient_failure") if error.temporary else verdict

    def _has_room(self) -> bool:
        room = os.statvfs(self._store.path)
        return room.f_bavail * room.f_frsize >= ROOM

    def _tests(self, key: str) -> frozenset[str]:
        """The commands of a build that it would not have without its tests."""
        job = self._batch.jobs[key]
        if not job.build.with_test:
            return frozenset()
        both = (job.build, replace(job.build, with_test=False))
        try:
            specs = [compile(build, job.plan, self._recorded(key)) for build in both]
        except ObuildError:  # what it is built upon is not there any more
            return frozenset()
        tested, plain = ({op.shell for op in spec.ops if isinstance(op, Run)} for spec in specs)
        return frozenset(tested - plain)

    def _failed(self, key: str) -> Layer | None:
        """What is kept of the build, if it failed the last time."""
        job = self._batch.jobs[key]
        return self._store.failed_layer(layer_id(job.build, job.plan))

    def _builder(self, share: Share) -> Builder:
        limits = replace(self._options.limits, memory=share.memory) if share.memory else self._options.limits
        variables = (("OBUILD_JOBS", str(share.jobs)),)
        return Builder(self._store, self._sandbox, replace(self._options, limits=limits, variables=variables))

    def _recorded(self, key: str) -> Callable[[PackageBuild], Mapping[str, Contents] | None]:
        read = recorded(self._store, self._batch.jobs[key].plan)

        def variables(build: PackageBuild) -> Mapping[str, Contents] | None:
            found = self._variables.get(build.key)
            if found is None:
                found = self._variables[build.key] = read(build)
            return found

        return variables


def _conflict(layer: Layer) -> str:
    """What to say of the files that a package shares with others, or others below it with each other."""
    found = layer.meta().get("conflicts") or ()
    if not found:
        return ""
    more = f" and {len(found) - 1} more files" if len(found) > 1 else ""
    return f'file conflict: "{found[0]["path"]}"{more} in {" and ".join(found[0]["packages"])}'


def _nothing(_: str, __: str) -> None:
    pass


class _Passing(ObuildError):
    """A failure that may pass when it is tried again."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{CATEGORIES[failure.category].about}: {failure.error}", temporary=True)
        self.failure = failure


class _Steps(Reporter):
    """Passes on which step runs."""

    def __init__(self, said: Callable[[str], None]) -> None:
        self._said = said

    def started(self, op: str, text: str) -> None:
        self._said(" ".join(text.split() if op == "run" else [op, *text.split()]))

    def note(self, text: str) -> None:
        self._said(text)
