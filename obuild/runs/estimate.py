"""How long builds take, from those that were made before: `seconds.json`, `{"name.version": seconds}`.

It only decides what is built first, so a wrong or missing number costs a little time and nothing else.
"""

from __future__ import annotations

import json

from obuild.disk import write_atomic
from obuild.runs.outcome import Success

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from obuild.runs.outcome import Outcome

__all__ = ["Estimates", "load_estimates", "save_estimates"]

FILE = "seconds.json"

_UNKNOWN = 3.0
"""Seconds of a package about which nothing is known: the usual one builds with dune in so many."""

_COMPILER = 300.0
"""Seconds of a compiler that is built from source, on a few cores."""

COMPILERS = ("ocaml-base-compiler", "ocaml-compiler", "ocaml-variants", "oxcaml-compiler", "relocatable-compiler")


class Estimates:
    """Seconds by package. What is not known is taken from the version of the package that was built last."""

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self.seconds = dict(seconds)
        self._names = {package.partition(".")[0]: each for package, each in self.seconds.items()}

    def __call__(self, package: str) -> float:
        """The seconds that a package probably takes."""
        name = package.partition(".")[0]
        guess = _COMPILER if name in COMPILERS else _UNKNOWN
        return self.seconds.get(package) or self._names.get(name) or guess

    def learn(self, outcomes: Iterable[Outcome]) -> None:
        """Remember how long builds took that were made now."""
        for outcome in outcomes:
            if isinstance(outcome, Success) and not outcome.cached and outcome.seconds > 0:
                self.seconds.pop(outcome.package, None)  # the last one that was built comes last
                self.seconds[outcome.package] = round(outcome.seconds, 3)
                self._names[outcome.package.partition(".")[0]] = outcome.seconds


def load_estimates(root: str) -> Estimates:
    """Those kept in the directory `root`; none when there is no file, or it is damaged."""
    try:
        with open(f"{root}/{FILE}", "rb") as file:
            record = json.loads(file.read())
    except (OSError, ValueError, RecursionError):
        record = {}
    items = record.items() if isinstance(record, dict) else ()
    return Estimates({package: float(each) for package, each in items if isinstance(each, int | float) and each > 0})


def save_estimates(root: str, estimates: Estimates) -> None:
    """Replace the file in `root`. Raises `OSError`."""
    write_atomic(f"{root}/{FILE}", (json.dumps(estimates.seconds) + "\n").encode())
