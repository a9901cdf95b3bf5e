"""The state of every package after a run, and what has changed since the run before: `status.json`.

It is made from the ends of the histories, which take one pass; a `Rollup` keeps them in memory, so that who asks again
reads what was appended to meanwhile. Builds are compared by package and compiler, then by hash or universe: a package
that was repaired has a new hash, so hashes alone would never show it.
"""

from __future__ import annotations

import json
import os
import time

from obuild.disk import write_atomic
from obuild.runs.history import FILE, Entry, parse_entry
from obuild.runs.journal import backwards
from obuild.runs.moment import format_time
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from typing import Any

__all__ = ["Change", "Rollup", "Status", "format_status", "generate_status", "load_status", "save_status"]

NEW_FAILURE, RECOVERY, OTHER = "new_failure", "recovery", "other"
STATUS = "status.json"


@value
class Change:
    """A package that is not what it was: `before` and `after` are categories, `kind` says which way it went."""

    package: str
    compiler: str
    build_hash: str
    blessed: bool
    before: str
    after: str

    @property
    def kind(self) -> str:
        """ "new_failure", "recovery" or "other"."""
        if self.before == "success":
            return NEW_FAILURE
        return RECOVERY if self.after == "success" else OTHER


@value
class Status:
    """All packages after the run `run_id`.

    Totals are builds by category: of each package the blessed one, and all others. `packages` gives the category of
    each for each compiler, of the blessed build where there is one. A build counts when the last run that had the
    package and the compiler had it.
    """

    generated: str
    run_id: str
    blessed_totals: Mapping[str, int]
    non_blessed_totals: Mapping[str, int]
    changes: tuple[Change, ...] = ()
    new_packages: tuple[str, ...] = ()
    removed_packages: tuple[str, ...] = ()
    packages: Mapping[str, Mapping[str, str]] = {}


_ENOUGH = 4
"""Entries of a history that are read at least: compilers that the last two runs left out are seen too."""

_LIMIT = 1 << 16
"""Bytes of a history that are read at most."""


class Rollup:
    """The ends of all histories below `root`, kept in memory."""

    def __init__(self, root: str) -> None:
        self._folder = f"{root}/packages"
        self._known: dict[str, tuple[tuple[int, int, int], tuple[Entry, ...]]] = {}
        self.reads = 0

    def entries(self) -> Iterator[tuple[str, tuple[Entry, ...]]]:
        """Every package with the end of its history, the newest first: the last two runs of each compiler in them."""
        try:
            with os.scandir(self._folder) as found:
                names = sorted(item.name for item in found if not item.name.startswith("."))
        except FileNotFoundError:
            names = []
        for gone in self._known.keys() - set(names):
            del self._known[gone]
        for name in names:
            entries = self._end(name)
            if entries:
                yield name, entries

    def refresh(self) -> None:
        """Read what is not known yet."""
        for _ in self.entries():
            pass

    def _end(self, package: str) -> tuple[Entry, ...]:
        path = f"{self._folder}/{package}/{FILE}"
        try:
            info = os.stat(path, follow_symlinks=False)
            state = info.st_ino, info.st_size, info.st_mtime_ns
            known = self._known.get(package)
            if known and known[0] == state:
                return known[1]
            entries = tuple(_last_runs(backwards(path, _LIMIT)))
        except OSError:
            return ()  # no history, or one that can not be read
        self.reads += 1
        self._known[package] = state, entries
        return entries


def _last_runs(records: Iterable[Mapping[str, Any]]) -> Iterator[Entry]:
    """Entries until another run begins when there are two of every compiler in the newest run."""
    newest, count, last = "", 0, ("", "")
    runs: dict[str, set[str]] = {}
    for record in records:
        entry = parse_entry(record)
        if entry is None:
            continue
        run, compiler = entry.run, entry.compiler
        newest = newest or run
        if (run, compiler) != last:
            begins = all(run not in seen and len(seen) > 1 for seen in runs.values())
            if count >= _ENOUGH and begins:
                return
            last = run, compiler
            if run == newest or compiler in runs:
                runs.setdefault(compiler, set()).add(run)
        count += 1
        yield entry


def generate_status(
    root: str,
    run_id: str,
    *,
    previous: Status | None = None,
    expected: Collection[str] | None = None,
    rollup: Rollup | None = None,
    now: float | None = None,
) -> Status:
    """The state after the run `run_id`.

    `expected` are all packages there are now: those of `previous` that are not among them are removed, and count no
    more. Without it, packages whose history is gone are removed.
    """
    rollup = rollup or Rollup(root)
    totals: tuple[dict[str, int], dict[str, int]] = {}, {}
    packages: dict[str, dict[str, str]] = {}
    changes: list[Change] = []
    new = []
    for package, entries in rollup.entries():
        if expected is not None and package not in expected:
            continue
        live = _live(entries)
        blessed = next((entry for entry in live if entry.blessed), None)
        for entry in live:
            total = totals[entry is not blessed]
            total[entry.category] = total.get(entry.category, 0) + 1
        packages[package] = _by_compiler(live)
        if entries[-1].run == run_id and all(entry.run == run_id for entry in entries):
            new.append(package)
        else:
            changes += _changes(package, entries, run_id)
    removed = sorted(previous.packages.keys() - packages.keys()) if previous else []
    return Status(
        format_time(time.time() if now is None else now),
        run_id,
        dict(sorted(totals[0].items())),
        dict(sorted(totals[1].items())),
        tuple(changes),
        tuple(new),
        tuple(removed),
        packages,
    )


def _live(entries: Iterable[Entry]) -> list[Entry]:
    """The newest entry of each build in the last run of each compiler."""
    last: dict[str, str] = {}
    live: dict[tuple[str, str], Entry] = {}
    for entry in entries:
        if last.setdefault(entry.compiler, entry.run) == entry.run:
            live.setdefault(entry.stream, entry)
    return list(live.values())


def _by_compiler(live: Iterable[Entry]) -> dict[str, str]:
    found: dict[str, Entry] = {}
    for entry in live:
        if entry.compiler not in found or (entry.blessed and not found[entry.compiler].blessed):
            found[entry.compiler] = entry
    return {compiler: found[compiler].category for compiler in sorted(found)}


def _changes(package: str, entries: tuple[Entry, ...], run_id: str) -> Iterator[Change]:
    if len({entry.category for entry in entries}) == 1:
        return  # as with nearly all packages on nearly all days
    seen: set[tuple[str, str]] = set()
    for number, entry in enumerate(entries):
        if entry.run != run_id or entry.stream in seen:
            continue
        seen.add(entry.stream)
        before = _before(entry, entries[number + 1 :])
        if before and before.category != entry.category:
            yield Change(package, entry.compiler, entry.build_hash, entry.blessed, before.category, entry.category)


def _before(entry: Entry, older: Iterable[Entry]) -> Entry | None:
    """What a build was in the run before of the same compiler.

    That is the build with its hash, else with its universe, else the blessed one if it is that too, else the only one.
    """
    found: list[Entry] = []
    for item in older:
        if item.compiler == entry.compiler and item.run != entry.run:
            if found and item.run != found[0].run:
                break
            found.append(item)
    same = next((item for item in found if item.build_hash == entry.build_hash), None)
    same = same or next((item for item in found if item.universe and item.universe == entry.universe), None)
    same = same or next((item for item in found if item.blessed and entry.blessed), None)
    return same or (found[0] if len({item.stream for item in found}) == 1 else None)


def format_status(status: Status) -> str:
    """The text of `status.json`."""
    changes = [
        {
            "package": change.package,
            "compiler": change.compiler,
            "build_hash": change.build_hash,
            "blessed": change.blessed,
            "from": change.before,
            "to": change.after,
            "kind": change.kind,
        }
        for change in status.changes
    ]
    record = {
        "generated": status.generated,
        "run_id": status.run_id,
        "blessed_totals": status.blessed_totals,
        "non_blessed_totals": status.non_blessed_totals,
        "changes_since_last": changes,
        "new_packages": status.new_packages,
        "removed_packages": status.removed_packages,
        "packages": status.packages,
    }
    return json.dumps(record, separators=(",", ":")) + "\n"


def save_status(root: str, status: Status) -> None:
    """Replace `status.json` in `root`. Raises `OSError`."""
    write_atomic(f"{root}/{STATUS}", format_status(status).encode())


def load_status(root: str) -> Status | None:
    """The last status; None when there is none, or the file is damaged."""
    try:
        with open(f"{root}/{STATUS}", "rb") as file:
            record = json.loads(file.read())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not all(isinstance(record.get(key), str) for key in ("generated", "run_id")):
        return None
    packages = record.get("packages")
    return Status(
        record["generated"],
        record["run_id"],
        _counts(record.get("blessed_totals")),
        _counts(record.get("non_blessed_totals")),
        tuple(_parse_changes(record.get("changes_since_last"))),
        _texts(record.get("new_packages")),
        _texts(record.get("removed_packages")),
        {name: item for name, item in packages.items() if isinstance(item, dict)} if isinstance(packages, dict) else {},
    )


def _counts(item: object) -> dict[str, int]:
    return {str(key): count for key, count in item.items() if type(count) is int} if isinstance(item, dict) else {}


def _texts(item: object) -> tuple[str, ...]:
    return tuple(text for text in item if isinstance(text, str)) if isinstance(item, list) else ()


def _parse_changes(item: object) -> Iterator[Change]:
    for record in item if isinstance(item, list) else []:
        if isinstance(record, dict):
            keys = ("package", "compiler", "build_hash", "from", "to")
            package, compiler, build_hash, before, after = (str(record.get(key, "")) for key in keys)
            yield Change(package, compiler, build_hash, record.get("blessed") is True, before, after)
