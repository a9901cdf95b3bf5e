"""Garbage collection of directories full of layers or universes: what nothing refers to goes, after a while.

What is referred to is the closure of the live layers over their parents. Kept as well is what is younger than a grace
period, what is locked, and what a `*-live` symlink leads to. A directory is renamed before it is emptied, so half a
layer is never taken for one; symlinks are neither followed nor deleted. By default it is only said what would go.
"""

from __future__ import annotations

import json
import os
import time

from obuild.disk import Lock, measure, remove_tree
from obuild.errors import UsageError
from obuild.runs.moment import DAY
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from typing import Any

__all__ = [
    "Doomed",
    "Pruned",
    "clean_temporary",
    "prune_layers",
    "prune_runs",
    "prune_universes",
    "referenced_universes",
    "references",
]

GRACE = 7 * DAY
"""Seconds since a layer was used last, before which it stays whatever refers to it."""

_TRASH = ".trash-"
_LAYER, _STAMP, _OWNER = "layer.json", "last_used", "owner.json"
_PARENTS = ("parents", "parent_hashes", "hashes")
"""The keys of `layer.json` that name other layers, in the several formats there are."""

_SPARED = frozenset(("base", "opam-build-bin"))
"""Directories beside the layers that are none."""


@value
class Doomed:
    """A directory that goes: bytes it takes on disk, seconds since it was used."""

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


def references(folder: str, live: Iterable[str]) -> set[str]:
    """The closure of live layers: themselves and all that they stand on, as names in `folder`."""
    found, waiting = set[str](), [os.path.basename(name) for name in live]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        record = _record(f"{folder}/{name}")
        for key in _PARENTS:
            parents = record.get(key)
            if isinstance(parents, list):
                waiting += [os.path.basename(item) for item in parents if isinstance(item, str)]
    return found


def prune_layers(
    folder: str,
    *,
    live: Collection[str],
    grace: float = GRACE,
    dry_run: bool = True,
    force: bool = False,
    now: float | None = None,
) -> Pruned:
    """Delete the layers in `folder`, which are directories with a `layer.json`, that nothing live stands on.

    A layer is as old as its `last_used` file, else its `layer.json`. Raises `UsageError` when nothing is live, unless
    `force`: that is more likely a mistake than a wish.
    """
    if not live and not force:
        raise UsageError(f'no layer of "{folder}" is live: all would go', hint="say so with force if that is meant")
    names = [name for name in _directories(folder) if os.path.isfile(f"{folder}/{name}/{_LAYER}")]
    kept = references(folder, live)
    youngest = (time.time() if now is None else now) - grace
    for name in names:
        if name not in kept and (_used(f"{folder}/{name}") > youngest or _busy(folder, name)):
            kept |= references(folder, [name])  # what somebody works on stands on others
    return _prune(folder, [name for name in names if name not in _SPARED], kept, grace, dry_run=dry_run, now=now)


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
        if name in kept or age < grace or _busy(folder, name):
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


def _record(path: str) -> Mapping[str, Any]:
    try:
        with open(f"{path}/{_LAYER}", "rb") as file:
            record = json.loads(file.read())
    except (OSError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _used(path: str) -> float:
    for name in (f"{path}/{_STAMP}", f"{path}/{_LAYER}", path):
        try:
            return os.stat(name, follow_symlinks=False).st_mtime
        except OSError:
            continue
    return time.time()  # gone, or not ours to look at: as young as can be


def _size(path: str) -> int:
    """Bytes as they were recorded when the layer was made; counting them again takes a day for 600,000 layers."""
    record = _record(path)
    for key in ("size", "disk_usage"):
        if type(record.get(key)) is int:
            return int(record[key])
    try:
        return measure(path).blocks
    except OSError:
        return 0


def _busy(folder: str, name: str) -> bool:
    """Whether somebody holds the lock on a directory, or on the file `<name>.lock` beside it."""
    for path in (f"{folder}/{name}", f"{folder}/{name}.lock"):
        try:
            lock = Lock.attempt(path)
        except OSError:
            continue
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
    beside = f"{folder}/{name}.lock"
    if os.path.lexists(beside):
        lock = Lock.attempt(beside)
        if lock:
            with lock:
                os.unlink(beside)
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


def clean_temporary(folder: str, prefix: str, *, dry_run: bool = True) -> list[str]:
    """Remove the directories in `folder` that begin with `prefix` and whose owner is dead; their names.

    The owner is the process that `owner.json` inside names (`{"pid", "boot_id"}`); one without that file stays.
    """
    if not prefix:
        raise UsageError("directories of unknown names are nobody's to remove", hint="give the prefix that yours have")
    removed = []
    for name in _temporary(folder, prefix):
        if _owner_dead(f"{folder}/{name}"):
            if not dry_run:
                remove_tree(f"{folder}/{name}")
            removed.append(name)
    return removed


def _temporary(folder: str, prefix: str) -> Iterator[str]:
    with os.scandir(folder) as found:
        yield from sorted(
            item.name for item in found if item.name.startswith(prefix) and item.is_dir(follow_symlinks=False)
        )


def _owner_dead(path: str) -> bool:
    from obuild.kernel import boot_id

    try:
        with open(f"{path}/{_OWNER}", "rb") as file:
            facts = json.loads(file.read(4096))
        pid = facts["pid"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if facts.get("boot_id", boot_id()) != boot_id():
        return True
    return type(pid) is int and pid > 0 and not os.path.exists(f"/proc/{pid}")
