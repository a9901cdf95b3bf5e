"""The spec of a package: what opam would do to build it, as steps on the layers that it is built upon.

    base → system packages → layers of the dependencies → a valid switch → source, patches → commands → installation

Each command of the opam file is a step of its own, so that a failing one can be run again alone.
"""

from __future__ import annotations

from obuild.opam.environment import build_environment
from obuild.opam.opamfile import OpamFile
from obuild.opam.package import Package
from obuild.opam.variable import Installed, package_lookup
from obuild.plan.build import PackageBuild
from obuild.plan.command import command_lines, decoded, patch_command, patches, substs
from obuild.plan.depext import depexts, install_step
from obuild.plan.relocatable import Relocation
from obuild.plan.scope import Unbuilt, has_variables
from obuild.spec import (
    Copy,
    Env,
    FromOpam,
    FromPackage,
    FromText,
    FromUrl,
    Run,
    Shell,
    Spec,
    User,
    Workdir,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import TypeAlias

    from obuild.opam.filter import Contents, Lookup
    from obuild.opam.source import Source
    from obuild.plan.build import Plan
    from obuild.spec import Op

    Variables: TypeAlias = Callable[[PackageBuild], Mapping[str, Contents] | None]

__all__ = ["compile", "compile_switch"]

SHELL = ("/bin/sh", "-c")
OWNER, NAME = 1000, "opam"
"""The uid and gid of the user that builds, and what both are called."""


def compile(build: PackageBuild, plan: Plan, variables: Variables) -> Spec:
    """The spec that builds a package of a plan.

    `variables` tells what the finished layer of another build has in its `.config`, None when there is no such layer.
    Raises `UsageError` when a value of such a one is needed, `OpamError` for files that are not what they should be.
    """
    return Spec(plan.base.platform.key, tuple(_Compiler(build, plan, variables).ops()))


def compile_switch(plan: Plan, files: Sequence[OpamFile], variables: Variables) -> Spec:
    """The spec of a switch in which all packages of a plan are installed and nothing else.

    The system packages that `files` ask for are there, too. Raises as `compile` does.
    """
    keys = tuple([build.key for build in plan.builds])
    nobody = Package("project", "dev")
    build = PackageBuild(nobody, "dev", None, keys, keys, OpamFile(nobody, ()), None, Relocation(True, ""))
    ops = _Compiler(build, plan, variables, files).switch()
    own = ("OPAM_PACKAGE_NAME", "OPAM_PACKAGE_VERSION")
    return Spec(plan.base.platform.key, tuple([op for op in ops if not (isinstance(op, Env) and op.name in own)]))


class _Compiler:
    """One package being compiled."""

    def __init__(
        self, build: PackageBuild, plan: Plan, variables: Variables, files: Sequence[OpamFile] | None = None
    ) -> None:
        self._build, self._plan = build, plan
        self._parents = plan.parents(build)
        self._own = [build.file] if files is None else files
        self._installed = {
            parent.package.name: Installed(
                parent.package, parent.file, parent.shown_id, self._variables(parent, variables(parent))
            )
            for parent in self._parents
        }
        self._lookup = self._scope()
        self._folder = f"{plan.prefix}/.opam-switch/build/{build.package}"
        self._kept = f"{plan.prefix}/.opam-switch/packages/{build.package}"

    def _variables(self, parent: PackageBuild, found: Mapping[str, Contents] | None) -> Mapping[str, Contents]:
        if found is not None:
            return found
        added = bool(self._plan.definitions.added(parent.file))
        return Unbuilt(parent, self._build) if has_variables(parent, added=added) else {}

    def _scope(self) -> Lookup:
        build, plan = self._build, self._plan
        return package_lookup(
            build.package,
            build.file,
            prefix=plan.prefix,
            globals={"user": NAME, "group": NAME, **plan.variables},
            installed=self._installed,
            build_id=build.shown_id,
            pinned=plan.definitions.pins.keys(),
        )

    def ops(self) -> Iterator[Op]:
        """All operations, in their order."""
        yield from self.switch()
        yield from self._definition()
        yield from self._sources()
        yield from self._patches()
        for line in command_lines(
            self._build.file, self._lookup, with_test=self._build.with_test, with_doc=self._build.with_doc
        ):
            yield Run(line)
        yield self._act("install", (".",), self._plan.prefix)

    def switch(self) -> Iterator[Op]:
        """What makes the switch that the package is built in."""
        yield Shell(SHELL)
        yield from self._system()
        yield User(OWNER, OWNER)
        for parent in self._parents:
            yield Copy(("/",), "/", FromPackage(str(parent.package), parent.key))
        yield from self._environment()
        yield Workdir(self._folder)
        yield Copy((".",), self._plan.prefix, FromOpam("switch"))

    def _system(self) -> Iterator[Op]:
        variables = self._plan.variables.get
        names = depexts([*[parent.file for parent in self._parents], *self._own], variables, self._plan.base.packages)
        if names:
            yield User(0, 0)
            yield install_step(map(decoded, names), variables, self._plan.base.key)

    def _environment(self) -> Iterator[Op]:
        base = self._plan.base.env
        root, _, switch = self._plan.prefix.rpartition("/")
        found = build_environment(
            self._build.package,
            self._build.file,
            self._installed,
            prefix=self._plan.prefix,
            root=root,
            switch=switch,
            base=base,
            lookup=self._lookup,
        )
        changed = {name for name, _ in found}
        for name, text in (*[pair for pair in base if pair[0] not in changed], *found):
            yield Env(decoded(name), decoded(text))

    def _definition(self) -> Iterator[Op]:
        """The package's directory in a repository, as opam keeps it for what is installed."""
        definitions, file = self._plan.definitions, self._build.file
        yield _text(definitions.kept(file), f"{self._kept}/opam")
        for name, data in sorted(definitions.added(file).items()):
            yield _text(data, f"{self._kept}/files/{name}")

    def _sources(self) -> Iterator[Op]:
        source = self._build.source
        if source:
            yield Copy((f"./{decoded(source.subpath)}" if source.subpath else ".",), "./", _url(source))
        for name, extra in self._build.file.extra_sources:
            yield Copy((_base(decoded(name)),), f"./{decoded(name)}", _url(extra))
        for name, data in self._plan.definitions.added(self._build.file).items():
            yield _text(data, f"./{decoded(name)}")

    def _patches(self) -> Iterator[Op]:
        first, others = substs(self._build.file)
        names = patches(self._build.file, self._lookup)
        if first:
            yield self._act("substs", first, "./")
        for patch in self._build.patches:
            yield _text(patch.text, f"./{patch.name}")
        names = (*names, *[patch.name for patch in self._build.patches])
        if names:
            yield Run(patch_command(names))
        if others:
            yield self._act("substs", others, "./")

    def _act(self, action: str, src: tuple[str, ...], dst: str) -> Op:
        return Copy(src, dst, FromOpam(action, str(self._build.package), self._build.key))


def _url(source: Source) -> FromUrl:
    return FromUrl(decoded(source.url), source.checksums, tuple(map(decoded, source.mirrors)))


def _text(data: bytes, target: str) -> Op:
    return Copy((_base(target),), target, FromText(data.decode("utf-8", "surrogateescape")))


def _base(path: str) -> str:
    return path.rpartition("/")[2]
