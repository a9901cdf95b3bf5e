"""What changed between two states of opam repositories: packages added, removed and changed.

A change matters to builds when it changes the effective part of the definition, which is what opam's build-id hashes;
all others (descriptions, archive addresses, system packages, …) are changes of the text alone.
"""

from __future__ import annotations

from obuild.errors import OpamError
from obuild.opam.effective import LEVELS, effective_items
from obuild.opam.package import Package
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    from obuild.opam.opamfile import OpamFile
    from obuild.opam.repo import Overlay, Repository
    from obuild.opam.syntax import Item, Value

    State: TypeAlias = Overlay | Repository

__all__ = ["Change", "Diff", "diff"]


@value
class Change:
    """A package that is there before and after.

    `fields` are the names of what differs in its opam file (a section as `url` or `extra-source "name"`, the directory
    `files` as `files/`), () when only comments or the layout do; `effective` are the names of what differs in its
    effective part, () when no build-id can tell.
    """

    package: Package
    fields: tuple[str, ...]
    effective: tuple[str, ...]


@value
class Diff:
    """Packages in opam's order."""

    added: tuple[Package, ...]
    removed: tuple[Package, ...]
    changed: tuple[Change, ...]


def diff(old: State, new: State, *, level: str = LEVELS[-1]) -> Diff:
    """What is different in `new`. Only files that differ are read; `level` says what counts for build-ids."""
    before, after = _packages(old), _packages(new)
    # A version can be written otherwise and be the same to opam.
    same = {package: new.find(package) for package in before}
    kept = set(same.values())
    changes = [_change(old, package, new, other, level) for package, other in same.items() if other is not None]
    return Diff(
        tuple([package for package in after if package not in kept]),
        tuple([package for package, other in same.items() if other is None]),
        tuple([change for change in changes if change is not None]),
    )


def _packages(state: State) -> list[Package]:
    return [Package(name, version) for name, versions in state.packages().items() for version in versions]


def _change(old: State, package: Package, new: State, other: Package, level: str) -> Change | None:
    files = _files_differ(old, package, new, other)
    if old.blob_id(package) == new.blob_id(other) and package == other and not files:
        return None
    before, after = _read(old, package), _read(new, other)
    fields = _different(before.items if before else (), after.items if after else ())
    effective = _different(_effective(before, level), _effective(after, level))
    return Change(other, (*fields, *(("files/",) if files else ())), effective)


def _read(state: State, package: Package) -> OpamFile | None:
    try:
        return state.opam(package)
    except OpamError:
        return None


def _effective(file: OpamFile | None, level: str) -> tuple[Item, ...]:
    """The effective part; nothing for a file that opam refuses, which is no package."""
    return () if file is None or file.refusal(level) else tuple(effective_items(file, level))


def _different(before: Iterable[Item], after: Iterable[Item]) -> tuple[str, ...]:
    """The names of items that are not the same on both sides, in the order of the file."""
    old, new = _contents(before), _contents(after)
    return tuple([name for name in {**new, **old} if old.get(name) != new.get(name)])


def _contents(items: Iterable[Item]) -> dict[str, list[Value]]:
    """What each field and section says, wherever in the file."""
    found: dict[str, list[Value]] = {}
    for item in items:
        if item[0] == "field":
            found.setdefault(item[1], []).append(item[2])
        else:
            name = item[1] if item[2] is None else f'{item[1]} "{item[2]}"'
            found.setdefault(name, []).append(tuple(sorted(_contents(item[3]).items(), key=repr)))
    return found


def _files_differ(old: State, package: Package, new: State, other: Package) -> bool:
    before, after = old.files_id(package), new.files_id(other)
    if before and after:
        return before != after
    return dict(old.files(package)) != dict(new.files(other))
