"""What would be built: a plan, and the builds of packages in it."""

from __future__ import annotations

from hashlib import sha256

from obuild.opam.key import shown_id
from obuild.plan.system import accepts_failure
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from obuild.opam.filter import Contents
    from obuild.opam.opamfile import OpamFile
    from obuild.opam.package import Package
    from obuild.opam.source import Source
    from obuild.plan.definition import Definitions
    from obuild.plan.relocatable import Relocation
    from obuild.platform import Base

__all__ = ["HOME", "PREFIX", "ROOT", "SWITCH", "PackageBuild", "Patch", "Plan", "facts", "meta"]

HOME = "/home/opam"
ROOT = f"{HOME}/.opam"
SWITCH = "default"
PREFIX = f"{ROOT}/{SWITCH}"
"""Where packages are built and installed unless another prefix is asked for: as in opam's own images."""


@value
class Patch:
    """A patch of the user's for a package, applied after the package's own ones."""

    name: str
    text: bytes


@value
class PackageBuild:
    """One package to be built into the layer `key`.

    `parents` are the keys of all layers that it is built upon, in the order in which they are stacked: dependencies
    before dependents. `needs` are those of them that the package names itself. `build_id` is opam's own, None where it
    defines none, for the reason `why`. `source` is None for a package without one.
    """

    package: Package
    key: str
    build_id: str | None
    parents: tuple[str, ...]
    needs: tuple[str, ...]
    file: OpamFile
    source: Source | None
    relocation: Relocation
    with_test: bool = False
    with_doc: bool = False
    patches: tuple[Patch, ...] = ()
    why: str = ""

    @property
    def shown_id(self) -> str:
        """What the package sees as its own build-id."""
        return shown_id(self.key)


@value
class Plan:
    """The builds of a solution, each after those that it needs, on the base of a platform.

    `targets` are the keys of what was asked for. `variables` are opam's global ones. `by_key` has the builds once more.
    """

    base: Base
    builds: tuple[PackageBuild, ...]
    by_key: Mapping[str, PackageBuild]
    targets: tuple[str, ...]
    prefix: str
    variables: Mapping[str, Contents]
    definitions: Definitions

    def parents(self, build: PackageBuild) -> tuple[PackageBuild, ...]:
        """The builds of the layers that one is stacked upon, in that order."""
        return tuple([self.by_key[key] for key in build.parents])


def facts(build: PackageBuild, plan: Plan) -> dict[str, Any]:
    """What the `layer.json` of a package's layer must say for it to be the one that is asked for, beside its key."""
    return {
        "base": plan.base.id,
        "variant": {
            "with-test": build.with_test,
            "with-doc": build.with_doc,
            "patches": [f"{patch.name} {sha256(patch.text).hexdigest()}" for patch in build.patches],
            "prefix": plan.prefix,
        },
    }


def meta(build: PackageBuild, plan: Plan) -> dict[str, Any]:
    """What `layer.json` says of a package's layer besides how the build went.

    The names that day10 has are day10's: `deps` and `hashes` list the whole closure, dependents first.
    """
    below = plan.parents(build)[::-1]
    return {
        "package": str(build.package),
        "build_id": build.build_id,
        "deps": [str(parent.package) for parent in below],
        "hashes": [parent.key for parent in below],
        **facts(build, plan),
        "relocatable": build.relocation.possible,
        "relocatable_why": build.relocation.why,
        "failure_accepted": accepts_failure(build.file, plan.base.platform),
    }
