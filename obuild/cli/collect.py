"""Commands that make room in a store that health checks use: `gc`, and `locks` for what is worked on."""

from __future__ import annotations

import json as json_format
import time

from obuild.cli.option import Command, Option, duration, jobs
from obuild.cli.runs import RUNS, records_folder
from obuild.cli.show import write
from obuild.cli.where import STORE, open_named_store, seconds_text, size_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from obuild.runs.collect import Collected

__all__ = ["COMMANDS", "show_collected"]


def gc(
    *,
    store: str | None,
    runs: str | None,
    keep_runs: int,
    grace: float,
    universes: str | None,
    delete: bool,
    force: bool,
    json: bool,
) -> int:
    """Delete what no run needs any more, or without --delete say what that is; 1 when something could not go."""
    from obuild.runs.collect import collect
    from obuild.runs.profile import Keep

    found = collect(
        open_named_store(store),
        Keep(runs=keep_runs, grace=grace),
        others=[runs] if runs else [],
        universes=universes or "",
        dry_run=not delete,
        force=force,
    )
    if json:
        _as_json(found)
    else:
        show_collected(found, dry_run=not delete)
    return int(bool(_problems(found)))


def show_collected(found: Collected, *, dry_run: bool, short: bool = False) -> None:
    """Say what went, or would go; `short` says nothing of nothing."""
    word = "would delete" if dry_run else "deleted"
    if not short:
        for kind, name, size in _items(found):
            print(f"{word} {kind} {name} ({size_text(size)})")
    for problem in _problems(found):
        print(f"not deleted: {problem}")
    items = list(_items(found))
    if items or not short:
        kinds = [kind for kind, _, _ in items]
        counts = ", ".join(f"{kinds.count(kind)} {_PLURALS[kind]}" for kind in dict.fromkeys(kinds))
        print(f"{word} {counts or 'nothing'}, {size_text(sum(size for _, _, size in items))}")
    if dry_run and items:
        print("--delete does it")


_PLURALS = {"run": "runs", "layer": "layers", "failed": "failed trees", "cache": "caches", "source": "sources"}
_PLURALS |= {"universe": "universes", "lock": "stale locks"}


def _items(found: Collected) -> list[tuple[str, str, int]]:
    """What went: its kind, name and bytes."""
    items = [("run", item.name, item.size) for pruned in found.runs.values() for item in pruned.deleted]
    items += [(item.kind, item.id, item.size) for item in found.layers]
    items += [("universe", item.name, item.size) for item in (found.universes.deleted if found.universes else ())]
    return items + [("lock", path, 0) for path in found.locks]


def _problems(found: Collected) -> list[str]:
    pruned = [*found.runs.values(), *([found.universes] if found.universes else [])]
    return [problem for each in pruned for problem in each.problems]


def _as_json(found: Collected) -> None:
    for kind, name, size in _items(found):
        _object({"kind": kind, "id": name, "size": size})
    for problem in _problems(found):
        _object({"kind": "problem", "message": problem})


def locks(*, store: str | None, runs: str | None, all: bool, clean: bool, json: bool) -> int:
    """Print what is built now and by whom; with --clean remove the files of locks that nobody holds."""
    from obuild.runs.lock import clean_stale, list_locks
    from obuild.runs.moment import parse_time
    from obuild.value import fields

    root = records_folder(store, runs)
    for path in clean_stale(root) if clean else ():
        print(f"removed {path}")
    for held in list_locks(root, active=not all):
        if json:
            claim = {name: getattr(held.claim, name) for name in fields(held.claim)}
            _object({**claim, **{name: getattr(held, name) for name in fields(held) if name != "claim"}})
            continue
        package = f"{held.claim.package}.{held.claim.version}".rstrip(".")
        since = seconds_text(time.time() - (parse_time(held.start) or time.time()))
        state = f"process {held.pid} on {held.host}" if held.active else "stale" if held.dead else "not held"
        print(f"{held.claim.stage:5}  {package:30}  {since:>8}  {state}")
    return 0


def _object(facts: dict[str, Any]) -> None:
    write(1, json_format.dumps(facts).encode() + b"\n")


JSON = Option(("--json",), "One JSON object a line.", None)

COMMANDS = {
    "gc": Command(
        gc,
        "Delete runs and layers of packages that are not needed any more; without --delete only say which.",
        (
            STORE,
            RUNS,
            Option(("--keep-runs",), "Finished runs that stay.", jobs, 30, metavar="NUMBER"),
            Option(("--grace",), "What was used within TIME stays.", duration, 7 * 86400.0, metavar="TIME"),
            Option(("--universes",), "Also in DIR, which has a directory for each universe.", metavar="DIR"),
            Option(("--delete",), "Delete them.", None),
            Option(("--force",), "Even when no run needs anything.", None),
            JSON,
        ),
    ),
    "locks": Command(
        locks,
        "Print what health checks build now.",
        (
            STORE,
            RUNS,
            JSON,
            Option(("--all",), "Also files of locks that nobody holds.", None),
            Option(("--clean",), "Remove the files of locks that nobody holds and whose owner is dead.", None),
        ),
    ),
}
