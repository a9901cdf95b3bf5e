"""A `run`: the command as a step, as a process in a container, and what is said when it fails."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

from obuild.build.context import facts, placed
from obuild.build.step import RunStep
from obuild.errors import LimitExceeded, ObuildError, StepFailed, nearest
from obuild.sandbox import Mount, Process, SecretFile
from obuild.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from obuild.build.context import Context
    from obuild.build.stage import Stage
    from obuild.build.supply import Ground
    from obuild.cancel import Cancel
    from obuild.spec import Run, Secret
    from obuild.store import Draft, Layer, Store

__all__ = ["run"]

HOST = "builder"
"""The host name of a step, as in OBuilder; that of a nested build on private networks is its name."""


def run(stage: Stage, op: Run, context: Context, ground: Ground) -> Layer:
    """The layer of a command, run in a container on what it stands on. Raises `StepFailed`."""
    secrets = tuple((item.id, item.target) for item in op.secrets)
    with stage.at(op):
        values = tuple(_secret(context, item) for item in op.secrets)
    host = "" if op.network in ((), ("host",)) else _host(stage.name)
    step = RunStep(
        ground.id, context.workdir, context.user, context.env, context.shell, op.shell, op.network, secrets, host
    )
    process = Process(
        argv=(*context.shell, op.shell),
        cwd=context.workdir,
        user=context.user,
        env=_filled(context.env, stage.builder.options.variables),
        network=op.network,
        secrets=tuple(SecretFile(item.target, content) for item, content in zip(op.secrets, values, strict=True)),
        limits=stage.builder.options.limits,
        hostname=host or HOST,
        fast_sync=stage.builder.options.fast_sync,
        no_new_privs=stage.builder.options.no_new_privs,
    )

    def fill(draft: Draft, write: Callable[[bytes], None], cancel: Cancel) -> None:
        def failed(message: str, status: int, hint: str = "") -> StepFailed:
            return StepFailed(message, id=step.id, status=status, log=draft.log, hint=hint)

        with stage.at(op), _caches(stage.builder.store, op, context.user) as mounts:
            run = replace(process, mounts=mounts)
            try:
                status = stage.builder.sandbox().run(run, draft.root, write, state=draft.path, cancel=cancel)
            except LimitExceeded as error:
                raise failed(error.message, 128 + 9, error.hint) from None  # it was killed
            if status:
                from obuild.build.failure import advice, failure

                raise failed(failure(process.argv, status), status, advice(op, draft.log))

    try:
        return stage.make(step.id, facts("run", op.shell, context), ground.parents, fill, secrets=values)
    except StepFailed as error:
        if error.message == error.said:  # it failed in another process, where it stands elsewhere
            error.message = placed(op, error.said)
        raise


@contextmanager
def _caches(store: Store, op: Run, user: tuple[int, int]) -> Iterator[tuple[Mount, ...]]:
    """The cache directories of a run, as mounts of private copies that are given back when it ends."""
    with ExitStack() as stack:
        yield tuple(Mount(stack.enter_context(store.cache(cache.id, user)), cache.target) for cache in op.cache)


def _filled(env: tuple[tuple[str, str], ...], more: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """An environment with more variables, where it has none of that name."""
    known = {name for name, _ in env}
    return env + tuple(pair for pair in more if pair[0] not in known)


def _host(name: str) -> str:
    """The host name of a nested build."""
    return "".join([c if c.isascii() and c.isalnum() else "-" for c in name])[:63].strip("-") or HOST


def _secret(context: Context, secret: Secret) -> bytes:
    try:
        return context.secrets[secret.id]
    except KeyError:
        hint = nearest(secret.id, context.secrets) or f"give it with --secret {secret.id}:FILE"
        raise ObuildError(f'no value for the secret "{secret.id}"', hint=hint) from None
