"""`obuild opam list`, `show`, `lint`, `diff` and `build-id`."""

from __future__ import annotations

import json as json_format
import os
import sys

from obuild.cli.option import Argument, Command, Option
from obuild.cli.repository import (
    CACHE,
    JSON,
    OPAM_VERSION,
    PLATFORM,
    REPO,
    VARIABLE,
    cache_folder,
    global_variables,
    open_overlay,
)
from obuild.cli.show import write
from obuild.errors import UsageError
from obuild.opam.effective import parse_level, usual_width

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from obuild.opam.buildid import BuildIds, Rules
    from obuild.opam.lint import Finding
    from obuild.opam.opamfile import OpamFile
    from obuild.opam.package import Package
    from obuild.opam.repo import Overlay

__all__ = ["COMMANDS"]


def list_packages(
    *, names: tuple[str, ...], repo: Sequence[str], cache: str | None, all_versions: bool, json: bool
) -> int:
    """List names with their newest version, or with all."""
    found = open_overlay(repo, cache).packages()
    for name in names:
        if name not in found:
            raise _unknown(name, found)
    rows = {name: found[name] for name in (names or found)}
    if json:
        chosen = {name: list(row) if all_versions else row[-1] for name, row in rows.items()}
        _print(json_format.dumps(chosen))
        return 0
    for name, row in rows.items():
        _print("\n".join(f"{name}.{version}" for version in (row if all_versions else row[-1:])))
    return 0


def show(
    *, package: str, repo: Sequence[str], cache: str | None, effective: bool, opam_version: str, width: str | None
) -> int:
    """Print a package's opam file, or the part of it that counts for its build-id."""
    overlay = open_overlay(repo, cache)
    wanted = _package(package, overlay)
    if effective:
        from obuild.opam.effective import effective_text

        level = parse_level(opam_version)
        text = effective_text(overlay.opam(wanted), level=level, width=width or usual_width(level))
        write(1, text.encode("latin-1") + b"\n")
        return 0
    print(f"# {overlay.path(wanted)}")
    write(1, overlay.text(wanted))
    return 0


def lint(
    *,
    targets: tuple[str, ...],
    repo: Sequence[str],
    cache: str | None,
    opam_version: str,
    json: bool,
    errors_only: bool,
) -> int:
    """Report what opam would refuse or drop in opam files, or in packages of repositories; 1 when there is an error."""
    from obuild.opam.lint import lint

    found: list[Finding] = []
    for package, path, data, files in _definitions(targets, repo, cache):
        found += lint(data, path, package, files, level=parse_level(opam_version))
    shown = [finding for finding in found if finding.severity == "error" or not errors_only]
    for finding in shown:
        if json:
            problem = finding.problem
            facts = {"path": problem.path, "line": problem.line, "column": problem.column, "message": problem.message}
            _print(json_format.dumps({"severity": finding.severity, "code": finding.code, **facts}))
        else:
            _print(f"{finding.severity} {finding.code}: {finding.problem}")
    errors = sum(finding.severity == "error" for finding in found)
    print(f"{_count(errors, 'error')}, {_count(len(found) - errors, 'warning')}", file=sys.stderr)
    return 1 if errors else 0


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _definitions(
    targets: tuple[str, ...], repo: Sequence[str], cache: str | None
) -> Iterator[tuple[Package, str, bytes, dict[str, bytes] | None]]:
    """Package, path, text and files of each target: an opam file, a package, or, without any, all packages."""
    overlay = open_overlay(repo, cache) if repo else None
    for target in targets:
        if overlay is None or "/" in target or os.path.isfile(target):
            yield file_package(target), target, _bytes(target), None
        else:
            package = _package(target, overlay)
            yield package, overlay.path(package), overlay.text(package), overlay.files(package)
    if overlay and not targets:
        from obuild.opam.package import Package

        for name, versions in overlay.packages().items():
            for package in (Package(name, version) for version in versions):
                yield package, overlay.path(package), overlay.text(package), overlay.files(package)


def file_package(path: str) -> Package:
    """The package that an opam file defines, by its place: `NAME.VERSION/opam`, or `NAME.opam` at version `dev`."""
    from obuild.opam.package import Package, parse_package

    full = os.path.abspath(path)
    if os.path.basename(full) != "opam":
        return Package(os.path.basename(full).removesuffix(".opam"), "dev")
    folder = os.path.basename(os.path.dirname(full))
    return parse_package(folder) if "." in folder else Package(folder, "dev")


def _bytes(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise UsageError(f'can not read "{path}": {(error.strerror or "").lower()}') from None


def diff(
    *, old: str, new: str, repo: Sequence[str], cache: str | None, opam_version: str, effective: bool, json: bool
) -> int:
    """Print what was added, removed and changed between two states of a repository."""
    from obuild.opam.diff import diff

    before, after = (open_overlay([_state(text, repo)], cache) for text in (old, new))
    found = diff(before, after, level=parse_level(opam_version))
    changed = [change for change in found.changed if change.effective or not effective]
    if json:
        facts = {
            "added": [str(package) for package in found.added],
            "removed": [str(package) for package in found.removed],
            "changed": [
                {"package": str(change.package), "fields": change.fields, "effective": change.effective}
                for change in changed
            ],
        }
        _print(json_format.dumps(facts))
        return 0
    for sign, packages in (("+", found.added), ("-", found.removed)):
        for package in packages:
            _print(f"{sign} {package}")
    for change in changed:
        counts = f"; build-id: {', '.join(change.effective)}" if change.effective else ""
        _print(f"~ {change.package}  {', '.join(change.fields) or 'layout'}{counts}")
    return 0


def _state(text: str, repo: Sequence[str]) -> str:
    """A repository as given, or a revision of the first one of --repo."""
    if os.path.exists(text) or "@" in text or "://" in text or not repo:
        return text
    return f"{_plain(repo[0])}@{text}"


def _plain(text: str) -> str:
    """A repository as given, without its revision."""
    path, at, revision = text.rpartition("@")
    return path if at and "/" not in revision and not os.path.exists(text) else text


def build_id(
    *,
    repo: Sequence[str],
    cache: str | None,
    installed: str | None,
    packages: str | None,
    explain: str | None,
    diff: str | None,
    json: bool,
    pin: Sequence[str],
    **given: Any,
) -> int:
    """Print opam's own build-ids of a set of packages."""
    from obuild.opam import explain as explanation
    from obuild.opam.package import load_packages, parse_packages

    if (installed is None) == (packages is None):
        raise UsageError(
            "which packages are installed?", hint='give --installed FILE or --packages "a.1 b.2", one of them'
        )
    chosen = load_packages(installed) if installed else parse_packages(packages or "", "--packages")
    rules = _rules(given)
    found = _build_ids(chosen, open_overlay(repo, cache), rules, pin, cache)
    if diff:
        old, new = _revisions(repo, diff)
        before = _build_ids(chosen, open_overlay(old, cache), rules, pin, cache)
        after = _build_ids(chosen, open_overlay(new, cache), rules, pin, cache)
        for difference in explanation.differences(before, after):
            _print(explanation.format_difference(difference))
    elif explain:
        _print(explanation.format_explanation(explanation.explain(found, explain)))
    elif json:
        _print(json_format.dumps(explanation.listing(found)))
    else:
        _print(explanation.format_ids(found))
    return 0


def _build_ids(
    packages: Sequence[Package], overlay: Overlay, rules: Rules, pinned: Sequence[str], cache: str | None
) -> BuildIds:
    from obuild.opam.buildid import build_ids
    from obuild.opam.cache import Cache
    from obuild.opam.memory import HashMemory

    def lookup(package: Package) -> OpamFile | None:
        return overlay.opam(package, level=rules.level) if overlay.find(package) else None

    memory = HashMemory(Cache(cache_folder(cache)), level=rules.level, width=rules.width)
    names = {text.partition(".")[0] for text in pinned}
    found = build_ids(packages, lookup, rules, pinned=names, hash=memory)
    memory.save()
    return found


def _rules(given: dict[str, Any]) -> Rules:
    from obuild.opam.buildid import Rules

    level = parse_level(given["opam_version"])
    return Rules(
        level=level,
        width=given["width"] or usual_width(level),
        variables=global_variables(given["platform"], given["var"], given["opam_version"]),
        with_test=given["with_test"],
        with_doc=given["with_doc"],
        with_dev_setup=given["with_dev_setup"],
    )


def _revisions(repo: Sequence[str], text: str) -> tuple[list[str], list[str]]:
    """The repositories at two revisions of the first one: `OLD..NEW`, or `OLD` beside the one that is named."""
    old, dots, new = text.partition("..")
    plain = _plain(repo[0])
    return [f"{plain}@{old}", *repo[1:]], [f"{plain}@{new}" if dots and new else repo[0], *repo[1:]]


def _package(text: str, overlay: Overlay) -> Package:
    """The package called `name.version`, or the newest one of a name."""
    from obuild.opam.package import Package, parse_package

    found = overlay.packages()
    if text in found:
        return Package(text, found[text][-1])
    if "." not in text:
        raise _unknown(text, found)
    package = parse_package(text)
    overlay.home(package)
    return package


def _unknown(name: str, found: dict[str, tuple[str, ...]]) -> UsageError:
    from obuild.errors import nearest

    return UsageError(f'no package "{name}"', hint=nearest(name, found))


def _print(text: str) -> None:
    if text:
        write(1, text.encode("utf-8", "surrogateescape") + b"\n")


WIDTH = Option(
    ("--width",),
    "How opam was compiled to measure texts: bytes before OCaml 5.4, scalars since; by default what is usual.",
    choices=("bytes", "scalars"),
)

COMMANDS = {
    "opam list": Command(
        list_packages,
        "List the packages of repositories.",
        (REPO, CACHE, Option(("--all-versions",), "Every version, not only the newest.", None), JSON),
        (Argument("names", "*"),),
    ),
    "opam show": Command(
        show,
        "Print a package's opam file.",
        (
            REPO,
            CACHE,
            Option(("--effective",), "Only what counts for the build-id, as opam prints it.", None),
            OPAM_VERSION,
            WIDTH,
        ),
        (Argument("package"),),
    ),
    "opam lint": Command(
        lint,
        "Report what opam would refuse or drop.",
        (REPO, CACHE, OPAM_VERSION, Option(("--errors-only",), "Leave out warnings.", None), JSON),
        (Argument("targets", "*"),),
    ),
    "opam diff": Command(
        diff,
        "Print what changed between two states of a repository: commits of --repo, or repositories.",
        (
            REPO,
            CACHE,
            OPAM_VERSION,
            Option(("--effective",), "Only changes that build-ids can tell.", None),
            JSON,
        ),
        (Argument("old"), Argument("new")),
    ),
    "opam build-id": Command(
        build_id,
        "Print opam's own build-ids of a set of installed packages.",
        (
            REPO,
            CACHE,
            Option(("--installed",), "A file with one NAME.VERSION a line.", metavar="FILE"),
            Option(("--packages",), "The packages, in one word.", metavar="PACKAGES"),
            Option(("--explain",), "Show what one package's build-id is made of.", metavar="PACKAGE"),
            Option(("--diff",), "Show what changed the build-ids between two commits.", metavar="OLD[..NEW]"),
            Option(("--pin",), "The name of a package pinned to a directory or a branch.", many=True, metavar="NAME"),
            Option(("--with-test",), "Count dependencies of tests.", None),
            Option(("--with-doc",), "Count dependencies of documentation.", None),
            Option(("--with-dev-setup",), "Count dependencies of a developer's set-up.", None),
            OPAM_VERSION,
            WIDTH,
            PLATFORM,
            VARIABLE,
            JSON,
        ),
    ),
}
