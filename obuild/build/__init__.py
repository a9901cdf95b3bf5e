"""The interpreter: specs in, layers out.

A step that is not in the store is made once: in a thread of its own that everybody in this process who wants it joins,
and under the store's lock that other processes wait for.
"""

from __future__ import annotations

import time
from contextlib import contextmanager

from obuild.build.context import Context, Options
from obuild.build.stage import Stage
from obuild.cancel import Cancel
from obuild.errors import Cancelled, ObuildError
from obuild.log import Redactor, Reporter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from obuild.build.flight import Flight, Flights
    from obuild.download import Sources
    from obuild.sandbox import Sandbox
    from obuild.spec import Spec
    from obuild.store import Draft, Layer, Store

    Made = tuple[Layer, bool]
    Fill = Callable[[Draft, Callable[[bytes], None], Cancel], None]

__all__ = ["Builder", "Context", "Options"]


class Builder:
    """Builds specs into layers of a store. Safe to use from several threads at once.

    `sandbox` opens the sandbox when the first step has to run.
    """

    def __init__(self, store: Store, sandbox: Callable[[], Sandbox], options: Options = Options()) -> None:  # noqa: B008
        self.store, self.options = store, options
        self._open_sandbox = sandbox
        self._sandbox: Sandbox | None = None
        self._sources: Sources | None = None
        self._flights: Flights | None = None
        self._slots: Any = None

    def build(
        self,
        spec: Spec,
        context: Context,
        *,
        id: str | None = None,
        meta: Mapping[str, Any] | None = None,
        files: Mapping[str, bytes] | None = None,
        reporter: Reporter | None = None,
        cancel: Cancel | None = None,
    ) -> Layer:
        """Build a spec and return its last layer.

        With an `id` ("debian-13-x86_64/<build-id>") it is the spec of a package: what it adds to its switch is saved
        under that id, its `layer.json` has all of `meta`, and `files` are beside it. A layer `id` whose `base` and
        `variant` are those of `meta` is that layer; another one is replaced. See also `failure`.

        Raises `StepFailed` for a step that fails, `Cancelled` once `cancel` is set, and other `ObuildError`s for what
        can not be done. The steps that ended well stay in the store whatever happens later.
        """
        token = (Cancel() if cancel is None else cancel).child()
        stage = Stage(self, reporter or Reporter(), token)
        try:
            with _deadline(self.options.timeout, token):
                if id is not None:
                    return self._package(spec, context, id, meta or {}, files or {}, stage)
                return stage.build(spec, context)
        finally:
            stage.end()

    def _package(
        self,
        spec: Spec,
        context: Context,
        id: str,
        meta: Mapping[str, Any],
        files: Mapping[str, bytes],
        stage: Stage,
    ) -> Layer:
        from obuild.build.package import build_package

        return build_package(
            self, spec, context, id=id, meta=meta, files=files, reporter=stage.reporter, cancel=stage.cancel
        )

    def hit(self, id: str, meta: Mapping[str, Any]) -> Layer | None:
        """The finished layer of the package `id` that `build` would find, stamped as used now; None without one."""
        from obuild.build.package import asked

        return self.store.package(id, asked(meta))

    def failure(self, id: str) -> Layer | None:
        """What is known of the last try to build the package `id` since it was built; None when that did not fail.

        It has a log and a `build.spec`. Its `meta()` has the `error` and `hint`, `failure` (the name of its class), the
        command's `status`, `op` (which one of the spec's), `step` (its id: `Store.failed_layer` has the tree) and
        `last` (the id of the layer before it).
        """
        return self.store.failed_layer(id)

    def sources(self) -> Sources:
        """The sources of packages, opened when one is first wanted."""
        if self._sources is None:
            from obuild.download import Sources

            options = self.options
            self._sources = Sources(
                f"{self.store.path}/sources", mirrors=options.archive_mirrors, offline=options.offline
            )
        return self._sources

    def sandbox(self) -> Sandbox:
        """The sandbox, opened when it is first wanted."""
        if self._sandbox is None:
            self._sandbox = self._open_sandbox()
        return self._sandbox

    def make(
        self,
        id: str,
        parents: tuple[str, ...],
        fill: Fill,
        stage: Stage,
        secrets: tuple[bytes, ...],
        facts: dict[str, Any],
    ) -> Made:
        """The layer `id`, made by `fill` unless somebody is making it already; and whether it was made now.

        `facts` are kept in its `layer.json`; `secrets` are hidden in its log.
        """
        if self._flights is None:
            from obuild.build.flight import Flights, Slots

            self._flights, self._slots = Flights(), Slots(self.options.jobs)

        options = self.options
        # What does not count for the id, but may be why a step fails. Another secret of the same name may be right.
        terms = (options.limits, options.fast_sync, options.no_new_privs, options.variables)
        given: dict[str, Any] = {"keep_failed": options.keep_failed, "terms": "" if secrets else repr(terms)}

        def work(flight: Flight) -> Made:
            with (
                self._slots.take(flight.cancel),
                self.store.new(id, parents, follow=flight.follow, cancel=flight.cancel, **given) as draft,
            ):
                found = draft.layer
                if found is None:
                    draft.meta.update(facts)
                    try:
                        _fill(draft, fill, flight, Redactor(secrets))
                    except OSError as error:
                        raise self.store.explain(error, f'can not make the layer of "{facts["text"]}"') from error
                made = draft.made
            assert draft.layer is not None
            return draft.layer, made

        made: Made = self._flights.join(
            id, work, listener=stage.reporter.output, note=stage.reporter.note, cancel=stage.cancel
        )
        return made


def _fill(draft: Draft, fill: Fill, flight: Flight, redactor: Redactor) -> None:
    flight.logged(draft.log)
    start = time.monotonic()
    try:
        fill(draft, lambda data: flight.write(redactor.feed(data), draft.write), flight.cancel)
    finally:
        flight.write(redactor.end(), draft.write)
        draft.meta["seconds"] = round(time.monotonic() - start, 4)


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
