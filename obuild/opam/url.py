"""Addresses of sources, as opam reads and prints them.

    [control+][transport://]path[#fragment]        git+https://example.org/a.git#main

The backend (http, rsync, git, hg or darcs) is what stands before the `+`, or else what the transport belongs to.
"""

from __future__ import annotations

import re

from obuild.opam.shape import WrongShape
from obuild.value import value

__all__ = ["Url", "format_url", "parse_url", "url_name"]

_CONTROLS = ("git", "hg", "darcs")
_BACKENDS = {
    **{name: name for name in _CONTROLS},
    **dict.fromkeys(("http", "https", "ftp", "wget", "curl"), "http"),
    **dict.fromkeys(("file", "path", "local", "rsync", "ssh", "scp", "sftp"), "rsync"),
}
_SPLIT = re.compile(r"(?:(?:([^+:]*)(?:\+|://))?([^:]*)://)?([^#]*)(?:#(.*))?", re.DOTALL).fullmatch
# user@host:path, as git has it: two letters at least before the colon (one is a drive), and more than a port after it
_SSH = re.compile(r"([^/:]{2,}):/?((?:\D|\d*[^\d/]).*)?\Z", re.DOTALL | re.ASCII).search


@value
class Url:
    """An address taken apart; `fragment` is "" when there is none."""

    backend: str
    transport: str
    path: str
    fragment: str = ""


def parse_url(text: str, backend: str = "") -> Url:
    """The address that `text` is for `backend`, or for the one that it names. Raises `WrongShape` for another."""
    control, transport, path, fragment = _SPLIT(text).groups("")  # type: ignore[union-attr]
    if not backend:
        scheme = control or transport or "rsync"
        backend = _BACKENDS.get(scheme, "")
        if not backend or (control and control not in _CONTROLS):
            raise WrongShape(f'"{scheme}" is not a way to fetch a source', text)
    ssh = _SSH(path)
    if backend == "http" and not transport:
        transport = "http"
    elif ssh and transport in ("", *_CONTROLS):
        transport, path = "ssh", "/".join(filter(None, ssh.groups()))
    elif transport in ("", "hg", "darcs"):
        transport = "file"  # opam makes the path absolute, too: on which machine, a repository can not know
    return Url(backend, transport, path, fragment)


def format_url(url: Url) -> str:
    """The text that opam prints for `url`."""
    control = f"{url.backend}+" if url.backend in _CONTROLS and url.transport != url.backend else ""
    return f"{control}{url.transport}://{url.path}" + (f"#{url.fragment}" if url.fragment else "")


def url_name(url: Url) -> str:
    """The last component of the path: the name of the file that would be fetched."""
    return url.path.rstrip("/").rpartition("/")[2]
