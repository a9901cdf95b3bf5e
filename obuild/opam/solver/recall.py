"""Answers of earlier runs, which hold for another commit when nothing changed about the packages that they examined."""

from __future__ import annotations

import marshal
from hashlib import sha256

from obuild.opam.cache import Cache
from obuild.opam.package import Package
from obuild.opam.solver.answer import NoSolution, Request, Solution
from obuild.value import fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

    from obuild.opam.repo import Overlay, Repository
    from obuild.opam.solver.rule import Rules
    from obuild.opam.solver.solve import Report
    from obuild.opam.solver.universe import Universe

    # The packages of a solution or None, the examined names as bits, the reports by their kinds.
    Kept: TypeAlias = tuple[tuple[str, ...] | None, int, dict[str, str]]

__all__ = ["Memory", "fingerprints"]

_FORMAT = 1
"""Changes with every change of what the solver answers."""
_KEEP = 16
"""So many sets of rules have their answers kept."""


def fingerprints(repository: Overlay | Repository, universe: Universe) -> dict[str, bytes]:
    """For each name a hash of all that is known about it."""
    found = {}
    for name, versions in repository.packages().items():
        rows = [f"{version} {repository.blob_id(Package(name, version))}" for version in versions]
        found[name] = sha256("\n".join(rows).encode()).digest()[:16]
    for name, fact in universe.pins.items():
        found[name] = sha256(marshal.dumps(fact, 2)).digest()[:16]
    return found


class Memory:
    """The answers under some rules that are kept in a cache, as far as they still hold."""

    def __init__(self, folder: str, rules: Rules, prints: Mapping[str, bytes]) -> None:
        text = repr((_FORMAT, [repr(getattr(rules, name)) for name in fields(rules)]))
        self._record = f"answers-{sha256(text.encode()).hexdigest()[:32]}"
        self._cache = Cache(folder)
        self._prints = prints
        self._state = sha256(b"".join([name.encode() + prints[name] for name in sorted(prints)])).digest()
        names, old, state, answers = self._cache.load(self._record) or ((), (), b"", {})
        self._names: dict[str, int] = {name: place for place, name in enumerate(names)}
        changed = sum(1 << place for place, name in enumerate(names) if prints.get(name, b"") != old[place])
        self._answers: dict[str, Kept] = {
            request: (packages, examined, reports if state == self._state else {})
            for request, (packages, examined, reports) in answers.items()
            if not examined & changed
        }
        self._fresh = bool(changed)

    def get(self, request: Request, report: Report = "") -> Solution | NoSolution | None:
        """The kept answer to a request, if there is one, with the report that is wanted.

        A report tells of more than what was examined, so it is only kept as long as nothing changes at all.
        """
        kept = self._answers.get(str(request))
        if kept is None:
            return None
        packages, _, reports = kept
        if packages is not None:
            return Solution(request, tuple([Package(*package.split(".", 1)) for package in packages]))
        if report and report not in reports:
            return None
        return NoSolution(request, reports[report] if report else "")

    def put(self, answer: Solution | NoSolution, report: Report = "") -> None:
        """Keep an answer with its report of this kind."""
        examined = 0
        for name in answer.examined:
            examined |= 1 << self._names.setdefault(name, len(self._names))
        if isinstance(answer, Solution):
            kept: Kept = (tuple(map(str, answer.packages)), examined, {})
        else:
            kept = (None, examined, {report: answer.report} if report else {})
        self._answers[str(answer.request)] = kept
        self._fresh = True

    def save(self) -> None:
        """Write down what is new."""
        if not self._fresh:
            return
        names = tuple(self._names)
        prints = tuple([self._prints.get(name, b"") for name in names])
        self._cache.save(self._record, (names, prints, self._state, self._answers), keep=_KEEP)
        self._fresh = False
