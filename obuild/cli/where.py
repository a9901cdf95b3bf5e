"""What many commands share: options, the places used when none is named, layers and files as people name them."""

from __future__ import annotations

import os
import sys

from obuild.cli.option import Option
from obuild.errors import UsageError
from obuild.store import open_store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from obuild.store import Layer, Store

__all__ = [
    "SANDBOX",
    "STORE",
    "default_store",
    "find_layer",
    "open_named_store",
    "read_text",
    "seconds_text",
    "shown",
    "size_text",
]

STORE = Option(
    ("--store",),
    "Where layers are kept: overlay:PATH, btrfs:PATH or copy:PATH.",
    metavar="STORE",
    variable="OBUILD_STORE",
)

SANDBOX = Option(
    ("--sandbox",), "What runs steps; the first that is installed when not given.", choices=("crun", "runc")
)


def default_store() -> str:
    """The store used when none is named: the machine's for root, the user's own otherwise."""
    if os.geteuid() == 0:
        return "overlay:/var/cache/obuild"
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return f"copy:{cache}/obuild"


def open_named_store(text: str | None) -> Store:
    """The store called `text`, or the default one."""
    return open_store(text or default_store())


def size_text(size: float) -> str:
    """Bytes as people read them: `512 B`, `3.4 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def seconds_text(seconds: float) -> str:
    """A span of time as people read it: `5 s`, `3 h`, `12 d`."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0, seconds):.0f} s"


def find_layer(store: Store, text: str) -> Layer:
    """The layer, finished or kept after a failure, whose id is `text` or the only one that begins with it.

    The id of a package's layer may also be given without its platform.
    """
    layer = store.get(text) if len(text) == 64 or "/" in text else None
    if layer:
        return layer
    items = (*store.failed(), *store.layers())
    found = {item.id: item for item in items if text in (item.id[: len(text)], _name(item.id)[: len(text)])}
    if len(found) > 1:
        raise UsageError(f'"{text}" is the beginning of {len(found)} ids', hint=", ".join(sorted(found)[:4]))
    if not found:
        raise store.unknown(text)
    return next(iter(found.values()))


def _name(id: str) -> str:
    return id.rpartition("/")[2]


def read_text(file: str) -> str:
    """The text of a file, or of standard input for `-`, every byte of it kept."""
    try:
        if file == "-":
            return sys.stdin.buffer.read().decode("utf-8", "surrogateescape")
        with open(file, encoding="utf-8", errors="surrogateescape", newline="") as stream:
            return stream.read()
    except OSError as error:
        raise UsageError(f'can not read "{file}": {(error.strerror or "").lower()}') from None


def shown(file: str) -> str:
    """How messages name a file."""
    return "standard input" if file == "-" else file
