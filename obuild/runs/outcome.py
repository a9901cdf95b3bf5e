"""What became of a package in a run: built, failed, never tried because a dependency failed, or without a solution.

The `word` of each is day10's, for JSON and people; `mark` is the shorter one of a run's `build.jsonl`; `category` is
the open set of histories and totals.
"""

from __future__ import annotations

from obuild.errors import UsageError
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = [
    "DependencyFailed",
    "Failure",
    "NoSolution",
    "Outcome",
    "Success",
    "check_package",
    "format_outcome",
    "parse_outcome",
]


@value
class Success:
    """The package was built, or found built (`cached`), as the layer `id`.

    `conflict` tells of files that several packages have, which opam lets them; it is said when the package is built.
    """

    package: str
    id: str
    cached: bool = False
    seconds: float = 0.0
    conflict: str = ""

    word, mark, category, error = "success", "ok", "success", ""


@value
class Failure:
    """The package's own build failed; `error` is the line of its log that says why, `category` see `classify`."""

    package: str
    id: str
    category: str = "build_failure"
    error: str = ""
    cached: bool = False
    seconds: float = 0.0

    word, mark = "failure", "fail"


@value
class DependencyFailed:
    """The package was not tried: its dependency `failed` (with the id `failed_id`) could not be built."""

    package: str
    id: str
    failed: str
    failed_id: str = ""

    word, mark, category = "dependency_failed", "cascade", "dependency_failure"
    cached, seconds = False, 0.0

    @property
    def error(self) -> str:
        """What to say of it."""
        return f'dependency "{self.failed}" failed'


@value
class NoSolution:
    """No choice of dependencies satisfies the package; `error` is the solver's explanation."""

    package: str
    error: str = ""
    seconds: float = 0.0

    word, mark, category = "no_solution", "unsolved", "no_solution"
    id, cached = "", False


Outcome = Success | Failure | DependencyFailed | NoSolution


def check_package(text: str) -> str:
    """The text, when a file can have it as its name. Raises `UsageError`: a package must not lead somewhere else."""
    if not text or text.startswith(".") or "/" in text or "\0" in text or len(text.encode()) > 240:
        raise UsageError(f'"{text}" is not a package')
    return text


def format_outcome(outcome: Outcome) -> dict[str, Any]:
    """The keys of `build.jsonl` that say what an outcome is; those that say nothing are left out."""
    record: dict[str, Any] = {"pkg": outcome.package, "hash": outcome.id, "status": outcome.mark}
    match outcome:
        case DependencyFailed():
            record |= {"failed_dep": outcome.failed, "failed_dep_hash": outcome.failed_id}
        case Failure() | NoSolution():
            record |= {"category": outcome.category, "error": outcome.error}
        case Success():
            record |= {"conflict": outcome.conflict}
    record |= {"cached": outcome.cached, "seconds": round(outcome.seconds, 3)}
    return {key: item for key, item in record.items() if item or key in ("pkg", "hash", "status")}


def parse_outcome(record: Mapping[str, Any]) -> Outcome | None:
    """The outcome that a line of `build.jsonl` tells of; None when it tells of something else."""
    package, key = _text(record, "pkg"), _text(record, "hash")
    if not package:
        return None
    seconds, cached = record.get("seconds", 0.0), record.get("cached") is True
    seconds = float(seconds) if isinstance(seconds, int | float) else 0.0
    category, error = _text(record, "category"), _text(record, "error")
    match record.get("status"):
        case "ok":
            return Success(package, key, cached, seconds, _text(record, "conflict"))
        case "fail":
            return Failure(package, key, category or "build_failure", error, cached, seconds)
        case "cascade":
            return DependencyFailed(package, key, _text(record, "failed_dep"), _text(record, "failed_dep_hash"))
        case "unsolved":
            return NoSolution(package, error, seconds)
    return None


def _text(record: Mapping[str, Any], key: str) -> str:
    item = record.get(key)
    return item if isinstance(item, str) else ""
