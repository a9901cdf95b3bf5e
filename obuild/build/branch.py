"""A nested build beside the stage that it belongs to."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from obuild.build.context import Context
    from obuild.build.stage import Stage
    from obuild.spec import Spec
    from obuild.store import Layer
    from obuild.store.hold import Hold

__all__ = ["Branch"]


class Branch:
    """A nested build: waiting for its turn, under way in its own thread, or over; `layer` waits for its result."""

    def __init__(self, parent: Stage, name: str, spec: Spec, context: Context) -> None:
        import threading

        self.name = name
        self._parent, self._reporter = parent, parent.reporter.branch(name)
        self._spec, self._context = spec, context
        self._over = threading.Event()
        self._layer: Layer | None = None
        self._lock: Hold | None = None
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
