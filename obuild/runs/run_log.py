"""Writing a run while it goes on: its directory, phase files, a line for each build that ended, logs, the summary.

A builder never fails because its book-keeping does: when the disk is full or a file may not be written, that is noted
and the run goes on, and the summary says what is missing. Any thread may call any method; other processes may append to
the same run through `Journal`. The run's directory is locked until the end, which is how a reader tells a run that goes
on from one that was killed.
"""

from __future__ import annotations

import json
import os
import threading
import time

from obuild.disk import Lock, write_atomic
from obuild.errors import StoreError, UsageError
from obuild.runs.graph import save_graph
from obuild.runs.history import History, outcome_entry
from obuild.runs.journal import Journal
from obuild.runs.moment import format_time
from obuild.runs.outcome import Failure, NoSolution, Success, check_package
from obuild.runs.run import Node, Run, Summary, format_node, format_summary
from obuild.runs.swap import point
from obuild.value import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from obuild.runs.graph import Graph

__all__ = ["RunLog"]


class RunLog:
    """A run that goes on, made by `start` or `resume`; `id` and `path` name it, `history` is where packages are told.

    `problems` are the files that could not be written, each once.
    """

    def __init__(self, root: str, id: str, lock: Lock, started: float) -> None:
        self.id, self.run, self.history = id, Run(root, id), History(root)
        self.path = self.run.path
        self.problems: tuple[str, ...] = ()
        self._root, self._held, self._started = root, lock, started
        self._journal = Journal(f"{self.path}/build.jsonl")
        self._lock = threading.Lock()
        self._nodes: dict[tuple[str, str, str, str], Node] = {}

    @classmethod
    def start(cls, root: str, *, now: float | None = None) -> RunLog:
        """Begin a run under the directory `root`, with an id of its own. Raises `StoreError` when there is no room."""
        now = time.time() if now is None else now
        stamp = time.strftime("%Y-%m-%d-%H%M%S", time.gmtime(now))
        try:
            name = _new_directory(f"{root}/runs", stamp)
            for kind in ("build", "docs"):
                os.mkdir(f"{root}/runs/{name}/{kind}")
            return cls(root, name, Lock.take(f"{root}/runs/{name}"), now)
        except OSError as error:
            raise StoreError(f'can not begin a run in "{root}": {(error.strerror or "").lower()}') from None

    @classmethod
    def resume(cls, root: str, id: str) -> RunLog:
        """Go on with a run that was interrupted. Raises `UsageError` when it was not.

        Builds that ended and did not come to the history of their package, because the process was killed between the
        two, are told there now.
        """
        run = Run(root, id)
        lock = Lock.attempt(run.path) if os.path.isdir(run.path) else None
        if lock is None:
            raise UsageError(f'run "{id}" goes on' if os.path.isdir(run.path) else f'no run "{id}"')
        if run.summary:
            lock.release()
            raise UsageError(f'run "{id}" is finished', hint="start a new one")
        log = cls(root, id, lock, run.start or time.time())
        for node in run.nodes():
            log._count(node)
            told = log.history.recent(node.outcome.package, 1 << 14)
            if not any((entry.run, entry.build_hash) == (id, node.outcome.id) for entry in told):
                log._tell(node)
        return log

    @property
    def nodes(self) -> tuple[Node, ...]:
        """What ended so far, the last attempt of each."""
        with self._lock:
            return tuple(self._nodes.values())

    def phase(self, name: str, facts: Mapping[str, Any]) -> None:
        """Write `<name>.json` when a phase is over; a timestamp is added."""
        record = {"timestamp": format_time(time.time()), **facts}
        data = (json.dumps(record, indent=2) + "\n").encode()
        self._attempt(f"{name}.json", lambda: write_atomic(f"{self.path}/{name}.json", data))

    def graph(self, graph: Graph) -> None:
        """Write what is to be built."""
        self._attempt("dag_structure.jsonl", lambda: save_graph(self.path, graph))

    def node_finished(self, node: Node, *, log: str = "") -> None:
        """Tell that a build ended, and with `log`, the path of its log, keep that; its history gets an entry too.

        A node without a time has ended now.
        """
        node = node if node.t else replace(node, t=format_time(time.time()))
        self._attempt("build.jsonl", lambda: self._journal.append(format_node(node)))
        if log:
            self.add_build_log(node.outcome.package, log)
        self._tell(node)
        self._count(node)

    def _tell(self, node: Node) -> None:
        if node.kind in ("build", "solve"):
            entry = outcome_entry(
                node.outcome, self.id, compiler=node.compiler, universe=node.universe, blessed=node.blessed, ts=node.t
            )
            self._attempt("history", lambda: self.history.append(node.outcome.package, entry))

    def _count(self, node: Node) -> None:
        with self._lock:
            self._nodes[node.kind, node.outcome.package, node.outcome.id, node.compiler] = node

    def add_build_log(self, package: str, source: str) -> str:
        """Keep a log as `build/<package>.log`, a second one of the package as `<package>.2.log`; its path, or "".

        It is the same file under another name where that is possible, so it costs nothing and stays when the layer
        that it belongs to goes.
        """
        number = 1
        while True:
            name = f"{check_package(package)}.log" if number == 1 else f"{package}.{number}.log"
            target = f"{self.path}/build/{name}"
            try:
                _link(source, target)
                return target
            except FileExistsError:
                number += 1
            except FileNotFoundError:
                return ""  # there is no such log
            except OSError as error:
                self._note(f"build/{name}", error)
                return ""

    def add_doc_log(self, package: str, source: str, *, layer: str = "") -> str:
        """Keep a log as `docs/<package>[.<layer>].log`, in the place of an older one; its path, or ""."""
        name = f"{check_package(package)}.{layer}.log" if layer else f"{check_package(package)}.log"
        target = f"{self.path}/docs/{name}"
        temporary = f"{target}.{os.urandom(4).hex()}.new"
        try:
            _link(source, temporary)
            os.rename(temporary, target)
        except FileNotFoundError:
            return ""
        except OSError as error:
            self._note(f"docs/{name}", error)
            return ""
        return target

    def finish(self, *, targets: int | None = None, now: float | None = None) -> Summary:
        """Write the summary and let `latest` lead here; nothing can be added any more. `targets` as for `summary`."""
        summary = self.summary(targets=targets, now=now)
        path = f"{self.path}/summary.json"
        self._attempt("summary.json", lambda: write_atomic(path, format_summary(summary).encode(), durable=True))
        self._attempt("latest", lambda: point(f"{self._root}/latest", f"runs/{self.id}"))
        self.close()
        return replace(summary, problems=self.problems)

    def close(self) -> None:
        """Let go of the run without a summary: it is interrupted then, and can be resumed."""
        self._held.release()

    def summary(self, *, targets: int | None = None, now: float | None = None) -> Summary:
        """What the run has done so far. `targets` is how many packages were asked for, else those that ended."""
        nodes, now = self.nodes, time.time() if now is None else now
        builds = [node.outcome for node in nodes if node.kind in ("build", "solve")]
        failed = [outcome for outcome in builds if isinstance(outcome, Failure)]
        built = [outcome for outcome in builds if isinstance(outcome, Success)]
        unsolved = sum(isinstance(outcome, NoSolution) for outcome in builds)
        return Summary(
            self.id,
            format_time(self._started),
            format_time(now),
            round(now - self._started, 3),
            targets_requested=len({outcome.package for outcome in builds}) if targets is None else targets,
            packages_built=len(built),
            packages_cached=sum(outcome.cached for outcome in built),
            packages_failed=len(failed),
            packages_blocked=len(builds) - len(built) - len(failed) - unsolved,
            packages_unsolved=unsolved,
            docs_generated=sum(node.kind == "doc" and isinstance(node.outcome, Success) for node in nodes),
            failures=tuple((outcome.package, outcome.error) for outcome in failed),
            problems=self.problems,
        )

    def _attempt(self, name: str, action: Callable[[], None]) -> None:
        try:
            action()
        except OSError as error:
            self._note(name, error)

    def _note(self, name: str, error: OSError) -> None:
        problem = f"{name}: {(error.strerror or str(error)).lower()}"
        with self._lock:
            if problem not in self.problems:
                self.problems = (*self.problems, problem)


def _new_directory(folder: str, stamp: str) -> str:
    """Make a directory called `stamp`, or `stamp-2` and so on when others began in the same second; its name."""
    os.makedirs(folder, exist_ok=True)
    name, number = stamp, 1
    while True:
        try:
            os.mkdir(f"{folder}/{name}")
            return name
        except FileExistsError:
            number += 1
            name = f"{stamp}-{number}"


def _link(source: str, target: str) -> None:
    """Give a file another name, or copy it where that can not be. Raises `FileExistsError`, `OSError`."""
    try:
        os.link(os.path.realpath(source), target)
        return
    except (FileExistsError, FileNotFoundError):
        raise
    except OSError:
        pass  # another file system, a file of another owner, too many names
    from shutil import copyfileobj

    with open(source, "rb") as old, open(target, "xb") as new:
        try:
            copyfileobj(old, new)
        except OSError:
            os.unlink(target)
            raise
