"""Small worlds for the solver, and a slow solver to compare it with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from obuild.opam.filter import evaluate, satisfied
from obuild.opam.opamfile import OpamFile
from obuild.opam.package import Package, parse_package
from obuild.opam.solver import Rules, Solver, Universe
from obuild.opam.solver.fact import fact_of
from obuild.opam.syntax import parse
from obuild.opam.version import holds, version_key

VARIABLES = {"os": "linux", "arch": "x86_64", "opam-version": "2.5.2"}


class World:
    """Packages by the texts of their opam files; it answers like a repository."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self.files = {parse_package(package): opam_file(package, text) for package, text in texts.items()}

    def packages(self) -> dict[str, tuple[str, ...]]:
        names = dict.fromkeys(package.name for package in self.files)
        return {name: tuple(sorted(self._versions(name), key=version_key)) for name in names}

    def _versions(self, name: str) -> Iterator[str]:
        return (package.version for package in self.files if package.name == name)

    def opam(self, package: Package, *, level: str = "") -> OpamFile:
        return self.files[package]

    def blob_id(self, package: Package) -> str:
        return repr(self.files[package].items).encode().hex()

    def solver(self, pins: Mapping[str, str] | None = None, **rules: Any) -> Solver:
        variables = tuple(sorted({**VARIABLES, **rules.pop("variables", {})}.items()))
        pinned = {name: fact_of(opam_file(f"{name}.dev", text)) for name, text in (pins or {}).items()}
        compiler = rules.pop("compiler", "")
        rules = Rules(variables, parse_package(compiler) if compiler else None, **rules)
        facts = {package: fact_of(file) for package, file in self.files.items()}
        return Solver(Universe(self.packages(), lambda name, version: facts[Package(name, version)], rules, pinned))


def opam_file(package: str, text: str) -> OpamFile:
    return OpamFile(parse_package(package), parse(f'opam-version: "2.0"\n{text}'.encode(), package))


class Slow:
    """The search order to the letter, by trying everything: no propagation, no learning, no sets.

    A choice is a package, or for a `|` the number of its alternative; the first complete set of choices is the best.
    """

    def __init__(self, world: World, variables: Mapping[str, str | bool] = VARIABLES) -> None:
        self.world, self.variables = world, variables

    def solve(self, *asked: tuple[str, str]) -> set[str] | None:
        agenda = [(("atom", name, ("is", "=", version) if version else None), None) for name, version in asked]
        self.asked = {name for name, _ in asked}
        chosen = next(self._walk(agenda, {}), None)
        return None if chosen is None else {str(Package(*item)) for item in chosen.items()}

    def _walk(self, agenda: list[Any], chosen: dict[str, str]) -> Iterator[dict[str, str]]:
        if not agenda:
            yield chosen
            return
        (formula, owner), *rest = agenda
        match formula:
            case None:
                yield from self._walk(rest, chosen)
            case ("block", inner):
                yield from self._walk([(inner, owner), *rest], chosen)
            case ("and", *parts):
                yield from self._walk([*[(part, owner) for part in parts], *rest], chosen)
            case ("or", *parts):
                # An alternative whose filters are false is none at all, and with none left nothing is asked.
                parts = [part for part in parts if self._applies(part, owner)]
                for part in parts:
                    yield from self._walk([(part, owner), *rest], chosen)
                if not parts:
                    yield from self._walk(rest, chosen)
            case ("atom", name, condition):
                rest_of = self._reduced(condition, owner)
                if rest_of is False:
                    yield from self._walk(rest, chosen)
                else:
                    yield from self._take(name, rest_of, rest, chosen)

    def _take(self, name: str, condition: Any, rest: list[Any], chosen: dict[str, str]) -> Iterator[dict[str, str]]:
        versions = [chosen[name]] if name in chosen else self._candidates(name)
        for version in versions:
            if not self._meets(version, condition):
                continue
            if name in chosen:
                yield from self._walk(rest, chosen)
            else:
                new = {**chosen, name: version}
                if self._fits(new):
                    depends = self.world.files[Package(name, version)].depends
                    yield from self._walk([(depends, Package(name, version)), *rest], new)

    def _candidates(self, name: str) -> list[str]:
        files = {version: self.world.files[Package(name, version)] for version in self.world.packages().get(name, ())}
        files = {version: file for version, file in files.items() if self._available(file)}
        if all("avoid-version" in file.flags for file in files.values()) and name not in self.asked:
            return []
        newest_first = sorted(files, key=version_key, reverse=True)
        return sorted(newest_first, key=lambda version: "avoid-version" in files[version].flags)

    def _available(self, file: OpamFile) -> bool:
        return satisfied(file.available, self._scope(file.package).get)

    def _fits(self, chosen: dict[str, str]) -> bool:
        """Whether no two of the chosen packages are in conflict."""
        holders: dict[str, str] = {}
        for name, version in chosen.items():
            file = self.world.files[Package(name, version)]
            for other in file.conflict_classes:
                if holders.setdefault(other, name) != name:
                    return False
            for other, condition in flat_atoms(file.conflicts):
                rest = self._reduced(condition, file.package)
                if other in chosen and rest is not False and self._meets(chosen[other], rest):
                    return False
        return True

    def _applies(self, formula: Any, owner: Package) -> bool:
        return any(self._reduced(condition, owner) is not False for _, condition in flat_atoms(formula))

    def _reduced(self, condition: Any, owner: Package | None) -> Any:
        match condition:
            case None:
                return True
            case ("if", filter):
                return satisfied(filter, self._scope(owner).get)
            case ("is", op, version):
                bound = evaluate(version, self._scope(owner).get)
                return True if bound is None else ("is", op, bound)
            case ("block", inner):
                return self._reduced(inner, owner)
            case ("and", *parts):
                found = [self._reduced(part, owner) for part in parts]
                return False if False in found else ("and", *found)
            case (_, *parts):
                found = [each for part in parts if (each := self._reduced(part, owner)) is not False]
                return ("or", *found) if found else False

    def _meets(self, version: str, condition: Any) -> bool:
        match condition:
            case bool() | None:
                return condition is not False
            case ("is", op, bound):
                return holds(version, op, bound)
            case (kind, *parts):
                return (any if kind == "or" else all)(self._meets(version, part) for part in parts)
        raise AssertionError(condition)

    def _scope(self, owner: Package | None) -> dict[str, str | bool]:
        given = {"build": True, "post": True, "with-test": False, "with-doc": False, "dev": False}
        return {**self.variables, **given, **({"version": owner.version} if owner else {})}


def flat_atoms(formula: Any) -> Iterator[tuple[str, Any]]:
    if formula and formula[0] == "atom":
        yield formula[1], formula[2]
    elif formula:
        for part in formula[1:]:
            yield from flat_atoms(part)
