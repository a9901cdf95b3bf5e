"""What is wrong with an opam file: what opam refuses, what it drops, what it warns of; each with its place.

A finding has the number that `opam lint` gives to the same complaint:

     2  the file can not be read                      35 36 37 68  no homepage, bug-reports, dev-repo, license
     3  a field or section that opam drops            44  a plugin that is not called opam-…
     4  another name or version than the directory's  53  `extra-files` and the directory `files` differ
    23 25  no maintainer, authors                     57  neither synopsis nor description
    28  an unknown flag                               59  a source without a checksum
    31  depends and depopts name the same package
"""

from __future__ import annotations

from obuild.errors import OpamError, Problem, nearest
from obuild.opam.effective import LEVELS
from obuild.opam.extra import mismatches
from obuild.opam.field import READERS
from obuild.opam.formula import atoms, resolve_condition
from obuild.opam.opamfile import FLAGS, OpamFile
from obuild.opam.shape import WrongShape, listed, read_checksum, read_text
from obuild.opam.source import read_source
from obuild.opam.syntax import offset, parse, problem, sections
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from obuild.opam.package import Package
    from obuild.opam.syntax import Item, Value

__all__ = ["Finding", "lint"]


@value
class Finding:
    """One complaint: `severity` is "error" or "warning", `code` opam's number for it."""

    severity: str
    code: int
    problem: Problem


def lint(
    data: bytes, path: str, package: Package, files: Mapping[str, bytes] | None = None, *, level: str = LEVELS[-1]
) -> tuple[Finding, ...]:
    """Everything wrong with the opam file of a package, in the order of the file.

    `files` is what its directory `files` holds, None when that is not known; `level` is the opam that must read it.
    """
    try:
        items = parse(data, path, located=True)
    except OpamError as error:
        return tuple([Finding("error", 2, each) for each in error.problems])
    check = _Check(data.decode("latin-1"), path, OpamFile(package, items))
    check.everything(files, level)
    return tuple(sorted(check.found, key=lambda finding: (finding.problem.line, finding.problem.column)))


class _Check:
    """The checks of one file."""

    def __init__(self, text: str, path: str, file: OpamFile) -> None:
        self.text, self.path, self.file = text, path, file
        self.found: list[Finding] = []
        self.places = {item[1]: item for item in reversed(file.items) if item[0] == "field"}

    def add(
        self, code: int, message: str, place: Value | Item | None, *, hint: str = "", severity: str = "error"
    ) -> None:
        """A complaint about the value or item at `place`, about the whole file without one."""
        if place is None:
            self.found.append(Finding(severity, code, Problem(message, self.path, hint=hint)))
        else:
            at = _begin(place)
            self.found.append(Finding(severity, code, problem(message, self.path, self.text, at, hint=hint)))

    def everything(self, files: Mapping[str, bytes] | None, level: str) -> None:
        refusal = self.file.refusal(level)
        if refusal:
            self.add(2, refusal, self.places.get("opam-version"))
        self.items()
        self.shapes()
        for kind in _SECTIONS:
            self.sources(kind)
        self.identity()
        self.missing()
        self.relations()
        self.flags()
        if files is not None:
            self.extra_files(files, level)

    def items(self) -> None:
        """Fields and sections that are unknown or there twice."""
        seen: set[tuple[str, str]] = set()
        for item in self.file.items:
            kind, name = item[:2]
            known = _FIELDS if kind == "field" else _SECTIONS
            if name not in known and not name.startswith("x-"):
                self.add(3, f'unknown {kind} "{name}"', item, hint=nearest(name, known))
            elif (kind, name) in seen and name != "extra-source" and not name.startswith("x-"):
                self.add(3, f'the {kind} "{name}" is there twice, and only the first counts', item)
            seen.add((kind, name))

    def shapes(self) -> None:
        """Fields whose value has the wrong shape."""
        file = self.file
        for name in READERS:
            file.values(name)
        for part in ("depends", "depopts", "conflicts", "available", "depexts", "extra_sources", "url"):
            getattr(file, part)
        for name in _TEXTS.keys() & file.fields.keys():
            try:
                _TEXTS[name](file.fields[name])
            except WrongShape as error:
                file.dropped[name] = error
        for name in file.dropped.keys() & file.fields.keys():
            wrong = file.dropped[name]
            self.add(3, f'the field "{name}" is ignored: {wrong.message}', _placed(wrong.value, self.places[name]))

    def sources(self, kind: str) -> None:
        """The sections that say where sources come from."""
        for section in sections(self.file.items, kind):
            title, inside = section[2:4]
            if kind == "url" and title is not None:
                self.add(3, 'the section "url" is ignored: it can not have a name', section)
            if kind == "extra-source" and title is None:
                self.add(3, 'all sections "extra-source" are ignored: this one has no name', section)
            self.source(section, {item[1]: item for item in reversed(inside)})

    def source(self, section: Item, fields: dict[str, Item]) -> None:
        """One of them."""
        for name in fields.keys() - _SOURCE_FIELDS:
            self.add(3, f'unknown field "{name}" in "{section[1]}"', fields[name], hint=nearest(name, _SOURCE_FIELDS))
        addresses = [name for name in _ADDRESSES if name in fields]
        for name in addresses[1:]:
            self.add(3, f'"{name}" is ignored beside "{addresses[0]}"', fields[name])
        try:
            read_source(section[3])
        except WrongShape:
            self.add(3, f'the section "{section[1]}" is ignored: it has no address', section, hint='add "src"')
            return
        self.checksums(section, fields)

    def checksums(self, section: Item, fields: dict[str, Item]) -> None:
        """The checksums of a source that has an address."""
        if "checksum" not in fields:
            message = f'the section "{section[1]}" has no checksum: the package has no build-id'
            self.add(59, message, section, severity="warning")
            return
        try:
            listed(read_checksum, 1)(fields["checksum"][2])
        except WrongShape as error:
            place = _placed(error.value, fields["checksum"])
            self.add(3, f'the field "checksum" of "{section[1]}" is ignored: {error.message}', place)

    def identity(self) -> None:
        """A name or version that is not the directory's."""
        for name, actual in (("name", self.file.package.name), ("version", self.file.package.version)):
            said = self.file.fields.get(name, actual)
            if said != actual:
                message = f'the field "{name}" says "{said}", the directory "{actual}", which counts'
                self.add(4, message, self.places[name], severity="warning")

    def missing(self) -> None:
        """Fields that a package of a public repository should have."""
        fields = self.file.fields
        wanted = {"maintainer": 23, "authors": 25, "homepage": 35, "bug-reports": 36, "license": 68}
        for name, code in wanted.items():
            if name not in fields and not (name == "authors" and "author" in fields):
                self.add(code, f'no field "{name}"', None, severity="error" if name == "maintainer" else "warning")
        if "dev-repo" not in fields and self.file.url:
            self.add(37, 'no field "dev-repo"', None, severity="warning")
        if not fields.get("synopsis") and not fields.get("description"):
            self.add(57, 'neither "synopsis" nor "description"', None)

    def relations(self) -> None:
        """Packages that are always needed, and optional at once."""
        always = {"build": True, "post": True}.get
        needed = {name for name, each in atoms(self.file.depends) if resolve_condition(each, always) is not False}
        for name in dict.fromkeys(name for name, _ in atoms(self.file.depopts) if name in needed):
            self.add(31, f'"{name}" is in "depopts" and in "depends"', name)

    def flags(self) -> None:
        """Flags that opam does not know, or whose promise the name does not keep."""
        for flag in self.file.values("flags"):
            name = flag[1]  # type: ignore[index]
            if name not in FLAGS:
                self.add(28, f'unknown flag "{name}"', flag, hint=nearest(name, FLAGS), severity="warning")
        if "plugin" in self.file.flags and not self.file.package.name.startswith("opam-"):
            place = self.places.get("flags") or self.places["tags"]
            self.add(44, 'the name of a plugin should begin with "opam-"', place, severity="warning")

    def extra_files(self, files: Mapping[str, bytes], level: str) -> None:
        """Files that are not what `extra-files` promises."""
        promised = self.file.extra_files
        if promised is None:
            # Opam took all files there are until 2.3, and none since.
            for name in sorted(files) if level >= "2.3" else ():
                self.add(53, f'"files/{name}" is not used: there is no field "extra-files"', None, severity="warning")
            return
        names = {str(name): name for name, _ in promised}
        for name, message in mismatches(promised, files):
            self.add(53, f'"files/{name}" {message}', names[name])
        for name in sorted(files.keys() - names.keys()):
            self.add(53, f'"files/{name}" is not in the field "extra-files"', self.places["extra-files"])


def _read_pin(value: Value) -> Value:
    match value:
        case ("list", (str(), str())):
            return value
    raise WrongShape("expected a package and its address", value)


_TEXTS: dict[str, Callable[[Value], object]] = {
    **dict.fromkeys(("name", "version", "synopsis", "description", "dev-repo"), read_text),
    **dict.fromkeys(("maintainer", "author", "authors", "license", "homepage", "doc"), listed(read_text, 1)),
    **dict.fromkeys(("bug-reports", "libraries", "syntax"), listed(read_text, 1)),
    "pin-depends": listed(_read_pin, 2),
}
"""How fields are read that no build depends on."""

_RELATIONS = {"depends", "depopts", "conflicts", "available", "ocaml-version", "os", "depexts", "extra-sources"}
_FIELDS = {"opam-version", "configure-style", *_RELATIONS, *READERS, *_TEXTS}
_SECTIONS = {"url", "extra-source"}
_ADDRESSES = ("src", "archive", "http", "git", "darcs", "hg", "local")
_SOURCE_FIELDS = {*_ADDRESSES, "checksum", "mirrors", "subpath"}


def _placed(value: Value, item: Item) -> Value | Item:
    """The value if it or a part of it knows its place, otherwise the item that it belongs to."""
    return value if _begin(value) else item


def _begin(value: Value | Item) -> int:
    """Where a value begins; one that was made while reading begins where its first part does."""
    found = offset(value, -1)
    parts = value if isinstance(value, tuple) and found < 0 else ()
    return found if found >= 0 else next(filter(None, map(_begin, parts)), 0)
