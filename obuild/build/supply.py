"""What the host itself puts into a tree: texts of the spec, downloads, and what opam does besides running commands.

Several after each other are one layer: each costs a few calls, and a layer more than that. Ids are those of the single
steps, each standing on the one before, so it does not matter which are put together.
"""

from __future__ import annotations

import os
from itertools import groupby

from obuild.build.step import CopyStep, OpamStep, StackStep, UrlStep
from obuild.digest import sha256
from obuild.errors import ObuildError
from obuild.spec import Copy, FromOpam, FromPackage, FromText, FromUrl
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any

    from obuild.cancel import Cancel
    from obuild.download import Sources
    from obuild.spec import Op

    Write = Callable[[bytes], None]
    Put = Callable[[str, Write, Cancel], dict[str, Any]]

__all__ = ["Ground", "Site", "Supply", "groups", "is_stacked", "is_supply", "is_switch", "supply"]


@value
class Supply:
    """One `copy` to be done: its id as a step, its place among the ops, and what does it.

    `put` is given the root, where to write its log and what cancels it; it returns what `layer.json` should say.
    """

    op: Copy
    number: int
    id: str
    put: Put


@value
class Ground:
    """What the next step stands on: finished layers stacked upon each other, and supplies to be put on them first."""

    parents: tuple[str, ...]
    supplies: tuple[Supply, ...] = ()

    @property
    def id(self) -> str:
        """What stands for it in the id of the next step."""
        if self.supplies:
            return self.supplies[-1].id
        base, *others = self.parents
        return StackStep(base, tuple(others)).id if others else base

    def put(self, root: str, write: Write, cancel: Cancel, at: Callable[[Supply], Any]) -> dict[str, Any]:
        """Do what waits, each within the block that `at` gives; what `layer.json` should say."""
        facts: dict[str, Any] = {}
        for supply in self.supplies:
            with at(supply):
                facts |= supply.put(root, write, cancel)
        return facts


@value
class Site:
    """Where a supply goes: what it stands on, who owns it, and the switch that it is for.

    `packages` are the layers of packages below, by `NAME.VERSION`, and `variables` opam's global ones (None when it is
    not known for what platform this is); `owner` stands for the package that is being built.
    """

    base: str
    user: tuple[int, int]
    workdir: str
    target: str
    packages: Mapping[str, str]
    sources: Callable[[], Sources]
    owner: str
    variables: Mapping[str, Any] | None


def is_stacked(op: Op) -> bool:
    """Whether an op is a package of a stack, of which nothing is copied."""
    if not isinstance(op, Copy) or not isinstance(op.source, FromPackage):
        return False
    return op.dst == "/" and op.src in (("/",), (".",)) and not op.exclude


def groups(ops: Iterable[Op]) -> Iterator[tuple[int, tuple[Op, ...]]]:
    """The ops, each with its number; the packages of a stack are together, with that of the first."""
    number = 0
    for stacked, group in groupby(ops, is_stacked):
        found = tuple(group)
        if stacked:
            yield number, found
        else:
            yield from [(place, (op,)) for place, op in enumerate(found, number)]
        number += len(found)


def is_supply(op: Op) -> bool:
    """Whether an op is a `copy` that the host does itself."""
    return isinstance(op, Copy) and isinstance(op.source, FromText | FromUrl | FromOpam)


def is_switch(op: Op) -> bool:
    """Whether an op makes the switch that a package is built in: what comes after it is the package's own."""
    return isinstance(op, Copy) and op.source == FromOpam("switch")


def supply(op: Copy, number: int, site: Site, write: Write, cancel: Cancel) -> Supply:
    """The supply that an op stands for. A download without a checksum is done now: what it is counts."""
    match op.source:
        case FromText(text):
            found = _text(text, op.src[0], site)
        case FromUrl():
            found = _url(op.source, op.src[0], site, write, cancel)
        case FromOpam():
            found = _opam(op.source, op.src, site)
        case _:
            raise ObuildError(f"{op.place}: this copy is not the host's")
    return Supply(op, number, *found)


def _text(text: str, name: str, site: Site) -> tuple[str, Put]:
    target = f"{site.target}{name}" if site.target.endswith("/") else site.target
    data = text.encode("utf-8", "surrogateescape")
    step = CopyStep(site.base, site.user, target, False, f"text {sha256(data).hexdigest()}")

    def put(root: str, _: Write, __: Cancel) -> dict[str, Any]:
        from obuild.copy import copy
        from obuild.manifest import of_text

        folder, base = os.path.split(target)
        copy(of_text(base, data), root, f"{folder}/", into=True, user=site.user)
        return {}

    return step.id, put


def _url(source: FromUrl, src: str, site: Site, write: Write, cancel: Cancel) -> tuple[str, Put]:
    into = site.target.endswith("/")
    subpath = "" if src == "." or not src.startswith("./") else src[2:]
    where = source.url, source.checksums, source.mirrors
    content = site.sources().content_key(*where, write, cancel, subpath=subpath)
    step = UrlStep(site.base, site.user, site.target, into, src, content)

    def put(root: str, write: Write, cancel: Cancel) -> dict[str, Any]:
        from obuild.download import extract

        path = site.sources().obtain(*where, write, cancel)
        extract(path, root, site.target, src=src, user=site.user, name=source.url, cancel=cancel)
        return {}

    return step.id, put


def _opam(source: FromOpam, src: tuple[str, ...], site: Site) -> tuple[str, Put]:
    action, package, build = source.action, source.package, source.id
    owner = site.owner if action == "switch" else ""  # later steps stand on it
    step = OpamStep(site.base, site.user, site.workdir, site.target, action, src, package, build, owner)

    def put(root: str, write: Write, _: Cancel) -> dict[str, Any]:
        from obuild.switch import act

        found = act(
            action,
            root,
            site.target,
            src=src,
            workdir=site.workdir,
            package=package,
            id=build,
            ids=site.packages,
            user=site.user,
            write=write,
            variables=site.variables,
        )
        return {"opam": found} if found else {}

    return step.id, put
