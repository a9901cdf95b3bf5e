"""A package: a name and a version, in opam's order."""

from __future__ import annotations

import re
from functools import cache

from obuild.errors import UsageError
from obuild.opam.version import valid_version, version_key
from obuild.value import value

__all__ = ["Package", "load_packages", "name_key", "parse_package", "parse_packages", "valid_name"]

_NAME = re.compile(r"[0-9_+-]*[A-Za-z][A-Za-z0-9_+-]*").fullmatch


@value
class Package:
    """`name.version`. Equal when the texts are equal; `key` is equal for versions that opam can not tell apart."""

    name: str
    version: str

    # The shared constructor of records is generic and a repository has 19,000 packages.
    def __init__(self, name: str, version: str) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "version", version)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Package):
            return NotImplemented
        return self.name == other.name and self.version == other.version

    def __hash__(self) -> int:
        return hash((self.name, self.version))

    def __lt__(self, other: Package) -> bool:
        return self.key < other.key

    def __str__(self) -> str:
        return f"{self.name}.{self.version}"

    @property
    def key(self) -> tuple[str, tuple[int, ...]]:
        """What opam sorts packages by and finds them under."""
        return name_key(self.name), version_key(self.version)


def valid_name(text: str) -> bool:
    """Whether opam takes `text` as a package name: letters, digits and `_+-`, with one letter at least."""
    return _NAME(text) is not None


@cache
def name_key(name: str) -> str:
    """A key that sorts names as opam does: case decides only where two names differ in nothing else so far."""
    return "".join([char.lower() + char for char in name])


def parse_package(text: str) -> Package:
    """The package called `name.version`: the name ends at the first dot. Raises `UsageError`."""
    name, dot, version = text.partition(".")
    if not dot:
        raise UsageError(f'"{text}" has no version', hint=f'write "{text}.VERSION"')
    if not valid_name(name):
        raise UsageError(f'"{name}" in "{text}" is not a package name')
    if not valid_version(version):
        raise UsageError(f'"{version}" in "{text}" is not a version')
    return Package(name, version)


def parse_packages(text: str, path: str) -> tuple[Package, ...]:
    """The packages of a text with a `name.version` a line, or several; `#` begins a comment, blank lines are nothing.

    Raises `UsageError` with every bad line, and for two versions of one name: no switch can have both installed.
    """
    found: dict[str, Package] = {}
    problems: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        for word in line.partition("#")[0].split():
            try:
                package = parse_package(word)
            except UsageError as error:
                problems.append(f"{path}:{number}: {error}" + (f"; {error.hint}" if error.hint else ""))
            else:
                if found.setdefault(package.name, package) != package:
                    problems.append(f'{path}:{number}: "{package}" beside "{found[package.name]}"')
    if problems:
        raise UsageError("\n".join(problems))
    return tuple(found.values())


def load_packages(path: str) -> tuple[Package, ...]:
    """The packages listed in the file at `path`, one a line. Raises `UsageError` when it can not be read."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UsageError(f'can not read the package list "{path}": {reason}') from None
    return parse_packages(text, path)
