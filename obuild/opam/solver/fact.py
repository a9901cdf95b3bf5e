"""What a solver wants to know of an opam file, six fields of it, read when it first asks and then kept on disk.

    fact := (depends, conflicts, depopts, available, classes, avoid)

The first three are formulas as in `obuild.opam.formula`, `available` is a filter, `classes` are the conflict classes,
`avoid` says whether the flag `avoid-version` is there. They depend on the text of the file alone, so they are kept
under its git blob id and serve every repository that has the same file.
"""

from __future__ import annotations

from obuild.errors import OpamError
from obuild.opam.cache import Cache, Draft
from obuild.opam.package import Package

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from obuild.opam.filter import Filter
    from obuild.opam.formula import Formula
    from obuild.opam.opamfile import OpamFile
    from obuild.opam.repo import Overlay, Repository

    Fact: TypeAlias = tuple[Formula, Formula, Formula, Filter, tuple[str, ...], bool]
    Facts: TypeAlias = Callable[[str, str], Fact | None]

__all__ = ["LEVEL", "FactReader", "fact_of"]

LEVEL = "2.5"
"""The opam that files are read like, which decides what is too new to be read."""


def fact_of(file: OpamFile) -> Fact:
    """The facts of an opam file that is already parsed."""
    classes = tuple(dict.fromkeys(file.conflict_classes))
    return (file.depends, file.conflicts, file.depopts, file.available, classes, "avoid-version" in file.flags)


class FactReader:
    """The facts of a repository's packages, by name and version; None for a file that can not be read.

    `unreadable` collects why. `save` puts what had to be read from opam files into the cache.
    """

    def __init__(self, repository: Overlay | Repository, folder: str) -> None:
        self.unreadable: dict[Package, OpamError] = {}
        self._repository = repository
        self._table = Cache(folder).table("solver-1")
        self._read = Draft()

    def __call__(self, name: str, version: str) -> Fact | None:
        package = Package(name, version)
        first: OpamError | None = None
        for repository, found in self._repository.definitions(package):
            try:
                return self._fact(repository, found)
            except OpamError as error:
                first = first or error
        if first:
            self.unreadable[package] = first
        return None

    def _fact(self, repository: Repository, package: Package) -> Fact:
        blob = bytes.fromhex(repository.blob_id(package))
        fact: Fact | None = self._table.get(blob)
        if fact is None:
            fact = self._read[blob] = fact_of(repository.opam(package, level=LEVEL))
        return fact

    def save(self) -> None:
        """Keep what was read from opam files for the next time."""
        self._table.add(self._read)
        self._read = Draft()
