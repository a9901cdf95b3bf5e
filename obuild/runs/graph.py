"""What a run was to build and what needs what: `dag_structure.jsonl`, one `{"hash", "pkg", "deps"}` a line.

A node is a build of a package, known by its hash (the build-id); one package can have several in a run, with different
dependencies. `deps` are the hashes of the nodes that it needs directly.
"""

from __future__ import annotations

import json

from obuild.disk import write_atomic
from obuild.runs.journal import Journal
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

__all__ = ["Build", "Graph", "load_graph", "save_graph"]

FILE = "dag_structure.jsonl"


@value
class Build:
    """One node: a package's build, and those it needs directly."""

    id: str
    package: str
    deps: tuple[str, ...] = ()


class Graph:
    """The nodes of a run. A dependency that is no node (of a torn file) is left out."""

    def __init__(self, builds: Iterable[Build]) -> None:
        self.builds: Mapping[str, Build] = {build.id: build for build in builds}
        self._needed_by: dict[str, list[str]] = {}
        for build in self.builds.values():
            for dep in build.deps:
                if dep in self.builds:
                    self._needed_by.setdefault(dep, []).append(build.id)

    def named(self, package: str) -> list[Build]:
        """The builds of a package: `name.version`, or `name` for all versions."""
        return [build for build in self.builds.values() if package in (build.package, build.package.partition(".")[0])]

    def dependencies(self, ids: Iterable[str]) -> set[str]:
        """All that these builds need, also indirectly; not themselves."""
        return self._closure(ids, lambda key: [dep for dep in self.builds[key].deps if dep in self.builds])

    def dependents(self, ids: Iterable[str], *, direct: bool = False) -> set[str]:
        """All that needs any of these builds, also indirectly unless `direct`; not themselves."""
        if direct:
            return {user for key in ids for user in self._needed_by.get(key, ())} - set(ids)
        return self._closure(ids, lambda key: self._needed_by.get(key, []))

    def _closure(self, ids: Iterable[str], step: Callable[[str], list[str]]) -> set[str]:
        first = [key for key in ids if key in self.builds]
        found, waiting = set[str](), list(first)
        while waiting:
            new = [key for key in step(waiting.pop()) if key not in found]
            found.update(new)
            waiting += new
        return found.difference(first)

    def closures(self) -> dict[str, frozenset[str]]:
        """All that each build needs, also indirectly: for all builds at once, those that need nothing first."""
        found: dict[str, frozenset[str]] = {}
        waiting = [*self.builds][::-1]
        begun = set[str]()
        while waiting:
            key = waiting[-1]
            deps = [dep for dep in self.builds[key].deps if dep in self.builds]
            missing = [dep for dep in deps if dep not in found and dep not in begun]
            if key in found or not missing:
                waiting.pop()
                found.setdefault(key, frozenset(deps).union(*(found.get(dep, ()) for dep in deps)))
            else:
                begun.add(key)  # a cycle, which no plan has, would end here
                waiting += missing
        return found

    def packages(self, ids: Iterable[str]) -> list[str]:
        """The packages of some builds, each once, sorted."""
        return sorted({self.builds[key].package for key in ids})

    def edges(self, ids: Collection[str] | None = None) -> dict[str, tuple[str, ...]]:
        """Which package needs which directly, among some builds or all: for a picture."""
        chosen = self.builds.keys() if ids is None else ids
        found: dict[str, set[str]] = {}
        for key in chosen:
            build = self.builds[key]
            needs = {self.builds[dep].package for dep in build.deps if dep in self.builds and dep in chosen}
            found.setdefault(build.package, set()).update(needs)
        return {package: tuple(sorted(found[package])) for package in sorted(found)}


def save_graph(folder: str, graph: Graph) -> None:
    """Write the graph of the run in `folder`. Raises `OSError`."""
    records = ({"hash": build.id, "pkg": build.package, "deps": build.deps} for build in graph.builds.values())
    lines = (json.dumps(record, separators=(",", ":")) for record in records)
    write_atomic(f"{folder}/{FILE}", "".join(f"{line}\n" for line in lines).encode())


def load_graph(folder: str) -> Graph:
    """The graph of the run in `folder`: empty when it has none; lines that are no nodes are skipped."""
    records, _ = Journal(f"{folder}/{FILE}").read()
    builds = []
    for record in records:
        key, package, deps = record.get("hash"), record.get("pkg"), record.get("deps", [])
        if isinstance(key, str) and isinstance(package, str) and isinstance(deps, list):
            builds.append(Build(key, package, tuple(dep for dep in deps if isinstance(dep, str))))
    return Graph(builds)
