"""Opam's build-id: the identity of a package within a set of installed ones (`opam var PKG:build-id`).

It is the SHA-256 of the hash of the package's effective text and of the build-ids of its dependencies, in descending
order of their names. Dependencies are the installed packages that `depends` and `depopts` name: under every condition
that holds with `build` true and `post` false, and on both sides of every `|`. Nothing else of the machine enters.

There is none for a package whose source has no checksum, for pins to a directory or repository, for all that depends
on them, and within cycles, where opam itself never ends.
"""

from __future__ import annotations

from hashlib import sha256

from obuild.errors import OpamError, UsageError
from obuild.opam.effective import LEVELS, effective_hash
from obuild.opam.formula import atoms, leaves, partial_condition, resolve_condition
from obuild.opam.package import Package, name_key
from obuild.opam.version import holds
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from obuild.opam.filter import Contents, Lookup
    from obuild.opam.formula import Condition
    from obuild.opam.opamfile import OpamFile

__all__ = ["BuildIds", "Rules", "Undefined", "build_ids", "dependencies", "join_ids", "obstacle"]


_EVERYWHERE = {"exe": "", "make": "make"}
"""The global variables that have one value on all Linux systems."""


@value
class Rules:
    """What opam's release and options decide: the level, how it measures texts, and which dependencies count.

    `variables` are the global ones: `os`, `arch`, `opam-version`, …
    """

    level: str = LEVELS[-1]
    width: str = "scalars"
    variables: Mapping[str, Contents] = {}
    with_test: bool = False
    with_doc: bool = False
    with_dev_setup: bool = False

    def switch(self, package: Package) -> Lookup:
        """The variables known when opam reads the dependencies of `package`, those that it decides later left out."""
        own = {"name": package.name, "version": package.version}
        known = {**_EVERYWHERE, **self.variables, **own}
        for name in self.kinds():
            known.pop(name, None)

        def lookup(name: str) -> Contents | None:
            scope, colon, variable = name.rpartition(":")
            if colon:
                return own.get(variable) if scope in ("_", package.name) else None
            return known.get(name)

        return lookup

    def kinds(self) -> dict[str, bool]:
        """The variables that say of which kind a dependency is, the only ones known in the end."""
        kinds = {"build": True, "post": False, "with-test": self.with_test, "with-doc": self.with_doc, "dev": False}
        return kinds if self.level < "2.2" else {**kinds, "with-dev-setup": self.with_dev_setup}


@value
class Undefined:
    """Why there is no build-id: `why` is true of `cause`, the package itself or one that it depends on."""

    cause: Package
    why: str

    def __str__(self) -> str:
        return f'"{self.cause}" {self.why}'


@value
class BuildIds:
    """The build-ids of a set of packages, None where there is none, and all that they were made of.

    `dependencies` are in the order in which they are hashed; `hashes` are those of the effective texts.
    """

    ids: Mapping[Package, str | None]
    undefined: Mapping[Package, Undefined]
    dependencies: Mapping[Package, tuple[Package, ...]]
    hashes: Mapping[Package, str]
    files: Mapping[Package, OpamFile]
    rules: Rules


def build_ids(
    installed: Iterable[Package],
    lookup: Callable[[Package], OpamFile | None],
    rules: Rules,
    *,
    pinned: Collection[str] = (),
    hash: Callable[[OpamFile], str] | None = None,
) -> BuildIds:
    """The build-id of every installed package; `lookup` gives its definition, None when no repository has it.

    `pinned` are the names of packages pinned to a directory or a repository; `hash` replaces the computation of
    effective hashes, for one with a memory. A definition that can not be read (`OpamError`) leaves its package without
    a build-id. Raises `UsageError` for two versions of one name.
    """
    by_name = _by_name(installed)
    files: dict[Package, OpamFile] = {}
    hashes: dict[Package, str] = {}
    undefined: dict[Package, Undefined] = {}
    for package in by_name.values():
        try:
            file = None if package.name in pinned else lookup(package)
            if file:
                files[package] = file
                hashes[package] = hash(file) if hash else effective_hash(file, level=rules.level, width=rules.width)
            why = obstacle(file, pinned=package.name in pinned)
        except OpamError as error:
            why = f"can not be read by opam {rules.level}: {error.problems[0].message if error.problems else error}"
        if why:
            undefined[package] = Undefined(package, why)
    edges = {package: dependencies(file, by_name, rules) for package, file in files.items()}
    ids: dict[Package, str | None] = dict.fromkeys(by_name.values())
    for package in _dependencies_first(edges, undefined):
        if package not in undefined:
            ids[package] = join_ids(hashes[package], [ids[dependency] for dependency in edges[package]])
    return BuildIds(ids, undefined, edges, hashes, files, rules)


def dependencies(file: OpamFile, installed: Mapping[str, Package], rules: Rules) -> tuple[Package, ...]:
    """The installed packages (by name) that count for the build-id of one, in the order in which they are hashed."""
    switch, kinds = rules.switch(file.package), rules.kinds().get
    found: set[Package] = set()
    for formula in (file.depends, file.depopts):
        for name, condition in atoms(formula):
            target = installed.get(name)
            if target and target not in found and _counts(condition, switch, kinds, target):
                found.add(target)
    return tuple(sorted(found, key=lambda package: name_key(package.name), reverse=True))


def _counts(condition: Condition, switch: Lookup, kinds: Lookup, target: Package) -> bool:
    """Whether a dependency on `target` counts under `condition`, decided in two steps as by opam."""
    left = partial_condition(condition, switch)
    if left is not None and not isinstance(left, bool):
        left = resolve_condition(left, kinds)
    if left is None or isinstance(left, bool):
        return left is not False
    # Each comparison counts alone: of `>= "4" & < "5"` one is enough.
    return any(holds(target.version, op, version) for op, version in leaves(left))


def _by_name(installed: Iterable[Package]) -> dict[str, Package]:
    by_name: dict[str, Package] = {}
    for package in installed:
        other = by_name.setdefault(package.name, package)
        if other != package:
            raise UsageError(f'"{package}" and "{other}" can not both be installed')
    return by_name


def obstacle(file: OpamFile | None, *, pinned: bool) -> str:
    """Why a package can have no build-id whatever it depends on, "" when it can."""
    if pinned:
        return "is pinned to a source without a checksum"
    if not file:
        return "is in none of the repositories"
    return "has a url without a checksum" if file.url and not file.url.checksums else ""


def _dependencies_first(
    edges: Mapping[Package, tuple[Package, ...]], undefined: dict[Package, Undefined]
) -> Iterator[Package]:
    """Every package after those it depends on; ones in a cycle, or above something undefined, become `undefined`."""
    done: set[Package] = undefined.keys() - edges.keys()
    for root in edges:
        path: dict[Package, Iterator[Package]] = {}
        following: Package | None = root if root not in done else None
        while following or path:
            if following:
                path[following] = iter(edges[following])
            package = next(reversed(path))
            following = next((item for item in path[package] if item not in done), None)
            if following in path:
                _mark_cycle([*path], following, undefined)
                following = None
            elif not following:
                del path[package]
                done.add(package)
                _mark_above(package, edges[package], undefined)
                yield package


def _mark_cycle(path: list[Package], start: Package, undefined: dict[Package, Undefined]) -> None:
    cycle = path[path.index(start) :]
    text = " → ".join(f'"{package}"' for package in (*cycle, start))
    for package in cycle:
        undefined.setdefault(package, Undefined(package, f"is in a cycle, where opam never ends: {text}"))


def _mark_above(package: Package, edges: tuple[Package, ...], undefined: dict[Package, Undefined]) -> None:
    cause = next((undefined[dependency] for dependency in edges if dependency in undefined), None)
    if cause:
        undefined.setdefault(package, cause)


def join_ids(own: str, parts: Iterable[str | None]) -> str:
    """The build-id made of the hash of a package's effective text and of the build-ids of its dependencies."""
    return sha256(" ".join([own, *filter(None, parts)]).encode("ascii")).hexdigest()
