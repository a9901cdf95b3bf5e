"""Garbage collection of a store that health checks use: old runs, and the layers that no run needs any more.

Needed are the layers of all runs that are kept, of what profiles remember (`track`), and what those are built upon. The
others go once they have not been used for the grace period, and never while somebody uses them.
"""

from __future__ import annotations

import os

from obuild.errors import UsageError
from obuild.runs.history import History
from obuild.runs.lock import clean_stale
from obuild.runs.moment import DAY
from obuild.runs.prune import prune_runs, prune_universes, referenced_universes
from obuild.runs.run import list_runs
from obuild.runs.track import load_state
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from obuild.runs.profile import Keep
    from obuild.runs.prune import Pruned
    from obuild.runs.run import Node
    from obuild.store import Store
    from obuild.store.prune import Pruned as Layers

__all__ = ["Collected", "collect", "compact_histories", "needed_layers", "record_folders"]


@value
class Collected:
    """What went, or would go: `runs` by the directory of their records, layers, universes, stale locks' files."""

    runs: Mapping[str, Pruned]
    layers: tuple[Layers, ...]
    universes: Pruned | None = None
    locks: tuple[str, ...] = ()


def collect(
    store: Store,
    keep: Keep,
    *,
    others: Iterable[str] = (),
    universes: str = "",
    dry_run: bool = True,
    force: bool = False,
) -> Collected:
    """Delete what `keep` does not ask to keep, or with `dry_run` only say what would go.

    `others` are directories of records outside of the store; `universes` is a directory with one for each universe.
    Raises `UsageError` when no run needs any layer, unless `force`: that is more likely a mistake than a wish.
    """
    roots = list(dict.fromkeys([*record_folders(store.path), *map(os.path.realpath, others)]))
    runs = {root: prune_runs(root, keep=keep.runs, grace=keep.grace) for root in roots}  # nothing goes yet
    gone = {root: {item.name for item in pruned.deleted} for root, pruned in runs.items()}
    needed = needed_layers(gone)
    if not needed and not force:
        hint = "obuild prune deletes by age and size; --force means it"
        raise UsageError(f'no run in "{store.path}" needs a layer: all packages would go', hint=hint)
    layers = store.prune(max_age=keep.grace, keep=needed, only_packages=True, dry_run=dry_run)
    if not (keep.age is keep.layers is keep.size is None):
        seen = {(item.kind, item.id) for item in layers}
        more = store.prune(max_age=keep.age, max_count=keep.layers, max_size=keep.size, keep=needed, dry_run=dry_run)
        layers += [item for item in more if (item.kind, item.id) not in seen]
    found = None
    if universes:
        known = set[str]().union(*map(referenced_universes, roots))
        found = prune_universes(universes, referenced=known, grace=keep.grace, dry_run=dry_run, force=force)
    if not dry_run:
        runs = {root: prune_runs(root, keep=keep.runs, grace=keep.grace, dry_run=False) for root in roots}
    locks = [] if dry_run else [path for root in roots for path in clean_stale(root)]
    return Collected(runs, tuple(layers), found, tuple(locks))


def record_folders(store: str) -> Iterator[str]:
    """The directories in a store where runs are recorded: `runs`, and those in it for several platforms."""
    top = os.path.realpath(f"{store}/runs")
    yield top
    for name in sorted(os.listdir(top)) if os.path.isdir(top) else ():
        if os.path.isdir(f"{top}/{name}/runs"):
            yield f"{top}/{name}"


def needed_layers(roots: Mapping[str, set[str]]) -> set[str]:
    """The places in the store of all that was made in runs below `roots`, but for the runs named of each."""
    found: set[str] = set()
    for root, gone in roots.items():
        for run in list_runs(root):
            if run.id not in gone:
                found.update(_places(run.nodes()))
        for name in os.listdir(root) if os.path.isdir(root) else ():
            if name.startswith("track-") and name.endswith(".json"):
                found.update(_places(load_state(f"{root}/{name}").nodes))
    return found


def _places(nodes: Iterable[Node]) -> Iterator[str]:
    """`<platform>/<key>`, or `failed/…`: a store may have been moved since."""
    for node in nodes:
        if node.layer_dir:
            yield "/".join(node.layer_dir.rstrip("/").split("/")[-2:])


def compact_histories(root: str, packages: Iterable[str], age: float | None) -> None:
    """Thin out what histories say of the time before so many seconds; only those grow that a run has told of."""
    if age is not None:
        history = History(root)
        for package in packages:
            history.compact(package, max_age_days=age / DAY)
