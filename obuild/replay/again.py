"""One step of a package's build again, on what the steps before it left.

The steps of a package are private to it (`package`): made as the build made them they have the same ids, so what is
still in the store is found, and what succeeds here is found by the next build. A step that had succeeded is made again
under an id of its own, which nobody else asks for, and is thrown away.
"""

from __future__ import annotations

import os
from contextlib import contextmanager

from obuild.build.context import Context, follow
from obuild.build.stage import Stage
from obuild.build.supply import is_stacked, is_supply, is_switch
from obuild.digest import sha256
from obuild.disk import Lock
from obuild.errors import StepFailed
from obuild.log import Reporter
from obuild.replay.memory import ASKED
from obuild.spec import Run
from obuild.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from obuild.build import Builder
    from obuild.cancel import Cancel
    from obuild.replay.memory import Failed
    from obuild.spec import Op, Spec
    from obuild.store import Layer, Store

__all__ = ["Again"]

NOWHERE = "/var/empty"
"""The directory that packages copy from: theirs do not."""


class Again:
    """A failed build in a store, to be done again in parts."""

    def __init__(self, builder: Builder, failed: Failed, cancel: Cancel) -> None:
        self._builder, self._failed, self._cancel = builder, failed, cancel
        with open(f"{failed.layer.path}/build.spec", "rb") as file:
            self._owner = f"{failed.id} {sha256(file.read()).hexdigest()}"

    def gone(self) -> int:
        """How many of the layers that its good steps left are not in the store any more."""
        exists = self._builder.store.exists
        return sum(1 for layer in self._failed.meta.get("steps", ()) if not exists(str(layer)))

    def context(self, number: int, env: tuple[tuple[str, str], ...]) -> Context:
        """What an operation gets from those before it; `env` is that of the platform."""
        context = Context(source=NOWHERE, env=env)
        for op in self._failed.spec.ops[:number]:
            context = follow(context, op)
        return context

    @contextmanager
    def system(self, reporter: Reporter) -> Iterator[Layer | None]:
        """The layer with the system packages that the build asks for, for the time of the block; None for none."""
        ops = self._failed.spec.ops
        end = next((n for n, op in enumerate(ops) if is_stacked(op) or is_supply(op)), len(ops))
        if not any(isinstance(op, Run) for op in ops[:end]):
            yield None
            return
        with self.before(end, reporter) as layer:
            yield layer

    @contextmanager
    def before(self, number: int, reporter: Reporter) -> Iterator[Layer]:
        """The layer that an operation stands on, for the time of the block; made where it is not there."""
        stage = self._stage(_Quiet(reporter, number))
        try:
            layer = stage.build(self._part(number), Context(source=NOWHERE))
            with self._builder.store.hold(layer):
                yield layer
        finally:
            stage.end()
            ops = self._failed.spec.ops
            if is_supply(ops[number]) and stage.number == number - 1 and _joins(ops[number - 1]):
                stage.drop(stage.made[-1:])  # the build makes a layer of several, which this is a part of

    def run(self, number: int, reporter: Reporter) -> None:
        """Do the step that failed. Raises what it fails with.

        What succeeds stays, for the next build.
        """
        last = _group_end(self._failed.spec.ops, number)
        stage = self._stage(_Quiet(reporter, number))
        try:
            stage.build(self._part(last), Context(source=NOWHERE))
        finally:
            stage.end()

    def run_anew(self, numbers: Sequence[int], reporter: Reporter) -> None:
        """Do steps that follow each other, as if none had ever been made; nothing that they leave stays."""
        stage = self._stage(_Quiet(reporter, numbers[0], notes=False), fresh=numbers[0])
        try:
            stage.build(self._part(_group_end(self._failed.spec.ops, numbers[-1])), Context(source=NOWHERE))
        finally:
            stage.end()
            stage.drop(stage.anew)

    def run_edited(self, spec: Spec, reporter: Reporter) -> None:
        """Do another spec in the place of the one that failed: what both begin with is found."""
        ops = self._failed.spec.ops
        same = next((n for n, pair in enumerate(zip(ops, spec.ops, strict=False)) if pair[0] != pair[1]), len(ops))
        stage = self._stage(_Quiet(reporter, min(same, self._failed.number)))
        try:
            stage.build(spec, Context(source=NOWHERE))
        finally:
            stage.end()

    def finish(self, reporter: Reporter) -> Layer:
        """Build the package to its end, and save it."""
        meta = {name: self._failed.meta[name] for name in ASKED if name in self._failed.meta}
        quiet = _Quiet(reporter, len(self._failed.spec.ops))
        context = Context(source=NOWHERE)
        return self._builder.build(
            self._failed.spec, context, id=self._failed.id, meta=meta, reporter=quiet, cancel=self._cancel
        )

    def _part(self, end: int) -> Spec:
        return replace(self._failed.spec, ops=self._failed.spec.ops[:end])

    def _stage(self, reporter: Reporter, fresh: int | None = None) -> _Stage:
        stage = _Stage(self._builder, reporter, self._cancel.child(), package=self._owner)
        stage.fresh = fresh
        if isinstance(reporter, _Quiet):
            reporter.stage = stage
        return stage


class _Stage(Stage):
    """A stage whose operations from the number `fresh` on are made even where they are in the store."""

    fresh: int | None = None

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        self.made: list[Layer] = []
        self.anew: list[Layer] = []
        self._mark = os.urandom(16).hex()

    def make(self, id: str, *given: Any, **options: Any) -> Layer:
        anew = self.fresh is not None and self.number >= self.fresh
        name = sha256(f"{self._mark} {id}".encode()).hexdigest() if anew else id
        known = self.builder.store.exists(name)
        try:
            layer = super().make(name, *given, **options)
        except StepFailed as error:
            error.id = name
            raise
        if not known:
            self.made.append(layer)
        if anew:
            self.anew.append(layer)
        return layer

    def drop(self, layers: Sequence[Layer]) -> None:
        """Remove layers that nobody else asks for, the last one first; one that is looked at stays."""
        store: Store = self.builder.store
        for layer in reversed(layers):
            try:
                lock = Lock.attempt(layer.path)
            except FileNotFoundError:
                continue
            if lock is None:
                return
            store.sweep(layer.path)
            lock.release()


class _Quiet(Reporter):
    """Passes on what is said of the operations from a number on, and of earlier ones that have to be made again."""

    def __init__(self, to: Reporter, first: int, *, notes: bool = True) -> None:
        self._to, self._first, self._notes = to, first, notes
        self._making, self._heading = False, ""
        self.stage: Stage | None = None

    @property
    def _open(self) -> bool:
        return self._making or (self.stage is not None and self.stage.number >= self._first)

    def heading(self, text: str) -> None:
        self._heading = text
        if self._open:
            self._say()

    def _say(self) -> None:
        text, self._heading = self._heading, ""
        if text:
            self._to.heading(text)

    def note(self, text: str) -> None:
        if self._open and self._notes:
            self._to.note(text)

    def output(self, data: bytes) -> None:
        if self._open:
            self._to.output(data)

    def started(self, op: str, text: str) -> None:
        self._making = True
        self._say()
        self._to.started(op, text)

    def step(self, op: str, id: str, *, cached: bool, status: int, seconds: float) -> None:
        self._making = False
        if not cached or self._open:
            self._to.step(op, id, cached=cached, status=status, seconds=seconds)

    def close(self) -> None:
        self._to.close()


def _joins(op: Op) -> bool:
    """Whether what an operation makes is put together with what the next one makes."""
    return is_supply(op) and not is_switch(op)


def _group_end(ops: Sequence[Op], number: int) -> int:
    """Where the layer ends that an operation becomes part of: what the host does is put together."""
    if not is_supply(ops[number]):
        return number + 1
    more = (n for n, op in enumerate(ops) if n > number and isinstance(op, Run))
    return next(more, len(ops))
