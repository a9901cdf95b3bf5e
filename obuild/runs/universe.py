"""Universes: what a package was built with, all dependencies of it, as one hash."""

from __future__ import annotations

import hashlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from obuild.runs.graph import Graph

__all__ = ["universe_id", "universes"]


def universe_id(packages: Iterable[str], ids: Mapping[str, str] | None = None) -> str:
    """The hash of a set of dependencies, each "name.version": 32 hex digits.

    Without `ids` it is docs-ci's: the MD5 of a newline and the package, for each of them in sorted order. It does not
    change when a definition does. With `ids`, the build-id of each package, it does: the SHA-256, cut to 32 digits, of
    the same with a space and the build-id after each package.
    """
    names = sorted(set(packages))
    if ids is None:
        text = "".join(f"\n{name}" for name in names)
        return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()
    text = "".join(f"\n{name} {ids[name]}" for name in names)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def universes(graph: Graph, *, content: bool = True) -> dict[str, str]:
    """The universe of every build of a graph, by its hash; with `content` the build-ids count."""
    found: dict[str, str] = {}
    for key, needs in graph.closures().items():
        ids = {graph.builds[dep].package: dep for dep in needs}
        found[key] = universe_id(ids, ids if content else None)
    return found
