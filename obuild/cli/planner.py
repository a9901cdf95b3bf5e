"""What commands about packages share: repositories, the base of a platform, and plans of what is asked for."""

from __future__ import annotations

import os
import re
import sys

from obuild.cli.option import Option
from obuild.cli.repository import cache_folder, open_overlay, platform_named
from obuild.cli.solve import RULES
from obuild.cli.where import STORE, default_store, open_named_store
from obuild.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from obuild.opam import buildid
    from obuild.opam.package import Package
    from obuild.opam.solver import Rules, Solution
    from obuild.opam.source import Source
    from obuild.plan import Patch, Plan
    from obuild.platform import Base
    from obuild.store import Store

__all__ = ["PLANNING", "Planner", "load_patches"]

PLANNING = (
    *RULES,
    STORE,
    Option(("--patches",), "A directory with patches of yours: NAME.VERSION/*.patch, NAME/*.patch.", metavar="DIR"),
    Option(("--prefix",), "Where packages are installed that can not be moved.", metavar="DIR"),
    Option(("--archive-mirror",), "An archive cache in opam's layout: a directory or a url.", many=True, metavar="URL"),
    Option(("--offline",), "Fetch nothing.", None),
)
"""Options of every command that plans."""

_COMMIT = re.compile(r"[0-9a-f]{12,40}").fullmatch
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Planner:
    """Solves requests and plans solutions as the options of the command line say.

    The store is None when none is named and the default one is not there; plans are then made for a base of which
    nothing is known but its platform.
    """

    def __init__(self, given: dict[str, Any], *, built: bool = True) -> None:
        """`built`: the platform has to be there already, or it is a `UsageError`."""
        from obuild.opam.cache import Cache
        from obuild.opam.memory import HashMemory
        from obuild.opam.solver import load_pins, open_solver
        from obuild.plan import Definitions

        self._given = given
        self.store = _store(given["store"], built=built)
        self.base = _base(self.store, given["platform"], built=built)
        rules = _rules(given, self.base)
        self.ids = _id_rules(rules)
        self.overlay = open_overlay(given["repo"], given["cache"])
        self.pins = load_pins(given["pin"])
        self.patches = load_patches(given["patches"])
        folder = cache_folder(given["cache"])
        self.solver, self._reader = open_solver(self.overlay, rules, cache=folder, pins=self.pins)
        self._definitions = Definitions(self.overlay, self.pins, self.ids.level)
        self._memory = HashMemory(Cache(folder), level=self.ids.level, width=self.ids.width)

    def plan(self, solution: Solution, *, whole: bool = False) -> Plan:
        """The plan of a solution; see `obuild.plan.plan`."""
        from obuild.plan import PREFIX, plan

        return plan(
            solution,
            self._definitions,
            self.base,
            rules=self.ids,
            with_test=self._given["with_test"],
            with_doc=self._given["with_doc"],
            patches=self.patches,
            prefix=self._given["prefix"] or PREFIX,
            whole=whole,
            content=self._content,
            hash=self._memory,
        )

    @property
    def commit(self) -> str:
        """The commit of the last repository, which is opam's own one when there are several; "" when it has none."""
        commit = self.overlay.repositories[-1].where.rpartition("@")[2]
        return commit if _COMMIT(commit) else ""

    def close(self) -> None:
        """Keep what was read from opam files, and name those that could not be."""
        self._reader.save()
        self._memory.save()
        for error in self._reader.unreadable.values():
            print(f"note: left out: {error}", file=sys.stderr)

    def _content(self, package: Package, source: Source) -> str:
        from obuild.download import Sources

        if self.store is None:
            raise UsageError(
                f'the source of "{package}" has no checksum', hint="name a store to fetch it into: --store"
            )
        mirrors = self._given["archive_mirror"]
        sources = Sources(f"{self.store.path}/sources", mirrors=mirrors, offline=self._given["offline"])
        return sources.content_key(source.url, (), source.mirrors, subpath=source.subpath)


def _store(text: str | None, *, built: bool) -> Store | None:
    """The store named, or the default one unless it is not there and need not be."""
    if text or built or os.path.isdir(default_store().partition(":")[2]):
        return open_named_store(text)
    return None


def _base(store: Store | None, key: str | None, *, built: bool) -> Base:
    """The base of the platform with this key, or of this machine's."""
    from obuild.platform import Base, open_platform

    try:
        if store:
            return open_platform(store, key or platform_named(None).key)
        problem = UsageError("there is no store yet")
    except UsageError as error:
        if built:
            raise
        problem = error
    platform = platform_named(key)
    print(f"note: {problem}; what its base has is not known", file=sys.stderr)
    return Base(platform, "", (("PATH", _PATH), ("HOME", "/home/opam")), {}, frozenset())


def _rules(given: dict[str, Any], base: Base) -> Rules:
    from obuild.opam.package import parse_package
    from obuild.opam.platform import parse_variables
    from obuild.opam.solver import OPAM_VERSION, Rules, variable_table

    compiler = parse_package(given["compiler"]) if given["compiler"] else None
    variables = variable_table(
        base.platform,
        compiler,
        opam_version=given["opam_version"] or OPAM_VERSION,
        given=(*base.variables.items(), *parse_variables(given["var"]).items()),
    )
    return Rules(
        variables=variables,
        compiler=compiler,
        with_test=given["with_test"],
        with_doc=given["with_doc"],
        prefer_oldest=given["prefer_oldest"],
        day10=given["rules"] == "day10",
    )


def _id_rules(rules: Rules) -> buildid.Rules:
    """The rules of build-ids that go with those of a solve."""
    from obuild.opam import buildid
    from obuild.opam.effective import parse_level, usual_width

    level = parse_level(str(dict(rules.variables)["opam-version"]))
    return buildid.Rules(level=level, width=usual_width(level), variables=dict(rules.variables))


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
