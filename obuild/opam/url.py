"""Addresses of sources, as opam reads and prints them.

    [vc+][transport://]path[#fragment]        git+https://example.org/a.git#main

The backend (http, rsync, git, hg or darcs) is what stands before the `+`, else what the transport belongs to.
"""

from __future__ import annotations

import re

from obuild.opam.shape import WrongShape
from obuild.value import value

__all__ = ["Url", "format_url", "parse_url", "url_name"]

_BACKENDS = {
    **dict.fromkeys(("http", "https", "ftp", "wget", "curl"), "http"),
    **dict.fromkeys(("file", "path", "local", "rsync", "ssh", "scp", "sftp"), "rsync"),
    **dict.fromkeys(("git",), "git"),
    **dict.fromkeys(("hg",), "hg"),
    **dict.fromkeys(("darcs",), "darcs"),
}
_VERSION_CONTROL = ("git", "hg", "darcs")
_SPLIT = re.compile(r"(?:(?:([^+:]*)(?:\+|://))?([^:]*)://)?([^#]*)(?:#(.*))?", re.DOTALL).fullmatch
# user@host:path, and host:path of at least two letters (a single one is a drive); digits alone after the : are a port
_SSH = re.compile(r"([^/:]{2,}):/?((?:\D|\d*[^\d/]).*)?", re.DOTALL).fullmatch


@value
class Url:
    """An address taken apart; `fragment` is None when there is no `#`."""

    backend: str
    transport: str
    path: str
    fragment: str | None = None


def parse_url(text: str, backend: str = "") -> Url:
    """The address that `text` is for `backend`, or for the one it names. Raises `WrongShape` for an unknown one."""
    match = _SPLIT(text)
    if not match:
        raise WrongShape(f'"{text}" is not an address', text)
    control, transport, path, fragment = match.groups()
    if not backend:
        scheme = control or transport or "rsync"
        backend = _BACKENDS.get(scheme, "")
        if not backend:
            raise WrongShape(f'"{scheme}" is not a way to fetch a source', text)
    ssh = _SSH(path)
    if backend == "http" and not transport:
        transport = "http"
    elif ssh and transport in (None, "", *_VERSION_CONTROL):
        transport, path = "ssh", f"{ssh[1]}/{ssh[2]}" if ssh[2] else ssh[1]
    return Url(backend, transport or "file", path, fragment or None)


def format_url(url: Url) -> str:
    """The text that opam prints for `url`."""
    control = f"{url.backend}+" if url.backend in _VERSION_CONTROL and url.transport != url.backend else ""
    return f"{control}{url.transport}://{url.path}" + (f"#{url.fragment}" if url.fragment is not None else "")


def url_name(url: Url) -> str:
    """The last component of the path: the name of the file that would be fetched."""
    return url.path.rstrip("/").rpartition("/")[2]
