"""What to build next: the builds of a graph in the order that ends soonest. No threads, no clock: only decisions.

A build is ready when all that it needs is there. Of those that are ready the one goes first at which the longest way
through the graph begins, measured in seconds; then the one that more builds wait for. A build that fails takes with it
all that needs it. What was to be built for nothing else is then dropped, unless the schedule is to keep going.
"""

from __future__ import annotations

from heapq import heappop, heappush

from obuild.errors import OpamError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from obuild.runs.graph import Graph

__all__ = ["Schedule", "build_order", "longest_ways"]


def build_order(graph: Graph) -> list[str]:
    """The ids of a graph, each after those it needs. Raises `OpamError` for builds that need each other."""
    left = {key: _known(graph, key) for key in graph.builds}
    waiting = {key: len(deps) for key, deps in left.items()}
    users: dict[str, list[str]] = {}
    for key, deps in left.items():
        for dep in deps:
            users.setdefault(dep, []).append(key)
    order = [key for key, count in waiting.items() if not count]
    for key in order:  # grows meanwhile
        for user in users.get(key, ()):
            waiting[user] -= 1
            if not waiting[user]:
                order.append(user)
    if len(order) < len(waiting):
        names = graph.packages(set(waiting).difference(order))
        raise OpamError(f"no order to build in: these need each other: {', '.join(names)}")
    return order


def longest_ways(graph: Graph, seconds: Callable[[str], float]) -> dict[str, float]:
    """For each build the time from its start to the end of the last one on the longest way that begins with it."""
    ways: dict[str, float] = {}
    behind: dict[str, float] = {}
    for key in reversed(build_order(graph)):
        ways[key] = seconds(key) + behind.get(key, 0.0)
        for dep in graph.builds[key].deps:
            behind[dep] = max(behind.get(dep, 0.0), ways[key])
    return ways


def _known(graph: Graph, key: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(dep for dep in graph.builds[key].deps if dep in graph.builds))


class Schedule:
    """The state of a graph that is being built. For one thread at a time.

    `targets` are the builds whose fate matters; by default all. `done` are there already. `ways` as `longest_ways`
    gives them decide what is urgent; without them every build counts the same.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        targets: Iterable[str] | None = None,
        done: Iterable[str] = (),
        ways: Mapping[str, float] | None = None,
        keep_going: bool = True,
    ) -> None:
        self.graph, self.keep_going = graph, keep_going
        order = build_order(graph)
        self._ways = longest_ways(graph, lambda _: 1.0) if ways is None else ways
        self._targets = set(order if targets is None else targets) & graph.builds.keys()
        self.done: set[str] = set(done) & graph.builds.keys()
        self.failed: dict[str, str] = {}
        """Builds that failed, and those that can not be built because of one: which one."""
        self.dropped: set[str] = set()
        """Builds that nobody has any use for any more."""
        self.running: set[str] = set()
        self._needs = {key: _known(graph, key) for key in order}
        self._users: dict[str, list[str]] = {key: [] for key in order}
        for key, deps in self._needs.items():
            for dep in deps:
                self._users[dep].append(key)
        self._waits = {key: sum(dep not in self.done for dep in deps) for key, deps in self._needs.items()}
        self._queue: list[tuple[float, int, int, str]] = []
        self._place = {key: place for place, key in enumerate(order)}
        self.ready = 0
        """So many could be started at once."""
        for key in self._useful(order):
            if not self._waits[key]:
                self._enqueue(key)

    def _useful(self, order: list[str]) -> list[str]:
        """What is to be built: targets that are not there, and whatever is missing below those. The rest is dropped."""
        wanted: set[str] = set()
        for key in reversed(order):
            if key not in self.done and (key in self._targets or any(user in wanted for user in self._users[key])):
                wanted.add(key)
        self.dropped = self.graph.builds.keys() - wanted - self.done
        self._left = set(wanted)
        return [key for key in order if key in wanted]

    @property
    def left(self) -> int:
        """How many are still to be started."""
        return len(self._left)

    @property
    def over(self) -> bool:
        """Whether nothing runs and nothing is left."""
        return not (self._left or self.running)

    def take(self) -> str | None:
        """The build to start now, or None when none is ready. It counts as running until `succeed` or `fail`."""
        while self._queue:
            key = heappop(self._queue)[-1]
            if key in self._left:
                self._left.discard(key)
                self.running.add(key)
                self.ready -= 1
                return key
        return None

    def succeed(self, key: str) -> None:
        """A running build is there now."""
        self.running.remove(key)
        self.done.add(key)
        for user in self._users[key]:
            self._waits[user] -= 1
            if not self._waits[user] and user in self._left:
                self._enqueue(user)

    def fail(self, key: str) -> list[str]:
        """A running build failed: all that can not be built any more, each after those it needs, itself left out."""
        self.running.remove(key)
        self.failed[key] = key
        lost = self._lose(key)
        if not self.keep_going:
            self._drop([key, *lost])
        return lost

    def _lose(self, key: str) -> list[str]:
        """Give up what needs a build that failed; not what stands on something that is there already."""
        lost = []
        agenda = [key]
        while agenda:
            for user in self._users[agenda.pop()]:
                if user in self._left:
                    self._left.discard(user)
                    self.failed[user] = key
                    lost.append(user)
                    agenda.append(user)
        return sorted(lost, key=self._place.__getitem__)

    def _enqueue(self, key: str) -> None:
        heappush(self._queue, (-self._ways.get(key, 0.0), -len(self._users[key]), self._place[key], key))
        self.ready += 1

    def _drop(self, lost: list[str]) -> None:
        """Give up what is needed by lost builds alone."""
        agenda = list(lost)
        while agenda:
            for dep in self._needs[agenda.pop()]:
                if dep in self._left and dep not in self._targets and not self._has_use(dep):
                    self._left.discard(dep)
                    self.dropped.add(dep)
                    self.ready -= not self._waits[dep]
                    agenda.append(dep)

    def _has_use(self, key: str) -> bool:
        return any(user in self._left or user in self.running for user in self._users[key])
