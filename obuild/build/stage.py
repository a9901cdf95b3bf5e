"""One stage of a spec: a fold of an immutable context over its operations.

Only `from`, `run` and `copy` touch the store. A step that is there is a hit: its log is said again; one that is not is
made. Nested builds run beside the stage, and it waits for one where it copies from it.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from functools import partial

from obuild import spec as language
from obuild.build.base import begin
from obuild.build.branch import Branch
from obuild.build.context import facts, follow, join, placed
from obuild.build.run import run
from obuild.build.step import CopyStep
from obuild.build.supply import Ground, Site, groups, is_stacked, is_supply, is_switch, supply
from obuild.cancel import Cancel
from obuild.errors import Cancelled, ObuildError, StepFailed, StoreError
from obuild.spec import Copy, FromBuild, FromContext, FromOpam, FromPackage, FromText, Run, Spec
from obuild.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from obuild.build import Builder, Fill
    from obuild.build.context import Context
    from obuild.build.source import Directory, Result
    from obuild.build.supply import Supply
    from obuild.log import Reporter
    from obuild.spec import Op
    from obuild.store import Draft, Layer
    from obuild.store.hold import Hold

__all__ = ["Stage"]

EARLY = 32 << 20
"""Bytes of files never read before, from which they are copied while their digest is taken, not after."""

MOST_BRANCHES = 64
"""Nested builds of one stage in threads of their own at once; how many steps run is for `jobs` to say."""


class Stage:
    """One stage being built: its nested builds beside it, its own operations in order."""

    def __init__(
        self, builder: Builder, reporter: Reporter, cancel: Cancel, name: str = "", *, package: str = ""
    ) -> None:
        self.builder, self.reporter, self.cancel = builder, reporter, cancel
        self.name, self._package = name, package
        self._waiting: list[Branch] = []
        self.keys: dict[str, str] = {}  # what the sources of bases stand for, the same for the whole build
        self._platform = self._base = ""
        self._variables: Mapping[str, str] | None = None  # those of the platform
        self._packages: dict[str, str] = {}  # what is stacked, by NAME.VERSION
        self._holds: list[Hold] = []
        self.lock: Hold | None = None
        """What keeps the last layer from being pruned."""
        self.number = 0
        """Which of the ops is being done."""
        self.making: str | None = None
        """The id of the layer that is being made, or could not be."""
        self.layers: list[tuple[int, Layer]] = []
        """The layers so far, each with the number of the last op in it; the base's is -1."""
        self.switch: tuple[int, str] | None = None
        """Which op makes the switch that a package is built in, and the switch's prefix."""
        self.root = ""
        """The layer of the empty switch that it is made on."""

    def nested(self, name: str, reporter: Reporter) -> Stage:
        """A stage inside this one, cancelled with it."""
        stage = Stage(self.builder, reporter, self.cancel.child(), name)
        stage.keys = self.keys
        return stage

    def build(self, spec: Spec, context: Context) -> Layer:
        """The stage's last layer."""
        if self.name:
            self.reporter.heading(f'(build "{self.name}" ...)')
        branches = self._start(spec, context)
        try:
            layer = self._fold(spec, _see(context, branches))
            for branch in branches:
                branch.layer()
            if self.name:
                self.reporter.note(f'--> finished "{self.name}"')
        except BaseException as error:  # noqa: BLE001 (what still runs has to end, whatever happened)
            raise self._stop(branches, error) from None
        finally:
            for branch in branches:
                branch.release()
            if not self._package:
                self._let_go()
            self.reporter.close()
        return layer

    def end(self) -> None:
        """Let go of the last layer, from now on it may be pruned; and of what a package stands on."""
        self._let_go()
        if self.lock is not None:
            self.lock.release()
            self.lock = None

    def _let_go(self) -> None:
        while self._holds:
            self._holds.pop().release()

    def _start(self, spec: Spec, context: Context) -> list[Branch]:
        """Start the nested builds; a later one waits for an earlier one only where it copies from it."""
        used = language.builds_used(spec)
        branches: list[Branch] = []
        for name, nested in spec.builds:
            if name in used or not self.builder.options.skip_unused:
                branches.append(Branch(self, name, nested, _see(context, branches)))
        self._waiting = branches[::-1]
        for _ in branches[:MOST_BRANCHES]:
            self.start_next()
        return branches

    def start_next(self) -> None:
        """Start the nested build whose turn it is: in order, so that what one waits for has been started before."""
        try:
            branch = self._waiting.pop()
        except IndexError:
            return
        branch.start()

    def _stop(self, branches: Sequence[Branch], error: BaseException) -> BaseException:
        """End what still runs; the error to raise is the first that was not itself a cancellation."""
        self.cancel.set("cancelled")
        errors = [error]
        for branch in branches:
            try:
                branch.layer()
            except BaseException as nested:  # noqa: BLE001 (the first real one is raised)
                errors.append(nested)
        return next((error for error in errors if not isinstance(error, Cancelled)), error)

    def _fold(self, spec: Spec, context: Context) -> Layer:
        self.reporter.heading(f"(from {spec.base})")
        self.number = -1
        found = begin(self, spec.base, facts("from", spec.base, context))
        layer, env, self._variables = found.layer, found.env, found.variables
        self._platform, self._base = spec.base, layer.id
        ground = self._on(layer)
        context = replace(context, env=context.env + env)
        for number, ops in groups(spec.ops):
            op = ops[0]
            if isinstance(op, Run | Copy) and not is_supply(op):
                ground = self._settle(ground, context)
            self.number = number
            self._heading(ops, context)
            match op:
                case Run():
                    ground = self._on(run(self, op, context, ground))
                case Copy() if is_stacked(op):
                    ground = self._stack(ops, ground)
                case Copy() if is_supply(op):
                    ground = self._supply(op, context, ground)
                case Copy():
                    ground = self._on(self._copy(op, context, ground))
                case _:
                    with self.at(op):
                        context = follow(context, op)
        return self._whole(self._settle(ground, context), context)

    def _heading(self, ops: Sequence[Op], context: Context) -> None:
        """Say which op comes now; the packages of a stack together."""
        place, more = f"{context.workdir}: ", len(ops) - 1
        also = f" and {more} more packages" if more > 1 else " and one more package" if more else ""
        self.reporter.heading(place + language.format_op(_shortened(ops[0]), len(place)) + also)

    def _on(self, layer: Layer) -> Ground:
        """What the next step stands on when the last one made a layer."""
        self.layers.append((self.number, layer))
        return Ground((layer.id,))

    def _settle(self, ground: Ground, context: Context) -> Ground:
        """Put what waits to be put on layers on them."""
        if not ground.supplies:
            return ground

        def fill(draft: Draft, write: Callable[[bytes], None], cancel: Cancel) -> None:
            draft.meta |= ground.put(draft.root, write, cancel, self._doing)

        names = ", ".join([" ".join(supply.op.src) for supply in ground.supplies])
        layer = self.make(ground.id, facts("copy", names, context), ground.parents, fill)
        self.number = ground.supplies[-1].number
        return self._on(layer)

    @contextmanager
    def _doing(self, supply: Supply) -> Iterator[None]:
        self.number = supply.number
        with self.at(supply.op):
            yield

    def _supply(self, op: Copy, context: Context, ground: Ground) -> Ground:
        """Let the host do this before the next command."""
        alone = is_switch(op)
        if alone:
            ground = self._settle(ground, context)
            self.switch = (self.number, join(context.workdir, op.dst).rstrip("/"))
        site = Site(
            ground.id,
            context.user,
            context.workdir,
            join(context.workdir, op.dst),
            self._packages,
            self.builder.sources,
            self._package,
            self._variables,
        )
        with self.at(op):
            added = supply(op, self.number, site, self.reporter.output, self.cancel)
            parents = self._rooted(op, site, ground.parents, context) if alone else ground.parents
        ground = Ground(parents, (*ground.supplies, added))
        return self._settle(ground, context) if alone else ground

    def _rooted(self, op: Copy, site: Site, parents: tuple[str, ...], context: Context) -> tuple[str, ...]:
        """What a package's switch is made on: an empty one, made once for all packages, below those that are stacked.

        Directories cost much to make where hundreds of layers have to be asked whether they are there.
        """
        if not self._package or parents[0] != self._base:
            return parents
        site = replace(site, base=self._base, workdir="/", owner="")
        root = supply(replace(op, source=FromOpam("root")), self.number, site, _unheard, self.cancel)

        def fill(draft: Draft, write: Callable[[bytes], None], cancel: Cancel) -> None:
            root.put(draft.root, write, cancel)

        self.root = root.id
        while True:
            if self.builder.store.get(root.id) is None:
                self.builder.make(root.id, (self._base,), fill, self, (), facts("copy", "an empty switch", context))
            if hold := self._hold(root.id):
                self._holds.append(hold)
                return (parents[0], root.id, *parents[1:])

    def _stack(self, ops: Sequence[Op], ground: Ground) -> Ground:
        """Stack the finished layers of packages on what there is."""
        names = []
        for number, op in enumerate(ops, self.number):
            self.number = number
            assert isinstance(op, Copy)
            assert isinstance(op.source, FromPackage)
            with self.at(op):
                names.append(self._finished(op.source))
        return Ground((*ground.parents, *names))

    def _finished(self, package: FromPackage) -> str:
        """The layer of a package, held from now on. Raises `StoreError` when it is not there, or on another base."""
        from obuild.store.package import recorded_base

        name, store = f"{self._platform}/{package.id}", self.builder.store
        hold = self._hold(name)
        if hold is None:
            hint = f"build it first: obuild health-check {package.package}"
            raise StoreError(f'"{package.package}" has no layer "{name}" in the store', hint=hint)
        self._holds.append(hold)
        if recorded_base(store, name) != self._base:
            hint = f"build it again: obuild health-check {package.package}"
            raise StoreError(f'layer "{name}" of "{package.package}" was built on another base', hint=hint)
        self._packages[package.package] = package.id
        return name

    def _whole(self, ground: Ground, context: Context) -> Layer:
        """The layer of all that was done; a stack gets one of its own only here."""
        if len(ground.parents) > 1:
            self._on(self.make(ground.id, facts("copy", "/", context), ground.parents, _nothing))
        return self.layers[-1][1]

    def _copy(self, op: Copy, context: Context, ground: Ground) -> Layer:
        target = join(context.workdir, op.dst)
        into = target.endswith("/")
        source, below = self._source(op, context), ground.id

        def name(files: str) -> str:
            return CopyStep(below, context.user, target, into, files).id

        with self.at(op):
            unread, mark = source.unread(op, into=into)
            early = unread >= EARLY
            step = name(f"unread {mark}" if early else source.digest(op, self.cancel, into=into))

        def fill(draft: Draft, _: Callable[[bytes], None], cancel: Cancel) -> None:
            from obuild.copy import beside, copy

            with self.at(op):
                digest = partial(source.digest, op, cancel, into=into)
                if early and not source.unread(op, into=into)[0] and draft.settle(name(digest())):
                    return  # whoever we waited for has made it
                with source.scan(op, into=into) as files:
                    write = partial(copy, files, draft.root, target, into=into, user=context.user, cancel=cancel)
                    if early:
                        draft.settle(name(beside(digest, write)))
                    else:
                        write()

        return self.make(step, facts("copy", " ".join(op.src), context), ground.parents, fill)

    def _source(self, op: Copy, context: Context) -> Directory | Result:
        from obuild.build.source import Directory, Result  # a build without a `copy` does without

        index = f"{self.builder.store.path}/index"
        match op.source:
            case FromContext():
                return Directory(context.source, index)
            case FromBuild(name):
                return Result(self.builder.store, context.scope[name].layer(), index)
            case FromPackage(_, id):
                with self.at(op):
                    store = self.builder.store
                    lock = store.hold(f"{self._platform}/{id}")
                    self._holds.append(lock)
                    return Directory(f"{store.path}/{self._platform}/{id}/fs", index)
        raise ObuildError(f"{op.place}: this copy is the host's")

    def make(
        self,
        id: str,
        facts: dict[str, Any],
        parents: tuple[str, ...],
        fill: Fill,
        *,
        secrets: tuple[bytes, ...] = (),
    ) -> Layer:
        """The layer `id`: found, with its log said again, or made now."""
        self.cancel.check()
        op, start = facts["op"], time.monotonic()
        layer, made = None, False
        while layer is None or not self.keep(layer):
            layer = self.builder.store.get(id)
            if layer is None:
                self.reporter.started(op, facts["text"])
                self.making = id
                try:
                    layer, made = self.builder.make(id, parents, fill, self, secrets, facts)
                except StepFailed as error:
                    self.reporter.step(op, id, cached=False, status=error.status, seconds=time.monotonic() - start)
                    raise
                self.making = None
        if not made:
            _replay(layer, self.reporter)
        self.reporter.note(f'---> saved as "{layer.id}"' if made else f'---> using "{layer.id}" from cache')
        self.reporter.step(op, layer.id, cached=not made, status=0, seconds=time.monotonic() - start)
        return layer

    @contextmanager
    def at(self, op: Op) -> Iterator[None]:
        """Say of an error where the operation stands that it is about."""
        try:
            yield
        except Cancelled:
            raise
        except ObuildError as error:
            error.message = placed(op, error.message)
            raise
        except OSError as error:
            raise self.builder.store.explain(error, placed(op, "can not do this")) from error

    def keep(self, layer: Layer) -> bool:
        """Keep a layer from being pruned while this stage stands on it; False when that has happened already."""
        lock = self._hold(layer)
        if lock is None:
            return False
        if self.lock is not None:
            self.lock.release()
        self.lock = lock
        return True

    def _hold(self, layer: Layer | str) -> Hold | None:
        """A hold on a layer; None when there is none, or it has been pruned meanwhile."""
        try:
            return self.builder.store.hold(layer)
        except StoreError as error:
            if not error.temporary:
                raise
            return None


def _replay(layer: Layer, reporter: Reporter) -> None:
    """Say the log of a finished layer again."""
    with open(layer.log, "rb", buffering=0) as file:
        while piece := file.read(1 << 16):
            reporter.output(piece)


def _see(context: Context, branches: Sequence[Branch]) -> Context:
    """The context in which the nested builds can be copied from; a later one hides an earlier one of its name."""
    return replace(context, scope={**context.scope, **{branch.name: branch for branch in branches}})


def _shortened(op: Op) -> Op:
    """An op for its heading: a text in it is that of a whole file."""
    if isinstance(op, Copy) and isinstance(op.source, FromText) and len(op.source.text) > _SHORT:
        return replace(op, source=FromText(f"{op.source.text[:_SHORT]}…"))
    return op


_SHORT = 40


def _nothing(_: Draft, __: Callable[[bytes], None], ___: Cancel) -> None:
    """All that there is to do for a layer is done by stacking others."""


def _unheard(_: bytes) -> None:
    """There is nothing to say of what is the same for all packages."""
