"""Why a package has the build-id that it has, and what made one change."""

from __future__ import annotations

from obuild.errors import UsageError, nearest
from obuild.opam.effective import effective_items, effective_text
from obuild.opam.format import WIDTHS, format_items
from obuild.opam.package import name_key
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from obuild.opam.buildid import BuildIds
    from obuild.opam.package import Package

__all__ = [
    "DependencyChange",
    "Difference",
    "Explanation",
    "FieldChange",
    "differences",
    "explain",
    "format_difference",
    "format_explanation",
    "format_ids",
    "listing",
]


@value
class Explanation:
    """All that one build-id was made of; `text`, a character per byte, has the hash `hash`; both are "" without one."""

    package: Package
    id: str | None
    why: str
    hash: str
    text: str
    dependencies: tuple[tuple[Package, str | None], ...]


@value
class FieldChange:
    """A part of the effective text that is not the same, each side as opam prints it, "" where it is missing."""

    name: str
    old: str
    new: str


@value
class DependencyChange:
    """A dependency that came, went, or has another build-id."""

    old: Package | None
    new: Package | None


@value
class Difference:
    """What made the build-id of one package change. With no change of its own, only its dependencies did."""

    old: Package | None
    new: Package | None
    fields: tuple[FieldChange, ...]
    dependencies: tuple[DependencyChange, ...]


def listing(found: BuildIds) -> dict[str, str | None]:
    """The build-ids under `name.version`, as JSON has them: None where there is none."""
    return {str(package): found.ids[package] for package in found.ids}


def explain(found: BuildIds, name: str) -> Explanation:
    """What the build-id of the package of this name, or `name.version`, was made of. Raises `UsageError`."""
    package = next((item for item in found.ids if name in (item.name, str(item))), None)
    if not package:
        names = [str(item) for item in found.ids]
        raise UsageError(f'"{name}" is not among the packages', hint=nearest(name, names))
    undefined = found.undefined.get(package)
    own = found.hashes.get(package, "")
    return Explanation(
        package,
        found.ids[package],
        str(undefined) if undefined else "",
        own,
        effective_text(found.files[package], level=found.rules.level, width=found.rules.width) if own else "",
        tuple([(item, found.ids[item]) for item in found.dependencies[package]]),
    )


def differences(old: BuildIds, new: BuildIds) -> tuple[Difference, ...]:
    """Every package whose build-id is not the same in both sets, with the reason, in the order of names."""
    before, after = ({package.name: package for package in side.ids} for side in (old, new))
    names = sorted({*before, *after}, key=name_key)
    pairs = [(before.get(name), after.get(name)) for name in names]
    return tuple([_difference(old, new, a, b) for a, b in pairs if not (a and b and old.ids[a] == new.ids[b])])


def _difference(old: BuildIds, new: BuildIds, a: Package | None, b: Package | None) -> Difference:
    if not (a and b):
        return Difference(a, b, (), ())
    return Difference(a, b, tuple(_fields(old, new, a, b)), tuple(_dependencies(old, new, a, b)))


def _fields(old: BuildIds, new: BuildIds, a: Package, b: Package) -> Iterator[FieldChange]:
    before, after = _parts(old, a), _parts(new, b)
    for name in dict.fromkeys((*before, *after)):
        texts = before.get(name, ""), after.get(name, "")
        if texts[0] != texts[1]:
            yield FieldChange(name, *texts)


def _parts(found: BuildIds, package: Package) -> Mapping[str, str]:
    """The text of each field and section of a package's effective part."""
    if package not in found.files:
        return {}
    items = effective_items(found.files[package], found.rules.level)
    width = WIDTHS[found.rules.width]
    return {
        f"{item[1]} {item[2]}" if item[0] == "section" and item[2] else item[1]: format_items((item,), width)
        for item in items
    }


def _dependencies(old: BuildIds, new: BuildIds, a: Package, b: Package) -> Iterator[DependencyChange]:
    before, after = ({item.name: item for item in side.dependencies[package]} for side, package in ((old, a), (new, b)))
    for name in dict.fromkeys((*before, *after)):
        one, other = before.get(name), after.get(name)
        if not (one and other and old.ids[one] == new.ids[other] is not None):
            yield DependencyChange(one, other)


def format_ids(found: BuildIds) -> str:
    """The build-ids for a reader, a package a line; with the reason where there is none."""
    width = max((len(str(package)) for package in found.ids), default=0)
    texts = {package: text or f"- ({found.undefined[package]})" for package, text in found.ids.items()}
    return "\n".join([f"{package!s:{width}}  {text}" for package, text in texts.items()])


def format_explanation(explanation: Explanation) -> str:
    """An explanation for a reader."""
    head = f"{explanation.package}: " + (explanation.id or f"no build-id: {explanation.why}")
    lines = [head]
    if explanation.hash:
        text = _shown(explanation.text)
        lines += ["", "effective text:", "", *text.split("\n"), "", f"its SHA-256: {explanation.hash}", ""]
    if explanation.dependencies:
        lines += [
            "then the build-ids of:",
            *[f"  {found or '-':64}  {item}" for item, found in explanation.dependencies],
        ]
    return "\n".join(lines)


def format_difference(difference: Difference) -> str:
    """A difference for a reader."""
    lines = [_arrow(difference.old, difference.new)]
    for field in difference.fields:
        lines.append(f"  {field.name}")
        lines += [f"    - {line}" for line in _shown(field.old).split("\n") if field.old]
        lines += [f"    + {line}" for line in _shown(field.new).split("\n") if field.new]
    lines += [f"  depends on {_arrow(change.old, change.new)}" for change in difference.dependencies]
    return "\n".join(lines)


def _shown(text: str) -> str:
    """A text of bytes as one to print, from which the bytes can be had again."""
    return text.encode("latin-1").decode("utf-8", "surrogateescape")


def _arrow(old: Package | None, new: Package | None) -> str:
    if old and new:
        return f"{old}: another build-id" if old == new else f"{old} → {new}"
    return f"{new}: added" if new else f"{old}: removed"
