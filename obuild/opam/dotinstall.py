"""`NAME.install` files: which files of the build directory go where, read and reprinted as opam does.

Opam forgives much here: a field that it does not know or can not read is left out, and a file that can not be read at
all installs nothing, with a message in both cases.
"""

from __future__ import annotations

import posixpath
import re

from obuild.errors import OpamError
from obuild.opam.format import WIDTHS, format_items
from obuild.opam.shape import WrongShape, elements, lowered, option, read_text, with_option
from obuild.opam.syntax import offset, parse, problem
from obuild.opam.version import holds
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from obuild.errors import Problem
    from obuild.opam.syntax import File, Item, Value

__all__ = ["KEPT", "SECTIONS", "DotInstall", "Entry", "destination", "folder", "format_install", "parse_install"]

KEPT = 1 << 24
"""Bytes of the largest file that a package may leave for opam."""

_PRINTED = "lib bin sbin misc toplevel stublibs share share_root etc doc man libexec lib_root libexec_root".split()

SECTIONS: dict[str, tuple[str, int]] = {
    "bin": ("bin", 0o755),
    "sbin": ("sbin", 0o755),
    "lib": ("lib/{name}", 0o644),
    "libexec": ("lib/{name}", 0o755),
    "lib_root": ("lib", 0o644),
    "libexec_root": ("lib", 0o755),
    "toplevel": ("lib/toplevel", 0o644),
    "stublibs": ("lib/stublibs", 0o755),
    "man": ("man", 0o644),
    "share": ("share/{name}", 0o644),
    "share_root": ("share", 0o644),
    "etc": ("etc/{name}", 0o644),
    "doc": ("doc/{name}", 0o644),
}
"""Where the files of each section go below the prefix and their modes, in the order in which opam installs them.

`misc` is the last section; its destinations are absolute.
"""

_MAN = re.compile(r"\.([1-8])[^.]*\Z").search


@value
class Entry:
    """A file of the build directory, and its name below the section's directory; None is its own name."""

    source: str
    target: str | None = None
    optional: bool = False


@value
class DotInstall:
    """The entries of each section, those of `SECTIONS` and `misc`, in the order of the file."""

    sections: dict[str, tuple[Entry, ...]]

    def __bool__(self) -> bool:
        return any(self.sections.values())


def parse_install(data: bytes, path: str) -> tuple[DotInstall, tuple[Problem, ...]]:
    """What a `.install` file says, one character per byte in its names, and what of it opam leaves out and why."""
    nothing = DotInstall({})
    source = data.decode("latin-1")
    try:
        items = parse(data, path, limit=KEPT)
    except OpamError as error:
        return nothing, tuple(error.problems)
    sections: dict[str, tuple[Entry, ...]] = {}
    problems: list[Problem] = []
    for item in items:
        try:
            _read_item(item, sections)
        except WrongShape as error:
            problems.append(problem(error.message, path, source, offset(error.value, item[-1])))
            if item[1] == "opam-version" or error.message == _NO_MAN:
                return nothing, tuple(problems)
    return DotInstall(sections), tuple(problems)


_NO_MAN = "man file without destination or recognised suffix"


def _read_item(item: Item, sections: dict[str, tuple[Entry, ...]]) -> None:
    kind, name, contents, *_ = item
    if kind != "field" or (name not in SECTIONS and name not in ("misc", "opam-version")):
        raise WrongShape(f'"{name}" is not a field of a .install file', item)
    if name == "opam-version":
        if holds(read_text(contents), ">", "2.0"):
            raise WrongShape("the file is for a newer opam", contents)
        return
    if name in sections:
        raise WrongShape(f'the field "{name}" is there twice', item)
    read = _read_absolute if name == "misc" else _read_relative
    sections[name] = tuple([read(each) for each in elements(contents, 1)])
    if name == "man" and not all(entry.target is not None or _MAN(_page(entry.source)) for entry in sections["man"]):
        del sections["man"]
        raise WrongShape(_NO_MAN, contents)


def _read_entry(value: Value) -> Entry:
    source, values = option(value)
    if len(values) > 1:
        raise WrongShape("expected one name", value)
    text = read_text(source)
    return Entry(text.removeprefix("?"), read_text(values[0]) if values else None, text.startswith("?"))


def _read_relative(value: Value) -> Entry:
    entry = _read_entry(value)
    if entry.target and entry.target.startswith("/"):
        raise WrongShape(f'"{entry.target}" is an absolute file name', value)
    return entry


def _read_absolute(value: Value) -> Entry:
    entry = _read_entry(value)
    if not (entry.target and entry.target.startswith("/")):
        raise WrongShape("expected an absolute file name", value)
    return entry


def _page(source: str) -> str:
    return posixpath.basename(source).removesuffix(".gz")


def destination(section: str, entry: Entry, name: str) -> str:
    """Where an entry of package `name` goes, below the prefix and without any `..`; absolute for `misc`."""
    if entry.target is not None:
        return posixpath.normpath(posixpath.join(folder(section, name), entry.target))
    page = _MAN(_page(entry.source)) if section == "man" else None
    own = posixpath.basename(entry.source)
    return posixpath.normpath(f"{folder(section, name)}/{f'man{page[1]}/' if page else ''}{own}")


def folder(section: str, name: str) -> str:
    """The directory of a section for package `name`, below the prefix; "" for `misc`."""
    return SECTIONS[section][0].format(name=name) if section in SECTIONS else ""


def format_install(install: DotInstall) -> str:
    """The text that opam keeps in `.opam-switch/install/`, one character per byte."""
    items: list[Item] = [("field", "opam-version", "2.0", 0)]
    for section in _PRINTED:
        values = tuple([_written(entry) for entry in install.sections.get(section, ())])
        if values:
            items.append(("field", section, lowered(values, 1), 0))
    return _text(tuple(items))


def _written(entry: Entry) -> Value:
    return with_option("?" * entry.optional + entry.source, () if entry.target is None else (entry.target,))


def _text(items: File) -> str:
    return format_items(items, WIDTHS["bytes"]) + "\n"
