"""Running a batch: what is there already is found, the rest is built, and everything is written down."""

from __future__ import annotations

from threading import Thread

from obuild.errors import SandboxError, StoreError
from obuild.opam.version import version_key
from obuild.runs.estimate import load_estimates, save_estimates
from obuild.runs.execute import execute
from obuild.runs.outcome import Success
from obuild.runs.progress import Meter, Progress
from obuild.runs.record import Recorder, record_plan
from obuild.runs.run_log import RunLog
from obuild.runs.schedule import Schedule, longest_ways
from obuild.runs.status import Rollup, generate_status, load_status, save_status
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import Any

    from obuild.cancel import Cancel
    from obuild.errors import ObuildError
    from obuild.runs.execute import Listener, Machine
    from obuild.runs.make import Maker
    from obuild.runs.merge import Batch, Target
    from obuild.runs.outcome import Outcome
    from obuild.runs.run import Node, Summary

__all__ = ["Result", "find_hits", "run_batch"]


@value
class Result:
    """What a batch came to: `outcomes` by key, `nodes` as they were recorded, the run's directory and its summary.

    `error` is what ended it too early: what was not tried has no outcome then, and the run reads as interrupted.
    """

    batch: Batch
    outcomes: Mapping[str, Outcome]
    nodes: tuple[Node, ...]
    path: str
    summary: Summary
    error: ObuildError | None = None

    def outcome(self, target: Target) -> Outcome | None:
        """What became of a target; None when it was not tried."""
        return target.refusal or self.outcomes.get(target.key)


def find_hits(batch: Batch, maker: Maker, progress: Callable[[int, int], None] | None = None) -> frozenset[str]:
    """The builds of a batch whose layers are there."""
    found = []
    for number, key in enumerate(batch.jobs, 1):
        if maker.hit(key):
            found.append(key)
        if progress:
            progress(number, len(batch.jobs))
    return frozenset(found)


def run_batch(
    batch: Batch,
    maker: Maker,
    machine: Machine,
    root: str,
    *,
    hits: Collection[str],
    facts: Mapping[str, Any],
    replay: Callable[[str], str],
    keep_going: bool = True,
    expected: Collection[str] | None = None,
    watch: Callable[[Schedule], Listener] | None = None,
    cancel: Cancel | None = None,
) -> Result:
    """Build what is not there yet and record the run under the directory `root`.

    `hits` are as `find_hits` says; `facts` go into the run's `plan.json`; `replay` gives the command that does a build
    again; `expected` are all packages there are, for the status, when the batch is meant to be of all of them. `watch`
    makes the listener that shows what happens. What is no package's fault ends it: see `Result`. Raises `Cancelled`:
    the run is then an interrupted one too, and what is built stays.
    """
    estimates = load_estimates(root)
    ways = longest_ways(batch.graph, lambda key: estimates(batch.graph.builds[key].package))
    schedule = Schedule(batch.graph, targets=batch.wanted, done=hits, ways=ways, keep_going=keep_going)
    log = RunLog.start(root)
    try:
        meter = Meter(log.path, _progress(log.id, batch))
        recorder = Recorder(
            batch,
            log,
            meter,
            place=maker.place,
            replay=replay,
            newest=version_key,
            watch=watch(schedule) if watch else None,
        )
        record_plan(log, batch, facts, hits)
        recorder.refused()
        meter.enter("building")
        rollup = Rollup(root)
        reading = Thread(target=rollup.refresh, daemon=True)
        reading.start()  # while builds are waited for; afterwards only the histories that have changed are read
        outcomes = _found(batch, hits, recorder)
        try:
            outcomes |= execute(schedule, maker, machine, listener=recorder, cancel=cancel)
        except (StoreError, SandboxError) as error:
            ended = {node.outcome.id: node.outcome for node in log.nodes if node.kind == "build"}
            return Result(batch, ended, log.nodes, log.path, log.summary(targets=len(batch.targets)), error)
        finally:
            estimates.learn([node.outcome for node in log.nodes])
            _attempt(lambda: save_estimates(root, estimates))
            meter.close()
        meter.enter("completed")
        summary = log.finish(targets=len(batch.targets))
        reading.join()
        status = generate_status(root, log.id, previous=load_status(root), expected=expected, rollup=rollup)
        _attempt(lambda: save_status(root, status))
        return Result(batch, outcomes, log.nodes, log.path, summary)
    finally:
        log.close()


def _found(batch: Batch, hits: Collection[str], recorder: Recorder) -> dict[str, Outcome]:
    """Record what is there already."""
    outcomes: dict[str, Outcome] = {}
    for key in hits:
        outcomes[key] = Success(batch.graph.builds[key].package, key, cached=True)
        recorder.found(key, outcomes[key])
    return outcomes


def _progress(id: str, batch: Batch) -> Progress:
    import time

    from obuild.runs.moment import format_time

    return Progress(
        id,
        format_time(time.time()),
        targets=len(batch.targets),
        solutions_found=len(batch.targets) - len(batch.unsolved),
        solutions_failed=len(batch.unsolved),
        build_total=len(batch.graph.builds),
    )


def _attempt(action: Callable[[], None]) -> None:
    """Write something that a run can do without."""
    try:
        action()
    except OSError:
        pass
