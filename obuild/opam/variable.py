"""The variables of one package build: what `%{name}%`, `%{_:name}%` and `%{PKG:name}%` stand for.

Opam asks in this order: the file that an installed package left (`PKG.config`), the directories of the switch, its
global variables, and what opam itself knows of the package. An unqualified name that is neither a directory nor global
is the package's own. Rules: opam's manual, "Variables", and what opam 2.1 and 2.3 do.
"""

from __future__ import annotations

from obuild.opam.buildid import Rules, dependencies
from obuild.opam.formula import atoms
from obuild.opam.url import parse_url
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from obuild.opam.filter import Contents, Lookup
    from obuild.opam.opamfile import OpamFile
    from obuild.opam.package import Package

__all__ = ["Installed", "directories", "package_lookup", "seen_from", "switch_lookup"]

_SHARED = ("bin", "sbin", "man")
_OWN = ("lib", "share", "doc", "etc")
_GLOBALS = {"make": "make", "exe": "", "jobs": "1"}


@value
class Installed:
    """A package that is installed: its definition, its build-id ("" when it has none), the variables it left."""

    package: Package
    file: OpamFile
    build_id: str
    variables: Mapping[str, Contents]


def directories(prefix: str) -> dict[str, str]:
    """The directories of a switch by the names that they have as variables."""
    parts = (*_SHARED, *_OWN)
    libraries = {name: f"{prefix}/lib/{name}" for name in ("toplevel", "stublibs")}
    return {"prefix": prefix, **{name: f"{prefix}/{name}" for name in parts}, **libraries}


def switch_lookup(
    prefix: str,
    *,
    globals: Mapping[str, Contents],
    installed: Mapping[str, Installed],
    pinned: Collection[str] = (),
) -> Lookup:
    """The variables of a switch: its directories, `globals` (`os`, `arch`, `sys-ocaml-version`, …) and `PKG:name`.

    `prefix`: the switch's directory, the opam root is the one above it. `installed`: what is there, by name; only what
    is asked for is looked up. `pinned`: names of packages that have no released source.
    """
    root, _, switch = prefix.rpartition("/")
    known = {**_GLOBALS, "root": root, "switch": switch, **globals, **directories(prefix)}
    facts = _Facts(prefix, globals, installed, pinned)

    def lookup(name: str) -> Contents | None:
        scope, colon, variable = name.rpartition(":")
        return facts.find(scope, variable, installed.get(scope)) if colon else known.get(name)

    return lookup


def package_lookup(
    package: Package,
    file: OpamFile,
    *,
    prefix: str,
    globals: Mapping[str, Contents],
    installed: Mapping[str, Installed],
    build_id: str = "",
    local: Mapping[str, Contents] | None = None,
    pinned: Collection[str] = (),
) -> Lookup:
    """The variables that commands, filters and `.in` files of `package` see while it is built.

    `installed`: what is there, without `package` itself. `build_id`: its own, "" when it has none. `local`: what opam
    knows only in `build:`, `install:` and `run-test:` (`with-test`, `with-doc`, `with-dev-setup`). The rest is as for
    `switch_lookup`.
    """
    there = installed
    if package.name in there:
        there = {name: found for name, found in installed.items() if name != package.name}
    outside = switch_lookup(prefix, globals=globals, installed=there, pinned=pinned)
    facts = _Facts(prefix, globals, there, pinned)
    own = Installed(package, file, build_id, {})

    def lookup(name: str) -> Contents | None:
        scope, colon, variable = name.rpartition(":")
        if colon:
            return facts.find(package.name, variable, own) if scope in ("_", package.name) else outside(name)
        if local and name in local:
            return local[name]
        found = outside(name)
        return found if found is not None else facts.find(package.name, name, own)

    return lookup


def seen_from(name: str, lookup: Lookup) -> Lookup:
    """The variables as the definition of the installed package `name` sees them, for its `setenv:`.

    `lookup` is that of the switch, or of another package without `local` variables.
    """

    def inside(variable: str) -> Contents | None:
        scope, colon, rest = variable.rpartition(":")
        if colon:
            return lookup(f"{name}:{rest}" if scope == "_" else variable)
        if variable in _FACTS:
            return lookup(f"{name}:{variable}")
        found = lookup(variable)
        return found if found is not None else lookup(f"{name}:{variable}")

    return inside


_FACTS = ("name", "version", "depends", "installed", "pinned", "dev", "build", "build-id", "hash", "opamfile")


class _Facts:
    """What opam knows of packages."""

    def __init__(
        self,
        prefix: str,
        globals: Mapping[str, Contents],
        installed: Mapping[str, Installed],
        pinned: Collection[str],
    ) -> None:
        self._prefix, self._globals, self._installed, self._pinned = prefix, globals, installed, pinned
        self._of: dict[str, Callable[[Installed], Contents | None]] = {
            "name": lambda found: found.package.name,
            "version": lambda found: found.package.version,
            "depends": self._depends,
            "dev": self._is_dev,
            "build": lambda found: f"{prefix}/.opam-switch/build/{found.package}",
            "build-id": lambda found: found.build_id or None,
            "hash": lambda _: "",
            "opamfile": lambda found: f"{prefix}/.opam-switch/packages/{found.package}/opam",
        }

    def find(self, name: str, variable: str, found: Installed | None) -> Contents | None:
        """The variable of the package called `name`, which is `found` when it is known."""
        if found and variable in found.variables:
            return found.variables[variable]
        if variable == "installed":
            return name in self._installed
        if variable == "pinned":
            return name in self._pinned
        if not found:
            return None
        if variable in _SHARED:
            return f"{self._prefix}/{variable}"
        if variable in _OWN:
            return f"{self._prefix}/{variable}/{name}"
        of = self._of.get(variable)
        return of(found) if of else None

    def _depends(self, found: Installed) -> str:
        named = {name for formula in (found.file.depends, found.file.depopts) for name, _ in atoms(formula)}
        packages = {name: self._installed[name].package for name in named if name in self._installed}
        rules = Rules(variables=self._globals)
        return " ".join([str(package) for package in reversed(dependencies(found.file, packages, rules))])

    def _is_dev(self, found: Installed) -> bool:
        source, pinned = found.file.url, found.package.name in self._pinned
        if not source:
            return pinned
        return not source.checksums and (pinned or parse_url(source.url).backend != "http")
