"""Whether a solution is one: a second reading of opam's rules, which has nothing in common with the solver.

It goes from opam files to a verdict without candidates, sets or search: each selected package must be available, what
it depends on must be there, what it conflicts with must not, and everything must be there for a reason.
"""

from __future__ import annotations

from obuild.errors import OpamError
from obuild.opam.effective import LEVELS
from obuild.opam.filter import evaluate, satisfied
from obuild.opam.package import Package
from obuild.opam.version import holds, valid_version
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from obuild.opam.filter import Contents
    from obuild.opam.opamfile import OpamFile
    from obuild.opam.repo import Overlay, Repository

__all__ = ["Terms", "audit"]


@value
class Terms:
    """What a solution must meet: the packages that were asked for, by name, "" for any version, and the variables.

    The names in `tested` and `documented` also need what their tests and documentation need; those in `pins` are the
    user's own; `strict` forbids packages of which all versions are to be avoided even when asked for.
    """

    asked: Mapping[str, str]
    variables: Mapping[str, str | bool]
    tested: frozenset[str] = frozenset()
    documented: frozenset[str] = frozenset()
    pins: Mapping[str, OpamFile] = {}
    strict: bool = False


def audit(repository: Overlay | Repository, packages: Sequence[Package], terms: Terms) -> tuple[str, ...]:
    """Everything that is wrong with a solution, one sentence each."""
    return tuple(_Audit(repository, packages, terms).problems())


class _Audit:
    def __init__(self, repository: Overlay | Repository, packages: Sequence[Package], terms: Terms) -> None:
        self._repository, self._packages, self._terms = repository, packages, terms
        self._selected = {package.name: package.version for package in packages}

    def problems(self) -> Iterator[str]:
        if len(self._selected) != len(self._packages):
            yield "a package is there in two versions"
        for name, version in self._terms.asked.items():
            found = self._selected.get(name)
            if found is None or (version and name not in self._terms.pins and not holds(found, "=", version)):
                yield f"{name}.{version} was asked for"
        files: dict[Package, OpamFile] = {}
        for package in self._packages:
            try:
                files[package] = self._file(package)
            except OpamError as error:
                yield str(error)
        for package, file in files.items():
            yield from self._package_problems(package, file)
        yield from self._class_problems(files)
        yield from self._superfluous(files)

    def _file(self, package: Package) -> OpamFile:
        return self._terms.pins.get(package.name) or self._repository.opam(package, level=LEVELS[-1])

    def _package_problems(self, package: Package, file: OpamFile) -> Iterator[str]:
        if package.name not in self._terms.pins:
            if not self._is_available(package, file):
                yield f"{package} is not available"
            elif not self._may_be_chosen(package, file):
                yield f"all versions of {package.name} are to be avoided"
        if self._formula(file.depends, package) is False:
            yield f"{package} lacks something that it depends on"
        for name, condition in _atoms(file.conflicts):
            if name in self._selected and self._condition(condition, package, self._selected[name]):
                yield f"{package} conflicts with {name}.{self._selected[name]}"

    def _is_available(self, package: Package, file: OpamFile) -> bool:
        return satisfied(file.available, {**self._terms.variables, "version": package.version}.get)

    def _may_be_chosen(self, package: Package, file: OpamFile) -> bool:
        if "avoid-version" not in file.flags or (package.name in self._terms.asked and not self._terms.strict):
            return True
        for version in self._repository.packages()[package.name]:
            other = Package(package.name, version)
            try:
                opam = self._repository.opam(other, level=LEVELS[-1])
            except OpamError:
                continue
            if "avoid-version" not in opam.flags and self._is_available(other, opam):
                return True
        return False

    def _class_problems(self, files: Mapping[Package, OpamFile]) -> Iterator[str]:
        holders: dict[str, Package] = {}
        for package, file in files.items():
            for name in file.conflict_classes:
                if holders.setdefault(name, package) != package:
                    yield f"{holders[name]} and {package} are both of the conflict class {name}"

    def _superfluous(self, files: Mapping[Package, OpamFile]) -> Iterator[str]:
        """What nothing that is needed speaks of in its dependencies."""
        reached = set(self._terms.asked)
        agenda = [package for package in files if package.name in reached]
        for package in agenda:
            for name, condition in _atoms(files[package].depends):
                if name not in reached and self._condition(condition, package, self._selected.get(name, "")):
                    reached.add(name)
                    agenda += [each for each in files if each.name == name]
        yield from [f"{package} is not needed" for package in files if package.name not in reached]

    def _formula(self, formula: Any, package: Package) -> bool | None:
        """Whether a formula is met, None when it does not apply."""
        match formula:
            case None:
                return None
            case ("atom", name, condition):
                found = self._condition(condition, package, self._selected.get(name))
                return None if found is None else found and name in self._selected
            case ("block", inner):
                return self._formula(inner, package)
            case (kind, *parts):
                results = [result for part in parts if (result := self._formula(part, package)) is not None]
                return (any if kind == "or" else all)(results) if results else None
        raise AssertionError(formula)

    def _condition(self, condition: Any, package: Package, version: str | None) -> bool | None:
        """Whether a version meets the braces of an atom; None when their filter says that the atom does not apply."""
        rest = self._reduced(condition, package)
        return None if rest is False else rest is True or (version is not None and _meets(version, rest))

    def _reduced(self, condition: Any, package: Package) -> Any:
        """True or False where filters decide, else the comparisons that are left; those with nothing are always met."""
        match condition:
            case None:
                return True
            case ("if", filter):
                return satisfied(filter, self._lookup(package).get)
            case ("is", op, version):
                bound = evaluate(version, self._lookup(package).get)
                text = bound if isinstance(bound, str) else str(bound).lower()
                return ("is", op, text if bound is not None and valid_version(text) else None)
            case ("block", inner):
                return self._reduced(inner, package)
            case ("and", *parts):
                found = [self._reduced(part, package) for part in parts]
                return False if False in found else ("and", *[part for part in found if part is not True])
            case ("or", *parts):
                found = [self._reduced(part, package) for part in parts]
                rest = [part for part in found if part is not False]
                return True if True in found else ("or", *rest) if rest else False
        raise AssertionError(condition)

    def _lookup(self, package: Package) -> dict[str, Contents]:
        return {
            **self._terms.variables,
            "version": package.version,
            "build": True,
            "post": True,
            "with-test": package.name in self._terms.tested,
            "with-doc": package.name in self._terms.documented,
            "with-dev-setup": False,
            "dev": holds(package.version, "=", "dev"),
        }


def _meets(version: str, condition: Any) -> bool:
    match condition:
        case ("is", op, bound):
            return bound is None or holds(version, op, bound)
        case ("or", *parts):
            return any(_meets(version, part) for part in parts)
        case (_, *parts):
            return all(_meets(version, part) for part in parts)
    raise AssertionError(condition)


def _atoms(formula: Any) -> Iterator[tuple[str, Any]]:
    if formula and formula[0] == "atom":
        yield formula[1], formula[2]
    elif formula:
        for part in formula[1:]:
            yield from _atoms(part)
