"""What an opam file says: its fields in the meaning that opam gives them.

A field of the wrong shape is as good as absent; `OpamFile.dropped` tells which ones. Of a field given twice the first
counts, of an `x-` field the last. The package's name and version come from its directory, whatever the file says.
"""

from __future__ import annotations

import re
from functools import cached_property

from obuild.opam.field import READERS, read_depexts, valid_rewrite
from obuild.opam.filter import expand, read_filter, resolve, satisfied
from obuild.opam.formula import read_conflicts, read_depopts, read_formula
from obuild.opam.legacy import with_ocaml_version, with_os
from obuild.opam.reader import DEPTH
from obuild.opam.shape import WrongShape, elements, option
from obuild.opam.source import Source, read_legacy_sources, read_source
from obuild.opam.version import holds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, TypeVar

    from obuild.opam.filter import Filter, Lookup
    from obuild.opam.formula import Formula
    from obuild.opam.package import Package
    from obuild.opam.syntax import File, Value

    T = TypeVar("T")

__all__ = ["FLAGS", "OpamFile", "commands"]

_NUMBERS = re.compile(r"[0-9.]*")

FLAGS = ("light-uninstall", "verbose", "plugin", "compiler", "conf", "avoid-version", "deprecated")
"""The flags that opam knows, in its order; others are dropped."""


class OpamFile:
    """One package's definition. Fields are read when first asked for, and then kept.

    `blob` is the git blob id of the text, "" when there is none; `files` gives the contents of the files below the
    package's `files/` directory by their relative paths, read only for opam levels before 2.3.
    """

    def __init__(
        self,
        package: Package,
        items: File,
        *,
        blob: str = "",
        files: Callable[[], Mapping[str, bytes]] = dict,
    ) -> None:
        self.package, self.items, self.blob, self._files = package, items, blob, files
        self.dropped: dict[str, WrongShape] = {}
        self._read: dict[str, tuple[Value, ...]] = {}

    @cached_property
    def fields(self) -> dict[str, Value]:
        """The value of each field of the file itself."""
        fields: dict[str, Value] = {}
        for item in self.items:
            if item[0] == "field" and (item[1] not in fields or item[1].startswith("x-")):
                fields[item[1]] = item[2]
        return fields

    def values(self, name: str) -> tuple[Value, ...]:
        """The elements of a field that is a list (those of `field.READERS`) in full form, () when absent or dropped."""
        if name not in self._read:
            self._read[name] = self._field(name, READERS[name], ())
        return self._read[name]

    def _tuples(self, name: str) -> tuple[tuple[Any, ...], ...]:
        return tuple([value for value in self.values(name) if isinstance(value, tuple)])

    def _field(self, name: str, read: Callable[[Value], T], absent: T) -> T:
        value = self.fields.get(name)
        if value is None:
            return absent
        try:
            return read(value)
        except WrongShape as error:
            self.dropped[name] = error
            return absent

    def _sections(self, kind: str) -> dict[str | None, File]:
        """The items of each section of a kind by its name, the first of each name."""
        found: dict[str | None, File] = {}
        for item in self.items:
            if item[0] == "section" and item[1] == kind:
                found.setdefault(item[2], item[3])
        return found

    @cached_property
    def depends(self) -> Formula:
        """What the package needs."""
        return self._field("depends", lambda value: read_formula(value, "and"), None)

    @cached_property
    def depopts(self) -> Formula:
        """What the package uses when it is there: alternatives."""
        version = self.fields.get("opam-version")
        if isinstance(version, str) and holds(version, "<", "1.2"):
            return self._field("depopts", lambda value: read_formula(value, "or"), None)
        return self._field("depopts", read_depopts, None)

    @cached_property
    def conflicts(self) -> Formula:
        """What the package can not be installed with: alternatives."""
        return self._field("conflicts", read_conflicts, None)

    @cached_property
    def conflict_classes(self) -> tuple[str, ...]:
        """Of all packages of one class only one can be installed."""
        return tuple(map(str, self.values("conflict-class")))

    @cached_property
    def available(self) -> Filter:
        """Where the package can be installed, with what `ocaml-version` and `os` of old add to it."""
        everywhere: Filter = True
        own = self._field("available", lambda value: read_filter(elements(value, 1)), everywhere)
        with_ocaml = self._field("ocaml-version", lambda value: with_ocaml_version(value, own), own)
        return self._field("os", lambda value: with_os(value, with_ocaml), with_ocaml)

    @cached_property
    def flags(self) -> tuple[str, ...]:
        """The flags, those that tags like `flags:plugin` add in front; such a flag may be there twice."""
        given = {flag for _, flag in self._tuples("flags")}
        tagged = [tag[6:] for tag in map(str, self.values("tags")) if tag.startswith("flags:")]
        return (*reversed(tagged), *[flag for flag in FLAGS if flag in given])

    @cached_property
    def url(self) -> Source | None:
        """Where the package's own source comes from, None when it has none."""
        sections = self._sections("url")
        if len(sections) != 1 or None not in sections:
            return None
        return self._section("url", sections[None])

    @cached_property
    def extra_sources(self) -> tuple[tuple[str, Source], ...]:
        """Other files to fetch under their names; one bad section drops them all."""
        none: tuple[tuple[str, Source], ...] = ()
        found: list[tuple[str, Source]] = []
        for name, items in sorted(self._sections("extra-source").items(), key=lambda pair: pair[0] or ""):
            source = self._section("extra-source", items)
            if name is None or not source:
                found = []
                break
            found.append((name, source))
        return tuple(found) or self._field("extra-sources", read_legacy_sources, none)

    def _section(self, kind: str, items: File) -> Source | None:
        try:
            return read_source(items)
        except WrongShape as error:
            self.dropped[kind] = error
            return None

    @cached_property
    def extra_files(self) -> tuple[tuple[str, str], ...] | None:
        """The files of the `files/` directory with their checksums, None when the field is absent or dropped."""
        found = tuple([(name, checksum) for _, (name, checksum) in self._tuples("extra-files")])
        return found if found or ("extra-files" in self.fields and "extra-files" not in self.dropped) else None

    @cached_property
    def depexts(self) -> tuple[tuple[tuple[str, ...], Filter], ...]:
        """System packages, each set with the filter that says where it is needed."""
        none: tuple[tuple[tuple[str, ...], Filter], ...] = ()
        return self._field("depexts", read_depexts, none)

    @cached_property
    def files(self) -> Mapping[str, bytes]:
        """The contents of the package's `files/` directory by relative path."""
        return self._files()

    def refusal(self, level: str) -> str:
        """Why an opam of this level does not read the file at all, "" when it does."""
        versions = [item[2] for item in self.items if item[0] == "field" and item[1] == "opam-version"]
        if len(versions) != 1 or not isinstance(versions[0], str):
            return 'the field "opam-version" must be there once, with a string'
        if holds(_without_patch(versions[0]), ">", "2.0"):
            return f'the file is written for opam {versions[0]}, and only "2.0" is read'
        if self.url and self.url.subpath:
            return 'the field "subpath" of "url" needs a newer opam-version'
        if not isinstance(self.fields.get("x-subpath", ""), str):
            return 'the field "x-subpath" must be a string'
        if level >= "2.2" and not isinstance(self.fields.get("x-locked", ""), str):
            return 'the field "x-locked" must be a string'
        for name in ("os", "ocaml-version"):
            # Their elements are joined one by one into a filter, which is then as deep as they are many.
            if len(elements(self.fields.get(name, ("list", ())), 1)) > DEPTH:
                return f'the field "{name}" has more than {DEPTH} elements'
        rewrite = self.fields.get("x-env-path-rewrite")
        if level >= "2.2" and rewrite is not None and not valid_rewrite(rewrite):
            return 'the field "x-env-path-rewrite" must be a list of rules: [NAME false] or [NAME separator format]'
        return ""


def _without_patch(version: str) -> str:
    """The first two numbers of a version; what stands after them does not change the format of files."""
    numbers = version.split(".", 2)
    return ".".join(numbers[:2]) if len(numbers) > 2 else _NUMBERS.match(version)[0]  # type: ignore[index]


def commands(values: Iterable[Value], lookup: Lookup) -> tuple[tuple[str, ...], ...]:
    """The command lines that commands come to: those whose filter holds, with the arguments whose filter holds.

    A variable that is a list gives several arguments, one that is undefined or an empty list gives an empty one.
    """
    found = [_arguments(value, lookup) for value in values]
    return tuple([arguments for arguments in found if arguments])


def _arguments(value: Value, lookup: Lookup) -> tuple[str, ...]:
    command, condition = option(value)
    if not satisfied(read_filter(condition), lookup):
        return ()
    words: list[str] = []
    for argument in elements(command, 0):
        word, condition = option(argument)
        if satisfied(read_filter(condition), lookup):
            words += _words(word, lookup)
    return tuple(words)


def _words(word: Value, lookup: Lookup) -> tuple[str, ...]:
    if isinstance(word, str):
        return (expand(word, lookup),)
    found = resolve(word[1], lookup)  # type: ignore[index]
    match found:
        case bool():
            return ("true" if found else "false",)
        case tuple():
            return found or ("",)
        case _:
            return (found or "",)
