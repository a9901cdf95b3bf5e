"""Writing down what happens to a batch: run log, histories, progress; and telling whoever watches."""

from __future__ import annotations

from obuild.errors import UsageError
from obuild.runs.blessing import bless, choices
from obuild.runs.execute import Listener
from obuild.runs.lock import Claim, hold
from obuild.runs.run import Node
from obuild.runs.universe import universes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from obuild.runs.execute import Share
    from obuild.runs.lock import Hold
    from obuild.runs.merge import Batch
    from obuild.runs.outcome import Outcome
    from obuild.runs.progress import Meter
    from obuild.runs.run_log import RunLog

__all__ = ["Recorder", "record_plan"]


class Recorder(Listener):
    """Records every end of a build, once for each compiler that it is for; `watch` hears of it afterwards.

    `place` gives the directory of a build's layer, or of what is left of a failed one; `replay` the command that does
    it again.
    """

    def __init__(
        self,
        batch: Batch,
        log: RunLog,
        meter: Meter,
        *,
        place: Callable[[str, Outcome], str],
        replay: Callable[[str], str],
        newest: Callable[[str], Any] | None = None,
        watch: Listener | None = None,
    ) -> None:
        self._batch, self._log, self._meter = batch, log, meter
        self._place, self._replay, self._watch = place, replay, watch or Listener()
        compilers = {key: job.compilers[0] for key, job in batch.jobs.items()}
        self._blessed = frozenset(bless(choices(batch.graph, compilers), newest=newest).values())
        self._universes = universes(batch.graph)
        self._root = log.run.root
        self._holds: dict[str, Hold | None] = {}

    def refused(self) -> None:
        """Record the targets that can not be built at all."""
        for target in self._batch.targets:
            if target.refusal:
                self._log.node_finished(Node(target.refusal, kind="solve", compiler=target.compiler))

    def started(self, key: str, share: Share) -> None:
        name, _, version = self._batch.graph.builds[key].package.partition(".")
        claim = Claim("build", name, version, self._universes[key], layer=key)
        try:
            self._holds[key] = hold(self._root, claim, wait=False)  # None: another run builds it too
        except (OSError, UsageError):
            pass  # it only shows people what is being built
        self._watch.started(key, share)

    def ended(self, key: str, outcome: Outcome) -> None:
        held = self._holds.pop(key, None)
        if held:
            held.release()
        self.found(key, outcome)
        self._watch.ended(key, outcome)

    def found(self, key: str, outcome: Outcome) -> None:
        """Record an outcome that nobody waited for: the layer was there before."""
        place = self._place(key, outcome)
        fresh = place and not outcome.cached
        for number, compiler in enumerate(self._batch.jobs[key].compilers):
            node = Node(
                outcome,
                compiler=compiler,
                universe=self._universes[key],
                blessed=key in self._blessed,
                layer_dir=place,
                replay=self._replay(key) if outcome.word == "failure" else "",
            )
            self._log.node_finished(node, log=f"{place}/build.log" if fresh and not number else "")
        self._meter.add(build_completed=1)


def record_plan(log: RunLog, batch: Batch, facts: Mapping[str, Any], done: Iterable[str]) -> None:
    """Write the files of a run that say what was asked for, what was solved, and what is to be built."""
    solved = len(batch.targets) - len(batch.unsolved)
    cached = sum(1 for _ in done)
    names = sorted({target.package for target in batch.targets})
    log.phase("plan", {**facts, "targets": len(batch.targets), "packages": names})
    log.phase("solve", {"solved": solved, "failed": len(batch.unsolved)})
    count = len(batch.graph.builds)
    log.phase("dag", {"build_nodes": count, "cached": cached, "need_build": count - cached})
    log.graph(batch.graph)
