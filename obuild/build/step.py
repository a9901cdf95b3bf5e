"""Steps: exactly the inputs that count for a layer, and the id they give it.

If it counts it is a field; if it is a field it counts. An id is the SHA-256 of the step's canonical S-expression, so it
is the same on every machine. Two laws keep ids stable: no new mandatory field, ever; an optional one is written only
when it is set.

What does not count, on purpose: the value of a secret, cache directories, limits, the kind of sandbox or store,
the place of the context directory, modification times.
"""

from __future__ import annotations

from obuild.digest import sha256
from obuild.spec import sexp
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from obuild.spec.sexp import Tree

__all__ = ["CopyStep", "FromStep", "OpamStep", "RunStep", "StackStep", "Step", "UrlStep"]


@value
class FromStep:
    """The base of a stage: `key` names the image's content (a digest where its name resolves to one)."""

    key: str

    @property
    def id(self) -> str:
        """The layer's id."""
        return _digest(["from", self.key])


@value
class RunStep:
    """A command on top of layer `base`: `secrets` are (id, target) pairs, `env` keeps its order.

    `host` is the name that others on its private networks know it by; "" on none.
    """

    base: str
    workdir: str
    user: tuple[int, int]
    env: tuple[tuple[str, str], ...]
    shell: tuple[str, ...]
    command: str
    network: tuple[str, ...] = ()
    secrets: tuple[tuple[str, str], ...] = ()
    host: str = ""

    @property
    def id(self) -> str:
        """The layer's id."""
        form: list[Tree] = [
            "run",
            ["base", self.base],
            ["workdir", self.workdir],
            ["user", *map(str, self.user)],
            ["env", *map(list, self.env)],
            ["shell", *self.shell],
            ["command", self.command],
        ]
        if self.network:
            form.append(["network", *self.network])
        if self.secrets:
            form.append(["secrets", *map(list, self.secrets)])
        if self.host:
            form.append(["host", self.host])
        return _digest(form)


@value
class CopyStep:
    """Files put on top of layer `base` at `target`: `manifest` covers their names, kinds, modes and content.

    `into` tells the two forms apart: sources put into the directory `target`, or one source that becomes `target`.
    """

    base: str
    user: tuple[int, int]
    target: str
    into: bool
    manifest: str

    @property
    def id(self) -> str:
        """The layer's id."""
        form = "into" if self.into else "as"
        return _digest(
            ["copy", ["base", self.base], ["user", *map(str, self.user)], [form, self.target], ["files", self.manifest]]
        )


@value
class UrlStep:
    """A download put on top of layer `base` at `target`: `content` is its best checksum.

    `src` says whether it is unpacked, and which part of it; `into` as in `CopyStep`.
    """

    base: str
    user: tuple[int, int]
    target: str
    into: bool
    src: str
    content: str

    @property
    def id(self) -> str:
        """The layer's id."""
        form = "into" if self.into else "as"
        return _digest(
            [
                "url",
                ["base", self.base],
                ["user", *map(str, self.user)],
                [form, self.target],
                ["src", self.src],
                ["content", self.content],
            ]
        )


@value
class OpamStep:
    """What opam does to the switch at `target` in layer `base`, for `package` with its build-id `build`.

    `owner` stands for the package that is built: nobody else's build has the same id then.
    """

    base: str
    user: tuple[int, int]
    workdir: str
    target: str
    action: str
    src: tuple[str, ...] = ()
    package: str = ""
    build: str = ""
    owner: str = ""

    @property
    def id(self) -> str:
        """The layer's id."""
        form: list[Tree] = [
            "opam",
            self.action,
            ["base", self.base],
            ["user", *map(str, self.user)],
            ["workdir", self.workdir],
            ["target", self.target],
            ["src", *self.src],
        ]
        if self.package:
            form.append(["package", self.package, self.build])
        if self.owner:
            form.append(["owner", self.owner])
        return _digest(form)


@value
class StackStep:
    """The finished layers `ids` stacked on layer `base`, the lowest first."""

    base: str
    ids: tuple[str, ...]

    @property
    def id(self) -> str:
        """What stands for the stack in the ids of later steps; there is a layer of it only where one is asked for."""
        return _digest(["stack", ["base", self.base], ["layers", *self.ids]])


Step = FromStep | RunStep | CopyStep | UrlStep | OpamStep | StackStep


def _digest(form: Tree) -> str:
    return sha256(sexp.format(form).encode("utf-8", "surrogateescape")).hexdigest()
