"""The values that a spec is made of. Programs import them from `spec`, which also reads and prints them."""

from __future__ import annotations

from obuild.value import value

__all__ = [
    "Cache",
    "Comment",
    "Copy",
    "Env",
    "FromBuild",
    "FromContext",
    "FromOpam",
    "FromPackage",
    "FromText",
    "FromUrl",
    "Op",
    "Origin",
    "Place",
    "Run",
    "Secret",
    "Shell",
    "Spec",
    "User",
    "Workdir",
]


@value
class Place:
    """Where something stands in its file; line and column count from 1, 0 is nowhere.

    All places are equal: two specs that differ only in where things stand are the same spec.
    """

    path: str = ""
    line: int = 0
    column: int = 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Place)

    def __hash__(self) -> int:
        return 0

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}" if self.line else self.path


NOWHERE = Place()


@value
class Comment:
    """A heading in the log; it changes nothing."""

    text: str
    place: Place = NOWHERE


@value
class Workdir:
    """The directory of later ops; a relative one is below the one before."""

    path: str
    place: Place = NOWHERE


@value
class Shell:
    """The words in front of the command of each later `run`."""

    words: tuple[str, ...]
    place: Place = NOWHERE


@value
class User:
    """Who runs later commands and owns later copies; `name` is Windows' form, its numbers mean nothing."""

    uid: int = 0
    gid: int = 0
    name: str | None = None
    place: Place = NOWHERE


@value
class Env:
    """A variable for later commands."""

    name: str
    value: str
    place: Place = NOWHERE


@value
class Cache:
    """A directory that outlives the build, shared by all who name its `id`; `options` matter in Dockerfiles only."""

    id: str
    target: str
    options: tuple[tuple[str, str], ...] = ()


@value
class Secret:
    """A value that a command can read at `target`; it is never part of a layer, a log or an id."""

    id: str
    target: str
    options: tuple[tuple[str, str], ...] = ()


@value
class Run:
    """A command: one more argument behind the words of the shell. `network` is () or `("host",)` or private names."""

    shell: str
    cache: tuple[Cache, ...] = ()
    network: tuple[str, ...] = ()
    secrets: tuple[Secret, ...] = ()
    place: Place = NOWHERE


@value
class FromContext:
    """The directory that the build was started with."""


@value
class FromBuild:
    """The result of a nested build."""

    name: str


@value
class FromPackage:
    """The finished layer of a package `NAME.VERSION`, known by its build-id."""

    package: str
    id: str


@value
class FromText:
    """One file with this content; its name is what the copy calls its source."""

    text: str


@value
class FromUrl:
    """A file or archive from elsewhere, checked where there are `checksums` (`KIND=HEX`); `mirrors` have the same."""

    url: str
    checksums: tuple[str, ...]
    mirrors: tuple[str, ...] = ()


@value
class FromOpam:
    """What opam itself does to a switch: "switch" makes the tree one, "substs" and "install" are for one package."""

    action: str
    package: str = ""
    id: str = ""


Origin = FromContext | FromBuild | FromPackage | FromText | FromUrl | FromOpam


@value
class Copy:
    """Files from somewhere: into the directory `dst` if that ends with a slash, otherwise the one `src` as `dst`.

    `exclude` leaves out files and directories by name, or by path where `is_glob` says so.
    """

    src: tuple[str, ...]
    dst: str
    source: Origin = FromContext()
    exclude: tuple[str, ...] = ()
    place: Place = NOWHERE


Op = Comment | Workdir | Shell | User | Env | Run | Copy


@value
class Spec:
    """A recipe: the ops on a base, after the nested `builds`, each of which sees those before it."""

    base: str
    ops: tuple[Op, ...] = ()
    builds: tuple[tuple[str, Spec], ...] = ()
    place: Place = NOWHERE
