"""Garbage collection of directories of runs and of universes: what nothing refers to goes, after a while.

Kept as well is what is younger than a grace period, what is locked, and what a `*-live` symlink leads to. A directory
is renamed before it is emptied, so half of one is never taken for a whole; symlinks are neither followed nor deleted.
By default it is only said what would go. Layers are deleted by their store: see `collect`.
"""

from __future__ import annotations

import os
import time

from obuild.disk import Lock, measure, remove_tree
from obuild.errors import UsageError
from obuild.runs.moment import DAY
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["Doomed", "Pruned", "prune_runs", "prune_universes", "referenced_universes"]

GRACE = 7 * DAY
"""Seconds since something was changed last, before which it stays whether anything refers to it or not."""

_TRASH = ".trash-"


@value
class Doomed:
    """A directory that goes: bytes it takes on disk, seconds since it was changed."""

    name: str
    size: int
    age: float


@value
class Pruned:
    """What was found: `total` candidates, `kept` of them; `deleted` went or, when `dry_run`, would go.

    `problems` are the directories that could not be deleted, with the reason.
    """

    total: int
    kept: int
    deleted: tuple[Doomed, ...]
    dry_run: bool
    problems: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes that the deleted ones took."""
        return sum(item.size for item in self.deleted)


def prune_universes(
    folder: str,
    *,
    referenced: Collection[str],
    grace: float = GRACE,
    dry_run: bool = True,
    force: bool = False,
    now: float | None = None,
) -> Pruned:
    """Delete the directories `folder/<universe>` that are not referenced. What is blessed lies elsewhere, and stays.

    Raises `UsageError` when none is referenced, unless `force`.
    """
    if not referenced and not force:
        raise UsageError(f'no universe of "{folder}" is referenced: all would go', hint="say so with force")
    return _prune(folder, _directories(folder), set(referenced), grace, dry_run=dry_run, now=now)


def referenced_universes(root: str) -> set[str]:
    """The universes of the builds that the histories below `root` end with."""
    from obuild.runs.status import Rollup

    return {entry.universe for _, entries in Rollup(root).entries() for entry in entries if entry.universe}


def prune_runs(root: str, *, keep: int, grace: float = GRACE, dry_run: bool = True, now: float | None = None) -> Pruned:
    """Delete the records of runs but the last `keep` finished ones and those that ended within the grace period.

    The one that `latest` leads to stays, and every run that goes on. Histories keep what the runs told them.
    """
    from obuild.runs.run import FINISHED, RUNNING, list_runs

    states = {run.id: run.state for run in list_runs(root)}
    finished = [name for name, state in states.items() if state == FINISHED]
    kept = {name for name, state in states.items() if state == RUNNING} | set(finished[max(0, len(finished) - keep) :])
    if os.path.islink(f"{root}/latest"):
        kept.add(os.path.basename(os.readlink(f"{root}/latest")))
    return _prune(f"{root}/runs", list(states), kept, grace, dry_run=dry_run, now=now)


def _prune(folder: str, names: list[str], kept: set[str], grace: float, *, dry_run: bool, now: float | None) -> Pruned:
    now = time.time() if now is None else now
    kept = kept | _live_targets(folder)
    deleted: list[Doomed] = []
    problems: list[str] = []
    for name in names:
        path = f"{folder}/{name}"
        age = now - _used(path)
        if name in kept or age < grace or _busy(path):
            continue
        doomed = Doomed(name, _size(path), age)
        try:
            if not dry_run and not _delete(folder, name):
                continue
            deleted.append(doomed)
        except OSError as error:
            problems.append(f"{name}: {(error.strerror or str(error)).lower()}")
    if not dry_run:
        _empty_trash(folder)
    return Pruned(len(names), len(names) - len(deleted), tuple(deleted), dry_run, tuple(problems))


def _directories(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as found:
            names = [item.name for item in found if item.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    return sorted(name for name in names if not name.startswith("."))


def _used(path: str) -> float:
    try:
        return os.stat(path, follow_symlinks=False).st_mtime
    except OSError:
        return time.time()  # gone, or not ours to look at: as young as can be


def _size(path: str) -> int:
    try:
        return measure(path).blocks
    except OSError:
        return 0


def _busy(path: str) -> bool:
    """Whether somebody holds the lock on a directory."""
    try:
        lock = Lock.attempt(path)
    except OSError:
        return False
    if lock is None:
        return True
    lock.release()
    return False


def _delete(folder: str, name: str) -> bool:
    """Delete one directory while its lock is ours; False when somebody was quicker."""
    lock = Lock.attempt(f"{folder}/{name}")
    if lock is None:
        return False
    with lock:
        trash = f"{folder}/{_TRASH}{name}-{os.urandom(4).hex()}"
        os.rename(f"{folder}/{name}", trash)
    remove_tree(trash)
    return True


def _empty_trash(folder: str) -> None:
    """Remove what an earlier deletion that was killed left."""
    for name in os.listdir(folder) if os.path.isdir(folder) else []:
        if name.startswith(_TRASH):
            try:
                remove_tree(f"{folder}/{name}")
            except OSError:
                continue


def _live_targets(folder: str) -> set[str]:
    """Every part of the paths that symlinks called `*-live`, here or in the two directories around, lead to."""
    found: set[str] = set()
    place = os.path.abspath(folder)
    for _ in range(3):
        for name in os.listdir(place) if os.path.isdir(place) else []:
            if name.endswith("-live") and os.path.islink(f"{place}/{name}"):
                found.update(os.path.normpath(os.path.join(place, os.readlink(f"{place}/{name}"))).split("/"))
        place = os.path.dirname(place)
    return found
