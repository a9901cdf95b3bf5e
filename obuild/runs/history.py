"""What happened to each package, run after run: `packages/<name.version>/history.jsonl`, one line for each build.

Two writers' lines are understood: ours, and those without `compiler`, `universe` or the failed dependency. Keys that
are not known here are kept when a history is compacted.
"""

from __future__ import annotations

import os
import time

from obuild.runs.journal import Journal, backwards, parse_line
from obuild.runs.moment import DAY, format_time, parse_time
from obuild.runs.outcome import check_package
from obuild.value import fields, value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from obuild.runs.outcome import Outcome

__all__ = ["Compacted", "Entry", "History", "format_entry", "outcome_entry", "parse_entry"]

FILE = "history.jsonl"


@value
class Entry:
    """One build: `ts` as in `moment`, `status` "success" or "failure", `category` from an open set.

    `failed_dep` is the package that failed before this one could be built, `universe` the hash of all its dependencies,
    `blessed` whether this is the build of the package that people are shown.
    """

    ts: str
    run: str
    build_hash: str
    status: str
    category: str
    blessed: bool = False
    compiler: str = ""
    universe: str = ""
    error: str = ""
    failed_dep: str = ""
    failed_dep_hash: str = ""

    # The shared constructor of records is generic, and an index of 20,000 histories makes 140,000 entries.
    def __init__(
        self,
        ts: str,
        run: str,
        build_hash: str,
        status: str,
        category: str,
        blessed: bool = False,
        compiler: str = "",
        universe: str = "",
        error: str = "",
        failed_dep: str = "",
        failed_dep_hash: str = "",
    ) -> None:
        put = object.__setattr__
        put(self, "ts", ts)
        put(self, "run", run)
        put(self, "build_hash", build_hash)
        put(self, "status", status)
        put(self, "category", category)
        put(self, "blessed", blessed)
        put(self, "compiler", compiler)
        put(self, "universe", universe)
        put(self, "error", error)
        put(self, "failed_dep", failed_dep)
        put(self, "failed_dep_hash", failed_dep_hash)

    @property
    def stream(self) -> tuple[str, str]:
        """What makes builds of a package comparable over time: compiler, and universe (or hash where none is told)."""
        return self.compiler, self.universe or self.build_hash


_LONGEST = 1000
"""Letters of an error: a solver's whole explanation is in the run, and a history is read from its end."""

_REQUIRED = frozenset(("ts", "run", "build_hash", "status", "category"))
_TEXTS = frozenset(fields(Entry)) - {"blessed"}


def format_entry(entry: Entry) -> dict[str, Any]:
    """The entry as an object; optional keys that say nothing are left out."""
    items = ((name, getattr(entry, name)) for name in fields(entry))
    return {name: item for name, item in items if item or name in _REQUIRED or name == "blessed"}


def parse_entry(record: Mapping[str, Any]) -> Entry | None:
    """The entry that an object is, or None when a required key is missing or no text."""
    plain = {**record}
    blessed = plain.pop("blessed", False) is True
    try:
        "".join(plain.values())  # the quickest way to see that all are texts, as nearly always
        return Entry(**plain, blessed=blessed)
    except TypeError:
        pass
    texts = {name: item for name, item in record.items() if name in _TEXTS and type(item) is str}
    if not texts.keys() >= _REQUIRED:
        return None
    return Entry(**texts, blessed=blessed)


def outcome_entry(
    outcome: Outcome, run: str, *, compiler: str = "", universe: str = "", blessed: bool = False, ts: str = ""
) -> Entry:
    """What a history says of an outcome."""
    return Entry(
        ts=ts or format_time(time.time()),
        run=run,
        build_hash=outcome.id,
        status="success" if outcome.word == "success" else "failure",
        category=outcome.category,
        blessed=blessed,
        compiler=compiler,
        universe=universe,
        error=outcome.error[:_LONGEST],
        failed_dep=getattr(outcome, "failed", ""),
        failed_dep_hash=getattr(outcome, "failed_id", ""),
    )


@value
class Compacted:
    """How many lines a compacted history has, and lost; `broken` of those were no records at all."""

    kept: int
    dropped: int
    broken: int


class History:
    """The histories below the directory `root`. Any thread or process may use one at any time."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.folder = f"{root}/packages"

    def path(self, package: str) -> str:
        """The file of a package. Raises `UsageError` for what can be none."""
        return f"{self.folder}/{check_package(package)}/{FILE}"

    def packages(self) -> list[str]:
        """The packages that have a history, sorted."""
        try:
            with os.scandir(self.folder) as found:
                names = [item.name for item in found if not item.name.startswith(".") and item.is_dir()]
        except FileNotFoundError:
            return []
        return sorted(names)

    def append(self, package: str, entry: Entry, *, durable: bool = False) -> None:
        """Add an entry. Raises `OSError` when the disk is full, after which the history is as it was."""
        Journal(self.path(package)).append(format_entry(entry), durable=durable)

    def read(self, package: str) -> list[Entry]:
        """The entries, the newest first."""
        return self.read_all(package)[0]

    def read_all(self, package: str) -> tuple[list[Entry], int]:
        """The same, and how many lines are no entries: torn by a crash, or written by something else."""
        records, broken = Journal(self.path(package)).read()
        entries = [entry for record in reversed(records) if (entry := parse_entry(record))]
        return entries, broken + len(records) - len(entries)

    def read_latest(self, package: str) -> list[Entry]:
        """The newest entry of each build hash, the newest first."""
        newest: dict[str, Entry] = {}
        for entry in self.read(package):
            newest.setdefault(entry.build_hash, entry)
        return list(newest.values())

    def read_blessed(self, package: str) -> Entry | None:
        """The newest entry that is blessed."""
        return next((entry for entry in self.read(package) if entry.blessed), None)

    def recent(self, package: str, limit: int) -> Iterator[Entry]:
        """The entries from the newest on, read as they are asked for and from the last `limit` bytes alone."""
        try:
            for record in backwards(self.path(package), limit):
                entry = parse_entry(record)
                if entry:
                    yield entry
        except FileNotFoundError:
            return

    def compact(self, package: str, *, max_age_days: float, now: float | None = None) -> Compacted:
        """Thin out the entries that are older than so many days; 0 means all, and still never empties a history.

        Younger lines stay byte for byte. Among the older ones, entries that differ in nothing but time and run (same
        hash, compiler, universe, status, category, blessing) and have no different entry of the same hash between
        them, stay as their first and last: when something began and when it was last so. Lines that are no objects go;
        objects that are no entries, and entries without a readable time, stay.
        """
        oldest = (time.time() if now is None else now) - max_age_days * DAY
        count = [0, 0, 0]

        def change(lines: list[bytes]) -> list[bytes]:
            whole = [(line, record) for line in lines if (record := parse_line(line)) is not None]
            kept = _thinned(whole, oldest)
            count[:] = len(kept), len(lines) - len(kept), len(lines) - len(whole)
            return kept

        try:
            Journal(self.path(package)).rewrite(change)
        except FileNotFoundError:
            return Compacted(0, 0, 0)
        return Compacted(*count)


def _thinned(lines: list[tuple[bytes, dict[str, Any]]], oldest: float) -> list[bytes]:
    """The lines without the inner ones of each series of equal old entries."""
    series: dict[str, list[int]] = {}
    last: dict[str, tuple[object, ...]] = {}
    doomed: set[int] = set()
    for number, (_, record) in enumerate(lines):
        entry = parse_entry(record)
        moment = parse_time(record.get("ts"))
        if entry is None or moment is None or moment >= oldest:
            continue
        sort = (entry.compiler, entry.universe, entry.status, entry.category, entry.blessed)
        if last.get(entry.build_hash) != sort:
            last[entry.build_hash], series[entry.build_hash] = sort, []
        same = series[entry.build_hash]
        if len(same) >= 2:
            doomed.add(same.pop())
        same.append(number)
    return [line for number, (line, _) in enumerate(lines) if number not in doomed]
