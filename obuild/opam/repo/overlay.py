"""Several opam repositories as one: of the same package, the first definition counts as a whole.

A definition that can not be read is none, as for opam, and the next repository's counts.
"""

from __future__ import annotations

from functools import cached_property

from obuild.errors import OpamError, UsageError, nearest
from obuild.opam.extra import extra_files
from obuild.opam.package import Package, name_key
from obuild.opam.version import version_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeAlias, TypeVar

    from obuild.opam.opamfile import OpamFile
    from obuild.opam.repo.repository import Repository
    from obuild.opam.syntax import File

    T = TypeVar("T")
    Progress: TypeAlias = Callable[[int, int], None]

__all__ = ["Overlay"]


class Overlay:
    """Repositories in the order of their priority, which answer like one `Repository`."""

    def __init__(self, repositories: tuple[Repository, ...]) -> None:
        self.repositories = repositories
        self.unreadable: dict[Package, OpamError] = {}
        """The packages that `load` and `derive` have met and left out."""

    @property
    def where(self) -> str:
        """All their places."""
        return ", ".join([repository.where for repository in self.repositories])

    @property
    def notes(self) -> tuple[str, ...]:
        """What is in the repositories and does not count, one sentence each."""
        return tuple([f"{each.where}: {note}" for each in self.repositories for note in each.notes])

    @cached_property
    def _homes(self) -> dict[str, dict[str, Repository]]:
        return _merged(
            [{name: dict.fromkeys(row, each) for name, row in each.packages().items()} for each in self.repositories]
        )

    def packages(self) -> dict[str, tuple[str, ...]]:
        """The versions of every name, both in opam's order. No opam file is read for it."""
        return {name: tuple(versions) for name, versions in self._homes.items()}

    def find(self, package: Package) -> Package | None:
        """The package that is to opam the same as `package`; its version may be written otherwise."""
        return next((found for _, found in self.definitions(package)), None)

    def home(self, package: Package) -> Repository:
        """The first repository that has the package. Raises `UsageError` when none has."""
        for repository, _ in self.definitions(package):
            return repository
        versions = self._homes.get(package.name)
        if versions:
            hint = nearest(package.version, versions) or f"the newest is {list(versions)[-1]}"
            raise UsageError(f'no version "{package.version}" of "{package.name}" in {self.where}', hint=hint)
        raise UsageError(f'no package "{package.name}" in {self.where}', hint=nearest(package.name, self._homes))

    def save(self) -> None:
        """Keep what was parsed one by one."""
        for repository in self.repositories:
            repository.save()

    def definitions(self, package: Package) -> Iterator[tuple[Repository, Package]]:
        """The repositories that have the package, each with how it calls it; the first that can be read counts."""
        for repository in self.repositories:
            found = repository.find(package)
            if found:
                yield repository, found

    def blob_id(self, package: Package) -> str:
        """The git id of the package's opam file."""
        return self.home(package).blob_id(package)

    def path(self, package: Package) -> str:
        """The package's opam file, as messages name it."""
        return self.home(package).path(package)

    def text(self, package: Package) -> bytes:
        """The package's opam file, as it is."""
        return self.home(package).text(package)

    def files(self, package: Package) -> dict[str, bytes]:
        """The contents of the files below the package's directory `files`, by relative path."""
        return self.home(package).files(package)

    def files_id(self, package: Package) -> str:
        """The git id of the directory `files`, "" where unknown or absent."""
        return self.home(package).files_id(package)

    def extra_files(self, package: Package) -> dict[str, bytes]:
        """The files that the package adds to its sources; see `obuild.opam.extra`."""
        file = self.opam(package)
        return extra_files(file, self.path(file.package))

    def opam(self, package: Package, *, level: str = "") -> OpamFile:
        """What the package's opam file says. Raises `OpamError` when no definition can be read, by an opam of `level`
        if one is given.
        """
        first: OpamError | None = None
        for repository, found in self.definitions(package):
            try:
                return repository.opam(found, level=level)
            except OpamError as error:
                first = first or error
        raise first or AssertionError(self.home(package))

    def archive(self, checksum: str) -> bytes | None:
        """The archive with a checksum `kind=hex` that one of the repositories has itself; not verified."""
        return next((found for each in self.repositories if (found := each.archive(checksum)) is not None), None)

    def load(self, progress: Progress | None = None) -> dict[str, dict[str, File]]:
        """As `Repository.load`."""
        return self._readable([each.load(progress) for each in self.repositories])

    def derive(
        self, kind: str, function: Callable[[OpamFile], T], progress: Progress | None = None
    ) -> dict[str, dict[str, T]]:
        """As `Repository.derive`."""
        return self._readable([each.derive(kind, function, progress) for each in self.repositories])

    def _readable(self, found: list[dict[str, dict[str, T]]]) -> dict[str, dict[str, T]]:
        merged = _merged(found)
        errors = [item for each in self.repositories for item in each.unreadable.items()]
        self.unreadable = {each: error for each, error in errors if each.version not in merged.get(each.name, ())}
        return merged


def _merged(layers: Iterable[dict[str, dict[str, T]]]) -> dict[str, dict[str, T]]:
    """By name and version in opam's order, what the first layer that has a package says about it."""
    first, *rest = layers
    if not rest:
        return first
    merged = {name: dict(row) for name, row in first.items()}
    for layer in rest:
        for name, versions in layer.items():
            row = merged.setdefault(name, {})
            taken = set(map(version_key, row)) if row else set()
            row.update((version, value) for version, value in versions.items() if version_key(version) not in taken)
            if taken:
                merged[name] = {version: row[version] for version in sorted(row, key=version_key)}
    return {name: merged[name] for name in sorted(merged, key=name_key)}
