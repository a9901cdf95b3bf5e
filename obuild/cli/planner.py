"""What commands about packages share: their options, the base of a platform, and a world to solve and plan in."""

from __future__ import annotations

import os
import sys

from obuild.cli.option import Option
from obuild.cli.repository import cache_folder, open_overlay, platform_named
from obuild.cli.solve import RULES
from obuild.cli.where import STORE, default_store, open_named_store
from obuild.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from obuild.opam.package import Package
    from obuild.opam.solver import Request
    from obuild.opam.source import Source
    from obuild.plan import Patch, Plan
    from obuild.platform import Base
    from obuild.runs.world import World
    from obuild.store import Store

__all__ = ["PLANNING", "likely_base", "load_patches", "open_world", "plan_together", "present_store"]

PLANNING = (
    *RULES,
    STORE,
    Option(("--patches",), "A directory with patches of yours: NAME.VERSION/*.patch, NAME/*.patch.", metavar="DIR"),
    Option(("--prefix",), "Where packages are installed that can not be moved.", metavar="DIR"),
    Option(("--archive-mirror",), "An archive cache in opam's layout: a directory or a url.", many=True, metavar="URL"),
    Option(("--offline",), "Fetch nothing.", None),
)
"""Options of every command that plans."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def open_world(given: Mapping[str, Any], base: Base, store: Store | None, compilers: Sequence[str]) -> World:
    """The repositories of the command line on a base; sources without a checksum are fetched into the store."""
    from obuild.opam.package import parse_package
    from obuild.opam.platform import parse_variables
    from obuild.opam.solver import OPAM_VERSION, load_pins
    from obuild.plan import PREFIX
    from obuild.runs.world import Terms, World

    def content(package: Package, source: Source) -> str:
        from obuild.download import Sources

        if store is None:
            raise UsageError(f'the source of "{package}" has no checksum', hint="--store says where to fetch it to")
        mirrors, offline = given["archive_mirror"], given["offline"]
        sources = Sources(f"{store.path}/sources", mirrors=mirrors, offline=offline)
        return sources.content_key(source.url, (), source.mirrors, subpath=source.subpath)

    terms = Terms(
        compilers=tuple(map(parse_package, compilers)) or (None,),
        with_test=given["with_test"],
        with_doc=given["with_doc"],
        prefer_oldest=given["prefer_oldest"],
        day10=given["rules"] == "day10",
        opam_version=given["opam_version"] or OPAM_VERSION,
        variables=tuple(parse_variables(given["var"]).items()),
        pins=load_pins(given["pin"]),
        patches=load_patches(given["patches"]),
        prefix=given.get("prefix") or PREFIX,
    )
    overlay = open_overlay(given["repo"], given["cache"])
    return World(overlay, base, terms, cache=cache_folder(given["cache"]), content=content)


def present_store(text: str | None) -> Store | None:
    """The store named, or the default one if it is there."""
    return open_named_store(text) if text or os.path.isdir(default_store().partition(":")[2]) else None


def likely_base(store: Store | None, key: str | None) -> Base:
    """The base of the platform with this key, or of this machine's; one that has not been built is taken to be bare."""
    from obuild.platform import Base, open_platform

    problem = UsageError("there is no store yet")
    if store:
        try:
            return open_platform(store, key or platform_named(None).key)
        except UsageError as error:
            problem = error
    platform = platform_named(key)
    print(f"note: {problem}; what its base has is not known", file=sys.stderr)
    return Base(platform, "", (("PATH", _PATH), ("HOME", "/home/opam")), {}, frozenset())


def plan_together(world: World, request: Request, named: str, *, whole: bool = False) -> Plan | None:
    """The plan of what is asked for together, which people call `named`; None when there is no solution, which is told.

    `whole` is as for `World.plan`.
    """
    from obuild.opam.solver import Solution

    compiler = world.terms.compilers[0]
    answer = next(iter(world.answers([request], compiler, processes=1)))
    world.save()
    if isinstance(answer, Solution):
        return world.plan(answer, compiler, whole=whole)
    print(f"no solution for {named}\n{answer.report.rstrip()}", file=sys.stderr)
    return None


def load_patches(folder: str | None) -> dict[str, tuple[Patch, ...]]:
    """The patches of a directory by the package that each is for, in the order of their names."""
    from obuild.plan import Patch

    if not folder:
        return {}
    found: dict[str, tuple[Patch, ...]] = {}
    try:
        for name in sorted(os.listdir(folder)):
            files = sorted(file for file in os.listdir(f"{folder}/{name}") if file.endswith(".patch"))
            found[name] = tuple([Patch(file, _read(f"{folder}/{name}/{file}")) for file in files])
    except OSError as error:
        raise UsageError(f'can not read the patches in "{folder}": {(error.strerror or "").lower()}') from None
    return {name: patches for name, patches in found.items() if patches}


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()
