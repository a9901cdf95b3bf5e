"""One stage of a spec: a fold of an immutable context over its operations.

Only `from`, `run` and `copy` touch the store. A step that is there is a hit: its log is said again; one that is not is
made. Nested builds run beside the stage, and it waits for one where it copies from it.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack, contextmanager
from functools import partial

from obuild import spec as language
from obuild.cancel import Cancel
from obuild.errors import Cancelled, FetchError, LimitExceeded, ObuildError, StepFailed, StoreError, nearest
from obuild.fetch import open_fetcher
from obuild.sandbox import Limits, Mount, Process, SecretFile
from obuild.spec import Comment, Copy, Env, FromBuild, FromContext, Run, Shell, Spec, User, Workdir
from obuild.step import CopyStep, FromStep, RunStep
from obuild.value import replace, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from obuild.build import Builder, Fill
    from obuild.disk import Lock
    from obuild.log import Reporter
    from obuild.source import Directory, Result
    from obuild.spec import Op, Secret
    from obuild.store import Draft, Layer, Store

__all__ = ["Context", "Options", "Stage"]

SHELL = ("/usr/bin/env", "bash", "-c")
"""The shell of a stage that names none, as in OBuilder."""

HOST = "builder"
"""The host name of a step, as in OBuilder; that of a nested build on private networks is its name."""


EARLY = 32 << 20
"""Bytes of files never read before, from which they are copied while their digest is taken, not after."""


MOST_BRANCHES = 64
"""Nested builds of one stage in threads of their own at once; how many steps run is for `jobs` to say."""


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
    """How to build; nothing here changes an id but what a base's name stands for.

    `images` gives a base another source; `engine` and `platform` are those of `open_fetcher`. `timeout` bounds the
    whole build in seconds, `limits` each step.
    """

    images: Mapping[str, str] = {}
    pull: bool = False
    engine: str = ""
    platform: str = ""
    jobs: int = 2
    limits: Limits = Limits()
    timeout: float | None = None
    keep_failed: bool = True
    skip_unused: bool = False
    fast_sync: bool = False
    no_new_privs: bool = False


class Branch:
    """A nested build: waiting for its turn, under way in its own thread, or over; `layer` waits for its result."""

    def __init__(self, parent: Stage, name: str, spec: Spec, context: Context) -> None:
        import threading

        self.name = name
        self._parent, self._reporter = parent, parent.reporter.branch(name)
        self._spec, self._context = spec, context
        self._over = threading.Event()
        self._layer: Layer | None = None
        self._lock: Lock | None = None
        self._error: BaseException | None = None

    def start(self) -> None:
        """Begin; a failure ends what runs beside it too."""
        import threading

        threading.Thread(target=self._run, name=f"build {self.name}", daemon=True).start()

    def _run(self) -> None:
        parent = self._parent
        try:
            parent.cancel.check()
            stage = parent.nested(self.name, self._reporter)
            self._layer = stage.build(self._spec, self._context)
            self._lock = stage.lock
        except BaseException as error:  # noqa: BLE001 (it is raised where the result is wanted)
            self._error = error
            parent.cancel.set(f'nested build "{self.name}" failed')
        finally:
            self._over.set()
            parent.start_next()

    def layer(self) -> Layer:
        """The finished layer; raises what the nested build raised."""
        self._over.wait()
        if self._error is not None:
            raise self._error
        assert self._layer is not None
        return self._layer

    def release(self) -> None:
        """Let the result go: from now on it may be pruned."""
        if self._lock is not None:
            self._lock.release()


class Stage:
    """One stage being built: its nested builds beside it, its own operations in order."""

    def __init__(self, builder: Builder, reporter: Reporter, cancel: Cancel, name: str = "") -> None:
        self._builder, self.reporter, self.cancel = builder, reporter, cancel
        self.name = name
        self._options = builder.options
        self._waiting: list[Branch] = []
        self._keys: dict[str, str] = {}  # what the sources of bases stand for, the same for the whole build
        self.lock: Lock | None = None
        """What keeps the last layer from being pruned."""

    def nested(self, name: str, reporter: Reporter) -> Stage:
        """A stage inside this one, cancelled with it."""
        stage = Stage(self._builder, reporter, self.cancel.child(), name)
        stage._keys = self._keys
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
            self.reporter.close()
        return layer

    def _start(self, spec: Spec, context: Context) -> list[Branch]:
        """Start the nested builds; a later one waits for an earlier one only where it copies from it."""
        used = language.builds_used(spec)
        branches: list[Branch] = []
        for name, nested in spec.builds:
            if name in used or not self._options.skip_unused:
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
        layer, env = self._from(spec, context)
        context = replace(context, env=context.env + env)
        for op in spec.ops:
            place = f"{context.workdir}: "
            self.reporter.heading(place + language.format_op(op, len(place)))
            match op:
                case Comment():
                    pass
                case Workdir(path):
                    context = replace(context, workdir=_join(context.workdir, path))
                case Shell(words):
                    context = replace(context, shell=words)
                case User():
                    with self._at(op):
                        context = replace(context, user=_ids(op))
                case Env(name, text):
                    rest = tuple(pair for pair in context.env if pair[0] != name)
                    context = replace(context, env=((name, text), *rest))
                case Run():
                    layer = self._run(op, context, layer)
                case Copy():
                    layer = self._copy(op, context, layer)
        return layer

    def _from(self, spec: Spec, context: Context) -> tuple[Layer, tuple[tuple[str, str], ...]]:
        try:
            return self._fetch(spec, context)
        except FetchError as error:
            if not error.hint and spec.base not in self._options.images:
                error.hint = f"to take it from elsewhere: --image {spec.base}=SOURCE"
            raise

    def _fetch(self, spec: Spec, context: Context) -> tuple[Layer, tuple[tuple[str, str], ...]]:
        source = self._options.images.get(spec.base, spec.base)
        fetcher = open_fetcher(
            source,
            images=f"{self._builder.store.path}/images",
            engine=self._options.engine,
            platform=self._options.platform,
        )
        pull = self._options.pull
        if source not in self._keys:
            self._keys.setdefault(source, fetcher.key(self.reporter.output, pull=pull, cancel=self.cancel))
        key = self._keys[source]

        def fill(draft: Draft, write: Callable[[bytes], None], cancel: Cancel) -> None:
            from obuild.sandbox.point import prepare  # a cached build does without

            if fetcher.key(write, pull=pull, cancel=cancel) != key:
                raise FetchError(f'"{spec.base}" has changed since the build began', hint="start again", temporary=True)
            image = fetcher.fetch(draft.root, write, cancel=cancel)
            prepare(draft.root)
            draft.env = image.env
            draft.meta["image"] = image.digest

        layer = self._make(FromStep(key).id, _facts("from", spec.base, context), (), fill)
        return layer, layer.env()

    def _run(self, op: Run, context: Context, base: Layer) -> Layer:
        secrets = tuple((item.id, item.target) for item in op.secrets)
        with self._at(op):
            values = tuple(_secret(context, item) for item in op.secrets)
        host = "" if op.network in ((), ("host",)) else _host(self.name)
        step = RunStep(
            base.id, context.workdir, context.user, context.env, context.shell, op.shell, op.network, secrets, host
        )
        process = Process(
            argv=(*context.shell, op.shell),
            cwd=context.workdir,
            user=context.user,
            env=context.env,
            network=op.network,
            secrets=tuple(SecretFile(item.target, content) for item, content in zip(op.secrets, values, strict=True)),
            limits=self._options.limits,
            hostname=host or HOST,
            fast_sync=self._options.fast_sync,
            no_new_privs=self._options.no_new_privs,
        )

        def fill(draft: Draft, write: Callable[[bytes], None], cancel: Cancel) -> None:
            def failed(message: str, status: int, hint: str = "") -> StepFailed:
                return StepFailed(message, id=step.id, status=status, log=draft.log, hint=hint)

            with self._at(op), _caches(self._builder.store, op, context.user) as mounts:
                run = replace(process, mounts=mounts)
                try:
                    status = self._builder.sandbox().run(run, draft.root, write, state=draft.path, cancel=cancel)
                except LimitExceeded as error:
                    raise failed(error.message, 128 + 9, error.hint) from None  # it was killed
                if status:
                    raise failed(_failure(process.argv, status), status, _advice(op, draft.log))

        return self._make(step.id, _facts("run", op.shell, context), (base.id,), fill, secrets=values)

    def _copy(self, op: Copy, context: Context, base: Layer) -> Layer:
        target = _join(context.workdir, op.dst)
        into = target.endswith("/")
        source = self._source(op, context)

        def name(files: str) -> str:
            return CopyStep(base.id, context.user, target, into, files).id

        with self._at(op):
            unread, mark = source.unread(op, into=into)
            early = unread >= EARLY
            step = name(f"unread {mark}" if early else source.digest(op, into=into))

        def fill(draft: Draft, _: Callable[[bytes], None], __: Cancel) -> None:
            from obuild.copy import beside, copy

            with self._at(op):
                if early and not source.unread(op, into=into)[0] and draft.settle(name(source.digest(op, into=into))):
                    return  # whoever we waited for has made it
                with source.scan(op, into=into) as files:
                    write = partial(copy, files, draft.root, target, into=into, user=context.user)
                    if early:
                        draft.settle(name(beside(partial(source.digest, op, into=into), write)))
                    else:
                        write()

        return self._make(step, _facts("copy", " ".join(op.src), context), (base.id,), fill)

    def _source(self, op: Copy, context: Context) -> Directory | Result:
        from obuild.source import Directory, Result  # a build without a `copy` does without

        index = f"{self._builder.store.path}/index"
        match op.source:
            case FromContext():
                return Directory(context.source, index)
            case FromBuild(name):
                return Result(self._builder.store, context.scope[name].layer(), index)
        raise ObuildError(f"{op.place}: this copy is part of a package build", hint="obuild opam spec says more")

    def _make(
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
        while layer is None or not self._keep(layer):
            layer = self._builder.store.get(id)
            if layer is None:
                self.reporter.started(op, facts["text"])
                try:
                    layer, made = self._builder.make(id, parents, fill, self, secrets, facts)
                except StepFailed as error:
                    self.reporter.step(op, id, cached=False, status=error.status, seconds=time.monotonic() - start)
                    raise
        if not made:
            _replay(layer, self.reporter)
        self.reporter.note(f'---> saved as "{layer.id}"' if made else f'---> using "{layer.id}" from cache')
        self.reporter.step(op, layer.id, cached=not made, status=0, seconds=time.monotonic() - start)
        return layer

    @contextmanager
    def _at(self, op: Op) -> Iterator[None]:
        """Say of an error where the operation stands that it is about."""
        try:
            yield
        except Cancelled:
            raise
        except ObuildError as error:
            error.message = f"{op.place}: {error.message}"
            raise
        except OSError as error:
            raise self._builder.store.explain(error, f"{op.place}: can not do this") from error

    def _keep(self, layer: Layer) -> bool:
        """Keep a layer from being pruned while this stage stands on it; False when that has happened already."""
        try:
            lock = self._builder.store.hold(layer)
        except StoreError as error:
            if not error.temporary:
                raise
            return False
        if self.lock is not None:
            self.lock.release()
        self.lock = lock
        return True


@contextmanager
def _caches(store: Store, op: Run, user: tuple[int, int]) -> Iterator[tuple[Mount, ...]]:
    """The cache directories of a run, as mounts of private copies that are given back when it ends."""
    with ExitStack() as stack:
        yield tuple(Mount(stack.enter_context(store.cache(cache.id, user)), cache.target) for cache in op.cache)


def _replay(layer: Layer, reporter: Reporter) -> None:
    """Say the log of a finished layer again."""
    with open(layer.log, "rb", buffering=0) as file:
        while piece := file.read(1 << 16):
            reporter.output(piece)


def _see(context: Context, branches: Sequence[Branch]) -> Context:
    """The context in which the nested builds can be copied from; a later one hides an earlier one of its name."""
    return replace(context, scope={**context.scope, **{branch.name: branch for branch in branches}})


def _join(workdir: str, path: str) -> str:
    return path if path.startswith("/") else f"{workdir.rstrip('/')}/{path}"


def _ids(op: User) -> tuple[int, int]:
    if op.name is not None:
        raise ObuildError(f'the user "{op.name}" has no number here', hint="write (user (uid N) (gid N))")
    return op.uid, op.gid


def _host(name: str) -> str:
    """The host name of a nested build."""
    return "".join([c if c.isascii() and c.isalnum() else "-" for c in name])[:63].strip("-") or HOST


def _secret(context: Context, secret: Secret) -> bytes:
    try:
        return context.secrets[secret.id]
    except KeyError:
        hint = nearest(secret.id, context.secrets) or f"give it with --secret {secret.id}:FILE"
        raise ObuildError(f'no value for the secret "{secret.id}"', hint=hint) from None


def _facts(op: str, text: str, context: Context) -> dict[str, Any]:
    """What `layer.json` says of how the layer was made, so that a shell can be opened in the same place."""
    place = {"env": context.env, "user": context.user, "workdir": context.workdir, "shell": context.shell}
    return {"op": op, "text": text, "context": place}


def _failure(argv: tuple[str, ...], status: int) -> str:
    import signal

    words = " ".join([f'"{_short(word)}"' for word in argv])
    if status > 128 and status - 128 in set(signal.Signals):
        return f"{words} failed with signal {signal.Signals(status - 128).name} (exit status {status})"
    return f"{words} failed with exit status {status}"


def _short(word: str) -> str:
    """A word of a command on one line."""
    text = " ".join(word.split())
    return text if len(text) <= _SHORT else text[:_SHORT] + "…"


_SHORT = 120

_UNREACHED = (b"name resolution", b"ould not resolve", b"bad address", b"Network is unreachable", b"service not known")
"""What programs say who find no network."""


def _advice(op: Run, log: str) -> str:
    """What a beginner may have missed, by the end of the log."""
    with open(log, "rb") as file:
        file.seek(max(0, os.path.getsize(log) - 4096))
        end = file.read()
    if not op.network and any(words in end for words in _UNREACHED):
        return "a step has no network unless it asks for one: (run (network host) …)"
    if b"env: " in end and b"bash" in end:
        return "the image has no bash: (shell /bin/sh -c) before this step names another shell"
    return ""
