"""One opam repository: which packages it has, what their files say, and the files beside them."""

from __future__ import annotations

import gc
import zlib
from functools import cached_property, partial

from obuild.errors import OpamError, Problem, UsageError, nearest
from obuild.opam.cache import Draft
from obuild.opam.extra import extra_files
from obuild.opam.opamfile import OpamFile
from obuild.opam.package import Package
from obuild.opam.repo.listing import FILE, find, scan, walk
from obuild.opam.shape import elements
from obuild.opam.syntax import field, parse
from obuild.opam.version import version_key

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, TypeAlias, TypeVar

    from obuild.opam.cache import Cache
    from obuild.opam.repo.listing import Listing, Place, Source
    from obuild.opam.syntax import File

    T = TypeVar("T")
    Progress: TypeAlias = Callable[[int, int], None]

__all__ = ["Repository"]

LISTINGS = 32
"""How many listings the cache keeps."""


class Repository:
    """The packages of a source. Opam files are parsed when asked for, or when the cache does not have them."""

    def __init__(self, source: Source, cache: Cache) -> None:
        self.where = source.where
        self.unreadable: dict[Package, OpamError] = {}
        """The packages that `load` and `derive` have met and left out."""
        self._source, self._cache = source, cache
        self._syntax = cache.table("syntax-1")
        self._fresh: dict[bytes, File | dict[str, Any]] = {}

    @cached_property
    def _listing(self) -> Listing:
        with _without_collector():
            return self._list()

    def _list(self) -> Listing:
        identity = self._source.identity()
        kept = self._cache.load(_record(identity)) if identity else None
        if kept and kept[0] == identity:
            return kept[1]  # type: ignore[no-any-return]
        listing = scan(self._source, self._cache.table("tree-2"))
        identity = self._source.remember()
        self._cache.save(_record(identity), (identity, listing), keep=LISTINGS)
        return listing

    @property
    def notes(self) -> tuple[str, ...]:
        """What is in the repository and does not count, one sentence each."""
        return self._listing[1]

    def packages(self) -> dict[str, tuple[str, ...]]:
        """The versions of every name, both in opam's order. No opam file is read for it."""
        return {name: tuple(versions) for name, versions in self._listing[0].items()}

    def find(self, package: Package) -> Package | None:
        """The package of the repository that is to opam the same as `package`; its version may be written otherwise."""
        versions = self._listing[0].get(package.name, {})
        if package.version in versions:
            return package
        key = version_key(package.version)
        return next((Package(package.name, each) for each in versions if version_key(each) == key), None)

    def _place(self, package: Package) -> Place:
        found = self.find(package)
        if found is None:
            versions = self._listing[0].get(package.name)
            known = [f"{package.name}.{version}" for version in versions or ()] or list(self._listing[0])
            hint = nearest(str(package) if versions else package.name, known)
            raise UsageError(f'no package "{package}" in "{self.where}"', hint=hint)
        return self._listing[0][found.name][found.version]

    def blob_id(self, package: Package) -> str:
        """The git id of the package's opam file."""
        return self._place(package)[1].hex()

    def path(self, package: Package) -> str:
        """The package's opam file, as messages name it."""
        return self._source.shown(f"{self._place(package)[0]}/opam")

    def text(self, package: Package) -> bytes:
        """The package's opam file, as it is."""
        directory, blob, _ = self._place(package)
        return self._source.read(f"{directory}/opam", blob)

    def items(self, package: Package) -> File:
        """The syntax of the package's opam file. Raises `OpamError` for one that can not be read."""
        place = self._place(package)
        value = self._syntax.get(place[1])
        if value is None:
            value = self._fresh[place[1]] = self._parse(place)
        if type(value) is dict:
            raise self._error(place, value)
        return value  # type: ignore[no-any-return]

    def save(self) -> None:
        """Keep what was parsed one by one."""
        fresh, self._fresh = self._fresh, {}
        draft = Draft()
        for blob, value in fresh.items():
            draft[blob] = value
        self._syntax.add(draft)

    def definitions(self, package: Package) -> Iterator[tuple[Repository, Package]]:
        """As `Overlay.definitions`: this repository, if it has the package."""
        found = self.find(package)
        if found:
            yield self, found

    def opam(self, package: Package, *, level: str = "") -> OpamFile:
        """What the package's opam file says. Raises `OpamError` for one that can not be read, by an opam of `level` if
        one is given.
        """
        found = self.find(package) or package
        items = self.items(found)
        file = OpamFile(found, items, blob=self.blob_id(found), files=partial(self.files, found))
        refusal = file.refusal(level) if level else ""
        if refusal:
            raise OpamError([Problem(refusal, self.path(found))])
        return file

    def files(self, package: Package) -> dict[str, bytes]:
        """The contents of the files below the package's directory `files`, by relative path."""
        files = self._place(package)[2]
        found = sorted(walk(self._source, *files)) if files else ()
        return {name: self._source.read(real, blob) for name, real, blob in found}

    def files_id(self, package: Package) -> str:
        """What differs for different files in a git repository: the git id of `files`, "" where unknown or absent."""
        files = self._place(package)[2]
        return files[1].hex() if files else ""

    def extra_files(self, package: Package) -> dict[str, bytes]:
        """The files that the package adds to its sources; see `obuild.opam.extra`."""
        return extra_files(self.opam(package), self.path(package))

    @cached_property
    def mirrors(self) -> tuple[str, ...]:
        """Where source archives may be found, by the file `repo`: addresses, or directories of the repository itself.

        Raises `OpamError` when that file can not be read.
        """
        entry = find(self._source, "repo")
        if entry is None or entry[1] != FILE:
            return ()
        value = field(parse(self._source.read(entry[0], entry[2]), self._source.shown("repo")), "archive-mirrors")
        return tuple([each for each in elements(value, 1) if isinstance(each, str)]) if value is not None else ()

    def archive(self, checksum: str) -> bytes | None:
        """The archive with a checksum `kind=hex` that the repository has in one of its own mirrors; not verified."""
        kind, _, digest = checksum.partition("=")
        for mirror in self.mirrors:
            path = f"{mirror}/{kind}/{digest[:2]}/{digest}"
            entry = None if "://" in mirror else find(self._source, path)
            if entry and entry[1] == FILE:
                return self._source.read(entry[0], entry[2])
        return None

    def load(self, progress: Progress | None = None) -> dict[str, dict[str, File]]:
        """The syntax of all packages, by name and version. What the cache lacks is parsed and added to it.

        Files that can not be read are left out and told by `unreadable`. `progress` hears how many are parsed, of how
        many that had to be.
        """
        packages = self._listing[0]
        with _without_collector():
            wanted = {place[1]: place for versions in packages.values() for place in versions.values()}
            values = dict(self._syntax.items(wanted))
            missing = [place for blob, place in wanted.items() if blob not in values]
            values.update((place[1], value) for place, value in self._values(missing, progress))
            return self._sift(lambda _name, _version, place: values[place[1]])

    def derive(
        self, kind: str, function: Callable[[OpamFile], T], progress: Progress | None = None
    ) -> dict[str, dict[str, T]]:
        """What `function` makes of every package, by name and version, kept in the cache as table `kind`.

        It must depend on nothing but the opam file and return what `marshal` can write; `kind` names the function and
        its version. Later calls take as long as `marshal` needs. Unreadable files are left out as by `load`.
        """
        table = self._cache.table(kind)
        with _without_collector():
            known = dict(table.items())
            fresh = Draft()
            missing = {
                _key(name, version, place): (Package(name, version), place)
                for name, versions in self._listing[0].items()
                for version, place in versions.items()
                if _key(name, version, place) not in known
            }
            values = self._values([place for _, place in missing.values()], progress)
            for (key, (package, place)), (_, value) in zip(missing.items(), values, strict=True):
                if type(value) is not dict:
                    value = function(OpamFile(package, value, blob=place[1].hex(), files=partial(self.files, package)))
                    fresh[key] = value
                known[key] = value
            table.add(fresh)
            return self._sift(lambda name, version, place: known[_key(name, version, place)])

    def _values(self, places: Sequence[Place], progress: Progress | None) -> Iterator[tuple[Place, Any]]:
        """Each place with what parsing its opam file gave. What was parsed here is kept, also when it ends early."""
        parsed = Draft()
        try:
            for done, place in enumerate(places):
                value = self._syntax.get(place[1])
                if value is None:
                    parsed[place[1]] = value = self._parse(place)
                if progress and done % 128 == 0:
                    progress(done, len(places))
                yield place, value
        finally:
            self._syntax.add(parsed)
        if progress and places:
            progress(len(places), len(places))

    def _parse(self, place: Place) -> File | dict[str, Any]:
        """The syntax of a file, or as a dictionary what is wrong with it: both are kept."""
        directory, blob, _ = place
        try:
            return parse(self._source.read(f"{directory}/opam", blob), "")
        except OpamError as error:
            wrong = error.problems[0]
            return {name: getattr(wrong, name) for name in ("message", "line", "column", "quote", "hint")}

    def _error(self, place: Place, wrong: dict[str, Any]) -> OpamError:
        return OpamError([Problem(path=self._source.shown(f"{place[0]}/opam"), **wrong)])

    def _sift(self, value: Callable[[str, str, Place], Any]) -> dict[str, dict[str, Any]]:
        """The values of all packages; those of unreadable files go elsewhere."""
        self.unreadable = {}
        found: dict[str, dict[str, Any]] = {}
        for name, versions in self._listing[0].items():
            row = {version: value(name, version, place) for version, place in versions.items()}
            for version in [version for version, each in row.items() if type(each) is dict]:
                self.unreadable[Package(name, version)] = self._error(versions[version], row.pop(version))
            if row:
                found[name] = row
        return found


def _record(identity: str) -> str:
    """Where the cache has the listing of this identity, or of another one."""
    return f"listing2-{zlib.crc32(identity.encode(errors='surrogateescape')):08x}"


def _key(name: str, version: str, place: Place) -> bytes:
    """What a derived value depends on."""
    return place[1] + f"{name}.{version}".encode()


class _without_collector:  # noqa: N801 -- used as a function
    """Millions of new tuples, none of them garbage: the cyclic collector would look at all of them again and again.

    Afterwards they are set aside, so that it never does.
    """

    def __enter__(self) -> None:
        self._was_on = gc.isenabled()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        if self._was_on:
            gc.freeze()
            gc.enable()
