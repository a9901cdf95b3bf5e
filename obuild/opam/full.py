"""The whole opam file in opam's normal form: what opam keeps of a package that it installs.

Everything that opam reads is printed, each field in its place; comments, what has the wrong shape and what opam does
not know are not. The name and the version are left out: the directory says them.
"""

from __future__ import annotations

from obuild.opam.effective import command_fields, last_fields, relation_fields
from obuild.opam.filter import write_filter
from obuild.opam.format import WIDTHS, format_items
from obuild.opam.opamfile import FLAGS
from obuild.opam.shape import WrongShape, elements, listed, lowered, option, read_text, with_option
from obuild.opam.url import format_url, parse_url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from obuild.opam.opamfile import OpamFile
    from obuild.opam.source import Source
    from obuild.opam.syntax import Item, Value

__all__ = ["full_text"]

_EMPTY: Value = ("list", ())
_BLANKS = " \t\r\n\f"


def full_text(file: OpamFile, *, level: str, width: str) -> str:
    """The text that an opam of this level keeps in `.opam-switch/packages/`, one character per byte.

    `width` is "bytes" or "scalars", as for `effective.effective_text`.
    """
    return format_items(tuple(_items(file, level)), WIDTHS[width]) + "\n"


def _items(file: OpamFile, level: str) -> Iterator[Item]:
    for name, value in _fields(file, level):
        if value not in (None, _EMPTY, ("group", ())):
            yield ("field", name, value, 0)
    if file.url:
        yield ("section", "url", None, _source(file.url), 0)
    for name, source in file.extra_sources:
        yield ("section", "extra-source", name, _source(source), 0)
    for name in sorted(file.fields):
        if name.startswith("x-"):
            yield ("field", name, file.fields[name], 0)


def _fields(file: OpamFile, level: str) -> Iterator[tuple[str, Value | None]]:
    yield "opam-version", file.fields.get("opam-version", "2.0")
    synopsis, description = _text(file, "synopsis"), _text(file, "description")
    yield "synopsis", synopsis if synopsis is not None or description is None else ""
    yield "description", description or None
    yield "maintainer", _texts(file, "maintainer")
    yield "authors", _texts(file, "authors" if "authors" in file.fields else "author")
    for name in ("license", "tags", "homepage", "doc", "bug-reports"):
        yield name, _texts(file, name)
    yield from relation_fields(file, level)
    yield "flags", lowered(_flags(file), 1)
    yield from command_fields(file, level)
    for name in ("messages", "post-messages"):
        yield name, lowered(tuple(map(_trimmed, file.values(name))), 1)
    yield "depexts", _depexts(file)
    for name in ("libraries", "syntax"):
        yield name, _texts(file, name)
    yield "dev-repo", _dev_repo(file)
    yield "pin-depends", _pins(file)
    yield from last_fields(file, level)


def _text(file: OpamFile, name: str) -> Value | None:
    """A text without the blanks around it."""
    value = file.fields.get(name)
    return value.strip(_BLANKS) if isinstance(value, str) else None


def _trimmed(message: Value) -> Value:
    text, condition = option(message)
    return with_option(str(text).strip(_BLANKS), condition)


def _texts(file: OpamFile, name: str) -> Value | None:
    try:
        return lowered(listed(read_text, 1)(file.fields.get(name, _EMPTY)), 1)
    except WrongShape:
        return None


def _flags(file: OpamFile) -> tuple[Value, ...]:
    """The flags that no tag says already."""
    tags = _texts(file, "tags")
    tagged = {str(tag) for tag in (elements(tags, 1) if tags else ())}
    return tuple([("ident", flag) for flag in FLAGS if flag in file.flags and f"flags:{flag}" not in tagged])


def _depexts(file: OpamFile) -> Value:
    found = [
        with_option(("list", tuple(sorted(names, key=_alphabetic))), write_filter(condition))
        for names, condition in file.depexts
    ]
    return lowered(tuple(found), 2)


def _alphabetic(name: str) -> list[tuple[str, str]]:
    """What the names of system packages are sorted by: their letters, the small one of a pair second."""
    return [(letter.lower(), letter) for letter in name]


def _dev_repo(file: OpamFile) -> Value | None:
    try:
        return format_url(parse_url(read_text(file.fields.get("dev-repo", _EMPTY))))
    except WrongShape:
        return None


def _pins(file: OpamFile) -> Value | None:
    try:
        return lowered(listed(_read_pin, 2)(file.fields.get("pin-depends", _EMPTY)), 2)
    except WrongShape:
        return None


def _read_pin(value: Value) -> Value:
    match value:
        case ("list", (str(package), str(address))):
            return ("list", (package, format_url(parse_url(address))))
    raise WrongShape("expected a package and its address", value)


def _source(source: Source) -> tuple[Item, ...]:
    fields: dict[str, Value] = {
        "src": source.url,
        "checksum": lowered(source.checksums, 1),
        "mirrors": lowered(source.mirrors, 1),
    }
    return tuple([("field", name, value, 0) for name, value in fields.items() if value not in ("", _EMPTY)])
