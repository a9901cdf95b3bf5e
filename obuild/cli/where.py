"""Options that many commands share, and the places that are used when none is named."""

from __future__ import annotations

import os

from obuild.cli.option import Option

__all__ = ["SANDBOX", "STORE", "default_store"]

STORE = Option(
    ("--store",),
    "Where layers are kept: overlay:PATH, btrfs:PATH or copy:PATH.",
    metavar="STORE",
    variable="OBUILD_STORE",
)

SANDBOX = Option(
    ("--sandbox",), "What runs steps: crun or runc; the first that works when not given.", default="", metavar="NAME"
)


def default_store() -> str:
    """The store used when none is named: the machine's for root, the user's own otherwise."""
    if os.geteuid() == 0:
        return "overlay:/var/cache/obuild"
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return f"copy:{cache}/obuild"
