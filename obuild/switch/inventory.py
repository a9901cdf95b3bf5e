"""What is installed in the switch of a tree: the packages, what they are, and the variables that they left."""

from __future__ import annotations

import os
from collections.abc import Mapping

from obuild.errors import ObuildError, OpamError, UsageError
from obuild.opam.dotconfig import parse_config
from obuild.opam.key import shown_id
from obuild.opam.opamfile import OpamFile
from obuild.opam.package import parse_package
from obuild.opam.platform import platform_of
from obuild.opam.syntax import parse
from obuild.opam.variable import Installed
from obuild.switch.tree import Tree, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from obuild.opam.filter import Contents
    from obuild.opam.package import Package

__all__ = ["Inventory", "Scene", "prefix_of"]

_BUILD = "/.opam-switch/build/"


class Scene:
    """What an action has to do with: the tree, where messages go, the keys of layers, the global variables."""

    def __init__(
        self,
        root: str,
        user: tuple[int, int],
        write: Callable[[bytes], object],
        ids: Mapping[str, str],
        variables: Mapping[str, Contents] | None,
    ) -> None:
        self.tree, self.user, self.ids = Tree(root, user), user, ids
        self._write, self._variables = write, variables
        self._owner: tuple[str, str] | None = None
        self._globals: Mapping[str, Contents] | None = None

    def __enter__(self) -> Scene:
        return self

    def __exit__(self, *_: object) -> None:
        self.tree.__exit__()

    def say(self, text: str) -> None:
        """Write a line to the log."""
        self._write(text.encode("utf-8", "surrogateescape") + b"\n")

    def globals(self) -> Mapping[str, Contents]:
        """Opam's global variables, from what the image says of itself where nobody gave them."""
        if self._globals is None:
            self._globals = self._read_globals()
        return self._globals

    def _read_globals(self) -> Mapping[str, Contents]:
        found: dict[str, Contents] = {}
        release = self.tree.read(b"/etc/os-release") or b""
        found.update(platform_of(release.decode("utf-8", "replace"), os.uname().machine).variables)
        found["user"], found["group"] = self.owner()
        return {**found, **(self._variables or {})}

    def owner(self) -> tuple[str, str]:
        """The names in the image of the user and the group that own the switch; numbers where they have none."""
        if self._owner is None:
            user, group = self.user
            self._owner = self._named(b"/etc/passwd", user), self._named(b"/etc/group", group)
        return self._owner

    def _named(self, path: bytes, number: int) -> str:
        for line in (self.tree.read(path) or b"").split(b"\n"):
            fields = line.split(b":")
            if len(fields) > 2 and fields[2] == b"%d" % number:
                return fields[0].decode("latin-1")
        return str(number)

    def inventory(self, prefix: bytes, *, without: str = "") -> Inventory:
        """The packages of the switch at `prefix`; the one called `without` does not count."""
        return Inventory(self.tree, prefix, self.ids, without)


def prefix_of(workdir: str) -> str:
    """The prefix that a build directory belongs to. Raises `ObuildError` for another directory."""
    prefix, found, _ = workdir.rpartition(_BUILD)
    if not found:
        raise ObuildError(
            f'"{workdir}" is not a build directory of a switch', hint="PREFIX/.opam-switch/build/NAME.VERSION is one"
        )
    return prefix


class Inventory(Mapping[str, Installed]):
    """The installed packages of a switch by name; definitions are read when they are asked for."""

    def __init__(self, tree: Tree, prefix: bytes, ids: Mapping[str, str], without: str) -> None:
        self._tree, self._meta, self._ids = tree, prefix + b"/.opam-switch/", ids
        self.packages: dict[str, Package] = {}
        for name in tree.names(self._meta + b"packages"):
            try:
                package = parse_package(name.decode("latin-1"))
            except UsageError:
                continue  # `cache`, and what else is no package
            if package.name != without:
                self.packages[package.name] = package
        self._found: dict[str, Installed] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(self.packages)

    def __len__(self) -> int:
        return len(self.packages)

    def __contains__(self, name: object) -> bool:
        return name in self.packages

    def __getitem__(self, name: str) -> Installed:
        if name not in self._found:
            package = self.packages[name]
            key = self.key(package)
            self._found[name] = Installed(package, self.file(package), shown_id(key), self._variables(name))
        return self._found[name]

    def key(self, package: Package) -> str:
        """The key of a package's layer, "" when it is not known."""
        return self._ids.get(str(package)) or self._ids.get(package.name, "")

    def definition(self, package: Package) -> bytes:
        """The text of the opam file of a package. Raises `ObuildError` when it is not there."""
        path = self._meta + f"packages/{package}/opam".encode("latin-1")
        data = self._tree.read(path)
        if data is None:
            raise ObuildError(f'the definition of "{package}" is missing: "{shown(path)}"')
        return data

    def file(self, package: Package) -> OpamFile:
        """The definition of a package. Raises `ObuildError` when it is not there, `OpamError` when it is wrong."""
        data = self.definition(package)
        return OpamFile(package, parse(data, f"packages/{package}/opam"))

    def _variables(self, name: str) -> Mapping[str, Contents]:
        data = self._tree.read(self._meta + f"config/{name}.config".encode("latin-1"))
        if data is None:
            return {}
        try:
            return parse_config(data, f"{name}.config")[0].lookup()
        except OpamError:
            return {}  # opam says so, and goes on without them
