"""The interpreter: a fold of an immutable context over the operations of a spec.

Only `from`, `run` and `copy` touch the store. A step that is there is a hit: its log is said again. One that is not is
made under the store's lock, in a thread of its own that everybody who wants it can join.
"""

from __future__ import annotations

import time

from contextlib import ExitStack, contextmanager

from obuild import spec as language
from obuild.cancel import Cancel
from obuild.copy import copy
from obuild.errors import Cancelled, ObuildError, StepFailed, nearest
from obuild.fetch import open_fetcher
from obuild.log import Redactor, Reporter
from obuild.sandbox import Limits, Mount, Process, SecretFile
from obuild.spec import Comment, Copy, Env, Run, Shell, Spec, User, Workdir
from obuild.source import Directory, Result
from obuild.step import CopyStep, FromStep, RunStep
from obuild.value import replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from obuild.flight import Flight, Flights
    from obuild.sandbox import Sandbox
    from obuild.spec import Secret
    from obuild.store import Draft, Layer, Store

    Made = tuple[Layer, bool]
    Fill = Callable[[Draft, Callable[[bytes], None], Cancel], None]

__all__ = ["Builder", "Context", "Options"]

SHELL = ("/usr/bin/env", "bash", "-c")
"""The shell of a stage that names none, as in OBuilder."""


@value
class Context:
    """What earlier operations leave for later ones; changed only by `replace`.

    `source` is the directory of the host that `copy` reads; `scope` maps names of nested builds to their results.
    """

    source: str
    env: tuple[tuple[str, str], ...] = ()
    user: tuple[int, int] = (0, 0)
    workdir: str = "/"
    shell: tuple[str, ...] = SHELL
    scope: Mapping[str, Branch] = {}
    secrets: Mapping[str, bytes] = {}


@value
class Options:
    """How to build; nothing here changes an id but `images` (what a base's name stands for) and `pull`.

    `timeout` bounds the whole build in seconds; `limits` each step.
    """

    images: Mapping[str, str] = {}
    pull: bool = False
    jobs: int = 2
    limits: Limits = Limits()
    timeout: float | None = None
    keep_failed: bool = True
    skip_unused: bool = False
    fast_sync: bool = False
    no_new_privs: bool = False


class Branch:
    """A nested build under way in its own thread; `layer` waits for its result."""

    def __init__(self, name: str, cancel: Cancel) -> None:
        self.name = name
        self.cancel = cancel.child()
        self.over = Cancel()
        self._result: Layer | None = None
        self.error: BaseException | None = None

    def run(self, build: Callable[[Cancel], Layer]) -> None:
        """Build, and remember how it ended."""
        try:
            self._result = build(self.cancel)
        except BaseException as error:  # noqa: BLE001 (it is raised where the result is wanted)
            self.error = error
        finally:
            self.over.set("over")

    def layer(self) -> Layer:
        """The finished layer; raises what the nested build raised."""
        while not self.over:
            self.over.wait(3600)
        if self.error is not None:
            raise self.error
        assert self._result is not None
        return self._result


class Builder:
    """Builds specs into layers of a store. Safe to use from several threads at once.

    `sandbox` opens the sandbox when the first step has to run.
    """

    def __init__(self, store: Store, sandbox: Callable[[], Sandbox], options: Options = Options()) -> None:  # noqa: B008
        self.store, self.options = store, options
        self._open_sandbox = sandbox
        self._sandbox: Sandbox | None = None
        self._flights: Flights | None = None
        self._slots: Any = None

    def build(
        self, spec: Spec, context: Context, *, reporter: Reporter | None = None, cancel: Cancel | None = None
    ) -> Layer:
        """Build a spec and return its last layer.

        Raises `StepFailed` for a step that fails, `Cancelled` once `cancel` is set, and other `ObuildError`s for what
        can not be done. The steps that ended well stay in the store whatever happens later.
        """
        token = (cancel or Cancel()).child()
        with _deadline(self.options.timeout, token):
            return _Stage(self, reporter or Reporter(), token).build(spec, context)

    def sandbox(self) -> Sandbox:
        """The sandbox, opened when it is first wanted."""
        if self._sandbox is None:
            self._sandbox = self._open_sandbox()
        return self._sandbox

    def make(self, id: str, parents: tuple[str, ...], fill: Fill, stage: _Stage, secrets: tuple[bytes, ...]) -> Made:
        """The layer `id`, made by `fill` unless somebody is making it already; and whether it was made now."""
        if self._flights is None:
            from obuild.flight import Flights, Slots

            self._flights, self._slots = Flights(), Slots(self.options.jobs)

        def work(flight: Flight) -> Made:
            with self._slots.take(flight.cancel):
                return self._make(id, parents, fill, flight, secrets)

        made: Made = self._flights.join(
            id, work, listener=stage.reporter.output, note=stage.reporter.note, cancel=stage.cancel
        )
        return made

    def _make(self, id: str, parents: tuple[str, ...], fill: Fill, flight: Flight, secrets: tuple[bytes, ...]) -> Made:
        keep = self.options.keep_failed
        with self.store.new(id, parents, keep_failed=keep, follow=flight.follow, cancel=flight.cancel) as draft:
            found = draft.layer
            if found is None:
                flight.logged(draft.log)
                redactor = Redactor(secrets)
                try:
                    fill(draft, lambda data: flight.write(redactor.feed(data), draft.write), flight.cancel)
                finally:
                    flight.write(redactor.end(), draft.write)
        assert draft.layer is not None
        return draft.layer, found is None


class _Stage:
    """One stage being built: its nested builds beside it, its own operations in order."""

    def __init__(self, builder: Builder, reporter: Reporter, cancel: Cancel) -> None:
        self._builder, self.reporter, self.cancel = builder, reporter, cancel
        self._options = builder.options

    def build(self, spec: Spec, context: Context) -> Layer:
        """The stage's last layer."""
        branches = self._start(spec, context)
        try:
            layer = self._fold(spec, replace(context, scope={**context.scope, **branches}))
            for branch in branches.values():
                branch.layer()
        except BaseException as error:
            raise self._stop(branches, error) from None
        finally:
            self.reporter.close()
        return layer

    def _start(self, spec: Spec, context: Context) -> dict[str, Branch]:
        """Start every nested build; a later one waits for an earlier one only where it copies from it."""
        builds = _used(spec) if self._options.skip_unused else spec.builds
        branches: dict[str, Branch] = {}
        for name, nested in builds:
            import threading

            branch, reporter = Branch(name, self.cancel), self.reporter.branch(name)
            inner = replace(context, scope={**context.scope, **branches})

            def build(
                cancel: Cancel, spec: Spec = nested, inner: Context = inner, reporter: Reporter = reporter
            ) -> Layer:
                try:
                    return _Stage(self._builder, reporter, cancel).build(spec, inner)
                except BaseException:
                    self.cancel.set(f'nested build "{name}" failed')
                    raise

            branches[name] = branch
            threading.Thread(target=branch.run, args=(build,), name=f"build {name}", daemon=True).start()
        return branches

    def _stop(self, branches: Mapping[str, Branch], error: BaseException) -> BaseException:
        """End what still runs; the error to raise is the first that was not itself a cancellation."""
        self.cancel.set("cancelled")
        errors = [error]
        for branch in branches.values():
            try:
                branch.layer()
            except BaseException as nested:  # noqa: BLE001 (the first real one is raised)
                errors.append(nested)
        return next((error for error in errors if not isinstance(error, Cancelled)), error)

    def _fold(self, spec: Spec, context: Context) -> Layer:
        self.reporter.heading(f"(from {spec.base})")
        layer, env = self._from(spec)
        context = replace(context, env=context.env + env)
        for op in spec.ops:
            self.reporter.heading(f"{context.workdir}: {language.format_op(op)}")
            match op:
                case Comment():
                    pass
                case Workdir(path):
                    context = replace(context, workdir=_join(context.workdir, path))
                case Shell(words):
                    context = replace(context, shell=words)
                case User():
                    context = replace(context, user=_ids(op))
                case Env(name, text):
                    rest = tuple(pair for pair in context.env if pair[0] != name)
                    context = replace(context, env=((name, text), *rest))
                case Run():
                    layer = self._run(op, context, layer)
                case Copy():
                    layer = self._copy(op, context, layer)
        return layer

    def _from(self, spec: Spec) -> tuple[Layer, tuple[tuple[str, str], ...]]:
        fetcher = open_fetcher(self._options.images.get(spec.base, spec.base))
        key = fetcher.key(self._builder.store, pull=self._options.pull)

        def fill(draft: Draft, write: Callable[[bytes], None], cancel: Cancel) -> None:
            image = fetcher.fetch(draft.root, write, cancel=cancel)
            draft.env = image.env
            draft.meta["image"] = image.digest

        layer = self._make(FromStep(key).id, "from", spec.base, (), fill)
        return layer, layer.env()

    def _run(self, op: Run, context: Context, base: Layer) -> Layer:
        secrets = tuple((item.id, item.target) for item in op.secrets)
        values = tuple(_secret(context, item) for item in op.secrets)
        step = RunStep(
            base.id, context.workdir, context.user, context.env, context.shell, op.shell, op.network, secrets
        )
        process = Process(
            argv=(*context.shell, op.shell),
            cwd=context.workdir,
            user=context.user,
            env=context.env,
            network=op.network,
            secrets=tuple(SecretFile(item.target, content) for item, content in zip(op.secrets, values, strict=True)),
            limits=self._options.limits,
            fast_sync=self._options.fast_sync,
            no_new_privs=self._options.no_new_privs,
        )

        def fill(draft: Draft, write: Callable[[bytes], None], cancel: Cancel) -> None:
            with _caches(self._builder.store, op, context.user) as mounts:
                status = self._builder.sandbox().run(
                    replace(process, mounts=mounts), draft.root, write, state=draft.path, cancel=cancel
                )
            if status:
                raise StepFailed(_failure(process.argv, status), id=step.id, status=status, log=draft.log)

        return self._make(step.id, "run", op.shell, (base.id,), fill, secrets=values)

    def _copy(self, op: Copy, context: Context, base: Layer) -> Layer:
        target = _join(context.workdir, op.dst)
        into = target.endswith("/")
        source = self._source(op, context)
        step = CopyStep(base.id, context.user, target, into, source.digest(op, into=into))

        def fill(draft: Draft, _: Callable[[bytes], None], __: Cancel) -> None:
            with source.scan(op, into=into) as found:
                copy(found, draft.root, target, into=into, user=context.user)

        return self._make(step.id, "copy", " ".join(op.src), (base.id,), fill)

    def _source(self, op: Copy, context: Context) -> Directory | Result:
        index = self._builder.store.index
        match op.source:
            case FromContext():
                return Directory(context.source, index)
            case FromBuild(name):
                return Result(self._builder.store, context.scope[name].layer(), index)
        raise ObuildError(f'a copy from "{op.source}" needs a package build')

    def _make(
        self, id: str, op: str, text: str, parents: tuple[str, ...], fill: Fill, *, secrets: tuple[bytes, ...] = ()
    ) -> Layer:
        """The layer `id`: found, with its log said again, or made now."""
        self.cancel.check()
        layer = self._builder.store.get(id)
        made, start = False, time.monotonic()
        if layer is None:
            self.reporter.started(op, text)
            try:
                layer, made = self._builder.make(id, parents, fill, self, secrets)
            except StepFailed as error:
                self._ended(op, id, error.status, start)
                raise
        else:
            for piece in layer.replay():
                self.reporter.output(piece)
        self.reporter.note(f'---> saved as "{id}"' if made else f'---> using "{id}" from cache')
        self.reporter.step(op, id, cached=not made, status=0, seconds=time.monotonic() - start)
        return layer

    def _ended(self, op: str, id: str, status: int, start: float) -> None:
        self.reporter.step(op, id, cached=False, status=status, seconds=time.monotonic() - start)


@contextmanager
def _deadline(seconds: float | None, cancel: Cancel) -> Iterator[None]:
    """Cancel after so many seconds, and say so instead of "cancelled"."""
    if seconds is None:
        yield
        return
    import threading

    message = f"time limit: the build took more than {seconds:g} seconds"
    timer = threading.Timer(seconds, cancel.set, [message])
    timer.daemon = True
    timer.start()
    try:
        yield
    except Cancelled as error:
        raise (ObuildError(message) if error.message == message else error) from None
    finally:
        timer.cancel()


@contextmanager
def _caches(store: Store, op: Run, user: tuple[int, int]) -> Iterator[tuple[Mount, ...]]:
    """The cache directories of a run, as mounts of private copies that are given back when it ends."""
    with ExitStack() as stack:
        yield tuple(Mount(stack.enter_context(store.cache(cache.id, user)), cache.target) for cache in op.cache)


def _used(spec: Spec) -> tuple[tuple[str, Spec], ...]:
    """The nested builds that something copies from, directly or through another one."""
    wanted = language.builds_used(spec)
    kept = []
    for name, nested in reversed(spec.builds):
        if name in wanted:
            kept.append((name, nested))
            wanted |= language.builds_used(nested)
    return tuple(reversed(kept))


def _join(workdir: str, path: str) -> str:
    return path if path.startswith("/") else f"{workdir.rstrip('/')}/{path}"


def _ids(op: User) -> tuple[int, int]:
    if op.name is not None:
        raise ObuildError(f'the user "{op.name}" has no number here', hint="write (user (uid N) (gid N))")
    return op.uid, op.gid


def _secret(context: Context, secret: Secret) -> bytes:
    try:
        return context.secrets[secret.id]
    except KeyError:
        hint = nearest(secret.id, context.secrets) or f"give it with --secret {secret.id}:FILE"
        raise ObuildError(f'no value for the secret "{secret.id}"', hint=hint) from None


def _failure(argv: tuple[str, ...], status: int) -> str:
    import signal

    words = " ".join(f'"{word}"' for word in argv)
    if status > 128 and status - 128 in set(signal.Signals):
        return f"{words} failed with signal {signal.Signals(status - 128).name} (exit status {status})"
    return f"{words} failed with exit status {status}"
