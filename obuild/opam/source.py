"""Where the source of a package comes from: `url` and `extra-source` sections."""

from __future__ import annotations

from obuild.opam.shape import WrongShape, elements, listed, option, read_checksum, read_text
from obuild.opam.url import Url, format_url, parse_url, url_name
from obuild.value import value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from obuild.opam.syntax import File, Value

__all__ = ["NOWHERE", "Source", "read_legacy_sources", "read_source"]

NOWHERE = "https://"
"""How opam prints the address that is none."""

_ADDRESSES = {
    "src": "",
    "archive": "http",
    "http": "http",
    "git": "git",
    "darcs": "darcs",
    "hg": "hg",
    "local": "rsync",
}


@value
class Source:
    """An address as opam prints it, checksums (`kind=hex`) in the order of the file, other addresses of the same."""

    url: str
    checksums: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()
    subpath: str = ""


def read_source(items: File) -> Source:
    """The source that the items of a section describe. Raises `WrongShape` when they have no address.

    Of the fields that may hold it the first with a good one counts; a bad checksum drops all checksums.
    """
    fields: dict[str, Value] = {}
    for item in items:
        if item[0] == "field":
            fields.setdefault(item[1], item[2])
    address = next(filter(None, (_address(fields, name) for name in _ADDRESSES)), None)
    if not address or address == Url("http", "https", ""):
        raise WrongShape("a source without an address", "url")
    subpath = fields.get("subpath")
    return Source(
        format_url(address),
        _texts(fields.get("checksum", ("list", ())), read_checksum),
        _texts(fields.get("mirrors", ("list", ())), _mirror),
        subpath if isinstance(subpath, str) else "",
    )


def read_legacy_sources(value: Value) -> tuple[tuple[str, Source], ...]:
    """The sources of the field `extra-sources`, each under its name."""
    return tuple([_legacy(item) for item in elements(value, 2)])


def _legacy(item: Value) -> tuple[str, Source]:
    pair = elements(item, 0)
    if len(pair) != 2:
        raise WrongShape("expected the address and the checksum of a source", item)
    text, names = option(pair[0])
    if len(names) > 1:
        raise WrongShape("expected one name", pair[0])
    address = parse_url(read_text(text))
    name = read_text(names[0]) if names else url_name(address)
    return name, Source(format_url(address), (read_checksum(pair[1]),))


def _address(fields: dict[str, Value], name: str) -> Url | None:
    try:
        return parse_url(read_text(fields[name]), _ADDRESSES[name]) if name in fields else None
    except WrongShape:
        return None


def _texts(value: Value, read: Callable[[Value], str]) -> tuple[str, ...]:
    try:
        return listed(read, 1)(value)
    except WrongShape:
        return ()


def _mirror(value: Value) -> str:
    return format_url(parse_url(read_text(value)))
